"""Choose param groups: by place, by name, or by a function that looks at each of them."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from resumable_sched.schedule.arguments import whole
from resumable_sched.schedule.importable import ImportedFunction, function_argument

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

__all__ = ["GroupChoice", "chosen", "disjoint", "group_choice", "group_names"]

GroupChoice: TypeAlias = "int | str | Sequence[int | str] | Callable[[Mapping[str, Any]], bool] | None"


class GroupPredicate(ImportedFunction):
    """Be the import path of a function of a param group, and call it."""

    __slots__ = ()

    def __call__(self, group: Any) -> Any:  # noqa: ANN401 - what the base class calls a tick is a param group here
        """Return whether the schedule acts on *group*."""
        return bool(self.function(group))


def group_names(groups: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """Return the key ``name`` of each param group; None where there is none."""
    return [None if group.get("name") is None else str(group["name"]) for group in groups]


def group_choice(name: str, given: object, *, restored: bool) -> tuple[int | str, ...] | GroupPredicate | None:
    """Check and normalise an argument that chooses param groups.

    Args:
        name: The argument.
        given: None for all; a place or a name, or a list of these; or a function of the param group that can be
            imported, or its path ``"module:name"``.
        restored: It comes from a saved state, and may only name a function that this program has named already.

    Raises:
        TypeError: It is something else.
        ValueError: It is empty, or a function that cannot be imported.
    """
    if given is None or isinstance(given, GroupPredicate):
        return given
    if callable(given) or (isinstance(given, str) and ":" in given):
        predicate = function_argument(name, given, GroupPredicate, restored=restored)
        assert isinstance(predicate, GroupPredicate)
        return predicate
    members = given if isinstance(given, list | tuple) else [given]
    if not members:
        raise ValueError(f"`{name}` must choose at least one param group, but is {given!r} instead. None chooses all.")
    return tuple(each if isinstance(each, str) else whole(name, each, minimum=0) for each in members)


def disjoint(one: Sequence[bool] | None, other: Sequence[bool] | None) -> bool:
    """Return whether two choices, which :func:`chosen` gave, have no param group in common."""
    return one is not None and other is not None and not any(map(operator.and_, one, other))


def chosen(name: str, choice: object, groups: Sequence[Mapping[str, Any]]) -> list[bool] | None:
    """Return for each of *groups* whether *choice*, which :func:`group_choice` gave, chooses it; None if it is all.

    Raises:
        ValueError: There is no such group, or none that the function chooses.
    """
    if choice is None:
        return None
    names = group_names(groups)
    known = ", ".join(str(index) if each is None else f"{index} ({each!r})" for index, each in enumerate(names))
    if isinstance(choice, GroupPredicate):
        found = [choice(group) for group in groups]
        if not any(found):
            raise ValueError(f"`{name}` must choose a param group, but {choice} chooses none of {known}.")
        return found
    assert isinstance(choice, tuple)
    for each in choice:
        if each not in names if isinstance(each, str) else each >= len(groups):
            remedy = ' A param group has a name where its dict has the key "name".' if isinstance(each, str) else ""
            raise ValueError(f"`{name}` must choose among the param groups {known}, but has {each!r}.{remedy}")
    return [index in choice or (each is not None and each in choice) for index, each in enumerate(names)]
