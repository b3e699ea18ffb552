"""Return the formulas of the families beyond MMEngine, as pure functions of the local tick *t*.

As in `curves`, nothing here knows an optimizer, a clock or a class, and the standard library is enough. A shape is a
share from 1 (the value that comes in) to 0 (the floor) unless it says otherwise.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING, Literal

from resumable_sched.schedule.curves import Affine, cosine

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "Decay",
    "Interpolation",
    "Rise",
    "cosine_share",
    "cycle",
    "cycle_floor",
    "fall",
    "half_life",
    "inverse_sqrt",
    "piecewise",
    "polynomial_share",
    "polynomial_shares",
    "quadratic_rise",
    "rise",
    "tanh_share",
    "tri_stage",
    "triangle",
]

Interpolation = Literal["linear", "constant", "cosine"]
Rise = Literal["linear", "cosine", "1-sqrt"]
Decay = Literal["linear", "cosine", "1-sqrt", "exponential"]

_ROUNDING = 1e-9
"""What a quotient of ticks may miss a boundary by, and still be at it."""


def cycle(t: float, first: float, growth: float) -> tuple[int, float, float]:
    """Find the cycle that *t* falls into, the ticks since it began, and its length; each is *growth* times the last.

    Whole numbers give exact results, however large they are.

    >>> [cycle(t, 2, 3) for t in (0, 1, 2, 7, 8)]
    [(0, 0, 2), (0, 1, 2), (1, 0, 6), (1, 5, 6), (2, 0, 18)]
    >>> cycle(10**9, 7, 1)
    (142857142, 6, 7)
    >>> cycle(25, 10, 1.5)
    (2, 0.0, 22.5)
    """
    if growth == 1:
        index = int(t // first if isinstance(first, int) else (t + _ROUNDING) // first)
        return index, max(t - index * first, 0), first
    index = max(int(math.log1p(t / first * (growth - 1)) / math.log(growth)), 0)
    while _cycle_start(index + 1, first, growth) <= t + _ROUNDING:
        index += 1
    while _cycle_start(index, first, growth) > t + _ROUNDING:
        index -= 1
    return index, max(t - _cycle_start(index, first, growth), 0), first * growth**index


def _cycle_start(index: int, first: float, growth: float) -> float:
    """Sum the first *index* lengths, exactly where they are whole."""
    total = first * (growth**index - 1)
    if isinstance(total, int) and isinstance(growth, int):
        return total // (growth - 1)
    return total / (growth - 1)


def cycle_floor(remaining: float, peak: float, floor: float, ratio: float | None) -> Affine:
    """Keep the share *remaining* of the distance from *peak* times the value that comes in to the floor.

    The floor is *ratio* times the value that comes in where that is given: then the map only multiplies.

    >>> cycle_floor(0.5, 0.5, 2.0, None)(8.0)
    3.0
    >>> cycle_floor(0.5, 1.0, 0.0, 0.25)
    Affine(scale=0.625, offset=0.0)
    """
    if ratio is not None:
        return Affine(ratio + (peak - ratio) * remaining)
    return Affine(peak * remaining, floor * (1.0 - remaining))


def cosine_share(t: float, length: float, k_decay: float = 1.0) -> float:
    """Fall along half a cosine, ``(1 + cos(pi * (t / length) ** k_decay)) / 2``.

    Source: SGDR (Loshchilov and Hutter, 2017), https://arxiv.org/abs/1608.03983; k-decay (Zhang and Li, 2020),
    https://arxiv.org/abs/2004.05909: the greater *k_decay*, the later the fall.

    >>> [round(cosine_share(t, 4), 12) for t in (0, 2, 4)], round(cosine_share(2, 4, 2.0), 6)
    ([1.0, 0.5, 0.0], 0.853553)
    """
    return cosine(t, length) if k_decay == 1 else (1.0 + math.cos(math.pi * (t / length) ** k_decay)) / 2.0


def polynomial_share(t: float, length: float, power: float, k_decay: float = 1.0) -> float:
    """Fall along ``(1 - (t / length) ** k_decay) ** power``, from 1 to 0.

    >>> polynomial_share(1, 2, 2.0), polynomial_share(1, 2, 1.0, 2.0), polynomial_share(2, 2, 0.5)
    (0.25, 0.75, 0.0)
    """
    return float((1.0 - (t / length) ** k_decay) ** power)


def polynomial_shares(ticks: Iterable[int], length: int, power: float) -> list[float]:
    """Return `polynomial_share` at many *ticks*, to the last bit.

    >>> polynomial_shares(range(9), 8, 0.3) == [polynomial_share(t, 8, 0.3) for t in range(9)]
    True
    """
    if power == 1:
        return [1.0 - t / length for t in ticks]
    return [(1.0 - t / length) ** power for t in ticks]


def tanh_share(t: float, length: float, lower: float, upper: float) -> float:
    """Fall along ``(1 - tanh(x)) / 2`` where *x* goes from *lower* to *upper*; neither end is met exactly.

    Source: Hyperbolic-tangent decay (Hsueh, Li and Wu, 2018), https://arxiv.org/abs/1806.01593.

    >>> [round(tanh_share(t, 4, -2.0, 2.0), 3) for t in (0, 2, 4)]
    [0.982, 0.5, 0.018]
    """
    share = t / length
    return (1.0 - math.tanh(lower * (1.0 - share) + upper * share)) / 2.0


def triangle(t: int, up: int, down: int) -> tuple[int, float]:
    """Count the cycle (from 1) and give the height in it: 0 to 1 over *up* ticks, then back to 0 over *down* ticks.

    Source: Cyclical learning rates (Smith, 2015), https://arxiv.org/abs/1506.01186.

    >>> [triangle(t, 2, 4) for t in (0, 1, 2, 4, 6)]
    [(1, 0.0), (1, 0.5), (1, 1.0), (1, 0.5), (2, 0.0)]
    """
    index, local = divmod(t, up + down)
    return index + 1, local / up if local <= up else (up + down - local) / down


def inverse_sqrt(t: float, timescale: float) -> float:
    """Fall with the root of time, ``1 / sqrt(1 + t / timescale)``: to a half after three times *timescale*.

    Source: Attention is all you need (Vaswani et al., 2017), https://arxiv.org/abs/1706.03762; Scaling vision
    transformers (Zhai et al., 2021), https://arxiv.org/abs/2106.04560.

    >>> [inverse_sqrt(t, 5) for t in (0, 15, 75)]
    [1.0, 0.5, 0.25]
    """
    return 1.0 / math.sqrt((t + timescale) / timescale)


def half_life(t: float, period: float, gamma: float) -> float:
    """Fall by *gamma* in each *period*, evenly: ``gamma ** (t / period)``.

    >>> [half_life(t, 10, 0.5) for t in (0, 10, 30)], round(half_life(5, 10, 0.5), 6)
    ([1.0, 0.5, 0.125], 0.707107)
    """
    return float(gamma ** (t / period))


def rise(share: float, kind: Rise) -> float:
    """Rise from 0 to 1 while *share* does: in a line, along half a cosine, or as ``1 - sqrt(1 - share)``.

    >>> rise(0.5, "linear"), round(rise(0.5, "cosine"), 12), rise(0.75, "1-sqrt")
    (0.5, 0.5, 0.5)
    """
    if kind == "linear":
        return share
    if kind == "cosine":
        return 0.5 * (1.0 - math.cos(math.pi * share))
    return 1.0 - math.sqrt(1.0 - share)


def fall(share: float, kind: Decay, num_cycles: float = 0.5, ratio: float = 0.1) -> float:
    """Fall from 1 to 0 while *share* rises from 0 to 1.

    "linear"; "cosine" (half a wave, or *num_cycles* waves, which end at 0 only where that is 0.5, 1.5 ...); "1-sqrt"
    (``1 - sqrt(share)``: Hägele et al., 2024, https://arxiv.org/abs/2405.18392); "exponential"
    (``(ratio ** share - ratio) / (1 - ratio)``).

    >>> [fall(0.25, kind) for kind in ("linear", "1-sqrt")], round(fall(0.5, "cosine"), 12)
    ([0.75, 0.5], 0.5)
    >>> [fall(share, "exponential", ratio=0.25) for share in (0.0, 0.5, 1.0)]
    [1.0, 0.3333333333333333, 0.0]
    """
    if kind == "linear":
        return 1.0 - share
    if kind == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * num_cycles * 2.0 * share))
    if kind == "1-sqrt":
        return 1.0 - math.sqrt(share)
    return float((ratio**share - ratio) / (1.0 - ratio))


def piecewise(t: float, points: Sequence[tuple[float, float]], interpolation: Interpolation) -> float:
    """Go through *points* (tick, value) in their order; before the first one and after the last one the value holds.

    Two points at one tick are a jump. The result is a value and not a share.

    >>> points = [(2, 1.0), (6, 0.0), (6, 0.5)]
    >>> [piecewise(t, points, "linear") for t in (0, 2, 3, 5, 6, 9)]
    [1.0, 1.0, 0.75, 0.25, 0.5, 0.5]
    >>> [piecewise(t, points, "constant") for t in (2, 5, 6)], round(piecewise(4, points, "cosine"), 12)
    ([1.0, 1.0, 0.5], 0.5)
    """
    index = bisect_right(points, t, key=lambda point: point[0])
    if index == 0:
        return points[0][1]
    begin, low = points[index - 1]
    if index == len(points) or interpolation == "constant":
        return low
    end, high = points[index]
    share = (t - begin) / (end - begin)
    if interpolation == "cosine":
        share = (1.0 - math.cos(math.pi * share)) / 2.0
    return low + (high - low) * share


def quadratic_rise(t: int, ticks: int) -> float:
    """Rise to 1 over *ticks* ticks along ``((t + 1) / ticks) ** 2``, then stay there.

    >>> [quadratic_rise(t, 4) for t in (0, 1, 3, 9)]
    [0.0625, 0.25, 1.0, 1.0]
    """
    return ((t + 1) / ticks) ** 2 if t < ticks else 1.0


def tri_stage(t: int, stages: Sequence[int], start: float, final: float) -> float:
    """Rise in a line from *start* to 1, hold 1, then fall exponentially to *final*, each for its ticks in *stages*.

    Source: SpecAugment (Park et al., 2019), https://arxiv.org/abs/1904.08779.

    >>> [tri_stage(t, (2, 3, 2), 0.5, 0.25) for t in (0, 1, 2, 4, 5, 6, 7, 9)]
    [0.5, 0.75, 1.0, 1.0, 1.0, 0.5, 0.25, 0.25]
    """
    warm, hold, decay = stages
    if t < warm:
        return start + (1.0 - start) * t / warm
    t -= warm + hold
    if t < 0:
        return 1.0
    return final if t >= decay else half_life(t, decay, final)
