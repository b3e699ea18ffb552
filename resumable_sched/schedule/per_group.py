"""Let a schedule have a value for each param group, as some of the peers' arguments do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resumable_sched.schedule.arguments import check_number, sequence

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["GroupValue", "check_count", "check_values", "group_of", "spread", "value_of"]


class GroupValue(float):
    """Be the base of one param group, and know which one: two groups with equal bases still differ.

    A composition computes one map for all groups that share a base; a schedule whose arguments differ by group makes
    its bases distinct with this.

    >>> GroupValue(0.5, 1), GroupValue(0.5, 1) == GroupValue(0.5, 2), group_of(GroupValue(0.5, 2)), group_of(0.5)
    (0.5, False, 2, 0)
    """

    group: int

    def __new__(cls, value: float, group: int) -> GroupValue:  # noqa: D102, PYI034 - nobody derives from it
        self = super().__new__(cls, value)
        self.group = group
        return self

    def __getnewargs__(self) -> tuple[float, int]:  # type: ignore[override]  # what copy and pickle build it from
        return float(self), self.group

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GroupValue) and self.group == other.group and float(self) == float(other)

    def __hash__(self) -> int:
        return hash((float(self), self.group))


def group_of(base: float) -> int:
    """Return the index of the param group that *base* belongs to; 0 where all groups are alike."""
    return base.group if isinstance(base, GroupValue) else 0


def value_of(given: Any, group: int) -> Any:  # noqa: ANN401 - whatever the argument is
    """Return what the argument *given*, one for all or a tuple of one for each, is for *group*.

    >>> value_of(0.5, 1), value_of((0.5, 0.25), 1)
    (0.5, 0.25)
    """
    return given[group] if isinstance(given, tuple) else given


def check_count(name: str, given: Any, count: int) -> None:  # noqa: ANN401 - whatever the argument is
    """Check that the argument *given* is one for all, or a tuple of one for each of *count* param groups.

    Raises:
        ValueError: It is a tuple of another length.
    """
    if isinstance(given, tuple) and len(given) != count:
        raise ValueError(f"`{name}` must have a value for each of {count} param groups, but is {[*given]!r} instead.")


def check_values(name: str, given: object, count: int) -> float | tuple[float, ...]:
    """Return a number as it is, and a list of numbers, one for each of *count* param groups, as a tuple.

    Raises:
        TypeError: It is neither.
        ValueError: A number is not finite, or there are too many or too few.
    """
    if isinstance(given, int | float):
        check_number(name, given)
        return given
    values = sequence(name, given)
    for each in values:
        check_number(name, each)
    check_count(name, values, count)
    return values


def spread(name: str, given: Any, base: Sequence[float]) -> list[float]:  # noqa: ANN401 - whatever the argument is
    """Return the bases for a schedule with the argument *given*: told apart where it differs by group.

    Raises:
        ValueError: It is a tuple of another length than there are param groups.
    """
    if not isinstance(given, tuple):
        return list(base)
    check_count(name, given, len(base))
    return [GroupValue(value, group) for group, value in enumerate(base)]
