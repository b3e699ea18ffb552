"""Return the values that training will use, with no model, by the arithmetic that training runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from resumable_sched.schedule.arguments import whole
from resumable_sched.schedule.columns import alike, amend_columns, chain_rows, closed_columns
from resumable_sched.schedule.layer import UNITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resumable_sched.schedule.amendments import Amendment
    from resumable_sched.schedule.forecast import Forecast
    from resumable_sched.schedule.timeline import ParameterKey, Timeline

__all__ = ["Trace", "look_ahead", "rows_from"]


@dataclass(frozen=True)
class Trace:
    """Hold the values of every scheduled hyper-parameter over a range of iterations.

    Attributes:
        iterations: Completed updates before each row: row ``k`` holds what update ``iterations[k] + 1`` uses.
        epochs: Completed epochs before each row.
        samples: Samples seen before each row; None if the trace was not told how many an update sees.
        values: For each hyper-parameter, for each param group, the value in each row. Param groups that are alike share
            one list. The name of the optimizer comes first (``"generator.lr"``) where the group has several by name.
        tokens: Tokens seen before each row; None if the trace was not told how many an update sees.
        amendments: For each hyper-parameter, what was changed beside its schedules; the values have it in them.
        groups: For each hyper-parameter, the name of each param group; None where a group has none.
    """

    iterations: range
    epochs: Sequence[int]
    samples: Sequence[int] | None
    values: Mapping[str, Sequence[Sequence[float]]]
    tokens: Sequence[int] | None = None
    amendments: Mapping[str, Sequence[Amendment]] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str | None]] = field(default_factory=dict)


def rows_from(now: int, iterations: int | range) -> range:
    """Return the rows of a trace: so many *iterations* from *now* on, or those of a range.

    >>> rows_from(5, 3), rows_from(5, range(10, 100, 30))
    (range(5, 8), range(10, 100, 30))

    Raises:
        TypeError: *iterations* is no whole number.
        ValueError: It is negative, or the range falls or begins before *now*.
    """
    if not isinstance(iterations, range):
        return range(now, now + whole("iterations", iterations, minimum=0))
    if iterations.step < 1 or (iterations and iterations[0] < now):
        raise ValueError(f"`iterations` must rise from the present iteration {now} on, but is {iterations!r} instead.")
    return iterations


def look_ahead(
    timeline: Timeline,
    iterations: range,
    forecast: Forecast,
    names: Mapping[ParameterKey, str],
    groups: Mapping[ParameterKey, Sequence[str | None]] | None = None,
) -> Trace:
    """Compute the rows *iterations* as *forecast* assumes training to go on; changes nothing.

    Where the value is a function of the position, a row costs the same however far away it is; a chain is replayed.
    """
    values = {}
    for key, composition in timeline.compositions.items():
        if composition.chain is None:
            index, firsts = alike(composition)
            ticks = {unit: forecast.ticks(unit, key[0], iterations) for unit in UNITS}
            columns = closed_columns(composition, ticks, forecast.openings(composition, key[0]), firsts).T.tolist()
            values[names[key]] = [columns[column] for column in index]
        elif all(layer.schedule.clock_unit == "iteration" for layer in composition.layers) and iterations:
            index, firsts = alike(composition)
            now = timeline.counters.iteration
            own = forecast.ticks("iteration", key[0], range(now, iterations[-1] + 1))
            every = chain_rows(composition, own, firsts)
            rows = np.array([*islice(every, iterations.start - now, None, iterations.step)])
            amend_columns(composition, firsts, rows)
            columns = rows.T.tolist()
            values[names[key]] = [columns[column] for column in index]
        else:
            values[names[key]] = _replay(timeline, key, iterations, forecast)
    return Trace(
        iterations,
        forecast.ticks("epoch", "", iterations),
        forecast.ticks("sample", "", iterations) if forecast.samples is not None else None,
        values,
        tokens=forecast.ticks("token", "", iterations) if forecast.tokens is not None else None,
        amendments={
            names[key]: tuple(each.amendments) for key, each in timeline.compositions.items() if each.amendments
        },
        groups={names[key]: each for key, each in (groups or {}).items()},
    )


def _replay(timeline: Timeline, key: ParameterKey, iterations: range, forecast: Forecast) -> list[list[float]]:
    """Let a copy of *timeline* run as far as the last row, and note the values of one hyper-parameter."""
    future = timeline.copy()
    future.compositions = {key: future.compositions[key]}
    counters, composition, length = future.counters, future.compositions[key], forecast.epoch_length
    rows: list[list[float]] = [[] for _ in composition.base]
    for wanted in iterations:
        while True:
            if length is not None and counters.iteration_in_epoch >= length:
                future.finish_epoch()
            if counters.iteration >= wanted:
                break
            future.finish_iteration()
        for row, value in zip(rows, composition.values(), strict=True):
            row.append(value)
    return rows
