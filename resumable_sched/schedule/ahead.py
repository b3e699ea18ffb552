"""Step fast: write values that were computed ahead, and tell the clocks only when somebody looks.

A step in the middle of training is, nearly always, the next iteration and nothing else. For that case the values of the
next iterations are computed at once, and a step compares and writes one number for each param group. Whatever else
happens (an epoch, a metric, a load, somebody else's write) ends the run ahead, and the slow way takes over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from resumable_sched.schedule.columns import alike, closed_columns
from resumable_sched.schedule.targets import FirstBeta, Key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resumable_sched.schedule.composition import Composition
    from resumable_sched.schedule.ledger import Ledger
    from resumable_sched.schedule.targets import HasParamGroups
    from resumable_sched.schedule.timeline import Counters, ParameterKey

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
        for group, row in zip(self._optimizer.param_groups, index, strict=True):
            group[self._name] = rows[row][0]  # the same number, and from now on the same object

    @property
    def uniform(self) -> tuple[HasParamGroups, str, Sequence[float], int] | None:
        """Give optimizer, name, values and number of groups, where all param groups have the same values."""
        if type(self) is _Numbers and len(self._rows) == 1:
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


class _Betas(_Numbers):
    """Write the first of the betas in each param group, and the key that MMEngine's loggers read."""

    def __init__(self, ledger: Ledger, rows: Sequence[Sequence[float]], index: Sequence[int]) -> None:
        super().__init__(ledger, rows, index)
        self._written: list[Any] = []
        for group, row in zip(self._optimizer.param_groups, index, strict=True):
            group["betas"] = (rows[row][0], *group["betas"][1:])
            self._written.append(group["betas"])

    def move(self, position: int) -> bool:
        """Write the values after *position*; False if somebody else has written, with some values written perhaps."""
        groups = self._optimizer.param_groups
        if len(groups) != self._count:
            return False
        for place, group in enumerate(groups):
            if group["betas"] is not self._written[place]:
                return False
            self._put(group, place, position + 1)
        return True

    def move_back(self, position: int) -> None:
        """Undo `move`, where the value after *position* is."""
        for place, group in enumerate(self._optimizer.param_groups[: self._count]):
            if group.get("betas") is self._written[place]:
                self._put(group, place, position)

    def _put(self, group: dict[str, Any], place: int, position: int) -> None:
        value = self._rows[self._index[place]][position]
        group["betas"] = self._written[place] = (value, *group["betas"][1:])
        group["momentum"] = value


class RunAhead:
    """Hold the values of the next iterations, and the position among them.

    Args:
        compositions: All compositions of a group.
        ledgers: Their ledgers.
        counters: The position of the group.
        length: How many iterations.

    Attributes:
        position: Iterations done of these.
        length: How many there are; the present position once it has been ended.
        planned: How many there were at first.
        running: Whether it has not been ended.
    """

    def __init__(
        self,
        compositions: Mapping[ParameterKey, Composition],
        ledgers: Mapping[ParameterKey, Ledger],
        counters: Counters,
        length: int,
    ) -> None:
        found = {key: alike(composition) for key, composition in compositions.items()}
        most = max((len(firsts) for _, firsts in found.values()), default=1)
        self.length = max(1, min(length, _MOST_FLOATS // most))
        self.planned = self.length
        self.running = True
        self.position = 0
        self._caught_up = 0
        self._columns: dict[ParameterKey, _Numbers] = {}
        self._moved = [
            (composition, [layer for layer in composition.layers if layer.schedule.clock_unit == "iteration"])
            for composition in compositions.values()
        ]
        self._chains: list[tuple[Composition, _Numbers]] = []
        for key, composition in compositions.items():
            index, firsts = found[key]
            rows = self._rows(composition, firsts, counters)
            column = (_Betas if isinstance(ledgers[key].target, FirstBeta) else _Numbers)(ledgers[key], rows, index)
            self._columns[key] = column
            if composition.chain is not None:
                self._chains.append((composition, column))
        self._uniform = [it for column in self._columns.values() if (it := column.uniform) is not None]
        self._others = [column for column in self._columns.values() if column.uniform is None]
        for composition, layers in self._moved:
            composition.follower = self
            for layer in layers:
                layer.follower = self

    @classmethod
    def possible(cls, ledgers: Mapping[ParameterKey, Ledger]) -> bool:
        """Tell whether every value is a plain number; a tensor has to be filled in place."""
        for ledger in ledgers.values():
            groups = ledger.optimizer.param_groups
            if isinstance(ledger.target, Key):
                if not all(type(group[ledger.name]) is float for group in groups):
                    return False
            elif not all(type(group["betas"]) is tuple and type(group["betas"][0]) is float for group in groups):
                return False
        return True

    def _rows(self, composition: Composition, firsts: Sequence[int], counters: Counters) -> list[list[float]]:
        """Give, for each column, the present value and those of the next iterations; no epoch ends among them."""
        count, iteration = self.length + 1, counters.iteration
        if all(layer.schedule.clock_unit == "epoch" for layer in composition.layers):
            present = composition.values()
            return [[present[group]] * count for group in firsts]
        if composition.chain is not None:
            return _replayed(composition, firsts, count)
        ticks = {"iteration": range(iteration, iteration + count), "epoch": [counters.epoch] * count}
        openings = {
            index: (layer.schedule.begin, 0, 0)
            for index, layer in enumerate(composition.layers)
            if layer.clock.opened is None and layer.schedule.clock_unit == "iteration"
        }
        return closed_columns(composition, ticks, openings, firsts)  # type: ignore[arg-type]

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
        self._caught_up = self.position
        for _, layers in self._moved:
            for layer in layers:
                layer.catch_up(ticks)
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
        """Catch up and end: every later step is refused."""
        self.rest()
        self.length, self.running = self.position, False
        for composition, layers in self._moved:
            composition.follower = None
            for layer in layers:
                layer.follower = None


def _replayed(composition: Composition, firsts: Sequence[int], count: int) -> list[list[float]]:
    """Give the values of a chain, by stepping a copy."""
    future = composition.copy()
    moved = [layer for layer in future.layers if layer.schedule.clock_unit == "iteration"]
    rows: list[list[float]] = [[] for _ in firsts]
    for place in range(count):
        if place:
            future.tick(moved, lambda layer: (layer.schedule.begin, 0, 0))
        values = future.values()
        for row, group in zip(rows, firsts, strict=True):
            row.append(values[group])
    return rows
