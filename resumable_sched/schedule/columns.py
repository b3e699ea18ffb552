"""Compute the values of one hyper-parameter at many positions at once: the same floats as one by one, in fewer calls.

Only where the value is a function of the position. The arithmetic is that of `Composition.values`, operation by
operation, so the results are equal to the last bit; ``tests/schedule/test_columns.py`` holds them against each other.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from resumable_sched.schedule.amendments import in_force
from resumable_sched.schedule.curves import Affine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TypeAlias

    from resumable_sched.schedule.clock import Opening
    from resumable_sched.schedule.composition import Composition
    from resumable_sched.schedule.layer import Layer, Unit

__all__ = ["Values", "alike", "amend_columns", "chain_rows", "closed_columns"]

Values: TypeAlias = "np.ndarray[tuple[int, int], np.dtype[np.float64]]"
"""A row for each position, and a column for each param group that has values of its own."""

_AT_ONCE: Final = 256
"""For how many positions of a chain the increments are computed ahead."""


def alike(composition: Composition) -> tuple[list[int], list[int]]:
    """Find the param groups that have the same values at every position.

    Returns:
        For each param group, the number of its column; and for each column, its first param group.
    """
    columns: dict[tuple[object, ...], int] = {}
    firsts: list[int] = []
    index = []
    chain = composition.chain
    selections = [layer.acts_on for layer in composition.layers if layer.acts_on is not None]
    for group, base in enumerate(composition.base):
        key: list[object] = [base, *(layer.base[group] for layer in composition.layers)]
        key += [acts_on[group] for acts_on in selections]
        if composition.amendments:
            key += [(it.scale, it.offset, it.expected, it.observed) for it in in_force(composition.amendments, group)]
        key += [fold.scales[group] for layer in composition.layers if (fold := layer.clock.fold) is not None]
        if chain is not None:
            key.append(chain[group])
        column = columns.setdefault(tuple(key), len(columns))
        if column == len(firsts):
            firsts.append(group)
        index.append(column)
    return index, firsts


def closed_columns(
    composition: Composition,
    ticks: Mapping[Unit, Sequence[int]],
    openings: Mapping[int, Opening],
    groups: Sequence[int],
) -> Values:
    """Return the values at many positions.

    Args:
        composition: The schedules; not a chain.
        ticks: For each clock, its tick at each position; neither ever falls.
        openings: When the windows open that have not yet, by index in the list; the others are known.
        groups: The param groups to do this for.

    Returns:
        A row for each position, with the value of each of *groups*.
    """
    layers = [
        (layer.clock.opened or openings[index], index, layer)
        for index, layer in enumerate(composition.layers)
        if layer.clock.opened is not None or index in openings
    ]
    values = np.empty((len(ticks["iteration"]), len(groups)))
    values[:] = [composition.base[group] for group in groups]
    with np.errstate(all="ignore"):  # what overflows is infinite here too, without a word
        for *_, layer in sorted(layers, key=lambda item: item[:2]):
            acts_on = layer.acts_on
            chosen = [column for column, group in enumerate(groups) if acts_on is None or acts_on[group]]
            if not chosen:
                continue
            own = values if acts_on is None else values[:, chosen]
            _apply(layer, own, ticks[layer.schedule.clock_unit], [groups[column] for column in chosen])
            if acts_on is not None:
                values[:, chosen] = own
    amend_columns(composition, groups, values)
    return values


def _apply(
    layer: Layer,
    values: Values,
    ticks: Sequence[int],
    groups: Sequence[int],
) -> None:
    """Map *values*, a column for each of *groups*, in place: multiply, then add, each rounded as a float is."""
    first, last, local = _parts(layer, ticks)
    fold, schedule = layer.clock.fold, layer.schedule
    if fold is not None:
        values[first:] *= [fold.scales[group] for group in groups]
        return
    inside, held = values[first:last], values[last:]
    same = schedule.same_for_every_base(schedule.span if len(held) else (local[-1] if local else 0))
    bases = {layer.base[group]: group for group in (groups[:1] if same else groups)}
    maps = {base: _maps(layer, local, group) for base, group in bases.items()} if local else {}
    ends = {base: schedule.at(schedule.span, base) for base in bases} if len(held) else {}
    if len(bases) == 1:
        for scales, offsets in maps.values():
            inside *= np.array(scales)[:, None]
            inside += np.array(offsets)[:, None]
        for scale, offset in ends.values():
            held *= scale
            held += offset
        return
    for column, group in enumerate(groups):
        base = layer.base[group]
        if maps:
            scales, offsets = maps[base]
            inside[:, column] *= scales
            inside[:, column] += offsets
        if ends:
            scale, offset = ends[base]
            held[:, column] *= scale
            held[:, column] += offset


def amend_columns(composition: Composition, groups: Sequence[int], values: Values) -> None:
    """Amend *values*, a column for each of *groups*, in place."""
    if composition.amendments:
        for column, group in enumerate(groups):
            for amendment in in_force(composition.amendments, group):
                values[:, column] = [amendment(value) for value in values[:, column].tolist()]


def chain_rows(composition: Composition, ticks: Sequence[int], groups: Sequence[int]) -> Iterator[list[float]]:
    """Return the values of a chain one position after the other, without amendments, as `Composition.tick` moves it.

    Args:
        composition: The schedules; a chain, whose clocks other than that of iterations stand still.
        ticks: The tick of the iteration clock at each position, from the present one on; it rises by one, or not.
        groups: The param groups to do this for.
    """
    layers = [
        layer for layer in composition.layers if layer.schedule.clock_unit == "iteration" and layer.clock.fold is None
    ]
    values = [(composition.chain or ())[group] for group in groups]
    yield values
    for place in range(0, len(ticks) - 1, _AT_ONCE):
        part = ticks[place : place + _AT_ONCE + 1]
        moves = [_Moves(layer, part, groups) for layer in layers]
        for before, tick in pairwise(part):
            if tick != before:
                for move in moves:
                    if move.first <= tick <= move.last:
                        values = move(tick, values)
            yield values


class _Moves:
    """Do to the values of a chain what one layer does, at each of some successive ticks.

    Args:
        layer: The layer.
        ticks: From the one before, to the last one.
        groups: The param groups whose values these are.

    Attributes:
        first: The first tick at which something happens.
        last: The last one; less than the first if there is none.
    """

    def __init__(self, layer: Layer, ticks: Sequence[int], groups: Sequence[int]) -> None:
        schedule, acts_on = layer.schedule, layer.acts_on
        begin = schedule.begin
        self.first, self.last = max(ticks[0] + 1, begin), min(ticks[-1], begin + schedule.span)
        chosen = [acts_on is None or acts_on[group] for group in groups]
        if self.last < self.first or not any(chosen):
            self.last = self.first - 1
            return
        local = range(self.first - begin, self.last - begin + 1)
        bases = dict.fromkeys(layer.base[group] for group, acts in zip(groups, chosen, strict=True) if acts)
        one = schedule.increments(local, next(iter(bases)))
        # Where nothing of the value before is left, it starts again from its base.
        same = len(bases) == 1 or (schedule.same_for_every_base(local[-1]) and 0.0 not in one[0])
        self._of_all = one if same and all(chosen) else None
        of_bases = {base: one if same else schedule.increments(local, base) for base in bases}
        self._of_each = [
            of_bases[layer.base[group]] if acts else None for group, acts in zip(groups, chosen, strict=True)
        ]

    def __call__(self, tick: int, values: Sequence[float]) -> list[float]:
        """Do what happens at *tick*."""
        place = tick - self.first
        if self._of_all is not None:
            scale, offset = self._of_all[0][place], self._of_all[1][place]
            return [scale * value + offset for value in values]
        return [
            value if own is None else own[0][place] * value + own[1][place]
            for value, own in zip(values, self._of_each, strict=True)
        ]


def _parts(layer: Layer, ticks: Sequence[int]) -> tuple[int, int, Sequence[int]]:
    """Return where the window begins and ends among the positions, and the local ticks between."""
    begin = layer.schedule.begin
    first = bisect_left(ticks, begin)
    last = bisect_right(ticks, begin + layer.schedule.span)
    inside = ticks[first:last]
    if isinstance(inside, range):
        return first, last, range(inside.start - begin, inside.stop - begin, inside.step)
    return first, last, [tick - begin for tick in inside]


def _maps(layer: Layer, local: Sequence[int], group: int) -> tuple[Sequence[float], Sequence[float]]:
    """Return scales and offsets; ticks that repeat, as an epoch's do, are computed once."""
    base = layer.base[group]
    distinct = local if isinstance(local, range) else sorted(set(local))
    scales, offsets = layer.schedule.maps(distinct, base)
    if not len(scales) == len(offsets) == len(distinct):
        raise ValueError(
            f"`maps` of {type(layer.schedule).__name__} must give {len(distinct)} scales and offsets, one for each "
            f"tick, but gives {len(scales)} and {len(offsets)} instead."
        )
    if len(distinct) == len(local):
        return scales, offsets
    known = dict(zip(distinct, map(Affine, scales, offsets), strict=True))
    return [known[tick].scale for tick in local], [known[tick].offset for tick in local]
