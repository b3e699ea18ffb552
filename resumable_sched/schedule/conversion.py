"""Convert what a schedule is told by epochs to iterations, field by field, as the field's metadata say."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DURATION", "FOREVER", "FUNCTION", "POINTS", "RATE", "by_iteration"]


_NOISE: Final = 1e-12
"""How far a product of two numbers may be from a whole number that it is meant to be."""


class _Forever(int):
    """Be the default `end`, and known again: 10**9 tokens is a place like any other."""

    __slots__ = ()

    def __reduce__(self) -> str:
        return "FOREVER"  # copies and unpickled ones are the same object


FOREVER: Final = _Forever(10**9)
"""The default `end`: as long as training lasts. A group that knows how long that is takes that."""

DURATION: Final[Mapping[str, Any]] = {"convert": "duration"}
"""Marks a field that counts ticks; `build_iter_from_epoch` multiplies it by the length of an epoch."""

RATE: Final[Mapping[str, Any]] = {"convert": "rate"}
"""Marks a factor for each tick; `build_iter_from_epoch` takes the root of it."""

POINTS: Final[Mapping[str, Any]] = {"convert": "points"}
"""Marks a table of (tick, value); `build_iter_from_epoch` multiplies the ticks."""

FUNCTION: Final[Mapping[str, Any]] = {"convert": "function"}
"""Marks a function of the tick; `build_iter_from_epoch` refuses it."""


def by_iteration(arguments: Mapping[str, Any], kinds: Mapping[str, Any], epoch_length: int | None) -> dict[str, Any]:
    """Convert *arguments* for epochs of *epoch_length* iterations.

    >>> by_iteration({"milestones": [8, 11], "by": None}, {"milestones": "duration"}, 100)
    {'milestones': [800, 1100], 'by': None}

    Args:
        arguments: By name.
        kinds: What the metadata of each field say: a word, None, or a function of the value and the epoch length.
        epoch_length: Iterations of an epoch.

    Raises:
        ValueError: *epoch_length* is not positive, or an argument cannot be converted.
    """
    length = 0 if epoch_length is None else operator.index(epoch_length)
    if length <= 0:
        raise ValueError(f"`epoch_length` must be a positive integer, but is {epoch_length!r} instead.")
    return {name: _converted(name, value, kinds.get(name), length) for name, value in arguments.items()}


def _multiplied(duration: Any, length: int) -> Any:  # noqa: ANN401 - a number or a share of training
    """Return the whole iterations in *duration* epochs; a share of training is one of iterations as well.

    >>> _multiplied(0.09, 997), _multiplied(0.29, 100)  # 89.73, and 28.999999999999996, which is meant to be 29
    (89, 29)
    """
    if isinstance(duration, str):
        return duration
    product, nearest = duration * length, round(duration * length)
    return nearest if math.isclose(product, nearest, rel_tol=_NOISE) else math.floor(product)


def _converted(name: str, value: Any, kind: Any, length: int) -> Any:  # noqa: ANN401 - any field
    """Convert the *value* of the argument *name* for epochs of *length* iterations.

    >>> _converted("milestones", [8, 11.5], "duration", 100), _converted("gamma", 0.25, "rate", 2)
    ([800, 1150], 0.5)
    >>> _converted("milestones_values", [(2, 0.5)], "points", 100)
    [(200, 0.5)]

    Raises:
        ValueError: It cannot be converted.
    """
    if value is None or kind is None:
        return value
    if callable(kind):
        return kind(value, length)
    if kind == "points":
        return [(_multiplied(tick, length), each) for tick, each in value]
    if kind == "duration" and value != FOREVER:
        return (
            [_multiplied(each, length) for each in value]
            if isinstance(value, list | tuple)
            else _multiplied(value, length)
        )
    if kind == "rate":
        if value < 0:
            raise ValueError(f"`{name}` must be at least 0 to be taken by iteration, but is {value!r} instead.")
        return value ** (1.0 / length)
    if kind == "function":
        raise ValueError(
            f"`{name}` must not be given where iterations are built from epochs, but is {value!r} instead. Give the "
            "class a function of the iteration, and by_epoch=False."
        )
    return value
