"""Check arguments: each function raises an error that names the argument, the rule and the value."""

from __future__ import annotations

import math
import operator
from typing import Any

__all__ = ["check_choice", "check_flag", "check_number", "check_positive", "sequence", "whole"]


def check_number(name: str, value: object, low: float = -math.inf, high: float = math.inf) -> None:
    """Check that *value* is a number from *low* to *high* that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"`{name}` must be a number, but is {value!r} instead.")
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise ValueError(f"`{name}` must be finite, but is {value!r} instead.")
    if not low <= value <= high:
        rule = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise ValueError(f"`{name}` must be {rule}, but is {value!r} instead.")


def check_positive(name: str, value: object) -> None:
    """Check that *value* is a finite number greater than 0."""
    check_number(name, value, 0.0)
    if value == 0:
        raise ValueError(f"`{name}` must be more than 0, but is {value!r} instead.")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Check that *value* is one of *choices*."""
    if value not in choices:
        *others, last = (f'"{each}"' for each in choices)
        raise ValueError(f"`{name}` must be {', '.join(others)} or {last}, but is {value!r} instead.")


def check_flag(name: str, value: object) -> None:
    """Check that *value* is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"`{name}` must be True or False, but is {value!r} instead.")


def sequence(name: str, value: object) -> tuple[Any, ...]:
    """Return *value* as a tuple.

    Raises:
        TypeError: It is no list, or it is a string.
    """
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise TypeError(f"`{name}` must be a list, but is {value!r} instead.")
    return tuple(value)


def whole(name: str, value: object, minimum: int | None = None) -> int:
    """Return *value* as an integer; 5.0 is one, 5.5, "5" and True are not.

    >>> whole("begin", 5.0)
    5

    Raises:
        TypeError: It is not a whole number.
        ValueError: It is less than *minimum*.
    """
    if type(value) is int and (minimum is None or value >= minimum):
        return value  # nearly always
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(number, bool) or not hasattr(number, "__index__"):
        raise TypeError(f"`{name}` must be an integer, but is {value!r} instead.")
    result = operator.index(number)
    if minimum is not None and result < minimum:
        raise ValueError(f"`{name}` must be at least {minimum}, but is {value!r} instead.")
    return result
