"""A run that was stopped anywhere goes on with the floats of the one that never stopped, whatever was loaded first."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resumable_sched.schedule import LinearLR, ParamScheduler, SchedulerGroup
from tests.schedule.drawn import FAMILIES, Case, cases, happen, happen_alone, shown

if TYPE_CHECKING:
    import torch

ORDERS = ("group only", "optimizer first", "optimizer between", "optimizer last", "twice", "no initial values")


def through_json(state: dict[str, Any]) -> dict[str, Any]:
    """Write *state* to a strict JSON text and read it again."""
    read: dict[str, Any] = json.loads(json.dumps(state, allow_nan=False))
    return read


def drop_initial(state: dict[str, Any]) -> dict[str, Any]:
    """Drop what torch.distributed.checkpoint drops where the fresh optimizer does not have it."""
    groups = [
        {key: value for key, value in each.items() if not key.startswith("initial_")} for each in state["param_groups"]
    ]
    return {**state, "param_groups": groups}


def resumed(
    case: Case, state: dict[str, Any], optimizer_state: dict[str, Any], order: str
) -> tuple[Any, SchedulerGroup]:
    """Start again from a saved state, with everything built and loaded in *order*."""
    optimizer = case.optimizer()
    optimizer_state = copy.deepcopy(optimizer_state)
    if order == "no initial values":
        optimizer_state = drop_initial(optimizer_state)
    if order in ("optimizer first", "no initial values"):
        optimizer.load_state_dict(optimizer_state)
    group = case.group(optimizer)
    if order == "optimizer between":
        optimizer.load_state_dict(optimizer_state)
    group.check_state_dict(state)
    group.load_state_dict(state)
    if order == "twice":
        group.load_state_dict(state)
    if order == "optimizer last":
        optimizer.load_state_dict(optimizer_state)
    return optimizer, group


@given(cases(), st.permutations(ORDERS))
def test_a_group_resumes_at_every_event(case: Case, orders: list[str]) -> None:
    """Saved after any event, through JSON, restored in any order: every later value is the same to the last bit."""
    resume_at_every_event(case, orders)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_resumes_at_every_event(family: str) -> None:
    """The same for lists that hold a schedule of the family, so that each of them is sure to have had its turn."""

    @settings(max_examples=15)
    @given(cases(family), st.permutations(ORDERS))
    def property_(case: Case, orders: list[str]) -> None:
        resume_at_every_event(case, orders)
        trace_is_stepping(case)

    property_()


def resume_at_every_event(case: Case, orders: list[str]) -> None:
    """Stop after each event, start again, and compare what follows."""
    optimizer = case.optimizer()
    group = case.group(optimizer)
    events = case.events()
    rows, saved = [shown(optimizer)], [(through_json(group.state_dict()), copy.deepcopy(optimizer.state_dict()))]
    for event in events:
        happen(group, event)
        rows.append(shown(optimizer))
        saved.append((through_json(group.state_dict()), copy.deepcopy(optimizer.state_dict())))

    for stop, (state, optimizer_state) in enumerate(saved):
        again, other = resumed(case, state, optimizer_state, orders[stop % len(orders)])
        assert shown(again) == rows[stop]
        assert other.state_dict() == state
        for later, event in enumerate(events[stop:], start=stop + 1):
            happen(other, event)
            assert shown(again) == rows[later]
        assert other.state_dict() == group.state_dict()


@given(cases(), st.permutations(ORDERS), st.randoms(use_true_random=False))
def test_lone_schedules_resume_at_every_event(case: Case, orders: list[str], random: Any) -> None:
    """The same for schedules that are stepped one by one, loaded in any order."""
    optimizer = case.optimizer()
    schedulers = case.schedulers(optimizer)
    events = case.events()
    rows, saved = [shown(optimizer)], [_snapshot(schedulers, optimizer)]
    for event in events:
        happen_alone(schedulers, event)
        rows.append(shown(optimizer))
        saved.append(_snapshot(schedulers, optimizer))

    for stop, (states, optimizer_state) in enumerate(saved):
        order = orders[stop % len(orders)]
        again = case.optimizer()
        optimizer_state = drop_initial(optimizer_state) if order == "no initial values" else optimizer_state  # noqa: PLW2901
        if order in ("optimizer first", "no initial values"):
            again.load_state_dict(copy.deepcopy(optimizer_state))
        others = case.schedulers(again)
        if order == "optimizer between":
            again.load_state_dict(copy.deepcopy(optimizer_state))
        pairs = list(zip(others, states, strict=True)) * (2 if order == "twice" else 1)
        random.shuffle(pairs)
        for other, state in pairs:
            other.load_state_dict(state)
        if order == "optimizer last":
            again.load_state_dict(copy.deepcopy(optimizer_state))
        assert shown(again) == rows[stop]
        for later, event in enumerate(events[stop:], start=stop + 1):
            happen_alone(others, event)
            assert shown(again) == rows[later]


@given(cases())
def test_a_group_and_lone_schedules_agree_to_the_last_bit(case: Case) -> None:
    """Who steps the schedules makes no difference to any value."""
    one, two = case.optimizer(), case.optimizer()
    schedulers = case.schedulers(one)
    group = SchedulerGroup(two, case.schedulers(two))
    for event in case.events():
        happen_alone(schedulers, event)
        happen(group, event)

        assert shown(one) == shown(two)


@given(cases())
def test_a_trace_is_what_training_uses(case: Case) -> None:
    """Each row of a trace equals what the optimizer shows when that update is made, from any position."""
    trace_is_stepping(case)


def trace_is_stepping(case: Case) -> None:
    """Compare a trace with what the group steps through."""
    optimizer = case.optimizer()
    group = case.group(optimizer)
    happen(group, ("step", None))
    before = through_json(group.state_dict())
    trace = group.trace(9, epoch_length=3, samples_per_iteration=4)

    assert through_json(group.state_dict()) == before
    for row, iteration in enumerate(trace.iterations):
        assert iteration == group.iteration
        assert trace.samples is not None
        assert (trace.epochs[row], trace.samples[row]) == (group.epoch, group.samples)
        assert {name: [column[row] for column in columns] for name, columns in trace.values.items()} == group.values()
        group.step(samples=4)
        if group.iteration_in_epoch >= 3:
            group.step_epoch()


@given(cases())
def test_a_copy_continues_as_the_original(case: Case) -> None:
    """A deep copy of group and optimizer is independent, and goes on with the same values."""
    optimizer = case.optimizer()
    group = case.group(optimizer)
    events = case.events()
    for event in events[:5]:
        happen(group, event)
    again, other = copy.deepcopy((optimizer, group))
    for event in events[5:]:
        happen(group, event)
        happen(other, event)

        assert shown(again) == shown(optimizer)
    assert other.optimizers["optimizer"] is again


@given(cases())
def test_copies_of_lone_schedules_continue_as_the_originals(case: Case) -> None:
    """The same for schedules that are stepped one by one."""
    optimizer = case.optimizer()
    schedulers = case.schedulers(optimizer)
    events = case.events()
    for event in events[:5]:
        happen_alone(schedulers, event)
    again, others = copy.deepcopy((optimizer, schedulers))
    for event in events[5:]:
        happen_alone(schedulers, event)
        happen_alone(others, event)

        assert shown(again) == shown(optimizer)


@pytest.mark.parametrize("order", ORDERS)
def test_the_saved_base_wins_over_a_value_that_was_loaded_first(order: str) -> None:
    """A fresh optimizer that was loaded shows a scheduled value; that is not what the user gave."""
    case = Case(specs=(), epochs=(), metrics=(), adam=False, tensor=False)
    optimizer = case.optimizer()
    group = _warm_up(optimizer)
    for _ in range(4):
        group.step()
    state, optimizer_state = through_json(group.state_dict()), optimizer.state_dict()

    again = case.optimizer()
    if order in ("optimizer first", "no initial values"):
        again.load_state_dict(drop_initial(optimizer_state) if order == "no initial values" else optimizer_state)
    other = _warm_up(again)
    if order == "optimizer between":
        again.load_state_dict(optimizer_state)
    other.load_state_dict(state)

    assert [each["initial_lr"] for each in again.param_groups] == [0.05, 0.5]
    assert other.values() == group.values()


def _warm_up(optimizer: torch.optim.Optimizer) -> SchedulerGroup:
    return SchedulerGroup(optimizer, [LinearLR(optimizer, 0.1, end=9, by_epoch=False)])


def _snapshot(
    schedulers: list[ParamScheduler], optimizer: torch.optim.Optimizer
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    return [through_json(each.state_dict()) for each in schedulers], copy.deepcopy(optimizer.state_dict())
