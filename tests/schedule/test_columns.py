"""Many positions at once give the same bits as one by one, and running ahead is not to be noticed."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resumable_sched import (
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    LinearMomentum,
    MultiStepLR,
    OneCycleLR,
    ParamScheduler,
    PolyLR,
    ReduceOnPlateauLR,
    SchedulerGroup,
    StepLR,
)
from resumable_sched.schedule import Affine, curves


def sgd(groups: int = 1, **defaults: Any) -> torch.optim.Optimizer:
    """Build an optimizer whose groups differ in their learning rate."""
    parameters = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.1 * (1 + n // 2)} for n in range(groups)]
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, **defaults)


def warm_up(optimizer: torch.optim.Optimizer, **length: Any) -> SchedulerGroup:
    """Build warm-up by iteration, a fall by epoch, and a momentum schedule."""
    schedulers = [
        LinearLR(optimizer, start_factor=0.01, end=7, by_epoch=False),
        MultiStepLR(optimizer, milestones=[1, 3], gamma=0.5),
        LinearMomentum(optimizer, start_factor=0.5, end=60, by_epoch=False),
    ]
    return SchedulerGroup(optimizer, schedulers, **length)


def floors(optimizer: torch.optim.Optimizer, **length: Any) -> SchedulerGroup:
    """Build an overlap with a floor: a chain."""
    schedulers = [
        CosineAnnealingLR(optimizer, T_max=30, eta_min=0.01, by_epoch=False),
        StepLR(optimizer, step_size=9, gamma=0.7, by_epoch=False),
    ]
    return SchedulerGroup(optimizer, schedulers, **length)


def single(optimizer: torch.optim.Optimizer, **length: Any) -> SchedulerGroup:
    """Build warm-up and cosine in windows that follow each other."""
    schedulers = [
        LinearLR(optimizer, start_factor=0.2, end=20, by_epoch=False),
        CosineAnnealingLR(optimizer, T_max=25, begin=20, eta_min_ratio=0.1, by_epoch=False),
    ]
    return SchedulerGroup(optimizer, schedulers, **length)


BUILDERS = [warm_up, floors, single]


@given(span=st.integers(0, 40), start=st.floats(0, 1), end=st.floats(0, 1))
def test_lines_are_equal_to_the_last_bit(span: int, start: float, end: float) -> None:
    """`linears` is `linear`, tick by tick."""
    ticks = range(span + 5)

    assert curves.linears(ticks, span, start, end) == [curves.linear(t, span, start, end) for t in ticks]


@given(period=st.integers(1, 10**7), first=st.integers(0, 10**7))
def test_cosines_are_equal_to_the_last_bit(period: int, first: int) -> None:
    """`cosines` is `cosine`, tick by tick."""
    ticks = range(first, first + 20)

    assert curves.cosines(ticks, period) == [curves.cosine(t, period) for t in ticks]


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("looks", ["never", "at values", "at everything"])
def test_steps_ahead_are_the_trace_and_the_state_whoever_looks(build: Any, looks: str) -> None:
    """Values, clocks and state are the same whether somebody looks after every step or nobody does."""
    watched, expected = build(sgd(4), epoch_length=13), build(sgd(4), epoch_length=13).trace(60)
    optimizer = watched.optimizers["optimizer"]

    for row in range(60):
        for name, columns in expected.values.items():
            assert [group[name] for group in optimizer.param_groups] == [column[row] for column in columns]
        if looks != "never":
            assert watched.values() == {
                name: [column[row] for column in columns] for name, columns in expected.values.items()
            }
        if looks == "at everything":
            state = json.loads(json.dumps(watched.state_dict()))
            other = build(sgd(4), epoch_length=13)
            other.load_state_dict(state)
            assert other.values() == watched.values()
            assert [it.last_step for it in watched.schedulers] == [it.last_step for it in other.schedulers]
            assert copy.deepcopy(watched).state_dict() == watched.state_dict()
        watched.step()
        if watched.iteration_in_epoch == 13:
            watched.step_epoch()


@pytest.mark.parametrize("build", BUILDERS)
def test_a_far_row_is_the_row_of_a_long_trace(build: Any) -> None:
    """Rows in steps are some of all rows, at equal distances, from any position."""
    group = build(sgd(2), epoch_length=11)
    for _ in range(5):
        group.step()

    every, third = group.trace(70), group.trace(range(7, 75, 3))

    assert third.iterations == range(7, 75, 3)
    assert list(third.epochs) == list(every.epochs)[2::3]
    for name, columns in third.values.items():
        assert [list(column) for column in columns] == [column[2::3] for column in every.values[name]]


@pytest.mark.parametrize("after", [0, 1, 5, 17, 40])
def test_a_foreign_write_while_running_ahead_is_a_factor_from_then_on(after: int) -> None:
    """Whenever somebody writes, the step after it says so, and the schedule goes on from there."""
    group, twin = single(sgd(3)), single(sgd(3))
    optimizer = group.optimizers["optimizer"]
    for _ in range(after):
        group.step()
        twin.step()

    factor = 123.0 / twin.values()["lr"][2]
    optimizer.param_groups[2]["lr"] = 123.0
    for _ in range(30):
        group.step()
        twin.step()

        first, second, third = twin.values()["lr"]
        assert group.values() == {"lr": [first, second, factor * third]}
        assert [it["lr"] for it in optimizer.param_groups] == group.values()["lr"]
    assert [(it.iteration, it.group, it.observed) for it in group.amendments["lr"]] == [(after, 2, 123.0)]


def test_a_loaded_optimizer_is_written_again_without_a_warning() -> None:
    """`optimizer.load_state_dict` replaces every param group while values run ahead."""
    group, twin = single(sgd(2)), single(sgd(2))
    optimizer = group.optimizers["optimizer"]
    assert isinstance(optimizer, torch.optim.Optimizer)
    for step in range(40):
        if step == 23:
            optimizer.load_state_dict(sgd(2).state_dict())
        group.step()
        twin.step()

        assert [it["lr"] for it in optimizer.param_groups] == twin.values()["lr"]


def test_a_metric_ends_the_run_ahead() -> None:
    """A plateau changes the values of the very next update."""
    optimizer = sgd()
    schedulers = [
        LinearLR(optimizer, start_factor=0.5, end=100, by_epoch=False),
        ReduceOnPlateauLR(optimizer, monitor="loss", patience=0, factor=0.5),
    ]
    group = SchedulerGroup(optimizer, schedulers)
    for _ in range(20):
        group.step()
    before = group.values()["lr"][0]

    for _ in range(2):
        group.observe({"loss": 1.0})

    assert group.values()["lr"][0] == optimizer.param_groups[0]["lr"] == before / 2
    group.step()
    assert optimizer.param_groups[0]["lr"] == group.values()["lr"][0] > before / 2


def test_adams_betas_run_ahead_too() -> None:
    """Momentum in ``betas[0]`` moves, the other beta stays, and a foreign write there is noticed."""
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], betas=(0.8, 0.95))
    group = SchedulerGroup(optimizer, [LinearMomentum(optimizer, start_factor=0.5, end=50, by_epoch=False)])
    expected = group.trace(40).values["momentum"][0]

    for row in range(30):
        assert optimizer.param_groups[0]["betas"] == (expected[row], 0.95)
        group.step()
    optimizer.param_groups[0]["betas"] = (0.1, 0.9)
    group.step()

    assert optimizer.param_groups[0]["betas"] == (0.1 / expected[30] * expected[31], 0.9)
    assert [it.label for it in group.amendments["momentum"]] == ["x 0.1551: set by other code"]


def test_an_addition_to_the_param_groups_ends_the_run_ahead() -> None:
    """The step after it schedules the new group like the others."""
    group = single(sgd())
    optimizer = group.optimizers["optimizer"]
    assert isinstance(optimizer, torch.optim.Optimizer)
    for _ in range(20):
        group.step()
    optimizer.add_param_group(
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 2.0 * group.trace(1).values["lr"][0][0]}
    )
    group.step()

    first, second = (it["lr"] for it in optimizer.param_groups)
    assert group.values()["lr"] == [first, second]
    assert second / first == pytest.approx(
        optimizer.param_groups[1]["initial_lr"] / optimizer.param_groups[0]["initial_lr"]
    )


def test_samples_of_any_integer_type_are_counted() -> None:
    """A tensor of one element counts as the number it is; a negative number and a truth value are refused."""
    group = single(sgd())
    for samples in (4, torch.tensor(5)):
        group.step(samples=samples)  # type: ignore[arg-type]

    assert group.samples == 9
    with pytest.raises(ValueError, match="`samples` must be"):
        group.step(samples=-1)
    with pytest.raises(TypeError, match="`tokens` must be"):
        group.step(tokens=True)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("name", ["lr", "momentum"])
def test_a_foreign_write_to_one_hyper_parameter_amends_that_one_alone(groups: int, name: str) -> None:
    """The step that finds it has moved another one already, and takes that back before the slow way begins."""
    group, twin = warm_up(sgd(groups)), warm_up(sgd(groups))
    optimizer = group.optimizers["optimizer"]
    for _ in range(25):
        group.step()
        twin.step()
    optimizer.param_groups[-1][name] *= 0.5
    for _ in range(10):
        group.step()
        twin.step()

        (other,) = {"lr", "momentum"} - {name}
        assert [it[other] for it in optimizer.param_groups] == twin.values()[other]
    assert set(group.amendments) == {name}


@pytest.mark.parametrize(
    ("family", "arguments"),
    [
        (CosineAnnealingLR, {"T_max": 10}),
        (ExponentialLR, {"gamma": 0.5}),
        (LinearLR, {"end": 30}),
        (OneCycleLR, {"eta_max": 1.0, "total_steps": 30}),
        (PolyLR, {"end": 30}),
        (StepLR, {"step_size": 3}),
    ],
)
@pytest.mark.parametrize("overlap", [False, True])
def test_a_subclass_that_says_its_own_map_follows_that_everywhere(
    family: type[ParamScheduler], arguments: dict[str, Any], *, overlap: bool
) -> None:
    """It inherits nothing that its parent works out of another map: not many at once, no increment, no claim."""

    def own_map(self: ParamScheduler, t: int, base: float) -> Affine:
        del self
        return Affine(1 / (2 + t), base / 4)

    own = type(f"Own{family.__name__}", (family,), {"at": own_map})

    def build(optimizer: torch.optim.Optimizer) -> list[Any]:
        others = [StepLR(optimizer, step_size=7, gamma=0.5, by_epoch=False)] if overlap else []
        return [own(optimizer, by_epoch=False, **arguments), *others]

    alone = sgd(3)
    schedulers = build(alone)
    expected = [[group["lr"] for group in alone.param_groups]]
    for _ in range(40):
        for scheduler in schedulers:
            scheduler.step()
        expected.append([group["lr"] for group in alone.param_groups])
    group = SchedulerGroup(optimizer := sgd(3), build(optimizer))
    trace = group.trace(41)
    stepped = [[each["lr"] for each in optimizer.param_groups]]
    for _ in range(40):
        group.step()
        stepped.append([each["lr"] for each in optimizer.param_groups])

    assert stepped == expected
    assert [list(row) for row in zip(*trace.values["lr"], strict=True)] == expected
    if not overlap and family is not OneCycleLR:
        assert expected[5] == [base / 7 + base / 4 for base in (0.1, 0.1, 0.2)]
