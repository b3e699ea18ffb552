"""A group: who may be in it, what moves it, several optimizers, its state, and what it says of itself."""

from __future__ import annotations

import copy
import gc
import json
import logging
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resumable_sched.errors import ScheduleMismatchError, StateFormatError
from resumable_sched.schedule import (
    CosineAnnealingLR,
    CosineAnnealingMomentum,
    LinearLR,
    LinearMomentum,
    MultiStepLR,
    ReduceOnPlateauLR,
    SchedulerGroup,
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


def warm_up_and_cosine(optimizer: torch.optim.Optimizer, factor: float = 0.1, floor: float = 0.01) -> SchedulerGroup:
    """Build a warm-up by iteration under a cosine by epoch, which makes a chain."""
    return SchedulerGroup(
        optimizer,
        [LinearLR(optimizer, factor, end=4, by_epoch=False), CosineAnnealingLR(optimizer, 5, floor)],
    )


# ---------------------------------------------------------------------------------- who is in it
def test_a_schedule_that_the_list_forgot_is_named() -> None:
    """What acts on an optimizer must be in the group that drives it."""
    optimizer = sgd()
    schedulers = [LinearLR(optimizer), LinearMomentum(optimizer)]

    with pytest.raises(ValueError, match=r"must hold every schedule of its optimizers, but LinearMomentum\("):
        SchedulerGroup(optimizer, schedulers[:1])


def test_a_schedule_of_another_optimizer_is_refused() -> None:
    """A group writes into its own optimizers only."""
    with pytest.raises(ValueError, match="must act on an optimizer of the group"):
        SchedulerGroup(sgd(), [LinearLR(sgd())])


@pytest.mark.parametrize("schedulers", [5, ["LinearLR"], {"optimizer": 5}])
def test_something_else_than_schedules_is_refused(schedulers: Any) -> None:
    """The error says what a list of schedules is."""
    with pytest.raises(TypeError, match="`schedulers` must"):
        SchedulerGroup(sgd(), schedulers)


def test_a_schedule_twice_is_refused() -> None:
    """Each schedule acts once."""
    optimizer = sgd()
    scheduler = LinearLR(optimizer)

    with pytest.raises(ValueError, match="must hold each schedule once"):
        SchedulerGroup(optimizer, [scheduler, scheduler])


def test_a_schedule_that_was_stepped_is_refused() -> None:
    """A group starts at the beginning, or where a state says."""
    optimizer = sgd()
    scheduler = LinearLR(optimizer)
    scheduler.step()

    with pytest.raises(ValueError, match="`schedulers` must be new, but LinearLR is at tick 1"):
        SchedulerGroup(optimizer, [scheduler])


def test_a_schedule_in_a_group_has_no_clock_of_its_own() -> None:
    """Stepping, saving or loading it alone would contradict the group; a dropped group sets it free."""
    optimizer = sgd()
    scheduler = LinearLR(optimizer, 0.5, end=5)
    group = SchedulerGroup(optimizer, [scheduler])

    for act in (scheduler.step, scheduler.state_dict, lambda: scheduler.load_state_dict({})):
        with pytest.raises(RuntimeError, match="is driven by a SchedulerGroup"):
            act()
    with pytest.raises(ValueError, match="must be built before it, but StepLR"):
        StepLR(optimizer, 2)
    assert group.values() == {"lr": [0.5]}

    del group
    gc.collect()
    scheduler.step()
    assert lr(optimizer) == 0.625


def test_the_newest_group_drives() -> None:
    """A second group over the same schedules takes over, and the first one says so."""
    optimizer = sgd()
    scheduler = LinearLR(optimizer)
    first, second = (SchedulerGroup(optimizer, [scheduler]) for _ in range(2))

    second.step()
    with pytest.raises(RuntimeError, match="another group has taken over"):
        first.step()


def test_an_empty_group_counts() -> None:
    """A training without schedules has a position too."""
    group = SchedulerGroup(sgd(), [])
    group.step(samples=8, tokens=100)
    group.step_epoch()

    assert (group.iteration, group.epoch, group.iteration_in_epoch, group.samples, group.tokens) == (1, 1, 0, 8, 100)
    assert group.values() == {}
    other = SchedulerGroup(sgd(), [])
    other.load_state_dict(group.state_dict())
    assert other.summary() == group.summary()


# ------------------------------------------------------------------------------------ what moves
def test_each_clock_moves_its_own_schedules() -> None:
    """An update moves no schedule by epoch, an epoch none by iteration."""
    optimizer = sgd()
    group = SchedulerGroup(
        optimizer, [LinearLR(optimizer, 0.5, end=3, by_epoch=False), LinearMomentum(optimizer, 0.5, end=3)]
    )

    group.step()
    assert group.values() == {"lr": [0.75], "momentum": [0.25]}
    group.step_epoch()
    assert group.values() == {"lr": [0.75], "momentum": [0.375]}


def test_a_step_beyond_a_known_epoch_is_an_error() -> None:
    """A loop that forgets `step_epoch` is told at the first iteration too many, before anything has moved."""
    group = SchedulerGroup(sgd(), [], epoch_length=2)
    group.step()
    group.step()

    with pytest.raises(RuntimeError, match="`step_epoch` must be called after 2 iterations"):
        group.step()
    assert group.iteration == 2
    group.step_epoch()
    group.step()


@pytest.mark.parametrize(("argument", "value"), [("samples", -1), ("tokens", 1.5)])
def test_a_wrong_count_is_refused(argument: str, value: Any) -> None:
    """Counts are whole and do not go back."""
    with pytest.raises((ValueError, TypeError), match=f"`{argument}` must be"):
        SchedulerGroup(sgd(), []).step(**{argument: value})


def test_all_plateaus_see_a_metric_or_none_does() -> None:
    """A metric that one of them misses is an error before another one has counted it."""
    optimizer = sgd()
    schedulers = [ReduceOnPlateauLR(optimizer, "loss", patience=0), ReduceOnPlateauLR(optimizer, "accuracy", "greater")]
    group = SchedulerGroup(optimizer, schedulers)
    before = group.state_dict()

    with pytest.raises(KeyError, match="'accuracy', but holds 'loss'"):
        group.observe({"loss": 1.0})
    with pytest.raises(TypeError, match="`metrics` must be a dict"):
        group.observe(1.0)  # type: ignore[arg-type]
    assert group.state_dict() == before


def test_the_length_of_training_stands_for_a_default_end() -> None:
    """Where the group knows how long training is, a schedule without `end` arrives there."""
    optimizer = sgd()
    group = SchedulerGroup(optimizer, [LinearLR(optimizer, 0.0, by_epoch=False)], max_epochs=2, epoch_length=3)

    assert group.trace(6, 3).values["lr"][0][-1] == 1.0
    assert group.trace(6, 3).values["lr"][0][1] == 0.2


def test_a_window_after_the_end_of_training_is_refused() -> None:
    """A schedule that can never begin is a mistake."""
    optimizer = sgd()

    with pytest.raises(ValueError, match="`begin` of LinearLR must be less than the length of training, 5 epochs"):
        SchedulerGroup(optimizer, [LinearLR(optimizer, begin=5)], max_epochs=5)


def test_verbose_schedules_say_their_values(caplog: pytest.LogCaptureFixture) -> None:
    """A verbose schedule logs, whoever steps it."""
    optimizer = sgd()
    group = SchedulerGroup(optimizer, [LinearLR(optimizer, 0.5, end=3, verbose=True)])
    with caplog.at_level(logging.INFO, logger="resumable_sched"):
        group.step_epoch()

    assert caplog.messages == ["Adjusting `lr` of group 0 to 7.5000e-01."]


# --------------------------------------------------------------------------------- several optimizers
def test_several_optimizers_are_driven_by_name() -> None:
    """Values, state and trace say which optimizer they are about; lists may come by name or in one."""
    for by_name in (True, False):
        one, two = sgd(1.0), sgd(2.0)
        schedulers = [StepLR(one, 1, 0.5), StepLR(two, 1, 0.25), LinearMomentum(two, 0.5, end=3)]
        lists: Any = {"critic": [schedulers[0]], "actor": schedulers[1:]} if by_name else schedulers
        group = SchedulerGroup({"critic": one, "actor": two}, lists)
        group.step_epoch()

        assert group.values() == {"critic": {"lr": [0.5]}, "actor": {"lr": [0.5], "momentum": [0.375]}}
        assert group.optimizers == {"critic": one, "actor": two}
        assert group.trace(1, 1).values == {"critic.lr": [[0.5]], "actor.lr": [[0.5]], "actor.momentum": [[0.375]]}
        state = json.loads(json.dumps(group.state_dict()))

        one, two = sgd(1.0), sgd(2.0)
        again = SchedulerGroup(
            {"critic": one, "actor": two}, [StepLR(one, 1, 0.5), StepLR(two, 1, 0.25), LinearMomentum(two, 0.5, end=3)]
        )
        again.load_state_dict(state)
        assert again.values() == group.values()


def test_one_optimizer_under_two_names_is_refused() -> None:
    """An optimizer has one name."""
    optimizer = sgd()

    with pytest.raises(ValueError, match="must hold each optimizer once"):
        SchedulerGroup({"actor": optimizer, "critic": optimizer}, [])


def test_a_state_is_not_loaded_into_other_param_groups() -> None:
    """The state of other param groups is an error before anything changes."""
    optimizer = sgd()
    group = warm_up_and_cosine(optimizer)
    state = group.state_dict()
    group.step()
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))]})

    for act in (group.check_state_dict, group.load_state_dict):
        with pytest.raises(ScheduleMismatchError, match="had 1 param groups when iteration 0 was saved, but has 2 now"):
            act(state)
    assert group.iteration == 1


def test_a_list_under_the_wrong_name_is_refused() -> None:
    """The name of a list must be that of the optimizer of its schedules."""
    one, two = sgd(), sgd()

    with pytest.raises(ValueError, match="must act on the optimizer 'actor'"):
        SchedulerGroup({"critic": one, "actor": two}, {"actor": [StepLR(one, 1)]})


# ----------------------------------------------------------------------------------------- state
def test_a_changed_schedule_is_an_error_with_a_line_for_each_field() -> None:
    """What was saved, what is now, and what to do; nothing has changed then."""
    group = warm_up_and_cosine(sgd())
    group.step()
    state = group.state_dict()
    optimizer = sgd(0.2)
    other = warm_up_and_cosine(optimizer, factor=0.3, floor=0.02)

    for act in (other.check_state_dict, other.load_state_dict):
        with pytest.raises(ScheduleMismatchError) as caught:
            act(state)
        assert caught.value.differences == (
            "LinearLR: `start_factor` was 0.1 when iteration 1 was saved, but is 0.3 now.",
            "CosineAnnealingLR: `eta_min` was 0.01 when iteration 1 was saved, but is 0.02 now.",
            "optimizer: the initial `lr` of param group 0 was 1.0 when iteration 1 was saved, but is 0.2 now.",
        )
    assert (other.iteration, lr(optimizer)) == (0, 0.2 * 0.3)


def test_a_reordered_or_shorter_list_is_a_change() -> None:
    """A state is never loaded into schedules of another class."""
    optimizer = sgd()
    state = SchedulerGroup(optimizer, [StepLR(optimizer, 3), MultiStepLR(optimizer, [5])]).state_dict()

    optimizer = sgd()
    group = SchedulerGroup(optimizer, [MultiStepLR(optimizer, [5]), StepLR(optimizer, 3)])
    with pytest.raises(ScheduleMismatchError, match=r"schedulers\[0\] was StepLR .* but is MultiStepLR"):
        group.load_state_dict(state)
    optimizer = sgd()
    group = SchedulerGroup(optimizer, [StepLR(optimizer, 3)])
    with pytest.raises(ScheduleMismatchError, match=r"schedulers\[1\] was MultiStepLR .* but is absent now"):
        group.load_state_dict(state)


def test_another_number_of_param_groups_is_refused_whatever_the_policy() -> None:
    """There is no value for a group that was not there."""
    state = warm_up_and_cosine(sgd()).state_dict()

    policies: tuple[Literal["error", "keep", "adopt"], ...] = ("error", "keep", "adopt")
    for policy in policies:
        with pytest.raises(ScheduleMismatchError, match=r"had 1 param groups .* but has 2 now"):
            warm_up_and_cosine(sgd(groups=2)).load_state_dict(state, policy)


@pytest.mark.parametrize("structure", ["same", "other", "more", "none"])
def test_keep_goes_on_with_the_saved_schedules(structure: str) -> None:
    """The values are those of the run that was saved, whatever was built now; also after the next save."""
    first = sgd()
    group = warm_up_and_cosine(first)
    for _ in range(3):
        group.step()
    state = json.loads(json.dumps(group.state_dict()))

    second = sgd(3.0)
    built: list[Any] = []
    match structure:
        case "same":
            built = [LinearLR(second, 0.3, end=9, by_epoch=False), CosineAnnealingLR(second, 3)]
        case "other":
            built = [StepLR(second, 2), CosineAnnealingMomentum(second, 3)]
        case "more":
            built = [
                LinearLR(second, 0.1, end=4, by_epoch=False),
                CosineAnnealingLR(second, 5, 0.01),
                StepLR(second, 1),
            ]
    other = SchedulerGroup(second, built, on_mismatch="keep")
    other.load_state_dict(state)
    for _ in range(4):
        assert other.values() == group.values()
        assert lr(second) == lr(first)
        for each in (group, other):
            each.step()
            each.step_epoch()
    assert other.state_dict() == group.state_dict()
    assert second.param_groups[0]["momentum"] == 0.5


def test_adopt_goes_on_with_the_new_schedules_at_the_saved_position() -> None:
    """A closed form takes the value that it would have had."""
    group = warm_up_and_cosine(sgd())
    for _ in range(3):
        group.step()
    group.step_epoch()
    state = group.state_dict()

    optimizer = sgd(2.0)
    other = SchedulerGroup(optimizer, [StepLR(optimizer, 1, 0.5), MultiStepLR(optimizer, [2], by_epoch=False)])
    other.load_state_dict(state, "adopt")

    assert (other.iteration, other.epoch) == (3, 1)
    assert lr(optimizer) == pytest.approx(2.0 * 0.5 * 0.1)
    other.load_state_dict(other.state_dict(), "error")


def test_what_cannot_be_kept_is_said() -> None:
    """A class that is not known here cannot be rebuilt."""
    optimizer = sgd()
    group = SchedulerGroup(optimizer, [StepLR(optimizer, 3)])
    state = group.state_dict()
    state["schedulers"][0]["config"]["type"] = "elsewhere:Strange"

    with pytest.raises(ScheduleMismatchError, match="there is no class 'elsewhere:Strange' here"):
        group.check_state_dict(state, "keep")
    with pytest.raises(ValueError, match='`on_mismatch` must be "error", "keep" or "adopt"'):
        group.load_state_dict(state, "yes")  # type: ignore[arg-type]


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the place of every value in a state, configurations apart: these are compared and not parsed."""
    if path and path[-1] == "config":
        return []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(deeper for key, each in inner for deeper in _paths(each, (*path, key)))]


@given(st.data(), st.sampled_from([None, -1, "x", 1.5, [], {}, True, {"a": 1}]))
def test_any_field_of_a_wrong_type_is_an_error_before_anything_changes(data: st.DataObject, wrong: Any) -> None:
    """Whatever takes the place of a value is accepted as one of its kind or refused, and never half loaded."""
    optimizer = sgd()
    schedulers = [LinearLR(optimizer, 0.1, end=4, by_epoch=False), ReduceOnPlateauLR(optimizer, begin=1)]
    group = SchedulerGroup(optimizer, schedulers)
    group.step()
    before = group.state_dict()
    state = copy.deepcopy(before)
    *parents, last = data.draw(st.sampled_from(_paths(state)[1:]))
    place: Any = state
    for key in parents:
        place = place[key]
    place[last] = wrong

    try:
        group.check_state_dict(state)
    except (StateFormatError, ScheduleMismatchError) as error:
        with pytest.raises(type(error)):
            group.load_state_dict(state)
        assert group.state_dict() == before
    else:
        group.load_state_dict(state)
        json.dumps(group.state_dict(), allow_nan=False)


@pytest.mark.parametrize("field", ["version", "kind", "position", "parameters", "schedulers"])
def test_a_missing_field_is_named(field: str) -> None:
    """A state that lost a field is damaged, whichever it is."""
    group = warm_up_and_cosine(sgd())
    state = group.state_dict()
    del state[field]

    with pytest.raises(StateFormatError, match=field):
        group.load_state_dict(state)


def test_a_value_that_somebody_else_writes_is_saved() -> None:
    """Saving sees the change, and the state goes on with it."""
    optimizer, again = sgd(), sgd()
    group, other = warm_up_and_cosine(optimizer), warm_up_and_cosine(again)
    optimizer.param_groups[0]["lr"] = 9.0

    state = group.state_dict()
    other.load_state_dict(json.loads(json.dumps(state)))

    assert state["parameters"][0]["values"] == [lr(optimizer)] == [9.0] == [lr(again)]


# ------------------------------------------------------------------------------ what it says of itself
def test_a_summary_is_json_and_its_fingerprint_is_that_of_the_configuration() -> None:
    """The fingerprint changes with the configuration and not with the position."""
    group, changed = warm_up_and_cosine(sgd()), warm_up_and_cosine(sgd(), factor=0.2)
    fingerprint = group.summary()["fingerprint"]
    group.step(samples=3)
    summary = json.loads(json.dumps(group.summary()))

    assert summary["position"] == {"iteration": 1, "epoch": 0, "iteration_in_epoch": 1, "samples": 3, "tokens": 0}
    assert summary["values"] == group.values()
    assert summary["fingerprint"] == fingerprint != changed.summary()["fingerprint"]


def test_a_trace_needs_the_length_of_an_epoch_only_for_schedules_by_epoch() -> None:
    """Nobody can say when an epoch schedule moves if nobody says how long an epoch is."""
    with pytest.raises(ValueError, match="`epoch_length` must be given"):
        warm_up_and_cosine(sgd()).trace(5)
    optimizer = sgd()
    group = SchedulerGroup(optimizer, [LinearLR(optimizer, 0.5, end=3, by_epoch=False)])

    assert group.trace(4).values == {"lr": [[0.5, 0.75, 1.0, 1.0]]}
    assert group.trace(0).values == {"lr": [[]]}


def test_a_trace_goes_on_in_the_middle_of_an_epoch() -> None:
    """The first epoch of a trace has the iterations that are left of the present one."""
    optimizer = sgd()
    group = SchedulerGroup(optimizer, [StepLR(optimizer, 1, 0.5)], epoch_length=3)
    group.step()

    trace = group.trace(5)

    assert trace.values["lr"] == [[1.0, 1.0, 0.5, 0.5, 0.5]]
    assert list(trace.epochs) == [0, 0, 1, 1, 1]
    assert trace.iterations == range(1, 6)
    assert trace.samples is None


def test_a_scheduler_of_torch_is_refused_with_what_to_do() -> None:
    """It would write for itself."""
    optimizer = sgd()
    theirs = torch.optim.lr_scheduler.StepLR(optimizer, 3)

    with pytest.raises(TypeError, match=r"Turn it into schedules with resumable_sched\.integrations\.torch_schedulers"):
        SchedulerGroup(optimizer, [theirs])  # type: ignore[list-item]


def test_a_second_group_starts_anew_whether_or_not_the_first_is_still_there() -> None:
    """Amendments of the first are gone, and the first refuses to speak; garbage collection makes no difference."""
    for keep in (True, False):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = StepLR(optimizer, 5, by_epoch=False)
        first: SchedulerGroup | None = SchedulerGroup(optimizer, [schedule])
        assert first is not None
        first.amend("lr", scale=0.5)
        if not keep:
            first = None
            gc.collect()
        second = SchedulerGroup(optimizer, [schedule])

        assert (optimizer.param_groups[0]["lr"], second.amendments) == (1.0, {})
        for look in () if first is None else (first.values, first.summary, lambda first=first: first.trace(3)):
            with pytest.raises(RuntimeError, match="another group has taken over"):
                look()
