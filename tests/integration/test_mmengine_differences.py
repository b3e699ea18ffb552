"""Where MMEngine does something else on purpose or by mistake; docs/mmengine-differences.md says why."""

from __future__ import annotations

import math
import random
import warnings
from fractions import Fraction
from typing import Any

import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MMEngine imports pkg_resources, which warns
    import mmengine.optim.scheduler as peer

from resumable_sched import schedule
from resumable_sched.errors import ScheduleMismatchError, StateFormatError
from tests.integration.mmengine_suite import documented, surprises

pytestmark = pytest.mark.filterwarnings(
    "ignore:Detected call of `scheduler.step\\(\\)` before `optimizer.step\\(\\)`:UserWarning"
)


def sgd(lr: float = 1.0) -> torch.optim.SGD:
    """Return an optimizer."""
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.5)


def both(name: str, *arguments: Any, **config: Any) -> tuple[Any, Any]:
    """Build a schedule of ours and the peer's, each on its own optimizer."""
    return getattr(schedule, name)(sgd(), *arguments, **config), getattr(peer, name)(sgd(), *arguments, **config)


def lr(scheduler: Any) -> float:
    """Return the learning rate of the optimizer of a schedule."""
    return float(scheduler.optimizer.param_groups[0]["lr"])


def test_a_warm_up_from_zero_divides_by_zero_in_the_peer() -> None:
    """Ours arrives."""
    ours, theirs = both("LinearLR", 0.0, end=3)

    with pytest.raises(ZeroDivisionError):
        theirs.step()
    ours.step()
    assert lr(ours) == 0.5


def test_one_cycle_climbs_and_raises_in_the_peer() -> None:
    """Ours stays where it ended."""
    ours, theirs = both("OneCycleLR", eta_max=1.0, total_steps=10)
    for _ in range(9):
        ours.step()
        theirs.step()
    end = lr(theirs)
    assert lr(ours) == pytest.approx(end, rel=1e-11)

    theirs.step()
    ours.step()
    assert lr(theirs) > end
    assert lr(ours) == pytest.approx(end, rel=1e-11)
    with pytest.raises(ValueError, match="Tried to step 12 times"):
        theirs.step()
    ours.step()


def test_the_second_of_two_cycles_takes_over_the_first_in_the_peer() -> None:
    """Ours keeps the peaks apart."""
    optimizers = sgd(), sgd()
    for module, optimizer in zip((schedule, peer), optimizers, strict=True):
        first: Any = module.OneCycleLR(optimizer, eta_max=1.0, total_steps=10, end=10)
        module.OneCycleLR(optimizer, eta_max=5.0, total_steps=10, begin=10)
        first.step()
        first.step()

    assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers] == [1.0, 5.0]


def test_a_rise_without_length_divides_by_zero_in_the_peer() -> None:
    """Ours starts at the peak."""
    with pytest.raises(ZeroDivisionError):
        peer.OneCycleLR(sgd(), eta_max=1.0, total_steps=10, pct_start=0.1)

    assert lr(schedule.OneCycleLR(sgd(), eta_max=1.0, total_steps=10, pct_start=0.1)) == 1.0


def test_a_rate_by_epoch_is_applied_at_each_iteration_in_the_peer() -> None:
    """Ours takes the root, so that the curves meet at the epoch boundary."""
    config: dict[str, Any] = {"gamma": 0.5, "epoch_length": 10}
    ours = schedule.ExponentialLR.build_iter_from_epoch(sgd(), **config)
    theirs = peer.ExponentialLR.build_iter_from_epoch(sgd(), **config)
    for _ in range(10):
        ours.step()
        theirs.step()

    assert lr(ours) == pytest.approx(0.5)
    assert lr(theirs) == pytest.approx(0.5**10)


def test_a_fraction_of_an_epoch_is_truncated_exactly() -> None:
    """As in the peer, but for those that float arithmetic makes one iteration too short there."""
    r = random.Random("fractions")  # noqa: S311 - no secret
    too_short = 0
    for _ in range(300):
        epochs, length = r.randrange(1, 400) / 100, r.choice([10, 100, 997, r.randrange(1, 5000)])
        config: dict[str, Any] = {"step_size": 1, "begin": epochs, "end": epochs + 9, "epoch_length": length}
        ours = schedule.StepLR.build_iter_from_epoch(sgd(), **config).begin
        theirs = peer.StepLR.build_iter_from_epoch(sgd(), **config).begin

        assert ours == math.floor(Fraction(str(epochs)) * length)
        too_short += theirs == ours - 1
        assert theirs in (ours, ours - 1)

    assert too_short > 0


def test_a_state_overwrites_the_configuration_in_the_peer() -> None:
    """Ours compares, and does that only when it is asked to."""
    ours, theirs = both("StepLR", 5, 0.1)
    again, other = both("StepLR", 3, 0.5)
    other.load_state_dict(theirs.state_dict())
    assert (other.step_size, other.gamma) == (5, 0.1)

    with pytest.raises(ScheduleMismatchError, match="`step_size` was 5 when tick 0 was saved, but is 3 now"):
        again.load_state_dict(ours.state_dict())
    again.load_state_dict(ours.state_dict(), "keep")
    assert (again.step_size, again.gamma) == (5, 0.1)


def test_a_state_of_the_peer_is_refused() -> None:
    """It has another meaning, and nothing of it is half loaded."""
    ours, theirs = both("StepLR", 5, 0.1)

    with pytest.raises(StateFormatError, match="`version` of the state must be 1, but is missing"):
        ours.load_state_dict(theirs.state_dict())


def test_milestones_that_went_through_json_stop_the_decay_in_the_peer() -> None:
    """Ours has no milestones in its state to lose, and refuses strings."""
    _, theirs = both("MultiStepLR", [1])
    theirs.load_state_dict({"milestones": {"1": 1}})
    theirs.step()
    assert lr(theirs) == 1.0

    with pytest.raises(TypeError, match="`milestones` must be an integer, but is '1'"):
        schedule.MultiStepLR(sgd(), ["1"])  # type: ignore[list-item]


def test_a_second_schedule_continues_from_the_value_in_the_peer() -> None:
    """Ours composes it with the first one."""
    values = []
    for module in (schedule, peer):
        optimizer = sgd()
        first: Any = module.ExponentialLR(optimizer, gamma=0.5)
        first.step()
        module.ExponentialLR(optimizer, gamma=0.5, last_step=1)
        values.append(optimizer.param_groups[0]["lr"])

    assert values == [0.5 * 0.5**2, 0.5 * 0.5]


def test_a_changed_value_is_scheduled_on_as_in_the_peer() -> None:
    """Ours saves it as an amendment; the peer has nothing else than the value."""
    ours, theirs = both("StepLR", 2)
    for scheduler in (ours, theirs):
        scheduler.optimizer.param_groups[0]["lr"] = 7.0
        scheduler.step()
        scheduler.step()

    assert lr(ours) == lr(theirs) == 0.7000000000000001


def test_the_order_of_steps_is_not_watched() -> None:
    """The peer replaces `optimizer.step`; ours leaves it alone and does not warn."""
    optimizer = sgd()
    before = optimizer.step.__func__ if hasattr(optimizer.step, "__func__") else optimizer.step
    scheduler = schedule.StepLR(optimizer, 5)
    after = optimizer.step.__func__ if hasattr(optimizer.step, "__func__") else optimizer.step

    assert before is after
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.step()


def test_the_base_class_is_abstract() -> None:
    """Python says so at construction."""
    with pytest.raises(TypeError, match="abstract"):
        schedule.ParamScheduler(sgd(), "lr")  # type: ignore[abstract]
    with pytest.raises(NotImplementedError):
        peer._ParamScheduler(sgd(), "lr")


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("CosineRestartLR", {"periods": [4, 5], "restart_weights": [1, 0.5], "eta_min": 0, "eta_min_ratio": 0.1}),
        ("CosineRestartLR", {"periods": [4, 5], "restart_weights": [1], "eta_min": 0}),
        ("ReduceOnPlateauLR", {"by_epoch": False}),
        ("StepLR", {"step_size": 5, "last_step": -2}),
    ],
)
def test_wrong_arguments_are_assertions_in_the_peer(name: str, config: dict[str, Any]) -> None:
    """Ours are errors that stay under `python -O`."""
    with pytest.raises(AssertionError):
        getattr(peer, name)(sgd(), **config)
    with pytest.raises(ValueError, match="must be"):
        getattr(schedule, name)(sgd(), **config)


def test_a_tensor_is_replaced_by_a_float_in_the_peer() -> None:
    """Ours fills it in place."""
    ours, theirs = torch.tensor(1.0), torch.tensor(1.0)
    mine, other = (torch.optim.Adam([torch.zeros(1)], lr=rate) for rate in (ours, theirs))
    schedule.StepLR(mine, 1, 0.5).step()
    peer.StepLR(other, 1, 0.5).step()

    assert mine.param_groups[0]["lr"] is ours
    assert float(ours) == 0.5
    assert other.param_groups[0]["lr"] is not theirs


def test_the_document_names_the_tests_of_the_peer_that_fail() -> None:
    """A failure is explained by name and error together; the same test with another error is an accident."""
    by_decision = {
        "a.py::Test::test_poly_scheduler_state_dict": "ScheduleMismatchError: PolyLR: `power` was 0.5",
        "a.py::Test::test_cos_anneal_scheduler": "ValueError: `eta_min` or `eta_min_ratio` must be given, and not both",
    }
    accidents = {
        "a.py::Test::test_poly_scheduler_state_dict": "AssertionError: 0.5 != 0.25",
        "a.py::Test::test_linear_scheduler": "ScheduleMismatchError: LinearLR: `end` was 5",
    }

    assert surprises(by_decision) == {}
    assert surprises(accidents) == accidents
    assert len(documented()) == 17
