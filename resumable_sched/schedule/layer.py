"""Put a schedule, its clock and the base that it works with together: a layer of a composition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from resumable_sched.schedule.clock import Clock
    from resumable_sched.schedule.curves import Affine

__all__ = ["UNITS", "Follower", "Layer", "Schedule", "Unit"]

Unit = Literal["epoch", "iteration", "sample", "token"]
UNITS: tuple[Unit, ...] = ("epoch", "iteration", "sample", "token")


class Schedule(Protocol):
    """Be what a composition needs to know of a schedule; all of it is fixed configuration."""

    @property
    def begin(self) -> int:
        """Return the tick at which the window opens."""

    @property
    def span(self) -> int:
        """Return the ticks from the first to the last one of the window."""

    @property
    def clock_unit(self) -> Unit:
        """Return what a tick is."""

    @property
    def multiplicative(self) -> bool:
        """Return whether every map of the window has offset 0, and depends on its tick alone, not on the base."""

    def same_for_every_base(self, last: int) -> bool:
        """Return whether every map up to local tick *last* depends on its tick alone, not on the base."""

    def at(self, t: int, base: float) -> Affine:
        """Return the map at local tick *t*."""

    def maps(self, ticks: Sequence[int], base: float) -> tuple[Sequence[float], Sequence[float]]:
        """Return the scales and the offsets of the maps at many local ticks: those of :meth:`at`, to the last bit."""

    def increments(self, ticks: range, base: float) -> tuple[Sequence[float], Sequence[float]]:
        """Return the scales and the offsets of :meth:`increment` at successive local ticks, to the last bit."""

    def increment(self, t: int, base: float) -> Affine:
        """Return the map that leads from the value at local tick ``t - 1`` to that at *t*."""

    def split_base(self, base: Sequence[float]) -> tuple[list[float], list[float]]:
        """Return the base that this schedule works with, and the one for the schedules after it in the list."""

    @property
    def rebases_only_as_first(self) -> bool:
        """Return whether the schedules after this one work with another base only where it is the first in the list."""

    def selection(self) -> list[bool] | None:
        """Return for each param group whether the schedule acts on it; None if on all."""


class Follower(Protocol):
    """Be who moves values on without telling the clocks, and tells them when somebody looks."""

    def catch_up(self) -> None:
        """Bring clocks and chains to where the values are."""

    def release(self) -> None:
        """Catch up and stop: something else than an iteration is about to happen."""


class Layer:
    """Be one schedule of a composition, with its clock and the base that it works with.

    Args:
        schedule: The schedule.
        clock: Its clock.
        base: What it works with.

    Attributes:
        follower: Who moves the values ahead of the clock; None while nobody does.
        acts_on: For each param group, whether the schedule acts on it; None if on all.
    """

    __slots__ = ("_clock", "acts_on", "base", "follower", "schedule")

    def __init__(self, schedule: Schedule, clock: Clock, base: Sequence[float] = ()) -> None:
        self.schedule = schedule
        self._clock = clock
        self.base = list(base)
        self.acts_on: list[bool] | None = None
        self.follower: Follower | None = None

    @property
    def clock(self) -> Clock:
        """Return the clock, at the present tick."""
        if self.follower is not None:
            self.follower.catch_up()
        return self._clock

    def catch_up(self, ticks: int, opening: Callable[[Layer], tuple[int, int, int]]) -> None:
        """Move the clock by *ticks*, all within one epoch, and open the window if that is inside; for a `Follower`."""
        clock, begin = self._clock, self.schedule.begin
        before = clock.tick
        clock.tick += ticks
        if clock.opened is None and clock.tick >= begin:
            clock.opened = opening(self)
        if clock.fold is not None and before < begin + self.schedule.span and clock.tick >= begin:
            clock.fold.pending = True

    @property
    def local_tick(self) -> int:
        """Return the ticks since the window opened; they stop at the last one of it, and are negative before it."""
        return min(self.clock.tick - self.schedule.begin, self.schedule.span)

    @property
    def in_window(self) -> bool:
        """Return whether the clock is inside the window."""
        return 0 <= self.clock.tick - self.schedule.begin <= self.schedule.span

    def apply(self, values: Sequence[float]) -> list[float]:
        """Map the value of each param group at the present tick, or by the held map after the window."""
        clock, schedule = self.clock, self.schedule
        if clock.fold is not None:
            scales = clock.fold.scales
            return self._selected([scale * value for scale, value in zip(scales, values, strict=True)], values)
        tick = min(clock.tick - schedule.begin, schedule.span)
        if schedule.same_for_every_base(tick):
            scale, offset = schedule.at(tick, self.base[0])
            return self._selected([scale * value + offset for value in values], values)
        maps = {base: schedule.at(tick, base) for base in set(self.base)}
        return self._selected([maps[base](value) for base, value in zip(self.base, values, strict=True)], values)

    def advance(self, values: Sequence[float]) -> list[float]:
        """Do to the values of a chain what the present tick does."""
        if self.clock.fold is not None or not self.in_window:
            return list(values)
        tick = self.local_tick
        maps = {base: self.schedule.increment(tick, base) for base in set(self.base)}
        return self._selected([maps[base](value) for base, value in zip(self.base, values, strict=True)], values)

    def _selected(self, mapped: list[float], values: Sequence[float]) -> list[float]:
        """Take the mapped value where the schedule acts on the param group."""
        if self.acts_on is None:
            return mapped
        return [new if acts else old for new, old, acts in zip(mapped, values, self.acts_on, strict=True)]
