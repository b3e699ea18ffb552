"""Step fast: write values that were computed ahead, and tell the clocks only when somebody looks.

A step in the middle of training is, nearly always, the next iteration and nothing else. For that case the values of the
next iterations are computed at once, and a step compares and writes one number for each param group. Whatever else
happens (an epoch, a metric, a load, somebody else's write) ends the run ahead, and the slow way takes over.
"""

from __future__ import annotations

import operator
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from resumable_sched.schedule.columns import alike, chain_rows, closed_columns
from resumable_sched.schedule.forecast import Forecast
from resumable_sched.schedule.layer import UNITS
from resumable_sched.schedule.targets import Item, Key
from resumable_sched.schedule.timeline import opening

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resumable_sched.schedule.clock import Opening
    from resumable_sched.schedule.columns import Values
    from resumable_sched.schedule.composition import Composition
    from resumable_sched.schedule.layer import Layer, Unit
    from resumable_sched.schedule.ledger import Ledger
    from resumable_sched.schedule.targets import HasParamGroups
    from resumable_sched.schedule.timeline import ParameterKey, Timeline

__all__ = ["LONGEST", "SHORTEST", "RunAhead"]

SHORTEST: Final = 16
LONGEST: Final = 1024
"""Iterations computed at once; the number grows while nothing interrupts."""
_MOST_FLOATS: Final = 2**20
"""For a run ahead of many param groups with values of their own."""


class _Column:
    """Write the values of one hyper-parameter: numbers, or tuples with a number at one place, such as the betas.

    What a param group holds is compared by identity with what was written there. Param groups of the same kind, whose
    values (and tuples) are the same, share the object that is written.

    Args:
        ledger: Whose values they are.
        values: A row for each iteration, a column for each value that differs.
        index: For each param group, its column.

    Attributes:
        row: What is written into all param groups at each position, where they are of one kind; else None.
    """

    def __init__(self, ledger: Ledger, values: Values, index: Sequence[int]) -> None:
        target = ledger.target
        self._ledger = ledger
        self._optimizer = ledger.optimizer
        self._values = values
        self._index = index
        self._count = len(index)
        self._name, self._copy, self._place, self._kind = ledger.name, None, 0, index
        self._tuples: list[tuple[int, tuple[Any, ...], tuple[Any, ...]]] = []
        if isinstance(target, Item):
            self._name, self._copy, self._place = target.name, target.copy, target.index
            self._tuples, self._kind = _tuples(self._optimizer, target, index)
        self._each_its_own = all(map(operator.eq, self._kind, range(self._count)))
        self.row: list[Any] | None = None
        if max(self._kind) == 0:
            self.row = (
                [self._things(position)[0] for position in range(len(values))]
                if self._tuples
                else (values[:, 0].tolist())
            )
        self._at = 0
        self._now = self._things(0) if self.row is None else [self.row[0]] * self._count
        self._before: list[Any] = []
        self._next: list[Any] = []
        for group, thing in zip(self._optimizer.param_groups, self._now, strict=True):
            group[self._name] = thing  # the same value, and from now on the same object

    @property
    def uniform(self) -> tuple[HasParamGroups, str, Sequence[float], int] | None:
        """Return optimizer, name, values and number of groups, where all param groups have the same and no more."""
        if self.row is None or self._copy is not None:
            return None
        return self._optimizer, self._name, self.row, self._count

    def _things(self, position: int) -> list[Any]:
        """Return what is written into each param group."""
        things: list[Any] = self._values[position].tolist()
        if self._tuples:
            things = [(*before, things[column], *after) for column, before, after in self._tuples]
        return things if self._each_its_own else [things[kind] for kind in self._kind]

    def values(self, position: int) -> list[float]:
        """Return the value of each param group."""
        row: list[float] = self._values[position].tolist()
        return [row[column] for column in self._index]

    def move(self, position: int) -> bool:
        """Write the values after *position*; False if somebody else has written, with some values written perhaps."""
        name, groups = self._name, self._optimizer.param_groups
        if len(groups) != self._count:
            return False
        if self.row is not None:
            old, new = self.row[position], self.row[position + 1]
            for group in groups:
                if group[name] is not old:
                    return False
                group[name] = new
            if self._copy is not None:
                number = new[self._place]
                for group in groups:
                    group[self._copy] = number
            return True
        self._next = self._things(position + 1)
        for group, old, new in zip(groups, self._now, self._next, strict=True):
            if group[name] is not old:
                return False
            group[name] = new
        self._at, self._before, self._now, self._next = position + 1, self._now, self._next, []
        self._write_copies(position + 1)
        return True

    def move_back(self, position: int) -> None:
        """Undo `move`, also one that was given up; nothing happens where there was none."""
        if self.row is not None:  # which `RunAhead.step` may have written itself
            old, new = [self.row[position]] * self._count, [self.row[position + 1]] * self._count
        elif self._at > position:
            old, new = self._before, self._now
        else:
            old, new = self._now, self._next
        for group, before, after in zip(self._optimizer.param_groups, old, new, strict=False):
            if group.get(self._name) is after:
                group[self._name] = before
        self._at, self._now, self._next = position, old, []
        self._write_copies(position)

    def _write_copies(self, position: int) -> None:
        """Write the key that is never read."""
        if self._copy is None:
            return
        numbers = self._values[position].tolist()
        for group, column in zip(self._optimizer.param_groups, self._index, strict=False):
            group[self._copy] = numbers[column]

    def rest(self, position: int) -> None:
        """Tell the ledger what is written."""
        self._ledger.note_written(self.values(position))


def _tuples(
    optimizer: HasParamGroups, target: Item, index: Sequence[int]
) -> tuple[list[tuple[int, tuple[Any, ...], tuple[Any, ...]]], list[int]]:
    """Find which param groups can share a tuple: for each kind the column and what surrounds it; the kind of each."""
    kinds: dict[tuple[int, tuple[Any, ...], tuple[Any, ...]], int] = {}
    found = []
    for group, column in zip(optimizer.param_groups, index, strict=True):
        items = group[target.name]
        surroundings = (column, items[: target.index], items[target.index + 1 :])
        found.append(kinds.setdefault(surroundings, len(kinds)))
    return list(kinds), found


class RunAhead:
    """Hold the values of the next iterations, and the position among them.

    Args:
        timeline: The position and all compositions of a group.
        ledgers: Their ledgers.
        length: How many iterations.
        counts: Samples and tokens that each of them is assumed to see.

    Attributes:
        position: Iterations done of these.
        length: How many there are; the present position once it has been ended.
        planned: How many there were at first.
        running: Whether it has not been ended.
        expects: Samples and tokens that each iteration must see; None where it makes no difference.
    """

    def __init__(
        self, timeline: Timeline, ledgers: Mapping[ParameterKey, Ledger], length: int, counts: tuple[int, int]
    ) -> None:
        compositions = timeline.compositions
        found = {key: alike(composition) for key, composition in compositions.items()}
        most = max((len(firsts) for _, firsts in found.values()), default=1)
        self.length = max(1, min(length, _MOST_FLOATS // most))
        self.planned = self.length
        self.running = True
        self.position = 0
        units = {layer.schedule.clock_unit for each in compositions.values() for layer in each.layers}
        self.expects = counts if units & {"sample", "token"} else None
        self._caught_up = 0
        self._counters = timeline.counters
        now = timeline.counters.iteration
        rows = range(now, now + self.length + 1)
        forecast = Forecast(timeline.counters.copy(), timeline.cadence, None, *counts)
        # A counter of its own that an optimizer has moves with it.
        own = timeline.counters.updates.keys() | timeline.cadence.keys()
        self._updates = {name: forecast.ticks("iteration", name, rows) for name in own}
        self._columns: dict[ParameterKey, _Column] = {}
        self._moved: list[_Moved] = []
        self._chains: list[tuple[Composition, _Column]] = []
        for key, composition in compositions.items():
            ticks = {unit: forecast.ticks(unit, key[0], rows) for unit in UNITS}
            self._moved.append(_Moved(composition, ticks, self.length))
            index, firsts = found[key]
            column = _Column(ledgers[key], _values(composition, ticks, forecast, key[0], firsts), index)
            self._columns[key] = column
            if composition.chain is not None:
                self._chains.append((composition, column))
        self._uniform = [it for column in self._columns.values() if (it := column.uniform) is not None]
        self._others = [column for column in self._columns.values() if column.uniform is None]
        for moved in self._moved:
            moved.follow(self)

    @classmethod
    def possible(cls, timeline: Timeline, ledgers: Mapping[ParameterKey, Ledger]) -> bool:
        """Return whether every value is a plain number; a tensor has to be filled in place."""
        tuples = []
        for key, ledger in ledgers.items():
            groups, target = ledger.optimizer.param_groups, ledger.target
            if isinstance(target, Key):
                if not all(type(group[ledger.name]) is float for group in groups):
                    return False
            elif isinstance(target, Item):
                tuples.append((key[0], target.name))
                if not all(
                    type(group[target.name]) is tuple and type(group[target.name][target.index]) is float
                    for group in groups
                ):
                    return False
        if len(set(tuples)) < len(tuples):
            return False  # two places of one tuple: each would take the other's writing for somebody else's
        return not any(each.chain is not None and each.amendments for each in timeline.compositions.values())

    def step(self) -> bool:
        """Write the next values; False, and nothing changed, if that is not all there is to do."""
        position = self.position
        after = position + 1
        if after > self.length:
            return False
        # Written out here: this is every step of nearly every training.
        for optimizer, name, row, count in self._uniform:
            groups = optimizer.param_groups
            if len(groups) != count:
                return self._undo(position)
            old, new = row[position], row[after]
            for group in groups:
                if group[name] is not old:
                    return self._undo(position)
                group[name] = new
        for column in self._others:
            if not column.move(position):
                return self._undo(position)
        self.position = after
        return True

    def _undo(self, position: int) -> bool:
        for column in self._columns.values():
            column.move_back(position)
        return False

    def values(self) -> dict[ParameterKey, list[float]]:
        """Return the present values."""
        return {key: column.values(self.position) for key, column in self._columns.items()}

    def catch_up(self) -> None:
        """Bring clocks and chains to where the values are."""
        ticks = self.position - self._caught_up
        if ticks == 0:
            return
        before, self._caught_up = self._caught_up, self.position
        for moved in self._moved:
            moved.catch_up(before, self.position)
        for name, updates in self._updates.items():
            if name in self._counters.updates or updates[self.position] != self._counters.iteration:
                self._counters.updates[name] = updates[self.position]
        for composition, column in self._chains:
            composition.chain = column.values(self.position)

    def rest(self) -> None:
        """Let clocks, chains and ledgers know the present position, and go on afterwards."""
        if not self.running:
            return
        self.catch_up()
        for column in self._columns.values():
            column.rest(self.position)

    def release(self) -> None:
        """Catch up, let the ledgers know the present position, and end: every later step is refused."""
        self.rest()
        self.drop()

    def drop(self) -> None:
        """Catch up and end, without a word to the ledgers."""
        self.catch_up()
        self.length, self.running = self.position, False
        for moved in self._moved:
            moved.follow(None)


class _Moved:
    """Be the layers of a composition whose clocks iterations move, and where their clocks will be."""

    def __init__(self, composition: Composition, ticks: Mapping[Unit, Sequence[int]], length: int) -> None:
        self._composition = composition
        self._ticks = ticks
        self._layers = [
            layer
            for layer in composition.layers
            if ticks[layer.schedule.clock_unit][length] != ticks[layer.schedule.clock_unit][0]
        ]

    def follow(self, follower: RunAhead | None) -> None:
        """Let the clocks ask *follower* where they are."""
        self._composition.follower = follower
        for layer in self._layers:
            layer.follower = follower

    def catch_up(self, before: int, now: int) -> None:
        """Move the clocks from one place among the rows to another."""

        def opened(layer: Layer) -> Opening:
            own = self._ticks[layer.schedule.clock_unit]
            place = bisect_left(own, layer.schedule.begin, before, now)
            return opening(self._composition, layer, self._ticks["iteration"][place])

        for layer in self._layers:
            own = self._ticks[layer.schedule.clock_unit]
            layer.catch_up(own[now] - own[before], opened)


def _values(
    composition: Composition,
    ticks: Mapping[Unit, Sequence[int]],
    forecast: Forecast,
    optimizer: str,
    firsts: Sequence[int],
) -> Values:
    """Give, for each column, the present value and those of the next iterations; no epoch ends among them."""
    count = len(ticks["epoch"])
    if all(layer.schedule.clock_unit == "epoch" for layer in composition.layers):
        present = composition.values()
        return np.broadcast_to(np.array([present[group] for group in firsts]), (count, len(firsts)))
    if composition.chain is not None:
        return np.array([*chain_rows(composition, ticks["iteration"], firsts)])
    return closed_columns(composition, ticks, forecast.openings(composition, optimizer), firsts)
