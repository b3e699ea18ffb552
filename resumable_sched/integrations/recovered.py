"""Bring a group to the position that the state of a peer's schedulers tells."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args

from resumable_sched.errors import ScheduleMismatchError, StateFormatError
from resumable_sched.schedule import comparison
from resumable_sched.schedule.arguments import check_choice, whole
from resumable_sched.schedule.composition import needs_chain
from resumable_sched.schedule.plateau import ReduceOnPlateauParamScheduler
from resumable_sched.schedule.reports import quiet
from resumable_sched.schedule.scheduler import FOREVER
from resumable_sched.schedule.state import decode_floats, encode_float, encode_floats
from resumable_sched.schedule.targets import resolve

if TYPE_CHECKING:
    from resumable_sched.schedule import ParamScheduler, SchedulerGroup
    from resumable_sched.schedule.layer import Unit

__all__ = ["Plateau", "Policy", "Recovered", "base_lines", "field_lines", "recover", "settle"]

Policy = Literal["error", "adopt"]

_REMEDY: Final = 'Pass on_mismatch="adopt" to take the position all the same, with these schedules.'


class Plateau(NamedTuple):
    """Be what a plateau schedule of the peer has made of the metrics.

    Attributes:
        best: The best metric; None before the first.
        bad: Metrics in a row that were no better.
        cooldown: Metrics still to be ignored.
        seen: Metrics seen.
    """

    best: float | None
    bad: int
    cooldown: int
    seen: int


@dataclass
class Recovered:
    """Collect what states tell.

    Attributes:
        lines: What differs from the group, a sentence for each.
        ticks: Positions by clock; all of one clock must agree.
        weak_ticks: Positions that count only where nothing else tells them.
        plateaus: In the order of the plateau schedules of the group, by the name of the optimizer.
        values: Present values by optimizer and hyper-parameter; where they differ, nobody knows which is the last.
    """

    lines: list[str] = field(default_factory=list)
    ticks: list[tuple[Unit, int]] = field(default_factory=list)
    weak_ticks: list[tuple[Unit, int]] = field(default_factory=list)
    plateaus: dict[str, list[Plateau]] = field(default_factory=dict)
    values: dict[tuple[str, str], list[list[float]]] = field(default_factory=dict)


def recover(
    group: SchedulerGroup,
    states: Any,  # noqa: ANN401 - as the peers store them
    take: Callable[[SchedulerGroup, Any, str, list[ParamScheduler], Recovered], None],
) -> Recovered:
    """Find out what the *states* of a peer's schedulers tell.

    Args:
        group: The group.
        states: A state, a list of them, or a dict of these by optimizer.
        take: What is told of a state, the optimizer's name, and the optimizer's schedules that no state was for yet: it
            takes those off that the state is for.

    Raises:
        StateFormatError: *states* holds something else, or *take* says so.
    """
    recovered = Recovered()
    for name, given in by_optimizer(group, states, "states").items():
        optimizer = group.optimizers[name]
        ours = [each for each in group.schedulers if each.optimizer is optimizer]
        if not isinstance(given, Mapping | Sequence) or isinstance(given, str):
            raise StateFormatError(f"`states` must hold the state dicts of schedulers, but is {given!r} instead.")
        for state in [given] if isinstance(given, Mapping) else given:
            take(group, state, name, ours, recovered)
        recovered.lines += [f"{type(each).__name__} of `{name}` has no state." for each in ours]
    return recovered


def by_optimizer(group: SchedulerGroup, given: Any, what: str) -> dict[str, Any]:  # noqa: ANN401 - as the peers store it
    """Return what was given for each optimizer of *group* by its name.

    Raises:
        ValueError: There are several optimizers, and *given* is no dict with their names.
    """
    names = group.optimizers.keys()
    if isinstance(given, Mapping) and given and given.keys() <= names:
        return dict(given)
    if len(names) > 1:
        raise ValueError(f"`{what}` must be a dict with the names {', '.join(map(repr, names))}, but is not.")
    return {next(iter(names)): given}


def field_lines(group: SchedulerGroup, ours: ParamScheduler, label: str, saved: Mapping[str, Any]) -> list[str]:
    """Say which fields of *ours* differ from those that were *saved*."""
    config, lines = ours.configuration(), []
    for name, value in saved.items():
        now = config.get(name)
        if name == "end" and ours.open_ended:
            now = group.training_length(ours.clock_unit)
            if now is None:
                now = FOREVER
        if not _same(comparison.plain_value(value, name), now):
            lines.append(f"{label}: `{name}` was {value!r} when the state was saved, but is {now!r} now.")
    return lines


def base_lines(ours: ParamScheduler, name: str, saved: Sequence[Any]) -> list[str]:
    """Say whether the initial values that *ours* works with differ from those that were *saved* as *name*."""
    before, now = [float(value) for value in saved], ours.base_values
    if not before or _same(before, now):
        return []
    return [f"{type(ours).__name__}: `{name}` were {before} when the state was saved, but are {now} now."]


def settle(
    group: SchedulerGroup,
    recovered: Recovered,
    *,
    optimizer_state: Any,  # noqa: ANN401 - as the peers store it
    iteration: int | None,
    epoch: int | None,
    on_mismatch: Policy,
) -> None:
    """Set the position of *group*, and write the values into the optimizers.

    Raises:
        ScheduleMismatchError: Something differs that *on_mismatch* does not allow; nothing was changed.
        ValueError: The position, or a value that the position does not tell, is not known.
    """
    check_choice("on_mismatch", on_mismatch, get_args(Policy))
    if recovered.lines and on_mismatch == "error":
        raise comparison.mismatch(recovered.lines, _REMEDY)
    state = group.state_dict()
    if on_mismatch == "adopt":  # what is given wins
        recovered.ticks = [each for each in recovered.ticks if (iteration, epoch)[each[0] == "epoch"] is None]
    state["position"].update(_position(group, recovered, iteration, epoch))
    saved = {} if optimizer_state is None else by_optimizer(group, optimizer_state, "optimizer_state")
    present = _present_values(group, recovered, saved)
    for parameter in state["parameters"]:
        found = present.get((parameter["optimizer"], parameter["name"]))
        if found is not None:
            parameter["values"] = encode_floats(found)
    folds = _folds(group, recovered, state)
    if folds or recovered.lines:  # what was before cannot be drawn
        state["known_from"] = state["position"]["iteration"]
    if folds:
        with quiet():  # the values are not these yet
            group.load_state_dict(state, "error")
        _rescale(group, state, folds, present)
    group.load_state_dict(state, "error")


# ---------------------------------------------------------------------- the position
def _position(group: SchedulerGroup, recovered: Recovered, iteration: int | None, epoch: int | None) -> dict[str, int]:
    told: dict[Unit, int | None] = {"iteration": iteration, "epoch": epoch}
    for unit, given in told.items():
        found = {tick for each, tick in recovered.ticks if each == unit}
        if given is not None:
            found.add(whole(unit, given, minimum=0))
        elif not found:
            found = {tick for each, tick in recovered.weak_ticks if each == unit}
        if len(found) > 1:
            line = f"The states are at different {unit}s: {', '.join(map(str, sorted(found)))}."
            raise ScheduleMismatchError(f"{line} Those of one checkpoint are at one.", [line])
        told[unit] = found.pop() if found else None
    length, iterations, epochs = group.lengths.epoch_length, told["iteration"], told["epoch"]
    if iterations is None and epochs is None:
        raise ValueError("`iteration` or `epoch` must be given, because the states do not tell the position.")
    if length is not None:
        epochs = iterations // length if epochs is None and iterations is not None else epochs
        iterations = epochs * length if iterations is None and epochs is not None else iterations
    for unit, known in (("iteration", iterations), ("epoch", epochs)):
        if known is None and any(each.clock_unit == unit for each in group.schedulers):
            raise ValueError(
                f"`{unit}` must be given, because there are schedules by {unit}, the states do not tell it, and the "
                "group has no `epoch_length`."
            )
    iterations, epochs = iterations or 0, epochs or 0
    inside = iterations - epochs * length if length is not None else 0
    if length is not None and not 0 <= inside <= length:
        line = f"`epoch_length` is {length}, but epoch {epochs} and iteration {iterations} were saved."
        raise ScheduleMismatchError(line, [line])
    return {"iteration": iterations, "epoch": epochs, "iteration_in_epoch": inside}


# ---------------------------------------------------------------------- what the position does not tell
def _present_values(
    group: SchedulerGroup, recovered: Recovered, saved: Mapping[str, Any]
) -> dict[tuple[str, str], list[float]]:
    """Find the present values of each hyper-parameter that depends on the path."""
    present = {}
    for name, optimizer in group.optimizers.items():
        members = [each for each in group.schedulers if each.optimizer is optimizer]
        for parameter in dict.fromkeys(each.param_name for each in members):
            own = [each for each in members if each.param_name == parameter]
            plateau = any(isinstance(each, ReduceOnPlateauParamScheduler) for each in own)
            if not plateau and not needs_chain([each.layer for each in own]):
                continue
            if name in saved:
                target = resolve(optimizer, parameter)
                found = [[target.read(each) for each in saved[name]["param_groups"]]]
            else:
                found = recovered.values.get((name, parameter), [])
            if not found or not all(_same(found[0], each) for each in found):
                raise ValueError(
                    f"`optimizer_state` must be given, because `{parameter}` depends on the way that led here, and the "
                    f"states {'say different things of it' if found else 'do not tell it'}."
                )
            if len(found[0]) != len(optimizer.param_groups):
                line = (
                    f"{name}: {len(found[0])} param groups were saved, but there are {len(optimizer.param_groups)} now."
                )
                raise ScheduleMismatchError(line, [line])
            present[name, parameter] = found[0]
    return present


def _folds(group: SchedulerGroup, recovered: Recovered, state: dict[str, Any]) -> list[int]:
    """Put what the plateaus have seen into *state*, and give their places; the scales come later."""
    places: list[int] = []
    waiting = {name: list(plateaus) for name, plateaus in recovered.plateaus.items()}
    for index, each in enumerate(group.schedulers):
        name = state["schedulers"][index]["optimizer"]
        if isinstance(each, ReduceOnPlateauParamScheduler) and waiting.get(name):
            seen = waiting[name].pop(0)
            state["schedulers"][index]["plateau"] = {
                "scales": [1.0] * len(each.optimizer.param_groups),
                "best": None if seen.best is None else encode_float(seen.best),
                "bad": seen.bad,
                "cooldown": seen.cooldown,
                "seen": seen.seen,
                "pending": False,
            }
            places.append(index)
    return places


def _rescale(
    group: SchedulerGroup, state: dict[str, Any], folds: list[int], present: Mapping[tuple[str, str], list[float]]
) -> None:
    """Let the first plateau of each parameter whose window is open have the scale that leads to *present*."""
    reached = {
        (each["optimizer"], each["name"]): decode_floats(each["values"]) for each in group.state_dict()["parameters"]
    }
    for index in folds:
        scheduler = group.schedulers[index]
        key = (state["schedulers"][index]["optimizer"], scheduler.param_name)
        if key in reached and scheduler.layer.clock.opened is not None:
            pairs = zip(present[key], reached.pop(key), strict=True)
            scales = [value / without if without else 1.0 for value, without in pairs]
            state["schedulers"][index]["plateau"]["scales"] = scales


def _same(saved: Any, now: Any) -> bool:  # noqa: ANN401 - JSON
    """Return whether two plain values are the same, but for rounding, and one for all being as good as a list of it."""
    if isinstance(saved, list) != isinstance(now, list):
        many, one = (saved, now) if isinstance(saved, list) else (now, saved)
        return bool(many) and all(_same(each, one) for each in many)
    if isinstance(saved, Sequence) and not isinstance(saved, str) and isinstance(now, Sequence):
        return len(saved) == len(now) and all(map(_same, saved, now))
    if isinstance(saved, Real) and isinstance(now, Real) and not isinstance(saved, bool) and not isinstance(now, bool):
        return math.isclose(saved, now, rel_tol=1e-12)
    return comparison.equal(saved, now)
