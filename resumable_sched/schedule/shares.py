"""Take a duration as a share of training, such as "10%", until it is known how long training is."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

__all__ = ["has_share", "resolve_shares", "share"]

_EXAMPLE = 'such as 500 or "10%" (of the length of training)'


def has_share(value: object) -> bool:
    """Return whether a duration, a list of durations, or a table whose first column is durations has a share in it.

    >>> has_share("10%"), has_share([3, "50%"]), has_share([("50%", 0.1)]), has_share(7)
    (True, True, True, False)
    """
    if isinstance(value, str):
        return value.strip().endswith("%")
    return isinstance(value, (list, tuple)) and any(map(has_share, value))


def resolve_shares(name: str, value: Any, length: int) -> Any:  # noqa: ANN401 - any duration
    """Return the ticks that shares of a training of *length* ticks are, rounded to the nearest.

    >>> resolve_shares("end", "12.5%", 200), resolve_shares("milestones", ["50%", 90], 120)
    (25, (60, 90))

    Raises:
        ValueError: A string is no share between 0% and 100%.
    """
    if isinstance(value, list | tuple):
        return tuple(resolve_shares(name, each, length) for each in value)
    if not has_share(value):
        return value
    try:
        share = Fraction(value.strip().removesuffix("%")) / 100
    except ValueError:
        share = Fraction(-1)
    if not 0 <= share <= 1:
        raise ValueError(f"`{name}` must be a number of ticks or a share, {_EXAMPLE}, but is {value!r} instead.")
    return round(share * length)


def share(part: float) -> Any:  # noqa: ANN401 - a type checker takes it wherever ticks are asked for
    """Return *part* of training as a duration: what the string "10%" is in a config.

    >>> share(0.1), share(1 / 8)
    ('10%', '12.5%')

    Raises:
        ValueError: *part* is not between 0 and 1.
    """
    if not 0 <= part <= 1:
        raise ValueError(f"`part` must be between 0 and 1, but is {part!r} instead.")
    return f"{float(Fraction(str(part)) * 100)!r}".removesuffix(".0") + "%"
