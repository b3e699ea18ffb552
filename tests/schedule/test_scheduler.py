"""A schedule by itself: arguments, windows, and what it writes and reads."""

from __future__ import annotations

import gc
import json
import math
import weakref
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch

from resumable_sched.schedule import (
    ConstantLR,
    CosineAnnealingLR,
    CosineRestartLR,
    ExponentialLR,
    LinearLR,
    LinearMomentum,
    LinearParamScheduler,
    MultiStepLR,
    OneCycleLR,
    OneCycleMomentum,
    ParamScheduler,
    PolyLR,
    ReduceOnPlateauLR,
    StepLR,
)


def sgd(lr: Any = 1.0, groups: int = 1) -> torch.optim.SGD:
    """Return an optimizer with *groups* param groups."""
    return torch.optim.SGD(
        [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(groups)], lr=lr, momentum=0.5
    )


def lr(optimizer: torch.optim.Optimizer) -> float:
    """Return the learning rate of the first group."""
    return float(optimizer.param_groups[0]["lr"])


def run(optimizer: torch.optim.Optimizer, schedulers: list[ParamScheduler], steps: int) -> list[float]:
    """Return the learning rate before each of *steps*."""
    seen = []
    for _ in range(steps):
        seen.append(lr(optimizer))
        for scheduler in schedulers:
            scheduler.step()
    return seen


# ---------------------------------------------------------------------------------------- values
def test_before_the_window_nothing_happens_and_after_it_the_last_value_holds() -> None:
    """A window changes the value inside and leaves it where it arrived."""
    optimizer = sgd()

    assert run(optimizer, [LinearLR(optimizer, 0.5, 0.75, begin=2, end=5)], 8) == [
        1,
        1,
        0.5,
        0.625,
        0.75,
        0.75,
        0.75,
        0.75,
    ]


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (lambda optimizer: LinearLR(optimizer, 0.25, begin=1, end=2), 0.25),
        (lambda optimizer: ConstantLR(optimizer, 0.25, begin=1, end=2), 0.25),
        (lambda optimizer: PolyLR(optimizer, begin=1, end=2), 1.0),
    ],
)
def test_a_window_of_one_tick_is_held(make: Any, value: float) -> None:
    """Linear keeps its start, constant its factor, polynomial changes nothing."""
    optimizer = sgd()

    assert run(optimizer, [make(optimizer)], 4) == [1.0, value, value, value]


def test_a_warm_up_can_start_at_zero() -> None:
    """A factor of 0 is left again, alone and where a floor overlaps."""
    optimizer = sgd()
    assert run(optimizer, [LinearLR(optimizer, 0.0, end=5)], 6) == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]

    optimizer = sgd()
    warm_up, cosine = LinearLR(optimizer, 0.0, end=3), CosineAnnealingLR(optimizer, T_max=8, eta_min=0.1)
    seen = run(optimizer, [warm_up, cosine], 9)
    assert seen[0] == 0.0
    assert all(0.0 < value < 1.0 for value in seen[1:])
    assert seen[8] == pytest.approx(0.1)


def test_one_cycle_stays_at_its_end() -> None:
    """After its last tick the cycle does not climb again."""
    optimizer = sgd()

    seen = run(optimizer, [OneCycleLR(optimizer, eta_max=1.0, total_steps=10)], 14)

    assert max(seen) == 1.0
    assert seen[9:] == [1.0 / 25.0 / 1e4] * 5


def test_momentum_can_follow_one_cycle() -> None:
    """The family that MMEngine forgot exists for momentum too."""
    optimizer = sgd()
    scheduler = OneCycleMomentum(optimizer, eta_max=0.9, total_steps=10)

    assert optimizer.param_groups[0]["momentum"] == 0.9 / 25
    scheduler.step()
    scheduler.step()
    assert optimizer.param_groups[0]["momentum"] == 0.9


def test_a_step_far_away_costs_and_is_what_the_formula_says() -> None:
    """A closed form does not drift: a billion ticks away it is the formula, to the last bit."""
    optimizer = sgd(0.1)
    scheduler = CosineAnnealingLR(optimizer, T_max=10**9, eta_min=1e-5, by_epoch=False)
    state = scheduler.state_dict()
    state["tick"] = 123_456_789
    scheduler.load_state_dict(state)

    share = (1.0 + math.cos(math.pi * 123_456_789 / 10**9)) / 2.0
    assert lr(optimizer) == share * 0.1 + 1e-5 * (1.0 - share)


def test_an_exponential_may_leave_the_range_of_floats() -> None:
    """Overflow is infinite, as a product of floats would be, and its state is still JSON."""
    optimizer = sgd()
    scheduler = ExponentialLR(optimizer, 10.0)
    for _ in range(400):
        scheduler.step()

    assert lr(optimizer) == math.inf
    assert json.loads(json.dumps(scheduler.state_dict(), allow_nan=False))["values"] == ["inf"]


def test_overlapping_multiplications_are_the_product() -> None:
    """Two schedules that only multiply give the product of their factors."""
    optimizer = sgd()
    schedulers = [LinearLR(optimizer, 0.5, end=3), StepLR(optimizer, 2, 0.1)]

    assert run(optimizer, schedulers, 4) == pytest.approx([0.5, 0.75, 0.1, 0.1], rel=1e-15)


# ------------------------------------------------------------------------------------- arguments
def test_a_unit_wins_over_by_epoch() -> None:
    """`unit` is the same thing in a word."""
    assert LinearLR(sgd(), unit="iteration").by_epoch is False
    assert LinearLR(sgd(), unit="epoch", by_epoch=False).by_epoch is True
    assert LinearLR(sgd(), by_epoch=False).unit == "iteration"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: LinearLR("sgd"), TypeError, "`optimizer` should be an Optimizer"),  # type: ignore[arg-type]
        (lambda: LinearLR(sgd(), begin=5, end=5), ValueError, "`end` must be greater than `begin`"),
        (lambda: LinearLR(sgd(), begin=-1), ValueError, "`begin` must be at least 0, but is -1"),
        (lambda: LinearLR(sgd(), begin=0.5), TypeError, "`begin` must be an integer, but is 0.5"),  # type: ignore[arg-type]
        (lambda: LinearLR(sgd(), start_factor=2), ValueError, "`start_factor` must be between 0 and 1, but is 2"),
        (lambda: LinearLR(sgd(), end_factor=-0.1), ValueError, "`end_factor` must be between 0 and 1"),
        (lambda: ConstantLR(sgd(), factor="1"), TypeError, "`factor` must be a number"),  # type: ignore[arg-type]
        (lambda: LinearLR(sgd(), unit="batch"), ValueError, '`unit` must be "epoch", "iteration", "sample" or "token"'),  # type: ignore[arg-type]
        (lambda: LinearLR(sgd(), by_epoch="no"), TypeError, "`by_epoch` must be"),  # type: ignore[arg-type]
        (lambda: LinearLR(sgd(), last_step=-2), ValueError, "`last_step` must be at least -1"),
        (lambda: LinearLR(sgd(), last_step=3), KeyError, "param 'initial_lr' is not specified"),
        (lambda: LinearParamScheduler(sgd(), "beta3"), KeyError, "group 0 has"),
        (lambda: LinearMomentum(torch.optim.ASGD([torch.zeros(1)])), ValueError, "`momentum` or `betas`"),
        (lambda: StepLR(sgd(), 0), ValueError, "`step_size` must be at least 1"),
        (lambda: MultiStepLR(sgd(), ["8"]), TypeError, "`milestones` must be an integer, but is '8'"),  # type: ignore[list-item]
        (lambda: MultiStepLR(sgd(), 8), TypeError, "`milestones` must be a list"),  # type: ignore[arg-type]
        (lambda: ExponentialLR(sgd(), math.nan), ValueError, "`gamma` must be finite"),
        (lambda: CosineAnnealingLR(sgd(), 0), ValueError, "`T_max` must be at least 1"),
        (lambda: CosineAnnealingLR(sgd(), 5, 0.1, eta_min_ratio=0.1), ValueError, "and not both"),
        (lambda: CosineRestartLR(sgd(), [5]), ValueError, "`eta_min` or `eta_min_ratio` must be given"),
        (
            lambda: CosineRestartLR(sgd(), [5, 5], eta_min=0),
            ValueError,
            "`restart_weights` must have a weight for each",
        ),
        (lambda: PolyLR(sgd(), power=-1), ValueError, "`power` must be at least 0"),
        (
            lambda: OneCycleLR(sgd(), [0.1, 0.2], 10),
            ValueError,
            "`eta_max` must have a value for each of 1 param groups",
        ),
        (lambda: OneCycleLR(sgd(), 0.1, 10, pct_start=2.0), ValueError, "`pct_start` must be"),
        (lambda: OneCycleLR(sgd(), 0.1, 10, anneal_strategy="sin"), ValueError, "anneal_strategy"),  # type: ignore[arg-type]
        (lambda: ReduceOnPlateauLR(sgd(), factor=1.0), ValueError, "`factor` must be less than 1"),
        (lambda: ReduceOnPlateauLR(sgd(), by_epoch=False), ValueError, "`by_epoch` of ReduceOnPlateauLR must be True"),
        (lambda: ReduceOnPlateauLR(sgd(), rule="min"), ValueError, "`rule` must be"),  # type: ignore[arg-type]
        (lambda: ReduceOnPlateauLR(sgd(), min_value=[0.1, 0.2]), ValueError, "`min_value` must have a value for each"),
    ],
)
def test_a_wrong_argument_is_named_with_the_rule_and_the_value(make: Any, error: type[Exception], words: str) -> None:
    """Whatever is wrong is an error at construction that says what, and nothing is adjusted."""
    with pytest.raises(error) as caught:
        make()

    assert words in str(caught.value.args[0])


def test_a_refused_schedule_leaves_the_optimizer_alone() -> None:
    """An error at construction changes no value, and the next schedule starts from what the optimizer shows then."""
    optimizer = sgd()
    with pytest.raises(ValueError, match="start_factor"):
        LinearLR(optimizer, start_factor=3)
    optimizer.param_groups[0]["lr"] = 0.5

    LinearLR(optimizer, start_factor=0.5)

    assert lr(optimizer) == 0.25


def test_configuration_cannot_be_changed() -> None:
    """A schedule is a description; only its clock moves."""
    scheduler = LinearLR(sgd())

    with pytest.raises(FrozenInstanceError):
        scheduler.start_factor = 0.5  # type: ignore[misc]


def test_last_step_is_the_local_tick() -> None:
    """It is -1 before the window, counts inside, and stops at the last tick."""
    optimizer = sgd()
    scheduler = StepLR(optimizer, 3, begin=2, end=5)
    seen = []
    for _ in range(7):
        seen.append(scheduler.last_step)
        scheduler.step()

    assert seen == [-1, -1, 0, 1, 2, 2, 2]


def test_a_position_without_a_state_continues_there() -> None:
    """`last_step=k` means that tick k of the window is done, for an optimizer that was scheduled before."""
    optimizer = sgd()
    optimizer.param_groups[0]["initial_lr"] = 2.0

    scheduler = ExponentialLR(optimizer, 0.5, last_step=2)

    assert (scheduler.last_step, lr(optimizer)) == (3, 2.0 * 0.5**3)


def test_a_guessed_position_is_refused_where_the_value_depends_on_the_path() -> None:
    """A floor that overlaps another schedule cannot be continued from a number."""
    optimizer = sgd()
    optimizer.param_groups[0]["initial_lr"] = 1.0
    LinearLR(optimizer, end=9)

    with pytest.raises(ValueError, match="`last_step` must be -1"):
        CosineAnnealingLR(optimizer, 9, 0.1, last_step=3)


def test_epochs_become_iterations() -> None:
    """Durations are multiplied, what is left of an iteration is dropped, rates are rooted."""
    optimizer = sgd()

    converted = MultiStepLR.build_iter_from_epoch(optimizer, [8, 11], 0.5, begin=0.29, epoch_length=100)
    assert (converted.milestones, converted.begin, converted.by_epoch) == ((800, 1100), 29, False)
    exponential = ExponentialLR.build_iter_from_epoch(sgd(), gamma=0.25, epoch_length=2)
    assert (exponential.gamma, exponential.end) == (0.5, 10**9)
    for config in ({"epoch_length": 0}, {}, {"epoch_length": 5, "by_epoch": False}):
        with pytest.raises(ValueError, match=r"`epoch_length`|`by_epoch`"):
            StepLR.build_iter_from_epoch(optimizer, 2, **config)


# ------------------------------------------------------------------------- what is in the optimizer
def test_a_tensor_is_filled_in_place() -> None:
    """A captured graph holds a reference to the tensor; it must stay the same one."""
    tensor = torch.tensor(0.5)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=tensor, capturable=False)
    scheduler = LinearLR(optimizer, 0.5, end=3)
    scheduler.step()

    assert optimizer.param_groups[0]["lr"] is tensor
    assert float(tensor) == 0.375


def test_one_tensor_in_two_groups_cannot_hold_two_values() -> None:
    """Where groups share a tensor and their values differ, that is an error and not the last value."""
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)]}], lr=torch.tensor(0.5))

    with pytest.raises(ValueError, match="must be a tensor of its own"):
        OneCycleLR(optimizer, [0.1, 0.2], 10)


def test_any_key_can_be_scheduled() -> None:
    """Whatever number a param group holds has a schedule, in anything that has param groups."""

    class Duck:
        def __init__(self) -> None:
            self.param_groups: list[dict[str, Any]] = [{"params": [], "temperature": 4.0}]

    duck = Duck()
    LinearParamScheduler(duck, "temperature", 0.25, end=3).step()

    assert duck.param_groups[0]["temperature"] == 2.5


def test_a_dead_momentum_of_adam_is_not_read() -> None:
    """MMEngine leaves a key `momentum` in Adam's groups; the momentum is `betas[0]`."""
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], betas=(0.8, 0.99))
    optimizer.param_groups[0]["momentum"] = 0.1

    LinearMomentum(optimizer, 0.5, end=3)

    assert optimizer.param_groups[0]["betas"] == (0.4, 0.99)
    assert optimizer.param_groups[0]["momentum"] == 0.4


def test_a_value_that_somebody_else_writes_is_scheduled_on(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever writes a value means it, as in the peers; the log says what becomes of it."""
    optimizer = sgd()
    scheduler = StepLR(optimizer, 2, gamma=0.5)
    optimizer.param_groups[0]["lr"] = 7.0
    scheduler.step()
    assert lr(optimizer) == 7.0
    assert "`lr` of param group 0 was set to 7.0 by other code at iteration 0" in caplog.text

    scheduler.step()
    assert lr(optimizer) == 3.5
    again = StepLR(sgd(), 2, gamma=0.5)
    again.load_state_dict(scheduler.state_dict())
    assert again.get_last_value() == [3.5]


def test_a_tensor_that_somebody_else_fills_is_noticed() -> None:
    """The tensor is not read at each step, which would wait for a device; that it was written is known all the same."""
    tensor = torch.tensor(0.5)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=tensor)
    scheduler = StepLR(optimizer, 5)
    tensor.fill_(0.5)
    scheduler.step()
    assert scheduler.get_last_value() == [0.5]
    tensor.fill_(0.7)
    scheduler.step()

    assert scheduler.get_last_value() == [float(tensor)] == [float(torch.tensor(0.7))]


def test_loading_the_optimizer_is_not_somebody_else_writing() -> None:
    """After the optimizer was loaded our values are there at once, and nobody is warned."""
    optimizer = sgd()
    scheduler = LinearLR(optimizer, 0.5, end=5)
    state = sgd(3.0).state_dict()

    optimizer.load_state_dict(state)

    assert (lr(optimizer), optimizer.param_groups[0]["initial_lr"]) == (0.5, 1.0)
    scheduler.step()
    assert lr(optimizer) == 0.625


def test_param_groups_that_come_later_are_scheduled() -> None:
    """A group that is added is scheduled from the next step on, from the value that it was given."""
    optimizer = sgd()
    scheduler = StepLR(optimizer, 2, gamma=0.5)
    for _ in range(3):
        scheduler.step()
    optimizer.add_param_group({"params": [torch.zeros(1)], "lr": 4.0})
    scheduler.step()

    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 1.0]
    assert optimizer.param_groups[1]["initial_lr"] == 4.0


def test_param_groups_that_were_removed_are_an_error() -> None:
    """Nobody can say which of them is gone."""
    optimizer = sgd()
    optimizer.add_param_group({"params": [torch.zeros(1)]})
    scheduler = StepLR(optimizer, 5)
    del optimizer.param_groups[1]

    with pytest.raises(RuntimeError, match="scheduled for 2 param groups, but the optimizer has 1 now"):
        scheduler.step()


def test_the_ledger_keeps_neither_optimizer_nor_schedule_alive() -> None:
    """When the user drops them they are gone."""
    optimizer = sgd()
    scheduler = LinearLR(optimizer)
    references: list[weakref.ref[Any]] = [weakref.ref(optimizer), weakref.ref(scheduler)]

    del optimizer, scheduler
    gc.collect()

    assert [reference() for reference in references] == [None, None]
