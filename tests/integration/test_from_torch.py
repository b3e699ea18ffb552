"""Each of torch's schedulers, and a user's own, becomes schedules that have the same values in a group."""

from __future__ import annotations

import copy
import json
import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.optim import lr_scheduler as peer

from resumable_sched import SchedulerGroup, errors
from resumable_sched.integrations.torch_run import TorchParamScheduler
from resumable_sched.integrations.torch_schedulers import from_torch
from resumable_sched.schedule.config.registry import scheduler_names
from tests.integration.torch_cases import BESIDE, CLOSED, PLATEAUS, Ending, Hill, Weighty, build_optimizer, scale

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings(
    "ignore:Detected call of `lr_scheduler.step\\(\\)`:UserWarning",  # the peer is stepped without its optimizer
    "ignore:The epoch parameter in `scheduler.step\\(\\)`:UserWarning",  # torch's SequentialLR warns of itself
)

TICKS = 65
TOLERANCE = 1e-11
"""Of the larger of value and base: torch goes on from the last value, ours are closed forms."""


def shown(optimizer: torch.optim.Optimizer) -> list[float]:
    """Return what is scheduled, in each param group."""
    momenta = [group["betas"][0] if "betas" in group else group["momentum"] for group in optimizer.param_groups]
    return [*(float(group["lr"]) for group in optimizer.param_groups), *momenta]


def convert(
    build: Callable[[Any], peer.LRScheduler], kind: str = "SGD", **settings: Any
) -> tuple[torch.optim.Optimizer, SchedulerGroup]:
    """Build a torch scheduler and give a group of what it becomes."""
    optimizer = build_optimizer(kind)
    return optimizer, SchedulerGroup(optimizer, from_torch(build(optimizer), by_epoch=False, **settings))


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
@pytest.mark.parametrize("name", [*CLOSED, *BESIDE])
def test_the_values_are_torchs(name: str, kind: str) -> None:
    """At every tick, in both param groups, of the learning rate and of the momentum."""
    build = {**CLOSED, **BESIDE}[name]
    ours, group = convert(build, kind)
    theirs = build_optimizer(kind)
    other = build(theirs)

    assert any(isinstance(each, TorchParamScheduler) for each in group.schedulers) == (name in BESIDE)
    for _ in range(TICKS):
        for one, two in zip(shown(ours), shown(theirs), strict=True):
            if name in BESIDE:
                assert one == two
            else:
                assert math.isclose(one, two, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        group.step()
        other.step()


@pytest.mark.parametrize("name", PLATEAUS)
def test_a_plateau_is_torchs(name: str) -> None:
    """With the same metrics, whichever way they go."""
    ours, theirs = build_optimizer(), build_optimizer()
    group = SchedulerGroup(ours, from_torch(PLATEAUS[name](ours), monitor="quality"))
    other = PLATEAUS[name](theirs)
    for epoch in range(40):
        metric = math.sin(epoch / 3.0) + epoch % 4 * 0.1
        group.step_epoch()
        group.observe({"quality": metric})
        other.step(metric)
        for one, two in zip(shown(ours), shown(theirs), strict=True):
            assert math.isclose(one, two, rel_tol=TOLERANCE)
    assert shown(ours)[0] < 0.05


@pytest.mark.parametrize("name", [*CLOSED, *BESIDE])
def test_a_converted_schedule_resumes_anywhere_with_the_same_floats(name: str) -> None:
    """Only the position is state, through JSON and into a scheduler that was built again; copies go on as well."""
    build = {**CLOSED, **BESIDE}[name]
    optimizer, group = convert(build)
    expected, states = [], []
    for _ in range(TICKS):
        expected.append(shown(optimizer))
        states.append(json.dumps(group.state_dict()))
        group.step()

    for stop in (0, 1, 5, 10, 11, 34):
        other, resumed = convert(build)
        resumed.load_state_dict(json.loads(states[stop]))
        copied = copy.deepcopy(resumed)
        for tick in range(stop, TICKS):
            assert shown(other) == expected[tick]
            resumed.step()
        (twin,) = copied.optimizers.values()
        copied.step()
        assert shown(twin) == expected[stop + 1]  # type: ignore[arg-type]


def test_a_changed_scheduler_of_the_users_is_a_mismatch() -> None:
    """Its attributes are its configuration; what was built again can be kept, and what was not cannot."""
    _, group = convert(lambda o: Hill(o, 12, [1.04, 0.97]))
    for _ in range(7):
        group.step()
    state = group.state_dict()
    optimizer, other = convert(lambda o: Hill(o, 12, [1.04, 0.9]))

    with pytest.raises(errors.ScheduleMismatchError, match=r"`attributes` was .*0\.97"):
        other.load_state_dict(state)
    other.load_state_dict(state, "keep")
    assert shown(optimizer) == [*group.values()["lr"], 0.9, 0.9]
    other.load_state_dict(state, "adopt")
    assert other.iteration == 7
    state["schedulers"][0]["config"]["attributes"]["top"] = 13
    with pytest.raises(errors.ScheduleMismatchError, match=r"has not built the tests.integration.torch_cases:Hill"):
        other.load_state_dict(state, "keep")


def test_what_cannot_be_converted_is_refused_and_says_why() -> None:
    """A class that needs metrics, a lambda, one that was stepped, and one that moves what it does not say."""

    class Greedy(peer.LRScheduler):
        def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
            raise NotImplementedError

        def _initial_step(self) -> None:
            pass

    class Mine(peer.ReduceLROnPlateau):
        pass

    optimizer = build_optimizer()
    for scheduler in (Greedy(optimizer), Mine(optimizer)):
        with pytest.raises(TypeError, match="step needs `metrics`, which nobody knows in advance"):
            from_torch(scheduler)
    with pytest.raises(ValueError, match="`lr_lambdas` must be a function that can be imported"):
        from_torch(peer.LambdaLR(build_optimizer(), lambda tick: 0.9**tick))
    with pytest.raises(TypeError, match="`scheduler` must be a scheduler of torch's"):
        from_torch(optimizer)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must not be given where iterations are built"):
        TorchParamScheduler.build_iter_from_epoch(optimizer, "lr", Hill(optimizer, 1, [1.0, 1.0]), epoch_length=3)

    stepped = peer.StepLR(build_optimizer(), 3)
    stepped.step()
    chained = peer.ChainedScheduler([stepped])
    for each in (stepped, chained):
        with pytest.raises(ValueError, match=r"must be new, but .* is at 1 instead.*import_torch_state"):
            from_torch(each)

    _, group = convert(Weighty)
    with pytest.raises(RuntimeError, match="it moves `weight_decay` and the names are"):
        group.step()


def test_one_that_ends_needs_an_end_and_holds_its_last_value() -> None:
    """Values are computed ahead, so that the error would come before training is there."""
    with pytest.raises(RuntimeError, match="must be 6 or less, because it cannot be stepped beyond tick 5: The table"):
        convert(Ending)[1].trace(7)

    _, group = convert(Ending, end=6)
    assert group.trace(9).values["lr"][0][4:] == [0.1 * 0.9**4, *[0.1 * 0.9**5] * 4]


def test_param_names_say_what_else_a_scheduler_of_the_users_moves() -> None:
    """Each becomes a schedule, and they share one copy."""
    optimizer, group = convert(Weighty, param_names=["lr", "weight_decay"])
    for _ in range(3):
        group.step()

    assert [each["weight_decay"] for each in optimizer.param_groups] == [0.04, 0.04]
    assert [each.param_name for each in group.schedulers] == ["lr", "weight_decay"]


def test_converted_schedules_are_those_that_a_user_would_write() -> None:
    """So that the conversion can be left out one day, and the state still fits."""
    optimizer = build_optimizer()
    (cyclic, momentum) = from_torch(peer.CyclicLR(optimizer, 0.01, 0.1, 10, mode="triangular2"))
    (cycle, _) = from_torch(peer.OneCycleLR(build_optimizer(), 0.3, total_steps=100))
    (function,) = from_torch(peer.LambdaLR(build_optimizer(), scale), by_epoch=False)

    assert (type(cyclic).__name__, type(momentum).__name__) == ("CyclicLR", "CyclicMomentum")
    config = cyclic.configuration()
    assert [config[key] for key in ("base_lr", "max_lr", "step_size_up", "step_size_down")] == [0.01, 0.1, 10, None]
    config = cycle.configuration()
    assert [config[key] for key in ("eta_max", "pct_start", "div_factor", "final_div_factor")] == [0.3, 0.3, 25.0, 1e4]
    assert function.configuration()["lr_lambda"] == "tests.integration.torch_cases:scale"
    assert not function.by_epoch


def test_a_config_cannot_name_what_is_made_of_an_object() -> None:
    """The registry has the schedules that a config can build, whatever else is imported."""
    assert "TorchParamScheduler" not in scheduler_names()


@pytest.mark.parametrize("by_group", [True, False])
def test_a_param_group_that_torch_does_not_know_is_refused(by_group: bool) -> None:
    """Torch's own knows those that were there when it was built; the optimizer and the group are as they were."""
    optimizer = build_optimizer()
    members = [peer.CosineAnnealingWarmRestarts(optimizer, 7), peer.StepLR(optimizer, 5)]
    group = SchedulerGroup(optimizer, from_torch(peer.ChainedScheduler(members), by_epoch=False))
    group.step()
    count = len(optimizer.param_groups)
    new = {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.01}

    if not by_group:
        optimizer.add_param_group(new)
    with pytest.raises(ValueError, match=rf"for each of {count + 1} param groups, but .* was built for {count}"):
        group.add_param_group(new) if by_group else group.step()

    if by_group:
        assert len(optimizer.param_groups) == count
        group.step()
        assert group.state_dict()["position"]["iteration"] == 2
