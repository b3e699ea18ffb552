"""Compose all schedules of one hyper-parameter into one value for each param group; pure, with no optimizer in sight.

A schedule is an affine map of the value that it receives (`Affine`). Where the result depends only on the position,
the value is the *fold* of the open maps over the base, in the order in which their windows opened. Where a floor or
an absolute value may overlap another schedule, the peers' result depends on the path that led there; only there the
parameter is a *chain*, one float for each group that every tick advances.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resumable_sched.schedule.amendments import Amendment, amend_all
from resumable_sched.schedule.layer import Layer
from resumable_sched.schedule.selection import disjoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from resumable_sched.schedule.clock import Opening
    from resumable_sched.schedule.layer import Follower

__all__ = ["Composition", "needs_chain"]


class Composition:
    """Hold the schedules of one hyper-parameter, in list order, and turn them into values.

    Args:
        layers: The schedules.
        base: The value that the user gave the optimizer, one for each param group.

    Attributes:
        layers: The schedules, in list order.
        base: The value that the user gave, one for each param group.
        amendments: What was changed beside the schedules, in order.
        follower: Who moves the values ahead of the clocks; None while nobody does.
    """

    def __init__(self, layers: Iterable[Layer], base: Sequence[float]) -> None:
        self.layers: list[Layer] = []
        self.base = list(base)
        self.amendments: list[Amendment] = []
        self.follower: Follower | None = None
        self._chain: list[float] | None = None
        for layer in layers:
            self.add(layer)

    @property
    def chain(self) -> list[float] | None:
        """Return the path-dependent value of each param group; None while the value is a function of the position."""
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
        layer.acts_on = layer.schedule.selection()
        layers = [*self.layers, layer]
        bases = _bases(layers, self.base)
        chained = needs_chain(layers)
        present = self.scheduled() if chained else []
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

    def discard(self, layer: Layer, chain: list[float] | None) -> None:
        """Undo :meth:`add`, before which the chain was *chain*."""
        self.layers = [each for each in self.layers if each is not layer]
        self._set_bases(_bases(self.layers, self.base))
        self.chain = chain

    def rebase(self, base: Sequence[float]) -> None:
        """Take *base* as the value that the user gave, from now on."""
        self.release()
        for layer in self.layers:
            layer.acts_on = layer.schedule.selection()
        bases = _bases(self.layers, base)
        self.base = list(base)
        self._set_bases(bases)

    def check_growth(self, base: Sequence[float]) -> None:
        """Raise what :meth:`grow` would raise, and change nothing."""
        _bases(self.layers, [*self.base, *base], [layer.schedule.selection() for layer in self.layers])

    def grow(self, base: Sequence[float]) -> None:
        """Schedule param groups that were added to the optimizer, whose values the user gave as *base*.

        Their values are those that they would have had from the beginning; a chain begins for them as if no schedules
        had overlapped, and a plateau as if there had been no metric.

        Raises:
            ValueError: A schedule has a list of values, one for each param group, and none for these.
        """
        self.release()
        longer = [*self.base, *base]
        selections = [layer.schedule.selection() for layer in self.layers]
        bases = _bases(self.layers, longer, selections)
        chain = self.chain
        self.base = longer
        self._set_bases(bases)
        for layer, selection in zip(self.layers, selections, strict=True):
            layer.acts_on = selection
            if layer.clock.fold is not None:
                layer.clock.fold.scales += [1.0] * len(base)
        if chain is not None:
            self.chain = None
            self.chain = [*chain, *self.scheduled()[len(chain) :]]

    def settle(self, values: Sequence[float]) -> None:
        """Take up the path after configuration and clocks have been set from outside.

        Args:
            values: From where a chain goes on. What is a function of the position needs none.
        """
        self.release()
        for layer in self.layers:
            layer.acts_on = layer.schedule.selection()
        self.chain = list(values) if needs_chain(self.layers) else None

    def base_after(self, layer: Layer) -> list[float]:
        """Return the base as the schedules after *layer* see it."""
        return _base_steps(self.layers, self.base)[self.layers.index(layer)][1]

    @property
    def mixed(self) -> bool:
        """Return whether the schedules count different things: the order of their openings cannot be computed then."""
        return len({layer.schedule.clock_unit for layer in self.layers}) > 1

    def values(self) -> list[float]:
        """Return the value of each param group at the present ticks."""
        return amend_all(self.scheduled(), self.amendments) if self.amendments else self.scheduled()

    def scheduled(self) -> list[float]:
        """Return what the schedules alone make of each param group."""
        if self.chain is not None:
            return list(self.chain)
        values = list(self.base)
        for layer in self.opened_layers():
            values = layer.apply(values)
        return values

    def opened_layers(self) -> list[Layer]:
        """Return the layers whose windows have opened, in the order in which they did; ties are in list order."""
        opened = [layer for layer in self.layers if layer.clock.opened is not None]
        return opened if len(opened) < 2 else sorted(opened, key=_opening)  # noqa: PLR2004 - nothing to sort

    def tick(self, moved: Sequence[Layer], opening: Callable[[Layer], Opening], by: int = 1) -> None:
        """Move the clocks of the layers *moved*.

        Args:
            moved: Layers of this composition, in list order.
            opening: Says when it is, for a layer whose window opens with this tick.
            by: Ticks; a chain moves by one.
        """
        self.release()
        for layer in moved:
            clock = layer.clock
            clock.tick += by
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
                self.chain[group] = self.chain[group] * (after / value) if self.amendments else after

    def note_foreign(self, iteration: int, group: int, expected: float, observed: float) -> Amendment:
        """Amend the value of a param group, *expected*, to what other code has written.

        A change of a change that was noticed at the same place is one change: whether somebody has looked in between,
        to save for instance, makes no difference.
        """
        made = Amendment.foreign(iteration, group, expected, observed)
        last = next((each for each in reversed(self.amendments) if each.group == group), None)
        if last is not None and last.kind == "foreign" and last.iteration == iteration and last.expected is not None:
            others = [each for each in self.amendments if each is not last]
            if amend_all(self.scheduled(), others)[group] == last.expected:
                self.amendments = others
                made = Amendment.foreign(iteration, group, last.expected, observed)
        if made.observed != made.expected:
            self.amendments.append(made)
        return made

    def copy(self) -> Composition:
        """Return an independent copy, to look ahead with."""
        twin = Composition((), self.base)
        for layer in self.layers:
            copied = Layer(layer.schedule, layer.clock.copy(), layer.base)
            copied.acts_on = layer.acts_on
            twin.layers.append(copied)
        twin.chain = None if self.chain is None else list(self.chain)
        twin.amendments = list(self.amendments)
        return twin

    def _increment(self, moved: Iterable[Layer]) -> None:
        if self.chain is None:
            return
        for layer in moved:
            self.chain = layer.advance(self.chain)

    def _set_bases(self, bases: Iterable[list[float]]) -> None:
        for layer, base in zip(self.layers, bases, strict=True):
            layer.base = base


def _opening(layer: Layer) -> Opening:
    return layer.clock.opened or (0, 0, 0)


def _bases(
    layers: Sequence[Layer], base: Sequence[float], selections: Sequence[list[bool] | None] | None = None
) -> list[list[float]]:
    """Return the base that each layer works with."""
    return [own for own, _ in _base_steps(layers, base, selections)]


def _base_steps(
    layers: Sequence[Layer], base: Sequence[float], selections: Sequence[list[bool] | None] | None = None
) -> list[tuple[list[float], list[float]]]:
    """Return the base that each layer works with, and the one after it: a one-cycle changes that, where it acts."""
    steps: list[tuple[list[float], list[float]]] = []
    present = list(base)
    for layer, acts_on in zip(layers, selections or [layer.acts_on for layer in layers], strict=True):
        own, after = layer.schedule.split_base(present)
        if steps and layer.schedule.rebases_only_as_first:
            after = present
        if acts_on is not None:
            after = [new if acts else old for new, old, acts in zip(after, present, acts_on, strict=True)]
        steps.append((own, after))
        present = after
    return steps


def needs_chain(layers: Sequence[Layer]) -> bool:
    """Return whether a schedule that is not purely multiplicative may overlap another one of *layers*."""
    return len(layers) > 1 and any(
        not (one.schedule.multiplicative and other.schedule.multiplicative) and _may_overlap(one, other)
        for index, one in enumerate(layers)
        for other in layers[:index]
    )


def _may_overlap(one: Layer, other: Layer) -> bool:
    if disjoint(one.acts_on, other.acts_on):
        return False
    first, second = one.schedule, other.schedule
    if first.clock_unit != second.clock_unit:
        return True  # how many iterations an epoch has is only known afterwards
    return first.begin <= second.begin + second.span and second.begin <= first.begin + first.span
