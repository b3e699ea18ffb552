"""Give the values that training will use, with no model, by the arithmetic that training runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from resumable_sched.schedule.columns import alike, closed_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resumable_sched.schedule.clock import Opening
    from resumable_sched.schedule.composition import Composition
    from resumable_sched.schedule.timeline import Counters, ParameterKey, Timeline

__all__ = ["Trace", "look_ahead"]


@dataclass(frozen=True)
class Trace:
    """Hold the values of every scheduled hyper-parameter over a range of iterations.

    Attributes:
        iterations: Completed updates before each row: row ``k`` holds what update ``iterations[k] + 1`` uses.
        epochs: Completed epochs before each row.
        samples: Samples seen before each row; None if the trace was not told how many an update sees.
        values: For each hyper-parameter, for each param group, the value in each row. Param groups that are alike share
            one list. The name of the optimizer comes first (``"generator.lr"``) where the group has several by name.
    """

    iterations: range
    epochs: Sequence[int]
    samples: Sequence[int] | None
    values: Mapping[str, Sequence[Sequence[float]]]


def look_ahead(
    timeline: Timeline,
    iterations: range,
    epoch_length: int | None,
    samples_per_iteration: int | None,
    names: Mapping[ParameterKey, str],
) -> Trace:
    """Compute the rows *iterations*; an epoch ends after *epoch_length* of them, or never. Changes nothing.

    Where the value is a function of the position, a row costs the same however far away it is; a chain is replayed.
    """
    counters = timeline.counters
    epochs = _epochs(counters, iterations, epoch_length)
    values = {}
    for key, composition in timeline.compositions.items():
        if composition.chain is None:
            index, firsts = alike(composition)
            ticks = {"iteration": iterations, "epoch": epochs}
            openings = _openings(composition, counters, epoch_length)
            columns = closed_columns(composition, ticks, openings, firsts)  # type: ignore[arg-type]
            values[names[key]] = [columns[column] for column in index]
        else:
            values[names[key]] = _replay(timeline, key, iterations, epoch_length)
    samples = None
    if samples_per_iteration is not None:
        samples = [counters.samples + (it - counters.iteration) * samples_per_iteration for it in iterations]
    return Trace(iterations, epochs, samples, values)


def _epochs(counters: Counters, iterations: range, epoch_length: int | None) -> Sequence[int]:
    if epoch_length is None:
        return [counters.epoch] * len(iterations)
    start = counters.iteration - counters.iteration_in_epoch
    return [counters.epoch + (iteration - start) // epoch_length for iteration in iterations]


def _openings(composition: Composition, counters: Counters, epoch_length: int | None) -> dict[int, Opening]:
    """Say when the windows will open that are not open yet; see `timeline.opening`."""
    found: dict[int, Opening] = {}
    for index, layer in enumerate(composition.layers):
        begin = layer.schedule.begin
        if layer.clock.opened is not None:
            continue
        if layer.schedule.clock_unit == "iteration" or not composition.mixed:
            found[index] = (begin, 0, 0)
        elif epoch_length is not None:
            left = (begin - counters.epoch) * epoch_length - counters.iteration_in_epoch
            found[index] = (counters.iteration + left, 1, begin)
    return found


def _replay(timeline: Timeline, key: ParameterKey, iterations: range, epoch_length: int | None) -> list[list[float]]:
    """Let a copy of *timeline* run as far as the last row, and note the values of one hyper-parameter."""
    future = timeline.copy()
    future.compositions = {key: future.compositions[key]}
    counters, composition = future.counters, future.compositions[key]
    rows: list[list[float]] = [[] for _ in composition.base]
    for wanted in iterations:
        while True:
            if epoch_length is not None and counters.iteration_in_epoch >= epoch_length:
                future.finish_epoch()
            if counters.iteration >= wanted:
                break
            future.finish_iteration()
        for row, value in zip(rows, composition.values(), strict=True):
            row.append(value)
    return rows
