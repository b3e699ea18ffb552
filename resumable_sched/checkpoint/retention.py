"""Which checkpoints to keep."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resumable_sched.checkpoint.manifest import Folder

__all__ = ["Candidate", "Retention"]

Best: TypeAlias = "tuple[str, Literal['min', 'max'], int]"


@dataclass(frozen=True)
class Candidate:
    """A committed checkpoint, as retention sees it."""

    folder: Folder
    eligible: bool = True
    """False for one of a branch that was left, or of a job that had been replaced: never restored again."""
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Retention:
    """Say which checkpoints to keep; the newest one always is. A checkpoint is kept if any rule keeps it.

    Args:
        keep_last: How many of the newest.
        keep_every: Each whose iteration is a multiple of this many iterations.
        keep_best: ``(metric, "min" or "max", how many)``. A checkpoint without the metric, or with NaN, is never
            among the best; of equal ones the earlier is.

    Raises:
        ValueError: If a number is less than 1, the metric is no name, or the mode is neither ``"min"`` nor ``"max"``.
    """

    keep_last: int = 3
    keep_every: int | None = None
    keep_best: Best | None = None

    def __post_init__(self) -> None:
        _require_positive("keep_last", self.keep_last)
        if self.keep_every is not None:
            _require_positive("keep_every", self.keep_every)
        if self.keep_best is not None:
            if not isinstance(self.keep_best, tuple) or len(self.keep_best) != 3:  # noqa: PLR2004 - the tuple's arity
                raise ValueError(f'`keep_best` must be like ("val_loss", "min", 2), but is {self.keep_best!r} instead.')
            if not isinstance(self.keep_best[0], str):
                raise ValueError(f"`keep_best` must name a metric, but has {self.keep_best[0]!r} instead.")
            if self.keep_best[1] not in ("min", "max"):
                raise ValueError(f'`keep_best` must have mode "min" or "max", but has {self.keep_best[1]!r} instead.')
            _require_positive("keep_best", self.keep_best[2])

    def doomed(self, candidates: Sequence[Candidate]) -> list[Folder]:
        """Return the checkpoints to delete, oldest first.

        Args:
            candidates: All committed checkpoints, oldest first.
        """
        current = [it for it in candidates if it.eligible]
        kept = {it.folder for it in current[-self.keep_last :]}
        if self.keep_every is not None:
            # A branch that was left keeps its milestones too: to rewind is no wish to lose them.
            kept |= {it.folder for it in candidates if it.folder.iteration % self.keep_every == 0}
        if self.keep_best is not None:
            metric, mode, count = self.keep_best
            values = [(it.metrics.get(metric, math.nan), it.folder) for it in current]
            scored = [pair for pair in values if not math.isnan(pair[0])]
            scored.sort(key=lambda pair: ((pair[0] if mode == "min" else -pair[0]), pair[1].iteration))
            kept |= {folder for _, folder in scored[:count]}
        return [it.folder for it in candidates if it.folder not in kept]


def _require_positive(argument: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"`{argument}` must be an integer of at least 1, but is {value!r} instead.")
