"""Return the formulas of the schedules as pure functions of the local tick *t* (0 where the window opens).

Nothing here knows an optimizer, a clock or a class; the standard library is enough. A curve is a factor unless it
says otherwise; :class:`Affine` is what a schedule does to the value that it receives.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "IDENTITY",
    "Affine",
    "Anneal",
    "constant",
    "cosine",
    "cosine_ratio",
    "cosines",
    "exponential",
    "interpolate",
    "linear",
    "linears",
    "multi_step",
    "one_cycle",
    "polynomial",
    "polynomial_ratio",
    "power",
    "restart_position",
    "staircase",
    "towards",
]

Anneal = Literal["cos", "linear"]


class Affine(NamedTuple):
    """Map a value ``v`` to ``scale * v + offset``.

    >>> Affine(0.5, 1.0)(4.0)
    3.0
    >>> Affine()(4.0)
    4.0
    """

    scale: float = 1.0
    offset: float = 0.0

    def __call__(self, value: float) -> float:
        """Apply the map to *value*."""
        return self.scale * value + self.offset


IDENTITY = Affine()


def towards(floor: float, remaining: float) -> Affine:
    """Keep the share *remaining* (1 to 0) of a value's distance to *floor*: ``floor + remaining * (v - floor)``.

    >>> towards(1.0, 0.25)(5.0)
    2.0
    >>> towards(0.0, 0.25)
    Affine(scale=0.25, offset=0.0)
    """
    return Affine(remaining, floor * (1.0 - remaining))


def power(gamma: float, times: int) -> float:
    """Multiply *gamma* with itself *times* times; beyond the range of a float the result is infinite, not an error.

    >>> power(0.5, 3), power(0.0, 0), power(2.0, 5000)
    (0.125, 1.0, inf)
    """
    try:
        return float(gamma**times)
    except OverflowError:
        return math.inf


def linear(t: int, span: int, start: float, end: float) -> float:
    """Go from *start* at 0 to *end* at *span*, ``start + (end - start) * t / span``, then stay; span 0 keeps *start*.

    >>> [linear(t, 2, 0.0, 1.0) for t in (0, 1, 2, 3)]
    [0.0, 0.5, 1.0, 1.0]
    >>> linear(0, 0, 0.25, 1.0)
    0.25
    """
    if t <= 0:
        return start
    return end if t >= span else start + (end - start) * t / span


def linears(ticks: Iterable[int], span: int, start: float, end: float) -> list[float]:
    """Return `linear` at many *ticks*, to the last bit.

    >>> linears(range(4), 2, 0.0, 1.0) == [linear(t, 2, 0.0, 1.0) for t in range(4)]
    True
    """
    rise = end - start
    return [start if t <= 0 else end if t >= span else start + rise * t / span for t in ticks]


def constant(t: int, span: int, factor: float) -> float:
    """Stay at *factor* before *span*, be 1 from there on; a span of 0 keeps *factor*.

    >>> [constant(t, 2, 0.25) for t in (0, 1, 2, 3)], constant(0, 0, 0.25)
    ([0.25, 0.25, 1.0, 1.0], 0.25)
    """
    return factor if t < span or span == 0 else 1.0


def exponential(t: int, gamma: float) -> float:
    """Fall by *gamma* each tick: ``gamma ** t``.

    >>> [exponential(t, 0.5) for t in (0, 1, 3)]
    [1.0, 0.5, 0.125]
    """
    return power(gamma, t)


def staircase(t: int, step_size: int, gamma: float) -> float:
    """Fall by *gamma* every *step_size* ticks: ``gamma ** (t // step_size)``.

    >>> [staircase(t, 3, 0.5) for t in (0, 2, 3, 5, 6)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    return power(gamma, t // step_size)


def multi_step(t: int, milestones: Sequence[int], gamma: float) -> float:
    """Fall by *gamma* at each of the sorted *milestones*; one that occurs twice counts twice.

    >>> [multi_step(t, (2, 5, 5), 0.5) for t in (0, 1, 2, 4, 5)]
    [1.0, 1.0, 0.5, 0.5, 0.125]
    """
    return power(gamma, bisect_right(milestones, t))


def cosine(t: float, period: float) -> float:
    """Follow a cosine from 1 at 0 to 0 at *period*, ``(1 + cos(pi * t / period)) / 2``; it goes on to oscillate.

    Source: SGDR (Loshchilov and Hutter, 2017), https://arxiv.org/abs/1608.03983.

    >>> [round(cosine(t, 4), 12) for t in (0, 2, 4, 6, 8)]
    [1.0, 0.5, 0.0, 0.5, 1.0]
    """
    return (1.0 + math.cos(math.pi * t / period)) / 2.0


def cosines(ticks: Iterable[int], period: int) -> list[float]:
    """Return `cosine` at many *ticks*, to the last bit.

    >>> cosines(range(9), 4) == [cosine(t, 4) for t in range(9)]
    True
    """
    cos, pi = math.cos, math.pi
    return [(1.0 + cos(pi * t / period)) / 2.0 for t in ticks]


def cosine_ratio(t: int, period: int) -> float:
    """Divide the cosine at *t* by the one a tick before, where that one is not 0.

    >>> cosine_ratio(2, 4) == cosine(2, 4) / cosine(1, 4)
    True
    """
    return cosine(t, period) / cosine(t - 1, period)


def polynomial(t: int, span: int, power: float) -> float:
    """Fall from 1 to 0 over *span* ticks along ``(1 - t / span) ** power``, then stay at 0; a span of 0 keeps 1.

    >>> [polynomial(t, 4, 2.0) for t in (0, 2, 4, 9)]
    [1.0, 0.25, 0.0, 0.0]
    >>> polynomial(0, 0, 2.0)
    1.0
    """
    if t <= 0:
        return 1.0
    return float((1.0 - min(t, span) / span) ** power)


def polynomial_ratio(t: int, span: int, power: float) -> float:
    """Divide the polynomial at *t* (1 to *span*) by the one a tick before: ``(1 - 1 / (span - t + 1)) ** power``.

    >>> polynomial_ratio(2, 4, 1.0) * polynomial(1, 4, 1.0) == polynomial(2, 4, 1.0)
    True
    >>> polynomial_ratio(4, 4, 1.0)
    0.0
    """
    return float((1.0 - 1.0 / (span - t + 1)) ** power)


def restart_position(t: int, periods: Sequence[int]) -> tuple[int, int]:
    """Find the period that *t* falls into, and the tick within it; past the last period, the last tick of the last one.

    >>> [restart_position(t, (2, 3)) for t in (0, 1, 2, 4, 5, 99)]
    [(0, 0), (0, 1), (1, 0), (1, 2), (1, 2), (1, 2)]
    """
    begin = 0
    for index, period in enumerate(periods):
        if t < begin + period:
            return index, t - begin
        begin += period
    return len(periods) - 1, periods[-1] - 1


def interpolate(start: float, end: float, share: float, anneal: Anneal) -> float:
    """Go from *start* (share 0) to *end* (share 1) along half a cosine or a line; both ends are met exactly.

    >>> interpolate(1.0, 3.0, 0.5, "linear"), round(interpolate(1.0, 3.0, 0.5, "cos"), 12)
    (2.0, 2.0)
    """
    if share in (0.0, 1.0):
        return end if share else start
    if anneal == "cos":
        return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1.0)
    return (end - start) * share + start


def one_cycle(
    t: int,
    total_steps: int,
    peak: float,
    *,
    pct_start: float = 0.3,
    anneal: Anneal = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> float:
    """Rise from ``peak / div_factor`` to *peak*, fall to ``peak / div_factor / final_div_factor``, and stay.

    The result is a value and not a factor.

    The rise ends at tick ``pct_start * total_steps - 1``; with *three_phase* the fall to the first value mirrors it
    and a third phase goes on to the last one. Source: Super-Convergence (Smith and Topin, 2018),
    https://arxiv.org/abs/1708.07120.

    >>> shape = {"pct_start": 0.3, "anneal": "linear", "div_factor": 4.0, "final_div_factor": 2.0}
    >>> [one_cycle(t, 10, 1.0, **shape) for t in (0, 2, 9, 50)]
    [0.25, 1.0, 0.125, 0.125]
    """
    first = peak / div_factor
    last = first / final_div_factor
    rise = float(pct_start * total_steps) - 1.0
    joints = [(rise, first, peak), (float(total_steps - 1), peak, last)]
    if three_phase:
        joints = [
            (rise, first, peak),
            (float(2 * pct_start * total_steps) - 2.0, peak, first),
            (float(total_steps - 1), first, last),
        ]
    t = min(t, total_steps - 1)
    begin = 0.0
    for end, low, high in joints[:-1]:
        if t <= end:
            return interpolate(low, high, (t - begin) / (end - begin) if end > begin else 1.0, anneal)
        begin = end
    end, low, high = joints[-1]
    return interpolate(low, high, (t - begin) / (end - begin) if end > begin else 1.0, anneal)
