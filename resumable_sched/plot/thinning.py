"""Leave out the points of a curve that nobody could see."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["thinned"]


def thinned(x: Sequence[float], y: Sequence[float], most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Keep at most about *most* points of a curve: of each stretch the first, the last, the lowest and the highest.

    >>> x, y = thinned(range(1000), [0.0] * 500 + [1.0] + [0.0] * 499, 40)
    >>> len(x) <= 40, y.max(), x[y.argmax()]
    (True, np.float64(1.0), np.float64(500.0))
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(xs) <= most:
        return xs, ys
    edges = np.linspace(0, len(xs), max(most // 4, 1) + 1).astype(int)
    keep: set[int] = set()
    for first, end in pairwise(edges.tolist()):
        stretch = np.nan_to_num(ys[first:end])
        keep.update((first, end - 1, first + int(stretch.argmin()), first + int(stretch.argmax())))
    index = np.array(sorted(keep))
    return xs[index], ys[index]
