"""Compute the values of one hyper-parameter at many positions at once: the same floats as one by one, in fewer calls.

Only where the value is a function of the position. The arithmetic is that of `Composition.values`, operation by
operation, so the results are equal to the last bit; ``tests/schedule/test_columns.py`` holds them against each other.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from resumable_sched.schedule.amendments import in_force
from resumable_sched.schedule.curves import Affine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from resumable_sched.schedule.clock import Opening
    from resumable_sched.schedule.composition import Composition
    from resumable_sched.schedule.layer import Layer, Unit

    Values = np.ndarray[tuple[int, int], np.dtype[np.float64]]

__all__ = ["alike", "amend_columns", "chain_rows", "closed_columns"]


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
    """Give the values at many positions.

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
    """Give the values of a chain one position after the other, without amendments, as `Composition.tick` moves it.

    Args:
        composition: The schedules; a chain, whose clocks other than that of iterations stand still.
        ticks: The tick of the iteration clock at each position, from the present one on; it rises by one, or not.
        groups: The param groups to do this for.
    """
    moved = [
        (layer, layer.schedule.begin, layer.schedule.begin + layer.schedule.span)
        for layer in composition.layers
        if layer.schedule.clock_unit == "iteration" and layer.clock.fold is None
    ]
    values = [(composition.chain or ())[group] for group in groups]
    yield values
    for before, tick in pairwise(ticks):
        for layer, begin, last in moved if tick != before else ():
            if begin <= tick <= last:
                values = _advanced(layer, tick - begin, values, groups)
        yield values


def _advanced(layer: Layer, local: int, values: list[float], groups: Sequence[int]) -> list[float]:
    """Do to the values of a chain what local tick *local* does."""
    schedule, acts_on = layer.schedule, layer.acts_on
    if acts_on is None:
        scale, offset = schedule.increment(local, layer.base[groups[0]])
        if len(groups) == 1 or (scale != 0.0 and schedule.same_for_every_base(local)):
            return [scale * value + offset for value in values]
    maps: dict[float, Affine] = {}
    mapped = []
    for value, group in zip(values, groups, strict=True):
        if acts_on is not None and not acts_on[group]:
            mapped.append(value)
            continue
        base = layer.base[group]
        if base not in maps:
            maps[base] = schedule.increment(local, base)
        mapped.append(maps[base](value))
    return mapped


def _parts(layer: Layer, ticks: Sequence[int]) -> tuple[int, int, Sequence[int]]:
    """Give where the window begins and ends among the positions, and the local ticks between."""
    begin = layer.schedule.begin
    first = bisect_left(ticks, begin)
    last = bisect_right(ticks, begin + layer.schedule.span)
    inside = ticks[first:last]
    if isinstance(inside, range):
        return first, last, range(inside.start - begin, inside.stop - begin, inside.step)
    return first, last, [tick - begin for tick in inside]


def _maps(layer: Layer, local: Sequence[int], group: int) -> tuple[Sequence[float], Sequence[float]]:
    """Give scales and offsets; ticks that repeat, as an epoch's do, are computed once."""
    if not local or layer.clock.fold is not None:
        return (), ()
    base = layer.base[group]
    if isinstance(local, range):
        return layer.schedule.maps(local, base)
    distinct = sorted(set(local))
    if len(distinct) == len(local):
        return layer.schedule.maps(local, base)
    known = dict(zip(distinct, map(Affine, *layer.schedule.maps(distinct, base)), strict=True))
    return [known[tick].scale for tick in local], [known[tick].offset for tick in local]
