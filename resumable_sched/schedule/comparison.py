"""Compare the configuration that was saved with the one that was built, in a line for each field that differs."""

from __future__ import annotations

import math
from numbers import Integral, Real
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import msgspec

from resumable_sched.errors import ScheduleMismatchError
from resumable_sched.schedule.state import encode_float

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["REMEDY", "OnMismatch", "check_policy", "differing_fields", "equal", "mismatch", "plain_value"]

OnMismatch = Literal["error", "keep", "adopt"]

_POLICIES: Final[Mapping[object, OnMismatch]] = {policy: policy for policy in get_args(OnMismatch)}
_PLAIN: Final = frozenset({NoneType, bool, int, float, str})

REMEDY = 'Pass on_mismatch="keep" to continue with the saved schedule, or "adopt" to continue with the new one.'


def check_policy(on_mismatch: str) -> OnMismatch:
    """Check an argument `on_mismatch`.

    Raises:
        ValueError: It is no known policy.
    """
    policy = _POLICIES.get(on_mismatch) if isinstance(on_mismatch, str) else None
    if policy is not None:
        return policy
    raise ValueError(f'`on_mismatch` must be "error", "keep" or "adopt", but is {on_mismatch!r} instead.')


def plain_value(value: object, name: str) -> Any:  # noqa: ANN401 - JSON has no type of its own
    """Return a configuration value as plain JSON, so that it survives a file and compares equal afterwards.

    >>> plain_value((1, 2.5, float("inf")), "periods")
    [1, 2.5, 'inf']

    Raises:
        TypeError: *value* is nothing that JSON can hold.
    """
    if type(value) in _PLAIN:  # nearly all; what is asked below is slow to ask
        return encode_float(value) if isinstance(value, float) else value
    if isinstance(value, str):
        return str(value)  # a path that also carries its function becomes the path alone
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return encode_float(float(value))
    if isinstance(value, list | tuple):
        return [plain_value(each, name) for each in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: plain_value(each, name) for key, each in value.items()}
    raise TypeError(
        f"`{name}` must be a number, a string, None, or a list, tuple or dict of these, so that it can be saved and "
        f"compared, but is {value!r} instead."
    )


def equal(saved: object, new: object) -> bool:
    """Return whether two configuration values are the same; 1 and 1.0 are, True and 1 are not."""
    if isinstance(saved, list) and isinstance(new, list):
        return len(saved) == len(new) and all(map(equal, saved, new))
    if isinstance(saved, bool) or isinstance(new, bool):
        return saved is new
    if isinstance(saved, float) and isinstance(new, float) and math.isnan(saved):
        return math.isnan(new)
    return saved == new


def differing_fields(label: str, saved: Mapping[str, Any], new: Mapping[str, Any], when: str) -> list[str]:
    """Say which fields differ between two configurations, a sentence for each.

    >>> differing_fields("StepLR", {"gamma": 0.1}, {"gamma": 0.5}, "iteration 7 was saved")
    ['StepLR: `gamma` was 0.1 when iteration 7 was saved, but is 0.5 now.']
    """
    if msgspec.json.encode(saved) == msgspec.json.encode(new):  # nearly always
        return []
    lines = []
    for name in [*saved, *(name for name in new if name not in saved)]:
        if name in saved and name in new and equal(saved[name], new[name]):
            continue
        before = repr(saved[name]) if name in saved else "absent"
        after = repr(new[name]) if name in new else "absent"
        lines.append(f"{label}: `{name}` was {before} when {when}, but is {after} now.")
    return lines


def mismatch(lines: Sequence[str], remedy: str = REMEDY) -> ScheduleMismatchError:
    """Build the error that lists all differences."""
    return ScheduleMismatchError("\n".join([*lines, remedy]), lines)
