"""What the user, or other code, changes beside the schedules acts from then on, and is state like everything else."""

from __future__ import annotations

import copy
import json
import logging
from typing import Any

import pytest
import torch

from resumable_sched.errors import ForeignWriterError, StateFormatError
from resumable_sched.schedule import (
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    LinearMomentum,
    ReduceOnPlateauLR,
    SchedulerGroup,
    StepLR,
)


def sgd(groups: int = 2) -> torch.optim.Optimizer:
    """Return an optimizer whose param groups have the learning rates 1, 2, ..."""
    params = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 1.0 + index} for index in range(groups)]
    return torch.optim.SGD(params, lr=1.0, momentum=0.9)


def cosine(optimizer: torch.optim.Optimizer) -> SchedulerGroup:
    """Warm up and anneal: in closed form."""
    schedulers = [
        LinearLR(optimizer, start_factor=0.1, by_epoch=False, end=5),
        CosineAnnealingLR(optimizer, T_max=20, by_epoch=False, begin=5, end=25),
    ]
    return SchedulerGroup(optimizer, schedulers, max_iters=25)


def chain(optimizer: torch.optim.Optimizer) -> SchedulerGroup:
    """Let a floor overlap another schedule, so that the value depends on the path."""
    schedulers = [
        CosineAnnealingLR(optimizer, T_max=20, eta_min=0.01, by_epoch=False, end=25),
        ExponentialLR(optimizer, gamma=0.9, by_epoch=False, begin=3, end=20),
    ]
    return SchedulerGroup(optimizer, schedulers, max_iters=25)


def shown(optimizer: torch.optim.Optimizer) -> list[float]:
    """Return the learning rate of each param group."""
    return [group["lr"] for group in optimizer.param_groups]


def change(group: SchedulerGroup, step: int) -> None:
    """Make the change that belongs to *step*, if there is one."""
    match step:
        case 2:
            group.amend("lr", scale=0.7)
        case 5:
            group.optimizers["optimizer"].param_groups[1]["lr"] = 0.123
        case 7:
            group.amend("lr", reset=True)
        case 8:
            group.amend("lr", value=0.05, groups=0)


BUILDERS = pytest.mark.parametrize("build", [cosine, chain])


@BUILDERS
def test_a_scale_multiplies_what_the_schedules_give_from_now_on(build: Any) -> None:
    """At once, in the optimizer, in every later value, and in one param group only where that is asked for."""
    optimizer, other = sgd(), sgd()
    group, twin = build(optimizer), build(other)
    for _ in range(4):
        group.step()
        twin.step()
    group.amend("lr", scale=0.5, reason="loss spike")
    group.amend("lr", scale=0.1, groups=1)

    for _ in range(12):
        first, second = shown(other)
        assert shown(optimizer) == group.values()["lr"] == [0.5 * first, 0.1 * (0.5 * second)]
        group.step()
        twin.step()


@BUILDERS
def test_a_value_holds_until_a_reset(build: Any) -> None:
    """A value wins over the schedules; after a reset the schedules are followed again, as if nothing had been."""
    optimizer, other = sgd(), sgd()
    group, twin = build(optimizer), build(other)
    group.amend("lr", value=0.3)
    for _ in range(6):
        assert shown(optimizer) == [0.3, 0.3]
        group.step()
        twin.step()
    group.amend("lr", reset=True, groups=[0])

    for _ in range(6):
        assert shown(optimizer) == [shown(other)[0], 0.3]
        group.step()
        twin.step()


@BUILDERS
@pytest.mark.parametrize("stop", range(0, 12, 3))
def test_amendments_survive_a_resume_at_any_point(build: Any, stop: int) -> None:
    """State, through JSON, in a fresh group: every later value is the same to the last bit."""
    optimizer, again = sgd(), sgd()
    group = build(optimizer)
    states = []
    rows = []
    for step in range(12):
        change(group, step)
        states.append(json.loads(json.dumps(group.state_dict())))
        rows.append(shown(optimizer))
        group.step()

    other = build(again)
    other.load_state_dict(states[stop])
    for step in range(stop, 12):
        if step > stop:
            change(other, step)
        assert shown(again) == rows[step]
        other.step()
    assert other.state_dict() == group.state_dict()


@BUILDERS
def test_a_foreign_number_goes_on_as_a_factor_and_is_kept_to_the_last_bit_where_nothing_moves(build: Any) -> None:
    """Saving in between makes no difference: what others wrote stays until the schedules move."""
    one, two = sgd(), sgd()
    group, saved_in_between = build(one), build(two)
    for _ in range(4):
        group.step()
        saved_in_between.step()
    for optimizer in (one, two):
        optimizer.param_groups[0]["lr"] = 0.0737
    saved_in_between.state_dict()
    assert two.param_groups[0]["lr"] == 0.0737

    for _ in range(8):
        group.step()
        saved_in_between.step()
        assert shown(one) == shown(two)


@BUILDERS
def test_a_change_of_a_change_is_one_whoever_has_looked_in_between(build: Any) -> None:
    """A save between two foreign writes leaves no trace in any later bit; a change that is taken back is none."""
    one, two = sgd(), sgd()
    group, saved_in_between = build(one), build(two)
    for optimizer, looks in ((one, group), (two, saved_in_between)):
        looks.step()
        for value in (0.0737, 0.0319):
            optimizer.param_groups[0]["lr"] = value
            if looks is saved_in_between:
                looks.state_dict()
        before = optimizer.param_groups[1]["lr"]
        for value in (0.5, before):
            optimizer.param_groups[1]["lr"] = value
            if looks is saved_in_between:
                looks.state_dict()
    for _ in range(8):
        group.step()
        saved_in_between.step()
        assert shown(one) == shown(two)
    assert saved_in_between.amendments == group.amendments
    assert len(group.amendments["lr"]) == 1


def test_a_foreign_number_where_the_schedule_gives_zero_holds() -> None:
    """Nothing can be multiplied to give it."""
    optimizer = sgd(1)
    group = SchedulerGroup(optimizer, [LinearLR(optimizer, start_factor=0.0, by_epoch=False, end=5)])
    optimizer.param_groups[0]["lr"] = 0.2
    group.step()

    assert shown(optimizer) == [0.2]
    assert [each.label for each in group.amendments["lr"]] == ["= 0.2: set by other code"]


def test_a_foreign_number_in_a_tensor_goes_on_as_well() -> None:
    """The tensor is filled in place, and what others filled into it is the factor."""
    rate = torch.tensor(0.5)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    group = SchedulerGroup(optimizer, [StepLR(optimizer, 2, gamma=0.5, by_epoch=False)])
    rate.fill_(0.25)
    group.step()
    group.step()

    assert optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == 0.125


def test_who_writes_at_every_step_is_another_scheduler() -> None:
    """Three changes in a row are taken for intent; the fourth is an error that names the parameter."""
    optimizer = sgd(1)
    group = SchedulerGroup(optimizer, [LinearMomentum(optimizer, start_factor=0.5, by_epoch=False, end=50)])
    for step in range(3):
        optimizer.param_groups[0]["momentum"] = 0.1 + step / 100
        group.step()
    optimizer.param_groups[0]["momentum"] = 0.2

    with pytest.raises(ForeignWriterError, match=r"`momentum` of param group 0 .* in 4 consecutive steps") as raised:
        group.step()
    assert (raised.value.parameter, raised.value.group, raised.value.observed) == ("momentum", 0, 0.2)
    assert group.iteration == 3


def test_who_writes_now_and_then_is_not() -> None:
    """A step without a change in between begins the count again."""
    optimizer = sgd(1)
    group = SchedulerGroup(optimizer, [StepLR(optimizer, 50, by_epoch=False)])
    for step in range(10):
        if step % 2:
            optimizer.param_groups[0]["lr"] = 0.1 + step / 100
        group.step()

    assert len(group.amendments["lr"]) == 5


def test_a_foreign_number_that_is_none_is_an_error() -> None:
    """Nobody trains with nan on purpose."""
    optimizer = sgd(1)
    group = SchedulerGroup(optimizer, [StepLR(optimizer, 50, by_epoch=False)])
    optimizer.param_groups[0]["lr"] = float("nan")

    with pytest.raises(ForeignWriterError, match=r"from 1\.0 to nan"):
        group.step()
    assert group.amendments == {}


def test_a_change_between_schedules_and_their_group_is_not_lost() -> None:
    """It is found when the group is built."""
    optimizer = sgd(1)
    scheduler = StepLR(optimizer, 2, gamma=0.5, by_epoch=False)
    optimizer.param_groups[0]["lr"] = 0.25
    group = SchedulerGroup(optimizer, [scheduler])

    assert shown(optimizer) == group.values()["lr"] == [0.25]
    assert [each.observed for each in group.amendments["lr"]] == [0.25]
    again = SchedulerGroup(optimizer, [scheduler])
    assert (shown(optimizer), again.amendments) == ([1.0], {})  # another group begins from the beginning


def test_loading_is_not_a_change() -> None:
    """Neither the optimizer's state nor the group's becomes an amendment."""
    optimizer, other = sgd(), sgd()
    group, twin = cosine(optimizer), cosine(other)
    twin.step()
    for _ in range(3):
        optimizer.load_state_dict(copy.deepcopy(other.state_dict()))
        group.load_state_dict(twin.state_dict())
        twin.step()
        group.step()

    assert group.amendments == {}


def test_a_plateau_reduces_what_is_amended() -> None:
    """Its bound is for the value that is used."""
    optimizer = sgd(1)
    schedulers = [ReduceOnPlateauLR(optimizer, patience=0, factor=0.5, min_value=0.04)]
    group = SchedulerGroup(optimizer, schedulers)
    group.amend("lr", scale=0.1)
    values = []
    for _ in range(4):
        group.observe({"loss": 1.0})
        values.append(shown(optimizer)[0])

    assert values == pytest.approx([0.1, 0.05, 0.04, 0.04], rel=1e-15)


def test_a_trace_and_the_log_have_amendments(caplog: pytest.LogCaptureFixture) -> None:
    """The trace has their effect in its values, and says what they were."""
    optimizer = sgd()
    group = cosine(optimizer)
    caplog.set_level(logging.INFO, "resumable_sched")
    group.step()
    group.amend("lr", scale=0.5, groups=1, reason="loss spike")
    trace = group.trace(10)

    assert "`lr` is amended at iteration 1: x 0.5: loss spike" in caplog.text
    assert [(each.iteration, each.group, each.reason) for each in trace.amendments["lr"]] == [(1, 1, "loss spike")]
    for row in range(10):
        assert [column[row] for column in trace.values["lr"]] == shown(optimizer)
        group.step()


def test_a_copy_keeps_amendments() -> None:
    """A deep copy of a group, or of a schedule that is stepped by itself, goes on with them."""
    optimizer = sgd()
    group = cosine(optimizer)
    group.amend("lr", scale=0.5)
    again, other = copy.deepcopy((optimizer, group))
    alone = sgd(1)
    scheduler = StepLR(alone, 3)
    alone.param_groups[0]["lr"] = 0.3
    scheduler.step()
    _, twin = copy.deepcopy((alone, scheduler))
    for _ in range(3):
        group.step()
        other.step()
        scheduler.step()
        twin.step()

        assert shown(again) == shown(optimizer)
        assert twin.get_last_value() == scheduler.get_last_value()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (
            {"name": "momentum", "scale": 0.5},
            KeyError,
            "`name` must be a scheduled hyper-parameter .*'lr' of 'optimizer'",
        ),
        ({"name": "lr"}, ValueError, "One of `scale`, `value` and `reset` must be given, but none of them is"),
        ({"name": "lr", "scale": 1.0, "value": 1.0}, ValueError, "but `scale` and `value` are"),
        ({"name": "lr", "scale": "half"}, TypeError, "`scale` must be a number"),
        ({"name": "lr", "value": float("inf")}, ValueError, "`value` must be finite"),
        ({"name": "lr", "scale": 0.5, "groups": [2]}, ValueError, "`groups` must choose among the param groups 0, 1"),
        ({"name": "lr", "scale": 0.5, "groups": "head"}, ValueError, 'has a name where its dict has the key "name"'),
        ({"name": "lr", "scale": 10**400}, ValueError, "`scale` must be finite"),
        ({"name": "lr", "scale": 0.5, "optimizer": "other"}, ValueError, "`optimizer` must be one that is scheduled"),
    ],
)
def test_a_wrong_amendment_is_refused(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    """The error names the argument, and nothing is changed."""
    group = cosine(sgd())

    with pytest.raises(error, match=text):
        group.amend(**arguments)
    assert group.amendments == {}


def test_a_state_with_an_amendment_of_no_group_is_refused() -> None:
    """A damaged state changes nothing."""
    group = cosine(sgd())
    group.amend("lr", scale=0.5)
    state = group.state_dict()
    state["parameters"][0]["amendments"][0]["group"] = 7

    with pytest.raises(StateFormatError, match="one is of group 7"):
        cosine(sgd()).load_state_dict(state)


def test_an_amendment_that_cannot_be_written_changes_nothing() -> None:
    """Groups that share a tensor cannot have different values; afterwards everything goes on as before."""
    optimizer = torch.optim.AdamW(
        [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)], lr=torch.tensor(0.5)
    )
    group = SchedulerGroup(optimizer, [StepLR(optimizer, 1, gamma=0.5, by_epoch=False)])
    with pytest.raises(ValueError, match="must be a tensor of its own"):
        group.amend("lr", scale=0.5, groups=0)
    group.step()

    assert group.amendments == {}
    assert group.state_dict()["parameters"][0]["values"] == [0.25, 0.25] == [float(each) for each in shown(optimizer)]


def test_what_is_no_number_is_named() -> None:
    """The error says which hyper-parameter of which group, and nothing has moved."""
    optimizer = sgd()
    group = cosine(optimizer)
    optimizer.param_groups[1]["lr"] = None

    with pytest.raises(
        TypeError, match="`lr` of param group 1 must be a number, but other code has put something else"
    ):
        group.step()
    assert group.iteration == 0


def test_a_value_makes_what_was_before_forgotten_by_the_values() -> None:
    """So that values set again and again cost no more than one."""
    optimizer = sgd(1)
    group = cosine(optimizer)
    for step in range(5):
        group.amend("lr", scale=0.5)
        group.amend("lr", value=0.1 + step)
        group.step()

    assert shown(optimizer) == [4.1]
