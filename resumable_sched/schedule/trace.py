"""Give the values that training will use, with no model, by the code that training runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resumable_sched.schedule.timeline import ParameterKey, Timeline

__all__ = ["Trace", "look_ahead"]


@dataclass(frozen=True)
class Trace:
    """Hold the values of every scheduled hyper-parameter over a range of iterations.

    Attributes:
        iterations: Completed updates before each row: row ``k`` holds what update ``iterations[k] + 1`` uses.
        epochs: Completed epochs before each row.
        samples: Samples seen before each row; None if the trace was not told how many an update sees.
        values: For each hyper-parameter, for each param group, the value in each row. The name of the optimizer comes
            first (``"generator.lr"``) where the group has several by name.
    """

    iterations: range
    epochs: Sequence[int]
    samples: Sequence[int] | None
    values: Mapping[str, Sequence[Sequence[float]]]


def look_ahead(
    timeline: Timeline,
    iterations: int,
    epoch_length: int | None,
    samples_per_iteration: int | None,
    names: Mapping[ParameterKey, str],
) -> Trace:
    """Let a copy of *timeline* run for *iterations* updates; an epoch ends after *epoch_length* of them, or never."""
    future = timeline.copy()
    counters = future.counters
    first = counters.iteration
    rows: dict[ParameterKey, list[list[float]]] = {
        key: [[] for _ in composition.base] for key, composition in future.compositions.items()
    }
    present = {key: composition.values() for key, composition in future.compositions.items()}
    epochs: list[int] = []
    samples: list[int] = []
    for _ in range(iterations):
        epochs.append(counters.epoch)
        samples.append(counters.samples)
        for key, columns in rows.items():
            for column, value in zip(columns, present[key], strict=True):
                column.append(value)
        touched = future.finish_iteration(samples_per_iteration or 0)
        if epoch_length is not None and counters.iteration_in_epoch >= epoch_length:
            touched += future.finish_epoch()
        for key in touched:
            present[key] = future.compositions[key].values()
    return Trace(
        iterations=range(first, first + iterations),
        epochs=epochs,
        samples=None if samples_per_iteration is None else samples,
        values={names[key]: columns for key, columns in rows.items()},
    )
