"""Hold the little that changes while training: how far a schedule has come, and what it has seen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

__all__ = ["Clock", "MetricFold", "Opening"]

Opening = tuple[int, int, int]
"""When a window opened. Openings sort in time order; what they count is up to whoever drives the schedules."""


@dataclass(slots=True)
class MetricFold:
    """Hold what a plateau schedule has made of the metrics so far.

    Attributes:
        scales: The factor reached, one for each param group.
        best: The best metric so far; None before the first.
        bad: Metrics in a row that were no better.
        cooldown: Metrics still to be ignored.
        seen: Metrics seen inside the window.
        pending: Whether an epoch has ended whose metric has not come yet.
    """

    scales: list[float]
    best: float | None = None
    bad: int = 0
    cooldown: int = 0
    seen: int = 0
    pending: bool = False

    def copy(self) -> MetricFold:
        """Return an independent copy."""
        return replace(self, scales=list(self.scales))


@dataclass(slots=True)
class Clock:
    """Count the ticks of one schedule; the only part of it that changes.

    Attributes:
        tick: Ticks since training began, not since the window opened.
        opened: When the window opened; None before.
        fold: What a plateau schedule has seen; None for the others.
        guessed: Whether the tick came from the argument `last_step` and not from stepping or from a state.
    """

    tick: int = 0
    opened: Opening | None = None
    fold: MetricFold | None = None
    guessed: bool = field(default=False, compare=False)

    def copy(self) -> Clock:
        """Return an independent copy."""
        return replace(self, fold=None if self.fold is None else self.fold.copy())
