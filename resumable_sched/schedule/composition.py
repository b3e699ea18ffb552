"""Compose all schedules of one hyper-parameter into one value for each param group; pure, with no optimizer in sight.

A schedule is an affine map of the value that it receives (`Affine`). Where the result depends only on the position,
the value is the *fold* of the open maps over the base, in the order in which their windows opened. Where a floor or
an absolute value may overlap another schedule, the peers' result depends on the path that led there; only there the
parameter is a *chain*, one float for each group that every tick advances.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from resumable_sched.schedule.clock import Clock, Opening
    from resumable_sched.schedule.curves import Affine

__all__ = ["Composition", "Follower", "Layer", "Schedule", "Unit"]

Unit = Literal["epoch", "iteration"]


class Schedule(Protocol):
    """Be what a composition needs to know of a schedule; all of it is fixed configuration."""

    @property
    def begin(self) -> int:
        """Give the tick at which the window opens."""

    @property
    def span(self) -> int:
        """Give the ticks from the first to the last one of the window."""

    @property
    def clock_unit(self) -> Unit:
        """Give what a tick is."""

    @property
    def multiplicative(self) -> bool:
        """Tell whether every map of the window has offset 0, and depends on its tick alone, not on the base."""

    def at(self, t: int, base: float) -> Affine:
        """Give the map at local tick *t*."""

    def maps(self, ticks: Sequence[int], base: float) -> tuple[Sequence[float], Sequence[float]]:
        """Give the scales and the offsets of the maps at many local ticks: those of :meth:`at`, to the last bit."""

    def increment(self, t: int, base: float) -> Affine:
        """Give the map that leads from the value at local tick ``t - 1`` to that at *t*."""

    def split_base(self, base: Sequence[float]) -> tuple[list[float], list[float]]:
        """Give the base that this schedule works with, and the one for the schedules after it in the list."""


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
    """

    __slots__ = ("_clock", "base", "follower", "schedule")

    def __init__(self, schedule: Schedule, clock: Clock, base: Sequence[float] = ()) -> None:
        self.schedule = schedule
        self._clock = clock
        self.base = list(base)
        self.follower: Follower | None = None

    @property
    def clock(self) -> Clock:
        """Give the clock, at the present tick."""
        if self.follower is not None:
            self.follower.catch_up()
        return self._clock

    def catch_up(self, ticks: int) -> None:
        """Move an iteration clock by *ticks*, and open the window if that is inside; for a `Follower`."""
        clock, begin = self._clock, self.schedule.begin
        before = clock.tick
        clock.tick += ticks
        if clock.opened is None and clock.tick >= begin:
            clock.opened = (begin, 0, 0)
        if clock.fold is not None and before < begin + self.schedule.span and clock.tick >= begin:
            clock.fold.pending = True

    @property
    def local_tick(self) -> int:
        """Give the tick since the window opened; it stops at the last one of the window, and is negative before it."""
        return min(self.clock.tick - self.schedule.begin, self.schedule.span)

    @property
    def in_window(self) -> bool:
        """Tell whether the clock is inside the window."""
        return 0 <= self.clock.tick - self.schedule.begin <= self.schedule.span

    def apply(self, values: Sequence[float]) -> list[float]:
        """Map the value of each param group at the present tick, or by the held map after the window."""
        fold, schedule, tick = self.clock.fold, self.schedule, self.local_tick
        if fold is not None:
            return [scale * value for scale, value in zip(fold.scales, values, strict=True)]
        if schedule.multiplicative:  # the same for every group
            scale, offset = schedule.at(tick, self.base[0])
            return [scale * value + offset for value in values]
        maps = {base: schedule.at(tick, base) for base in set(self.base)}
        return [maps[base](value) for base, value in zip(self.base, values, strict=True)]

    def advance(self, values: Sequence[float]) -> list[float]:
        """Do to the values of a chain what the present tick does."""
        if self.clock.fold is not None or not self.in_window:
            return list(values)
        tick = self.local_tick
        maps = {base: self.schedule.increment(tick, base) for base in set(self.base)}
        return [maps[base](value) for base, value in zip(self.base, values, strict=True)]


class Composition:
    """Hold the schedules of one hyper-parameter, in list order, and turn them into values.

    Args:
        layers: The schedules.
        base: The value that the user gave the optimizer, one for each param group.

    Attributes:
        layers: The schedules, in list order.
        base: The value that the user gave, one for each param group.
        follower: Who moves the values ahead of the clocks; None while nobody does.
    """

    def __init__(self, layers: Iterable[Layer], base: Sequence[float]) -> None:
        self.layers: list[Layer] = []
        self.base = list(base)
        self.follower: Follower | None = None
        self._chain: list[float] | None = None
        for layer in layers:
            self.add(layer)

    @property
    def chain(self) -> list[float] | None:
        """Give the path-dependent value of each param group; None while the value is a function of the position."""
        if self.follower is not None:
            self.follower.catch_up()
        return self._chain

    @chain.setter
    def chain(self, values: list[float] | None) -> None:
        self._chain = values

    def release(self) -> None:
        """Let nobody move the values ahead any more: something else than an iteration is about to happen."""
        if self.follower is not None:
            self.follower.release()

    def add(self, layer: Layer) -> None:
        """Append *layer*; if its window is open already, its first map acts on the present value.

        Raises:
            ValueError: A list of values of the schedule has another length than there are param groups, or its position
                was guessed (``last_step=``) and cannot be, because the value depends on the path.
        """
        layers = [*self.layers, layer]
        bases = _bases(layers, self.base)
        present = self.values()
        chained = needs_chain(layers)
        if chained and any(each.clock.guessed for each in layers):
            raise ValueError(
                "`last_step` must be -1 where a schedule with a floor overlaps another one, because the value depends "
                "on the way that led there, which a number cannot tell. Use load_state_dict instead."
            )
        self.layers = layers
        self._set_bases(bases)
        if chained:
            self.chain = present
            self._increment([layer])

    def rebase(self, base: Sequence[float]) -> None:
        """Take *base* as the value that the user gave, from now on."""
        self.release()
        bases = _bases(self.layers, base)
        self.base = list(base)
        self._set_bases(bases)

    def settle(self, values: Sequence[float]) -> None:
        """Take up the path after configuration and clocks have been set from outside.

        Args:
            values: From where a chain goes on. What is a function of the position needs none.
        """
        self.release()
        self.chain = list(values) if needs_chain(self.layers) else None

    @property
    def mixed(self) -> bool:
        """Tell whether the schedules count different things, so that the order of their openings cannot be computed."""
        return len({layer.schedule.clock_unit for layer in self.layers}) > 1

    def values(self) -> list[float]:
        """Give the value of each param group at the present ticks."""
        if self.chain is not None:
            return list(self.chain)
        values = list(self.base)
        for layer in self.opened_layers():
            values = layer.apply(values)
        return values

    def opened_layers(self) -> list[Layer]:
        """Give the layers whose windows have opened, in the order in which they did; ties are in list order."""
        opened = [layer for layer in self.layers if layer.clock.opened is not None]
        return sorted(opened, key=lambda layer: layer.clock.opened or (0, 0, 0))

    def tick(self, moved: Sequence[Layer], opening: Callable[[Layer], Opening]) -> None:
        """Move the clocks of the layers *moved* by one tick.

        Args:
            moved: Layers of this composition, in list order.
            opening: Says when it is, for a layer whose window opens with this tick.
        """
        self.release()
        for layer in moved:
            clock = layer.clock
            clock.tick += 1
            if clock.opened is None and clock.tick >= layer.schedule.begin:
                clock.opened = opening(layer)
            if clock.fold is not None and layer.in_window:
                clock.fold.pending = True
        self._increment(moved)

    def rescale(self, layer: Layer, new: Sequence[float | None]) -> None:
        """Let the plateau *layer* move the value of each param group to that in *new*; None leaves it."""
        self.release()
        fold = layer.clock.fold
        if fold is None:
            raise TypeError("Only a plateau schedule rescales.")
        for group, (value, after) in enumerate(zip(self.values(), new, strict=True)):
            if after is None:
                continue
            fold.scales[group] *= after / value
            if self.chain is not None:
                self.chain[group] = after

    def copy(self) -> Composition:
        """Give an independent copy, to look ahead with."""
        twin = Composition((), self.base)
        twin.layers = [Layer(layer.schedule, layer.clock.copy(), layer.base) for layer in self.layers]
        twin.chain = None if self.chain is None else list(self.chain)
        return twin

    def _increment(self, moved: Iterable[Layer]) -> None:
        if self.chain is None:
            return
        for layer in moved:
            self.chain = layer.advance(self.chain)

    def _set_bases(self, bases: Iterable[list[float]]) -> None:
        for layer, base in zip(self.layers, bases, strict=True):
            layer.base = base


def _bases(layers: Iterable[Layer], base: Sequence[float]) -> list[list[float]]:
    bases, present = [], list(base)
    for layer in layers:
        own, present = layer.schedule.split_base(present)
        bases.append(own)
    return bases


def needs_chain(layers: Sequence[Layer]) -> bool:
    """Tell whether a schedule that is not purely multiplicative may overlap another one of *layers*."""
    return any(
        not (one.schedule.multiplicative and other.schedule.multiplicative)
        and _may_overlap(one.schedule, other.schedule)
        for index, one in enumerate(layers)
        for other in layers[:index]
    )


def _may_overlap(one: Schedule, other: Schedule) -> bool:
    if one.clock_unit != other.clock_unit:
        return True  # how many iterations an epoch has is only known afterwards
    return one.begin <= other.begin + other.span and other.begin <= one.begin + one.span
