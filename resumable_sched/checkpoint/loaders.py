"""Know what the loaders of torch and torchdata go on from, and refuse those that would go on with other samples."""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
from typing import TYPE_CHECKING, Any, Final

from torch.utils.data import DataLoader, Sampler

from resumable_sched.checkpoint.places import (
    Place,
    holds_nothing,
    index_sampler_of,
    is_torchdata,
    loaded_state,
    place_in,
    stateless_dataset,
    unknown_sampler,
    wrapped_in,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["check_torchdata", "load_loader", "loader_state", "loads_data", "pass_end", "require_in_step"]

_OLDEST_TORCHDATA: Final = (0, 11)


def loads_data(value: object) -> bool:
    """Return whether *value* is a loader or a sampler, so that each rank has a state of its own."""
    return isinstance(value, (DataLoader, Sampler)) or is_torchdata(value)


def check_torchdata(argument: str, loader: object) -> None:
    """Check that *loader* is not of a torchdata that is too old.

    Raises:
        ValueError: It is: those before 0.11 give other samples after a resume in mid-epoch.
    """
    if not is_torchdata(loader):
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
    state = loaded_state(loader)
    if state is None:
        if _begins_anew(loader):
            return {}
        state = loader.state_dict()
    place = place_in(loader, state)
    if place is None:
        return state
    _require_known_samples(name, loader, state, place)
    # torchdata makes an iterator of a state that has ended, to see that it has, and then the one of the next epoch: a
    # sampler that draws would have drawn twice. An empty state lets the loader begin as it does without one.
    return {} if place.ended and holds_nothing(state) else state


def load_loader(loader: Any, state: Any) -> None:  # noqa: ANN401 - any object of the user's
    """Let *loader* go on from *state*."""
    loader.load_state_dict(state)
    place = place_in(loader, state)
    if place is not None and place.ended:
        pass_end(loader)


def pass_end(loader: Any) -> None:  # noqa: ANN401 - any object of the user's
    """Put the end of an epoch behind a loader that was given such a state, before the next epoch begins.

    torchdata gives the sampler its place when it makes an iterator of the state, and makes another one for the next
    epoch. Without workers nobody has asked the sampler for the end by then, and one that skips what it has given
    skips all of the next epoch.
    """
    loader.state_dict()  # makes the iterator
    inner = wrapped_in(loader)
    iterator = getattr(inner, "_iterator", None)
    if iterator is not None and iterator._finished and inner.num_workers == 0:  # noqa: SLF001 - no other name
        with contextlib.suppress(StopIteration):
            iterator._next_index()  # noqa: SLF001 - to ask the iterator for a batch would load one


def _begins_anew(loader: object) -> bool:
    """Return whether *loader* has not begun, and has nothing to save until it does."""
    inner = wrapped_in(loader)
    if not isinstance(inner, DataLoader) or getattr(inner, "_iterator", None) is not None:
        return False
    owners = (inner.dataset, inner.sampler, index_sampler_of(inner))
    # The sampler of torchdata has none itself, but its iterators have: its generator may be seeded by chance.
    return not any(hasattr(each, "state_dict") for each in owners) and not is_torchdata(inner.sampler)


def _require_known_samples(name: str, loader: Any, state: Mapping[str, Any], place: Place) -> None:  # noqa: ANN401 - as above
    """Refuse to save in mid-epoch where the samples that follow are not known again."""
    if stateless_dataset(loader, state):
        if place.in_mid_epoch:
            raise ValueError(
                f'state["{name}"] must not be saved in the middle of an epoch with the iterable '
                f"{type(loader.dataset).__name__}, which has no state, nor has its iterator: after a second resume "
                "samples would be left out. Give the iterator a state_dict and load_state_dict, or use a Runner, or "
                "save between epochs."
            )
        return
    drawing = None if place.ended else unknown_sampler(loader, state)
    if drawing is not None and (place.in_mid_epoch or _is_begun(loader)):
        if wrapped_in(loader) is not loader:  # even a sampler with a set_epoch: it is told epochs that begin at 0 again
            drawing += " in a loader that Accelerate has prepared"
        raise ValueError(
            f'state["{name}"] must not be saved in the middle of an epoch with the {drawing}, which has no state '
            "that the loader keeps: the rest of the epoch would have other samples after a resume. Use sampler="
            "torchdata.stateful_dataloader.sampler.RandomSampler(dataset, generator=torch.Generator()) in a "
            "StatefulDataLoader, or give a sampler of your own a state_dict and load_state_dict, or a set_epoch if its "
            "order follows from the epoch, or use a Runner, or save between epochs."
        )


def _is_begun(loader: object) -> bool:
    """Return whether the epoch has begun, so that the sampler may have drawn already."""
    inner = wrapped_in(loader)
    asked = getattr(inner, "_initial_iter_for_state_dict", False)  # it was only made to answer, as Accelerate does
    return getattr(inner, "_iterator", None) is not None and not asked


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


def require_in_step(state: Mapping[str, Any], iteration: int, restored: int | None) -> None:
    """Check that the loaders are where the iterations and epochs are that were counted.

    Args:
        state: What is saved.
        iteration: The iteration that is saved.
        restored: The one that the manager has restored; None if it has not.

    Raises:
        ValueError: A loader has not gone on where it was restored, or it is at the end of an epoch that is not counted.
    """
    found = {name: place for name, value in state.items() if (place := _place_now(value)) is not None}
    # Where another loader has gone on, this one may be that of a validation which is not due yet.
    if restored not in (None, iteration) and all(loaded_state(state[name]) is not None for name in found):
        for name, place in found.items():
            if place.in_mid_epoch and loaded_state(state[name]) is not None:
                raise ValueError(
                    f'state["{name}"] must give the batches that follow iteration {restored}, which was restored, but '
                    f"has given none up to iteration {iteration}: its place in the epoch is lost. Call iter() on it, "
                    "or begin the `for` loop over it, after restore() and not before."
                )
    ended = [name for name, place in found.items() if place.ended]
    # The loader of a validation has ended, too, but beside one that is in the middle of an epoch. A Runner counts
    # epochs itself, and the only loaders that its checkpoints have by themselves are those of validations.
    driven = any(hasattr(value, "counts_batches") for value in state.values())
    if driven or any(place.in_mid_epoch for place in found.values()):
        return
    for name, value in state.items():
        inside = getattr(value, "iteration_in_epoch", 0)
        if ended and isinstance(inside, int) and inside > 0 and getattr(value, "counts_epochs", False):
            raise ValueError(
                f'state["{name}"] must be at the end of an epoch, as state["{ended[0]}"] is, but is after iteration '
                f"{inside} of one: after a resume the whole epoch would be given once more. Call step_epoch() before "
                "saving, or save inside the loop over the batches."
            )


def _place_now(loader: Any) -> Place | None:  # noqa: ANN401 - any object of the user's
    inner = wrapped_in(loader)
    iterator = getattr(inner, "_iterator", None)
    if loaded_state(loader) is not None or not isinstance(inner, DataLoader) or iterator is None:
        return place_in(loader, loaded_state(loader))
    if inner is not loader:
        return place_in(loader, loader.state_dict())  # Accelerate's iterator is a batch ahead of what it has given
    return Place(iterator._num_yielded, iterator._finished)  # noqa: SLF001 - its state_dict may be large
