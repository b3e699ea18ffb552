"""Know what the loaders of torch and torchdata go on from, and refuse those that would go on with other samples."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from typing import Any, Final

from torch.utils.data import DataLoader, RandomSampler, Sampler, SubsetRandomSampler, WeightedRandomSampler

__all__ = ["check_torchdata", "loader_state", "loads_data"]

_DRAWING: Final = frozenset({RandomSampler, SubsetRandomSampler, WeightedRandomSampler})
"""Samplers of torch that draw their order when they begin."""
_OLDEST_TORCHDATA: Final = (0, 11)


def loads_data(value: object) -> bool:
    """Return whether *value* is a loader or a sampler, so that each rank has a state of its own."""
    return isinstance(value, (DataLoader, Sampler)) or _is_torchdata(value)


def check_torchdata(argument: str, loader: object) -> None:
    """Check that *loader* is not of a torchdata that is too old.

    Raises:
        ValueError: It is: those before 0.11 give other samples after a resume in mid-epoch.
    """
    if not _is_torchdata(loader):
        return
    version = importlib.metadata.version("torchdata")
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < _OLDEST_TORCHDATA:
        raise ValueError(
            f"{argument} must be of torchdata 0.11 or newer, but is of {version} instead, which goes on with other "
            "samples after a resume. Run: pip install 'torchdata>=0.11'"
        )


def loader_state(name: str, loader: Any) -> object:  # noqa: ANN401 - any object of the user's
    """Return where *loader* is.

    Args:
        name: What the manager's `state` calls it.
        loader: A loader or sampler with a ``state_dict``.

    Raises:
        ValueError: From there it would go on with other samples.
    """
    _require_own_generator(name, loader)
    # torchdata's loader makes its iterator to answer, with the sampler and the generators as they are now. Where a
    # state was loaded and no batch was asked for since, that is too early, and the state itself is the answer.
    loaded = None
    if _is_torchdata(loader):
        loaded = getattr(loader, "next_iter_state", getattr(loader, "_next_iter_state_dict", None))
    state: object = loader.state_dict() if loaded is None else loaded
    _require_resumable_sampler(name, loader, state)
    return state


def _require_own_generator(name: str, value: object) -> None:
    """Refuse a loader that would go on with other samples: it draws in another order, or begins again."""
    if getattr(value, "restart_on_stop_iteration", False):
        raise ValueError(
            f'state["{name}"] must be built with restart_on_stop_iteration=False, but is not: saved at the end of an '
            "epoch it would begin that epoch again."
        )
    if not isinstance(value, DataLoader) or value.num_workers > 0 or value.generator is None:
        return
    inner = getattr(value.batch_sampler, "sampler", None)
    if value.generator in (getattr(value.sampler, "generator", None), getattr(inner, "generator", None)):
        raise ValueError(
            f'state["{name}"] must not draw from the generator of its sampler, but it does (DataLoader(shuffle=True, '
            "generator=...) shares one): after a resume the next epochs would be shuffled otherwise. Pass sampler="
            "torchdata.stateful_dataloader.sampler.RandomSampler(dataset, generator=torch.Generator()) and another "
            "generator=torch.Generator()."
        )


def _require_resumable_sampler(name: str, value: object, state: object) -> None:
    """Refuse to save in mid-epoch where torch's own sampler draws: it has no state, and would draw other samples."""
    if not isinstance(value, DataLoader) or value.num_workers > 0 or not isinstance(state, Mapping):
        return
    samplers = (value.sampler, getattr(value.batch_sampler, "sampler", None))
    drawing = [type(each).__name__ for each in samplers if type(each) in _DRAWING]
    if drawing and state.get("_num_yielded") and not state.get("_iterator_finished", True):
        raise ValueError(
            f'state["{name}"] must not be saved in the middle of an epoch with the {drawing[0]} of torch, which has no '
            "state: the rest of the epoch would have other samples after a resume. Use sampler=torchdata."
            "stateful_dataloader.sampler.RandomSampler(dataset, generator=torch.Generator()), or a Runner, or save "
            "between epochs."
        )


def _is_torchdata(value: object) -> bool:
    return any(kind.__module__.partition(".")[0] == "torchdata" for kind in type(value).__mro__)
