"""What a manager is told by its caller, checked before anything is done."""

from __future__ import annotations

import operator
import re
import warnings
from typing import TYPE_CHECKING, Any, Final

import torch

from resumable_sched.checkpoint.places import generators_beside
from resumable_sched.checkpoint.tree import flatten
from resumable_sched.distributed.rng import RNGState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "require_generators",
    "require_iteration",
    "require_known",
    "require_names",
    "require_position",
    "summary_tree",
]

_LARGEST_ITERATION: Final = 10**12
_RANK: Final = re.compile(r"rank-[0-9]+")  # what the names of a rank's own tensors begin with


def require_names(state: Mapping[str, Any]) -> None:
    """Check the names that a manager is given; what is stored of other things has such names."""
    if not state:
        raise ValueError("`state` must name at least one object to save, but is empty.")
    for name in state:
        if not isinstance(name, str) or not name or name.startswith(("__", "$")) or _RANK.fullmatch(name):
            raise ValueError(f'A name in `state` must be a string like "model", but is {name!r} instead.')


def require_generators(state: Mapping[str, Any], *, refuse: bool) -> None:
    """Check that what trains has its random number generators saved; warn, or *refuse* it."""

    def first(kind: type) -> str | None:
        return next((name for name, value in state.items() if isinstance(value, kind)), None)

    module, optimizer = first(torch.nn.Module), first(torch.optim.Optimizer)
    text = _unsaved_sampler(state)
    if module is not None and optimizer is not None and first(RNGState) is None:
        text = (
            f'`state` must have an RNGState beside "{module}" and "{optimizer}", but has {list(state)} instead: '
            'after a resume, dropout and shuffling would draw other numbers. Add "rng": RNGState(), or pass '
            "require_rng=False if nothing draws from the global generators."
        )
    if refuse and text:
        raise ValueError(text)
    if text:
        warnings.warn(text, UserWarning, stacklevel=3)


def _unsaved_sampler(state: Mapping[str, Any]) -> str:
    """Return a sentence about a generator that shuffles and is saved by nobody; an empty one if there is none."""
    saved = [it for each in state.values() if isinstance(each, RNGState) for it in each.generators.values()]
    for name, loader in state.items():
        for kind, generator in generators_beside(loader):
            if all(generator is not other for other in saved):
                return (
                    f'`state` must have an RNGState with the generator of the {kind} in "{name}", but has none: after '
                    "each resume it would draw as it did at the first start. Give it a name, as in "
                    'state["rng"] = RNGState(shuffle=generator), or pass require_rng=False if another object saves it.'
                )
    return ""


def require_known(names: Iterable[str], state: Mapping[str, Any]) -> list[str]:
    """Return the names of ``restore(only=...)``, having seen that the state has them."""
    if isinstance(names, str):
        raise TypeError(f"`only` must be a list of names, but is the string {names!r} instead.")
    wanted = list(names)
    if unknown := [name for name in wanted if name not in state]:
        raise ValueError(f"`only` must be among {list(state)}, but has {unknown}.")
    return wanted


def summary_tree(name: str, summary: object) -> Any:  # noqa: ANN401 - JSON
    """Return what an object says of itself as JSON."""
    tree, tensors = flatten(summary, name, "summary")
    if tensors:  # it would be stored with the state, and be read before anything could be listed
        raise TypeError(
            f'`summary()` of state["{name}"] must give plain values for people to read, but has the tensor or array '
            f"{next(iter(tensors))} instead. Give its numbers, as tolist() does."
        )
    return tree


def require_position(iteration: int, summaries: Mapping[str, Any]) -> None:
    """Check the number that the caller gives against what the schedule has counted."""
    for name, summary in summaries.items():
        position = summary.get("position") if isinstance(summary, dict) else None
        counted = position.get("iteration") if isinstance(position, dict) else None
        if isinstance(counted, int) and counted != iteration:
            raise ValueError(
                f'`iteration` must be that of state["{name}"], {counted}, but is {iteration} instead. '
                "Is its step() called after every optimizer update?"
            )


def require_iteration(iteration: int) -> int:
    """Return *iteration* as a plain number."""
    try:
        value = operator.index(iteration if not isinstance(iteration, bool) else None)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"`iteration` must be an integer, but is {iteration!r} instead.") from None
    if not 0 <= value < _LARGEST_ITERATION:
        raise ValueError(f"`iteration` must be between 0 and {_LARGEST_ITERATION}, but is {value} instead.")
    return value
