"""Find from where on a saved schedule gives other values than the one that was built."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from resumable_sched.errors import ScheduleMismatchError
from resumable_sched.schedule.clock import Clock, MetricFold
from resumable_sched.schedule.composition import Composition
from resumable_sched.schedule.configuration import schedule_of
from resumable_sched.schedule.forecast import Forecast
from resumable_sched.schedule.layer import Layer
from resumable_sched.schedule.state import decode_floats
from resumable_sched.schedule.timeline import Counters, Timeline
from resumable_sched.schedule.trace import look_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from resumable_sched.schedule.description import Description
    from resumable_sched.schedule.layer import Unit
    from resumable_sched.schedule.ledger import Ledger
    from resumable_sched.schedule.lengths import Lengths
    from resumable_sched.schedule.state import GroupState, LoneState, Position
    from resumable_sched.schedule.targets import HasParamGroups
    from resumable_sched.schedule.timeline import ParameterKey
    from resumable_sched.schedule.trace import Trace

__all__ = ["first_difference", "first_difference_alone"]

_MOST: Final = 1_000_000
_MOST_OF_A_CHAIN: Final = 100_000
"""Iterations that are compared; a chain has to be replayed."""
_MARGIN: Final = 10_000
"""How far beyond the saved position to look where nobody says how long training is."""


def first_difference(
    saved: GroupState,
    optimizers: Mapping[str, HasParamGroups],
    schedulers: Sequence[tuple[str, Description]],
    ledgers: Mapping[ParameterKey, Ledger],
    *,
    lengths: Lengths,
    training_length: Callable[[Any, str], int | None],
    cadence: Mapping[str, int],
) -> str:
    """Say in a sentence at which iteration values first differ; empty where that cannot be told.

    Both are compared from the beginning of training, without metrics and amendments.
    """
    try:
        before: list[tuple[str, Any]] = [  # each a ParamScheduler, whose module is built on this one
            (each.optimizer, schedule_of(optimizers[each.optimizer], each.config))
            for each in saved.schedulers
            if each.optimizer in optimizers
        ]
        for name, scheduler in before:
            scheduler.fit_training(training_length(scheduler, name))
        bases = {(each.optimizer, each.name): decode_floats(each.base) for each in saved.parameters}
        old = _timeline(before, bases, saved.cadence)
        new = _timeline(schedulers, {key: ledger.composition.base for key, ledger in ledgers.items()}, cadence)
    except (ScheduleMismatchError, ValueError, TypeError, KeyError):
        return ""  # the saved schedule cannot be built here; the error that lists the fields is enough
    units = {scheduler.clock_unit for _, scheduler in [*before, *schedulers]}
    epoch_length = lengths.epoch_length or _epoch_length(saved.position)
    unit: Unit = "iteration"
    if epoch_length is None and "epoch" in units:
        if units != {"epoch"}:
            return ""
        epoch_length, unit = 1, "epoch"
    sizes = [_mean(total, saved.position.iteration) for total in (saved.position.samples, saved.position.tokens)]
    if ("sample" in units and sizes[0] is None) or ("token" in units and sizes[1] is None):
        return ""
    chained = any(each.chain is not None for timeline in (old, new) for each in timeline.compositions.values())
    end = lengths.of_training(unit) or saved.position.iteration + _MARGIN
    rows = range(min(end, _MOST_OF_A_CHAIN if chained else _MOST))
    return _sentence(old, new, rows, Forecast(Counters(), {}, epoch_length, *sizes), unit)


def first_difference_alone(
    saved: LoneState, scheduler: Description, optimizer: HasParamGroups, base: list[float]
) -> str:
    """Say the same of a schedule that is stepped by itself, as if there were no other on its hyper-parameter.

    Args:
        saved: Its state.
        scheduler: What was built.
        optimizer: Its optimizer.
        base: What the user gave its hyper-parameter now.
    """
    try:
        before: Description = schedule_of(optimizer, saved.config)
        if before.param_name != scheduler.param_name or before.clock_unit != scheduler.clock_unit:
            return ""
        key = ("", scheduler.param_name)
        old, new = (
            _timeline([("", before)], {key: decode_floats(saved.base)}),
            _timeline([("", scheduler)], {key: base}),
        )
    except (ScheduleMismatchError, ValueError, TypeError, KeyError):
        return ""
    ends = [each.end for each in (before, scheduler) if not each.open_ended]
    rows = range(min(max([*ends, saved.tick + _MARGIN]), _MOST))
    epoch_length = 1 if scheduler.clock_unit == "epoch" else None
    return _sentence(old, new, rows, Forecast(Counters(), {}, epoch_length), scheduler.clock_unit)


def _sentence(old: Timeline, new: Timeline, rows: range, forecast: Forecast, unit: str) -> str:
    names = {key: key[1] for key in old.compositions.keys() & new.compositions.keys()}
    traces = [_trace(timeline, rows, replace(forecast, cadence=timeline.cadence), names) for timeline in (old, new)]
    found = _first(*traces)
    if found is None:
        return f"All values are the same in the first {len(rows)} {unit}s."
    row, name, group, values = found
    return (
        f"Values differ from {unit} {row} on: `{name}` of param group {group} is {values[0]!r} as saved, and "
        f"{values[1]!r} as built now."
    )


def _timeline(
    schedulers: Iterable[tuple[str, Description]],
    bases: Mapping[ParameterKey, list[float]],
    cadence: Mapping[str, int] | None = None,
) -> Timeline:
    """Put schedules to the beginning of a training of their own."""
    timeline = Timeline(cadence=cadence or {})
    layers: dict[ParameterKey, list[Layer]] = {}
    for name, scheduler in schedulers:
        key = (name, scheduler.param_name)
        fold = MetricFold(scales=[1.0] * len(bases[key])) if scheduler.need_val_args else None
        layer = Layer(scheduler, Clock(opened=(0, 0, 0) if scheduler.begin == 0 else None, fold=fold))
        layers.setdefault(key, []).append(layer)
    for key, members in layers.items():
        timeline.compositions[key] = Composition(members, bases[key])
    return timeline


def _trace(timeline: Timeline, rows: range, forecast: Forecast, names: Mapping[ParameterKey, str]) -> Trace:
    kept = {key: each for key, each in timeline.compositions.items() if key in names}
    return look_ahead(Timeline(compositions=kept, cadence=forecast.cadence), rows, forecast, names)


def _epoch_length(position: Position) -> int | None:
    """Return the length that the completed epochs had, if it can have been the same."""
    done = position.iteration - position.iteration_in_epoch
    return done // position.epoch if position.epoch and done and done % position.epoch == 0 else None


def _mean(total: int, iterations: int) -> int | None:
    return total // iterations if iterations and total else None


def _first(old: Trace, new: Trace) -> tuple[int, str, int, tuple[Any, Any]] | None:
    found = None
    rows = len(old.iterations)
    for name, columns in old.values.items():
        for group, (one, other) in enumerate(zip(columns, new.values[name], strict=False)):
            row = next((row for row in range(rows) if one[row] != other[row]), None)
            if row is not None:
                rows, found = row, (row, name, group, (one[row], other[row]))
    return found
