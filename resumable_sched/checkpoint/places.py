"""Know where in its epoch a loader is, and whether its state leads back to the same samples.

What the state of torchdata's `StatefulDataLoader` holds depends on what it loads from: the states of the dataset and of
the sampler where these have one, and otherwise only how many batches to skip. To skip leads back to the same samples
only where the order of the epoch is known again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from torch.utils.data import BatchSampler, DataLoader, IterableDataset, Sampler, SequentialSampler

from resumable_sched.distributed.rng import Generator

__all__ = [
    "Place",
    "generators_beside",
    "generators_of",
    "holds_nothing",
    "index_sampler_of",
    "is_torchdata",
    "loaded_state",
    "owners_of",
    "place_in",
    "stateless_dataset",
    "unknown_sampler",
    "wrapped_in",
]

_BATCHING: Final = {
    "torch.utils.data.sampler.BatchSampler",
    "torchdata.stateful_dataloader.sampler.BatchSampler",
    "accelerate.data_loader.BatchSamplerShard",
    "accelerate.data_loader.SkipBatchSampler",
}
"""Batch samplers that draw nothing themselves. Subclasses may: those that sort by length shuffle their batches."""


@dataclass(frozen=True)
class Place:
    """Where in its epoch a loader is."""

    batches: int
    """Batches that it has given."""
    ended: bool

    @property
    def in_mid_epoch(self) -> bool:
        """Return whether some of the epoch's batches were given, and it has not ended."""
        return self.batches > 0 and not self.ended


def is_torchdata(value: object) -> bool:
    """Return whether *value* is of a class of torchdata, or of one that is derived from such a class."""
    return any(kind.__module__.partition(".")[0] == "torchdata" for kind in type(value).__mro__)


def wrapped_in(loader: object) -> Any:  # noqa: ANN401 - torchdata is not imported here
    """Return the loader of torchdata that *loader* is, or that Accelerate has put into it; None where there is none."""
    inner = loader if is_torchdata(loader) else getattr(loader, "base_dataloader", None)
    return inner if is_torchdata(inner) else None


def loaded_state(loader: object) -> Any:  # noqa: ANN401 - a state
    """Return the state that *loader* was given and has not begun to use; None if there is none."""
    inner = wrapped_in(loader)
    return getattr(inner, "next_iter_state", getattr(inner, "_next_iter_state_dict", None))


def place_in(loader: object, state: object) -> Place | None:
    """Return where *loader* is according to *state*; None where that is no state of a `StatefulDataLoader`."""
    if not isinstance(loader, DataLoader) or not isinstance(state, Mapping) or "_iterator_finished" not in state:
        return None
    ended = bool(state["_iterator_finished"])
    if "_snapshot" in state:  # there are workers
        return Place(state["_snapshot"]["_snapshot_step"] + state["_steps_since_snapshot"], ended)
    return Place(state["_num_yielded"], ended)


def stateless_dataset(loader: Any, state: Mapping[str, Any]) -> bool:  # noqa: ANN401 - of torchdata
    """Return whether *state* says nothing of the iterable dataset: neither it nor its iterator has a state.

    torchdata skips the batches that were given, and counts them twice, so that a second resume loses as many:
    https://github.com/meta-pytorch/data/blob/v0.11.0/torchdata/stateful_dataloader/stateful_dataloader.py#L576
    """
    return isinstance(loader.dataset, IterableDataset) and not all(map(_tells, _parts(state)))


def holds_nothing(state: Mapping[str, Any]) -> bool:
    """Return whether *state* says nothing of dataset and samplers, but only how many batches were given."""
    return not _order_is_saved(state) and not any(map(_tells, _parts(state)))


def _parts(state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what holds the states of the dataset: in this process, or in each worker."""
    return list(state["_snapshot"]["_worker_snapshots"].values()) if "_snapshot" in state else [state]


def _tells(part: Mapping[str, Any]) -> bool:
    iterated = part["fetcher_state"]
    return part["dataset_state"] is not None or (iterated or {}).get("dataset_iter_state") is not None


def _order_is_saved(state: Mapping[str, Any]) -> bool:
    main = state["_snapshot"]["_main_snapshot"] if "_snapshot" in state else state
    iterator = main["_sampler_iter_state"]
    if isinstance(iterator, Mapping) and "samples_yielded" in iterator:  # of torchdata's BatchSampler
        iterator = iterator.get("sampler_state", iterator.get("sampler_iter_state"))
    return iterator is not None or main["_index_sampler_state"] is not None


def index_sampler_of(loader: Any) -> Any:  # noqa: ANN401 - a loader of any kind
    """Return what says which samples are next: the batch sampler, or the sampler where there are no batches."""
    return loader.sampler if loader.batch_sampler is None else loader.batch_sampler


def unknown_sampler(loader: Any, state: Mapping[str, Any]) -> str | None:  # noqa: ANN401 - of torchdata
    """Return the name of the sampler whose order is not known again after a resume; None where all is known.

    It is where the order is in *state*, or follows from the epoch, or is always the same.
    """
    if isinstance(loader.dataset, IterableDataset) or _order_is_saved(state):
        return None
    # What Accelerate prepares counts the epochs itself, from 0 in each process, and tells them to its sampler.
    return _unknown(index_sampler_of(loader), told_the_epoch=is_torchdata(loader))


def _draws(sampler: object) -> bool:
    """Return whether *sampler* keeps a generator: torchdata asks for an iterator twice, which would draw twice."""
    return any(isinstance(it, Generator) for it in _attributes(sampler).values())


def _unknown(sampler: object, *, told_the_epoch: bool) -> str | None:
    if type(sampler) is SequentialSampler or isinstance(sampler, (list, tuple, range)):
        return None
    if told_the_epoch and callable(getattr(sampler, "set_epoch", None)) and not _draws(sampler):
        return None
    kind = type(sampler)
    package = kind.__module__.partition(".")[0]
    name = f"{kind.__qualname__} of {package}" if package in ("torch", "torchdata", "accelerate") else kind.__qualname__
    if f"{kind.__module__}.{kind.__qualname__}" not in _BATCHING:
        return name
    inside = _unknown(
        getattr(sampler, "sampler", getattr(sampler, "batch_sampler", None)), told_the_epoch=told_the_epoch
    )
    made_here = kind is not BatchSampler and is_torchdata(sampler)  # the loader has made it: users do not know of it
    return inside if inside is None or made_here else f"{inside} in the {name}"


def generators_of(loader: object) -> dict[str, Generator]:
    """Return the generators of its own that *loader* draws from, by name: its own one, and those of its samplers."""
    owners = owners_of(loader)
    found: dict[str, Generator] = {}
    # Those that are called `generator` have the names of their owners, as in older checkpoints; the others come after.
    named = [(owner, _attributes(each).get("generator")) for owner, each in owners.items()]
    named += [(f"{owner}_{name}", value) for owner, each in owners.items() for name, value in _attributes(each).items()]
    for name, value in named:
        if isinstance(value, Generator) and all(it is not value for it in found.values()):
            found[name] = value
    return found


def generators_beside(loader: Any) -> list[tuple[str, Generator]]:  # noqa: ANN401 - any object of the user's
    """Return the generators of the samplers of *loader* that its state does not hold, with the classes of these."""
    if not isinstance(wrapped_in(loader), DataLoader):
        return []
    index_sampler = index_sampler_of(loader)
    asked = (
        index_sampler.sampler
        if is_torchdata(index_sampler) and index_sampler is loader.batch_sampler
        else index_sampler
    )
    found = []
    for owner in owners_of(loader).values():
        known = any(hasattr(owner, name) for name in ("state_dict", "set_epoch"))
        if known or owner is loader or (owner is asked and is_torchdata(owner)):
            continue  # it is torchdata's sampler, whose iterator says where the generator was
        found += [(type(owner).__name__, it) for it in _attributes(owner).values() if isinstance(it, Generator)]
    return found


def owners_of(loader: object) -> dict[str, object]:
    """Return who may draw, by name: the loader, its samplers, and what samplers these have themselves."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    waiting = {
        "loader": loader,
        "sampler": getattr(loader, "sampler", None),
        "batch_sampler": batch_sampler,
        "inner_sampler": getattr(batch_sampler, "sampler", None),
    }
    owners: dict[str, object] = {}
    while waiting:
        name, owner = next(iter(waiting.items()))
        del waiting[name]
        if owner is None or any(owner is other for other in owners.values()):
            continue
        owners[name] = owner
        for key, value in _attributes(owner).items():
            if isinstance(value, Sampler) or (owner is loader and is_torchdata(value)):  # what Accelerate has put in
                waiting.setdefault(f"{name}_{key}", value)
    return owners


def _attributes(owner: object) -> dict[str, Any]:
    return getattr(owner, "__dict__", {})  # no dict: a range, or a class with slots
