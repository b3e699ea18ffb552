"""Describe changes that no schedule makes: what the user, or other code, did to a value while training ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Amendment", "Kind", "amend_all", "in_force"]

Kind = Literal["scale", "value", "reset", "foreign"]


@dataclass(frozen=True)
class Amendment:
    """Be one change to the value of one param group, in force from an iteration on.

    It maps what the schedules give, after the amendments before it: a *scale* multiplies; a *value* holds, whatever the
    schedules say; a *reset* puts all amendments before it out of force. A *foreign* one is a number that other code has
    written: it goes on as the factor ``observed / expected`` (or holds, where nothing can be multiplied), and where the
    schedules still give what they gave then, it is the number itself, to the last bit.

    Attributes:
        iteration: Completed updates when it was made, or noticed.
        group: The param group.
        kind: What it is.
        scale: The factor.
        offset: What is added.
        expected: The value before, for a foreign change; None for the others.
        observed: The value that was found.
        reason: Why, in the user's words.

    >>> warm = Amendment(7, 0, "foreign", scale=0.5, expected=0.3, observed=0.15)
    >>> warm(0.3), warm(0.1)
    (0.15, 0.05)
    """

    iteration: int
    group: int
    kind: Kind
    scale: float = 1.0
    offset: float = 0.0
    expected: float | None = None
    observed: float | None = None
    reason: str = ""

    @classmethod
    def foreign(cls, iteration: int, group: int, expected: float, observed: float) -> Amendment:
        """Make one of a number that other code has written where *expected* was."""
        scale, offset = (observed / expected, 0.0) if expected != 0.0 else (0.0, observed)
        return cls(iteration, group, "foreign", scale, offset, expected, observed, "set by other code")

    @property
    def label(self) -> str:
        """Say in a few words what it does.

        >>> Amendment(0, 0, "scale", scale=0.5, reason="loss spike").label
        'x 0.5: loss spike'
        """
        if self.kind == "reset":
            text = "as scheduled again"
        elif self.kind == "value" or self.scale == 0.0:
            text = f"= {self.offset:.4g}"
        else:
            text = f"x {self.scale:.4g}"
        return f"{text}: {self.reason}" if self.reason else text

    def __call__(self, value: float) -> float:
        """Map what the schedules and earlier amendments give."""
        if self.observed is not None and value == self.expected:
            return self.observed
        return self.scale * value + self.offset


def in_force(amendments: Iterable[Amendment], group: int, iteration: int | None = None) -> list[Amendment]:
    """Return the amendments that act on param group *group* once *iteration* updates are done; None for all."""
    found: list[Amendment] = []
    for each in amendments:
        if each.group != group or (iteration is not None and each.iteration > iteration):
            continue
        if each.kind in ("reset", "value"):
            found.clear()  # whatever was before
        if each.kind != "reset":
            found.append(each)
    return found


def amend_all(values: Sequence[float], amendments: Sequence[Amendment]) -> list[float]:
    """Amend the values of all param groups."""
    amended = list(values)
    for group in {each.group for each in amendments}:
        for each in in_force(amendments, group):
            amended[group] = each(amended[group])
    return amended
