"""Make a preview of whatever somebody wants to see."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resumable_sched.schedule import Config, SchedulerGroup, Trace, load_config
from resumable_sched.schedule.preview import Preview, preview_config, preview_group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resumable_sched.testing import Recording

__all__ = ["preview_of", "trace_of"]


def preview_of(
    source: object,
    *,
    iterations: int | None,
    epochs: int | None,
    epoch_length: int | None,
    samples_per_iteration: int | None,
    tokens_per_iteration: int | None,
    optimizer: Mapping[str, Any] | None,
    groups: Sequence[float] | Mapping[str, float],
    past: Recording | Trace | None,
) -> Preview:
    """Return what there is to see of a group, a trace, a config or its file."""
    if isinstance(source, Preview):
        return source
    if isinstance(source, Trace):
        return Preview(label="trace", trace=source, epoch_length=epoch_length)
    if isinstance(source, SchedulerGroup):
        known = past if past is None or isinstance(past, Trace) else trace_of(past)
        return preview_group(
            source,
            iterations=iterations,
            epoch_length=epoch_length,
            samples_per_iteration=samples_per_iteration,
            tokens_per_iteration=tokens_per_iteration,
            past=known,
        )
    config = load_config(source) if isinstance(source, str | os.PathLike) else source
    return preview_config(
        config,
        epochs=epochs,
        epoch_length=epoch_length,
        iterations=iterations,
        samples_per_iteration=samples_per_iteration,
        tokens_per_iteration=tokens_per_iteration,
        optimizer=optimizer,
        groups=groups,
        label=Path(config.file).name if isinstance(config, Config) else None,
    )


def trace_of(recording: Recording) -> Trace:
    """Return the values that a recording has, of the last time that each iteration was done.

    A line of a recording tells of a completed update, a row of a trace of the one that comes. A recording does not
    know epochs: all are 0.

    Raises:
        ValueError: An iteration between the first and the last one is missing.
    """
    last = {iteration - 1: facts["values"] for iteration, facts in recording.lines}
    if not last:
        return Trace(range(0), [], None, {})
    rows = range(min(last), max(last) + 1)
    missing = next((row for row in rows if row not in last), None)
    if missing is not None:
        raise ValueError(
            f"A recording must have every iteration from {rows[0] + 1} to {rows[-1] + 1}, but {missing + 1} is missing."
        )
    names = {name: len(columns) for name, columns in last[rows[0]].items()}
    return Trace(
        rows,
        [0] * len(rows),
        None,
        {name: [[last[row][name][group] for row in rows] for group in range(count)] for name, count in names.items()},
    )
