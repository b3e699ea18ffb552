"""Compute the values of one hyper-parameter at many positions at once: the same floats as one by one, in fewer calls.

Only where the value is a function of the position. The arithmetic is that of `Composition.values`, operation by
operation, so the results are equal to the last bit; ``tests/schedule/test_columns.py`` holds them against each other.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from resumable_sched.schedule.amendments import in_force
from resumable_sched.schedule.curves import Affine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resumable_sched.schedule.clock import Opening
    from resumable_sched.schedule.composition import Composition
    from resumable_sched.schedule.layer import Layer, Unit

__all__ = ["alike", "closed_columns"]


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
) -> list[list[float]]:
    """Give the values at many positions.

    Args:
        composition: The schedules; not a chain.
        ticks: For each clock, its tick at each position; neither ever falls.
        openings: When the windows open that have not yet, by index in the list; the others are known.
        groups: The param groups to do this for.

    Returns:
        For each of *groups*, the value at each position.
    """
    layers = [
        (layer.clock.opened or openings[index], index, layer)
        for index, layer in enumerate(composition.layers)
        if layer.clock.opened is not None or index in openings
    ]
    ordered = [layer for *_, layer in sorted(layers, key=lambda item: item[:2])]
    parts = [_parts(layer, ticks[layer.schedule.clock_unit]) for layer in ordered]
    shared = [
        _maps(layer, local, 0) if layer.schedule.multiplicative else None
        for layer, (_, _, local) in zip(ordered, parts, strict=True)
    ]
    count = len(ticks["iteration"])
    columns = []
    for group in groups:
        values = [composition.base[group]] * count
        for layer, (first, last, local), known in zip(ordered, parts, shared, strict=True):
            if layer.acts_on is not None and not layer.acts_on[group]:
                continue
            fold = layer.clock.fold
            if fold is not None:
                scale = fold.scales[group]
                values[first:] = [scale * value for value in values[first:]]
                continue
            scales, offsets = known or _maps(layer, local, group)
            values[first:last] = [
                scale * value + offset
                for scale, offset, value in zip(scales, offsets, values[first:last] if first else values, strict=False)
            ]
            if last < count:
                held = layer.schedule.at(layer.schedule.span, layer.base[group])
                scale, offset = held
                values[last:] = [scale * value + offset for value in values[last:]]
        for amendment in in_force(composition.amendments, group):
            values = list(map(amendment, values))
        columns.append(values)
    return columns


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
