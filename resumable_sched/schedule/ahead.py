"""Step fast: write values that were computed ahead, and tell the clocks only when somebody looks.

A step in the middle of training is, nearly always, the next iteration and nothing else. For that case the values of the
next iterations are computed at once, and a step compares and writes one number for each param group. Whatever else
happens (an epoch, a metric, a load, somebody else's write) ends the run ahead, and the slow way takes over.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from resumable_sched.schedule.columns import alike, closed_columns
from resumable_sched.schedule.forecast import Forecast
from resumable_sched.schedule.layer import UNITS
from resumable_sched.schedule.targets import Item, Key
from resumable_sched.schedule.timeline import opening

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resumable_sched.schedule.clock import Opening
    from resumable_sched.schedule.composition import Composition
    from resumable_sched.schedule.curves import Affine
    from resumable_sched.schedule.layer import Layer, Unit
    from resumable_sched.schedule.ledger import Ledger
    from resumable_sched.schedule.targets import HasParamGroups
    from resumable_sched.schedule.timeline import ParameterKey, Timeline

__all__ = ["LONGEST", "SHORTEST", "RunAhead"]

SHORTEST: Final = 16
LONGEST: Final = 1024
"""Iterations computed at once; the number grows while nothing interrupts."""
_MOST_FLOATS: Final = 2**17
"""For a run ahead of many param groups with values of their own."""


class _Numbers:
    """Write a number in each param group."""

    def __init__(self, ledger: Ledger, rows: Sequence[Sequence[float]], index: Sequence[int]) -> None:
        self._ledger = ledger
        self._optimizer = ledger.optimizer
        self._name = ledger.name
        self._rows = rows
        self._index = index
        self._count = len(index)
        self._begin()

    def _begin(self) -> None:
        for group, row in zip(self._optimizer.param_groups, self._index, strict=True):
            group[self._name] = self._rows[row][0]  # the same number, and from now on the same object

    @property
    def uniform(self) -> tuple[HasParamGroups, str, Sequence[float], int] | None:
        """Give optimizer, name, values and number of groups, where all param groups have the same values."""
        if len(self._rows) == 1:
            return self._optimizer, self._name, self._rows[0], self._count
        return None

    def values(self, position: int) -> list[float]:
        """Give the value of each param group."""
        return [self._rows[row][position] for row in self._index]

    def move(self, position: int) -> bool:
        """Write the values after *position*; False if somebody else has written, with some values written perhaps."""
        name, rows, groups = self._name, self._rows, self._optimizer.param_groups
        if len(groups) != self._count:
            return False
        for group, row in zip(groups, self._index, strict=True):
            if group[name] is not rows[row][position]:
                return False
            group[name] = rows[row][position + 1]
        return True

    def move_back(self, position: int) -> None:
        """Undo `move`, where the value after *position* is."""
        for group, row in zip(self._optimizer.param_groups, self._index, strict=False):
            if group.get(self._name) is self._rows[row][position + 1]:
                group[self._name] = self._rows[row][position]

    def rest(self, position: int) -> None:
        """Tell the ledger what is written."""
        self._ledger.note_written(self.values(position))


class _Items(_Numbers):
    """Write a place of a tuple in each param group, such as the first of the betas."""

    def __init__(self, ledger: Ledger, rows: Sequence[Sequence[float]], index: Sequence[int], target: Item) -> None:
        self._tuple, self._place, self._copy = target.name, target.index, target.copy
        self._written: list[Any] = [None] * len(index)
        super().__init__(ledger, rows, index)

    def _begin(self) -> None:
        for place, group in enumerate(self._optimizer.param_groups):
            self._put(group, place, 0)

    @property
    def uniform(self) -> None:
        """Say that the writing is more than that of a number."""
        return

    def move(self, position: int) -> bool:
        """Write the values after *position*; False if somebody else has written, with some values written perhaps."""
        groups = self._optimizer.param_groups
        if len(groups) != self._count:
            return False
        for place, group in enumerate(groups):
            if group[self._tuple] is not self._written[place]:
                return False
            self._put(group, place, position + 1)
        return True

    def move_back(self, position: int) -> None:
        """Undo `move`, where the value after *position* is."""
        for place, group in enumerate(self._optimizer.param_groups[: self._count]):
            if group.get(self._tuple) is self._written[place]:
                self._put(group, place, position)

    def _put(self, group: dict[str, Any], place: int, position: int) -> None:
        value, items = self._rows[self._index[place]][position], group[self._tuple]
        group[self._tuple] = self._written[place] = (*items[: self._place], value, *items[self._place + 1 :])
        if self._copy is not None:
            group[self._copy] = value


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
        self._columns: dict[ParameterKey, _Numbers] = {}
        self._moved: list[_Moved] = []
        self._chains: list[tuple[Composition, _Numbers]] = []
        for key, composition in compositions.items():
            ticks = {unit: forecast.ticks(unit, key[0], rows) for unit in UNITS}
            self._moved.append(_Moved(composition, ticks, self.length))
            column = _column(ledgers[key], _rows(composition, ticks, forecast, key[0], found[key][1]), found[key][0])
            self._columns[key] = column
            if composition.chain is not None:
                self._chains.append((composition, column))
        self._uniform = [it for column in self._columns.values() if (it := column.uniform) is not None]
        self._others = [column for column in self._columns.values() if column.uniform is None]
        for moved in self._moved:
            moved.follow(self)

    @classmethod
    def possible(cls, timeline: Timeline, ledgers: Mapping[ParameterKey, Ledger]) -> bool:
        """Tell whether every value is a plain number; a tensor has to be filled in place."""
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
        for (
            optimizer,
            name,
            row,
            count,
        ) in self._uniform:  # written out here: this is every step of nearly every training
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
        """Give the present values."""
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


def _column(ledger: Ledger, rows: Sequence[Sequence[float]], index: Sequence[int]) -> _Numbers:
    if isinstance(ledger.target, Item):
        return _Items(ledger, rows, index, ledger.target)
    return _Numbers(ledger, rows, index)


def _rows(
    composition: Composition,
    ticks: Mapping[Unit, Sequence[int]],
    forecast: Forecast,
    optimizer: str,
    firsts: Sequence[int],
) -> list[list[float]]:
    """Give, for each column, the present value and those of the next iterations; no epoch ends among them."""
    count = len(ticks["epoch"])
    if all(layer.schedule.clock_unit == "epoch" for layer in composition.layers):
        present = composition.values()
        return [[present[group]] * count for group in firsts]
    if composition.chain is not None:
        return _replayed(composition, ticks["iteration"], firsts)
    return closed_columns(composition, ticks, forecast.openings(composition, optimizer), firsts)


def _replayed(composition: Composition, ticks: Sequence[int], firsts: Sequence[int]) -> list[list[float]]:
    """Give the values of a chain, by the increments of its layers, as `Composition.tick` takes them."""
    moved = [
        (layer, layer.schedule.begin, layer.schedule.begin + layer.schedule.span)
        for layer in composition.layers
        if layer.schedule.clock_unit == "iteration"
    ]
    values = [(composition.chain or ())[group] for group in firsts]
    rows = [[value] for value in values]
    for before, tick in pairwise(ticks):
        for layer, begin, last in moved if tick != before else ():
            if not begin <= tick <= last:
                continue
            maps: dict[float, Affine] = {}
            for column, group in enumerate(firsts):
                if layer.acts_on is None or layer.acts_on[group]:
                    base = layer.base[group]
                    if base not in maps:
                        maps[base] = layer.schedule.increment(tick - begin, base)
                    values[column] = maps[base](values[column])
        for row, value in zip(rows, values, strict=True):
            row.append(value)
    return rows
