"""Schedules may count samples and tokens: the curve then stays where it is, whatever the size of an update."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resumable_sched.schedule import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LinearMomentum,
    MultiStepLR,
    ParamScheduler,
    ReduceOnPlateauLR,
    SchedulerGroup,
    StepLR,
)


def sgd(lr: float = 1.0) -> torch.optim.Optimizer:
    """Return an optimizer with two param groups."""
    groups: list[dict[str, Any]] = [
        {"params": [torch.nn.Parameter(torch.zeros(1))]},
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.5},
    ]
    return torch.optim.SGD(groups, lr=lr, momentum=0.9)


def by_sample(optimizer: torch.optim.Optimizer) -> SchedulerGroup:
    """Warm up over 1,000 samples, and anneal over 9,000."""
    schedulers = [
        LinearLR(optimizer, start_factor=0.1, end=1_000, unit="sample"),
        CosineAnnealingLR(optimizer, T_max=9_000, eta_min=0.01, begin=1_000, end=10_001, unit="sample"),
        LinearMomentum(optimizer, start_factor=0.5, end=10**9, unit="token"),
    ]
    return SchedulerGroup(optimizer, schedulers)


@given(st.lists(st.integers(1, 700), min_size=1, max_size=30))
def test_a_value_depends_on_the_samples_alone(sizes: list[int]) -> None:
    """However training has come to a number of samples, the value there is that of one step to it, to the last bit."""
    optimizer, other = sgd(), sgd()
    group, twin = by_sample(optimizer), by_sample(other)
    for size in sizes:
        group.step(samples=size, tokens=10 * size)
    twin.step(samples=sum(sizes), tokens=10 * sum(sizes))

    assert group.values() == twin.values()
    assert [it["lr"] for it in optimizer.param_groups] == [it["lr"] for it in other.param_groups]


@given(st.lists(st.integers(1, 700), min_size=2, max_size=12), st.integers(0, 10))
def test_a_run_resumes_with_other_batches_at_any_point(sizes: list[int], stop: int) -> None:
    """A changed batch size or number of ranks keeps the curve in sample space: only the sums count."""
    stop = min(stop, len(sizes) - 1)
    group = by_sample(sgd())
    for size in sizes[:stop]:
        group.step(samples=size, tokens=size)
    again = by_sample(sgd())
    again.load_state_dict(json.loads(json.dumps(group.state_dict())))
    assert again.values() == group.values()
    for size in sizes[stop:]:
        group.step(samples=2 * size, tokens=2 * size)
        again.step(samples=size, tokens=size)
        again.step(samples=size, tokens=size)

        assert again.values() == group.values()
        assert (again.samples, again.tokens) == (group.samples, group.tokens)


def test_ten_to_the_ninth_is_a_place_like_any_other_for_tokens() -> None:
    """MMEngine's 10**9 means "for ever" to clocks of epochs and iterations alone."""
    optimizer = sgd()
    schedule = LinearLR(optimizer, start_factor=0.0, end=10**9, unit="token")
    group = SchedulerGroup(optimizer, [schedule])
    group.step(tokens=10**9 - 1)

    assert (schedule.open_ended, LinearLR(sgd(), end=10**9).open_ended) == (False, True)
    assert group.values()["lr"] == [1.0, 0.5]


@pytest.mark.parametrize("constant", [True, False])
def test_a_trace_is_what_training_uses(constant: bool) -> None:
    """With as many samples in each update as it was told, also while values run ahead and in steps."""
    optimizer = sgd()
    schedulers: list[ParamScheduler] = [
        LinearLR(optimizer, start_factor=0.1, end=500, unit="sample"),
        MultiStepLR(optimizer, milestones=[300, 700], begin=100, unit="sample"),
        StepLR(optimizer, 1, gamma=0.9),  # by epoch
        ConstantLR(optimizer, factor=0.5, begin=7, end=20, by_epoch=False),
    ]
    group = SchedulerGroup(optimizer, schedulers, epoch_length=11)
    if not constant:
        group.step(samples=5)
    trace = group.trace(60, samples_per_iteration=32, tokens_per_iteration=4)
    thin = group.trace(range(group.iteration, group.iteration + 60, 7), samples_per_iteration=32)

    for row, iteration in enumerate(trace.iterations):
        assert [column[row] for column in trace.values["lr"]] == [it["lr"] for it in optimizer.param_groups]
        assert trace.samples is not None
        assert (iteration, trace.samples[row], trace.epochs[row]) == (group.iteration, group.samples, group.epoch)
        group.step(samples=32)
        if group.iteration_in_epoch == 11:
            group.step_epoch()
    assert thin.values["lr"][0] == trace.values["lr"][0][::7]
    assert trace.tokens == range(0, 240, 4)


def test_a_window_of_another_clock_opens_when_it_opens_and_is_state() -> None:
    """The order of openings on mixed clocks is recorded, so that a resume applies the maps in the same order."""
    optimizer = sgd()

    def build(optimizer: torch.optim.Optimizer) -> SchedulerGroup:
        schedulers: list[ParamScheduler] = [
            MultiStepLR(optimizer, [3], gamma=1 / 3, begin=2, by_epoch=False),
            StepLR(optimizer, 7, gamma=0.7, begin=40, unit="sample"),
            StepLR(optimizer, 9, gamma=0.77, begin=41, unit="token"),
            StepLR(optimizer, 1, gamma=0.9, begin=1),
        ]
        return SchedulerGroup(optimizer, schedulers)

    group = build(optimizer)
    for step in range(12):
        state = json.loads(json.dumps(group.state_dict()))
        again = build(sgd())
        again.load_state_dict(state)
        assert again.values() == group.values()
        assert again.state_dict() == state
        group.step(samples=11 + step, tokens=9)
        if step % 4 == 3:
            group.step_epoch()
    assert [each["opened"] for each in group.state_dict()["schedulers"]] == [None, 4, 5, 4]


def test_the_count_must_be_told_where_it_is_counted() -> None:
    """An update of no samples does not silently leave the schedule where it is."""
    group = by_sample(sgd())

    with pytest.raises(ValueError, match="`samples` must be given to `step` where schedules count samples"):
        group.step(tokens=5)
    with pytest.raises(ValueError, match="`tokens_per_iteration` must be given where schedules count tokens"):
        group.trace(5, samples_per_iteration=32)
    assert group.iteration == 0


def test_floors_that_may_overlap_are_refused_where_samples_are_counted() -> None:
    """The peers' result would depend on the size of each update."""
    optimizer = sgd()
    schedulers = [
        CosineAnnealingLR(optimizer, T_max=900, eta_min=0.01, unit="sample"),
        StepLR(optimizer, 5, unit="sample"),
    ]

    with pytest.raises(ValueError, match="`schedulers` of `lr` must follow each other where one counts samples"):
        SchedulerGroup(optimizer, schedulers)


def test_a_lone_schedule_cannot_count_samples() -> None:
    """Nobody tells it how many there were."""
    scheduler = LinearLR(sgd(), unit="sample", end=100)

    with pytest.raises(RuntimeError, match="A schedule that counts samples must be driven by a SchedulerGroup"):
        scheduler.step()


def test_a_plateau_counts_validations_only() -> None:
    """A metric comes after an epoch."""
    with pytest.raises(ValueError, match="`by_epoch` of ReduceOnPlateauLR must be True"):
        ReduceOnPlateauLR(sgd(), unit="sample")


def test_a_converted_schedule_counts_iterations() -> None:
    """`build_iter_from_epoch` takes epochs, and no other clock."""
    with pytest.raises(ValueError, match="must be True where iterations are built from epochs"):
        LinearLR.build_iter_from_epoch(sgd(), unit="sample", end=3, epoch_length=10)


def test_length_of_training_in_samples_ends_a_window_that_was_left_open() -> None:
    """`max_samples` is for `end` what `max_iters` is on the other clock."""
    values: list[Any] = []
    closed: dict[str, Any] = {"end": 101}
    for end in (closed, {}):
        optimizer = sgd()
        group = SchedulerGroup(optimizer, [LinearLR(optimizer, 0.0, unit="sample", **end)], max_samples=101)
        group.step(samples=50)
        values.append(group.values()["lr"])

    assert values[0] == values[1] == [0.5, 0.25]
