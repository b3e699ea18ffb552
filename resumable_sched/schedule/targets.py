"""Read and write one hyper-parameter of an optimizer's param groups, wherever the optimizer keeps it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, final

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence

__all__ = ["HasParamGroups", "Item", "Key", "Target", "plain_floats", "resolve"]


_PLACE: Final = re.compile(r"(\w+)\[(\d+)\]")


class HasParamGroups(Protocol):
    """Be what a schedule can act on: an optimizer, MMEngine's ``OptimWrapper``, anything with ``param_groups``."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Return one dict of hyper-parameters for each param group."""


class Target(Protocol):
    """Know where one hyper-parameter lives in a param group."""

    def read(self, group: Mapping[str, Any]) -> float:
        """Return the present value."""

    def write(self, group: MutableMapping[str, Any], value: float) -> None:
        """Set the present value."""

    def rounded(self, group: Mapping[str, Any], value: float) -> float:
        """Return what :meth:`read` would give after ``write(group, value)``."""

    def stamps(self, groups: Sequence[Mapping[str, Any]]) -> list[object]:
        """Give, for each of *groups*, what differs as soon as somebody else writes; it never waits for a device."""


@final
@dataclass(frozen=True)
class Key:
    """Keep the value under *name*, as a number or as a tensor of one element, which is filled in place."""

    name: str

    def read(self, group: Mapping[str, Any]) -> float:
        """Return the present value as a float."""
        return float(group[self.name])

    def write(self, group: MutableMapping[str, Any], value: float) -> None:
        """Set the value; a tensor stays the same tensor, because a captured graph holds a reference to it."""
        present = group[self.name]
        if isinstance(present, torch.Tensor):
            present.fill_(value)
        else:
            group[self.name] = value

    def rounded(self, group: Mapping[str, Any], value: float) -> float:
        """Round *value* to the precision of a tensor."""
        return _rounded(group[self.name], value)

    def stamps(self, groups: Sequence[Mapping[str, Any]]) -> list[object]:
        """Return the numbers, or the identities of the tensors and how often they were written."""
        return _stamps([group[self.name] for group in groups])


@final
@dataclass(frozen=True)
class Item:
    """Keep the value in a place of a tuple under *name*, such as ``betas[1]``.

    The momentum of Adam and its relatives is ``betas[0]``. There the key ``momentum`` is written too, and never read:
    MMEngine puts it there, and its loggers and ``get_momentum`` prefer it.
    """

    name: str
    index: int
    copy: str | None = None

    def read(self, group: Mapping[str, Any]) -> float:
        """Return the present value as a float."""
        return float(group[self.name][self.index])

    def write(self, group: MutableMapping[str, Any], value: float) -> None:
        """Set the value and keep the others of the tuple; a tensor is filled in place."""
        items = group[self.name]
        if isinstance(items[self.index], torch.Tensor):
            items[self.index].fill_(value)
        else:
            group[self.name] = (*items[: self.index], value, *items[self.index + 1 :])
        if self.copy is not None:
            group[self.copy] = value

    def rounded(self, group: Mapping[str, Any], value: float) -> float:
        """Round *value* to the precision of a tensor."""
        return _rounded(group[self.name][self.index], value)

    def stamps(self, groups: Sequence[Mapping[str, Any]]) -> list[object]:
        """Return the numbers, or the identities of the tensors and how often they were written."""
        return _stamps([group[self.name][self.index] for group in groups])


def _rounded(present: object, value: float) -> float:
    if isinstance(present, torch.Tensor):
        return float(torch.full((), value, dtype=present.dtype))
    return value


def _stamps(present: list[object]) -> list[object]:
    return present if plain_floats(present) else [_stamp(each) for each in present]


def plain_floats(values: Sequence[object]) -> bool:
    """Return whether all *values* are floats and nothing else, at the price of looking at their types."""
    return set(map(type, values)) <= {float}


def _stamp(present: object) -> object:
    # The value of a tensor on a device would have to be waited for at every step; its version is known at once.
    if isinstance(present, torch.Tensor) and not present.is_inference():
        return id(present), present._version  # noqa: SLF001 - torch has no public name for it
    return float(present) if isinstance(present, torch.Tensor) else present


def resolve(optimizer: HasParamGroups, name: str) -> Target:
    """Find where *optimizer* keeps the hyper-parameter *name*, which may be a place in a tuple, such as ``betas[1]``.

    Momentum is looked up in ``optimizer.defaults`` and not in the groups: an Adam whose state was written by MMEngine
    has a dead key ``momentum`` in its groups.

    Raises:
        TypeError: *optimizer* has no param groups.
        ValueError: *optimizer* has no momentum, and *name* asks for it.
        KeyError: A param group has no such key, or it does not hold a number.
    """
    groups = getattr(optimizer, "param_groups", None)
    if not isinstance(groups, list) or not groups:
        raise TypeError(
            "`optimizer` must be an Optimizer or another object with a list of `param_groups`, but is "
            f"{optimizer!r} instead."
        )
    place = _PLACE.fullmatch(name) if name.endswith("]") else None
    target: Target = Item(place[1], int(place[2])) if place else Key(name)
    if name == "betas[0]":
        raise ValueError(
            "`param_name` must be \"momentum\" where the first of the betas is meant, but is 'betas[0]' instead."
        )
    if name == "momentum":
        defaults = getattr(optimizer, "defaults", None)
        known = defaults or groups[0]
        if "momentum" not in known:
            if "betas" not in known:
                raise ValueError(
                    "`optimizer` must have a default `momentum` or `betas` (an optimizer must support momentum when "
                    f"using momentum schedulers), but is {type(optimizer).__name__} instead."
                )
            target = Item("betas", 0, copy="momentum")
    if isinstance(target, Key) and plain_floats([group.get(name) for group in groups]):
        return target
    for index, group in enumerate(groups):
        try:
            target.read(group)
            if isinstance(group.get(name), bool):
                raise TypeError(f"{name} is {group[name]}")  # noqa: TRY301 - one error for all that is no number
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            keys = ", ".join(sorted(str(key) for key in group if key != "params"))
            raise KeyError(
                f"`param_name` must be a number in every param group (group {index} has {keys}), or a place in one "
                f"that holds several, such as betas[1], but is {name!r} instead."
            ) from error
    return target
