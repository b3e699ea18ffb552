"""Take batches from a loader, and go on in the middle of an epoch as if nothing had happened."""

from __future__ import annotations

import inspect
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Final, final

from torch.utils.data import ConcatDataset, IterableDataset, Subset

from resumable_sched.checkpoint.loaders import pass_end
from resumable_sched.checkpoint.places import (
    generators_of,
    index_sampler_of,
    is_torchdata,
    owners_of,
    place_in,
    stateless_dataset,
    unknown_sampler,
    wrapped_in,
)
from resumable_sched.distributed import RNGState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["END", "Batches", "start_workers"]

END: Final = object()
"""What `Batches.take` gives when the epoch is over."""


def _with_inner(dataset: object) -> Iterator[object]:
    """Yield *dataset*, and those inside if it is a subset or a concatenation."""
    yield dataset
    if isinstance(dataset, Subset | ConcatDataset):
        for inner in [dataset.dataset] if isinstance(dataset, Subset) else dataset.datasets:
            yield from _with_inner(inner)


def start_workers(loader: object) -> None:
    """Start the workers of a loader that keeps them, and put the generators back that this draws from.

    The first iterator of such a loader draws a seed for its workers, and the later ones do not: a resumed training,
    whose process has a first one again, would draw once more than one that was not stopped.
    """
    if getattr(loader, "persistent_workers", False) and getattr(loader, "num_workers", 0) > 0:
        rng = RNGState(**generators_of(loader))
        now = rng.state_dict()
        iter(loader)  # type: ignore[call-overload]  # it is a loader
        rng.load_state_dict(now)


@final
class Batches:
    """Take batches from *loader*, epoch after epoch; a state object of its own in each rank's checkpoint.

    A new iterator of a loader draws from random generators: a seed for its workers, a permutation. A training that is
    resumed makes one more iterator than one that was not, so that iterator gets the generators as they were when the
    epoch began, and afterwards they are put back to where the checkpoint was.

    Where the state of a loader does not lead back to the same samples, the epoch is begun anew with these generators,
    and the batches that were taken are skipped.

    Args:
        loader: An iterable of batches that can be iterated once per epoch.

    Attributes:
        taken: Batches taken since the epoch began; 0 between epochs.
        length: Batches of an epoch; None where the loader does not say.
        stateful: Whether the loader can say where it is, and go on there.
        counts_batches: Tells a manager that it need not compare loaders with epochs.
    """

    per_rank: ClassVar[bool] = True
    counts_batches: ClassVar[bool] = True

    def __init__(self, loader: Iterable[Any]) -> None:
        self._loader = loader
        self._rng = RNGState(**generators_of(loader))
        self._iterator: Iterator[Any] | None = None
        self._start: dict[str, Any] | None = None
        self._loaded: Mapping[str, Any] | None = None  # a state that the next epoch goes on from
        self._skips = False
        self._begun = False  # the epoch that is skipped into
        self._ended = False
        self.taken = 0
        self.length = _length(loader)
        self.stateful = all(callable(getattr(loader, name, None)) for name in ("state_dict", "load_state_dict"))

    def begin(self, epoch: int) -> None:
        """Begin *epoch*, or go on with it where a state was loaded; who has a `set_epoch` is told which it is."""
        if self._iterator is not None:  # it was left in the middle, and training goes on in the same process
            return
        for owner in (*owners_of(self._loader).values(), *_with_inner(getattr(self._loader, "dataset", None))):
            if callable(set_epoch := getattr(owner, "set_epoch", None)):
                set_epoch(epoch)
        if self._loaded is not None:
            self._loaded = None
            self._iterator = self._resumed(epoch)
        if self._iterator is None:
            _forget_first_iterator(self._loader)
            self._start = self._rng.state_dict()
            self._iterator = iter(self._loader)

    def _resumed(self, epoch: int) -> Iterator[Any] | None:
        """Return an iterator that goes on in the middle of *epoch*; None where a new epoch begins."""
        if self._skips and epoch > 0:  # then workers that stay were there, and have their seed
            start_workers(wrapped_in(self._loader))
        now = self._rng.state_dict()
        if self._start is not None:
            self._rng.load_state_dict(self._start)
        iterator: Iterator[Any] | None = None
        if self._ended:
            iterator = iter(())
        elif self.taken or (self._skips and self._begun):
            iterator = iter(self._loader)
            if self._skips:
                _skip(iterator, self.taken, self._loader)
        if self.stateful and not self._skips and (iterator is None or self._ended):
            pass_end(self._loader)
        self._rng.load_state_dict(now)
        return iterator

    def take(self) -> object:
        """Return the next batch, or `END`.

        Raises:
            RuntimeError: The epoch is shorter or longer than the loader has said.
        """
        assert self._iterator is not None
        batch = END if self._ended else next(self._iterator, END)
        ended = self._ended = batch is END
        self.taken += not ended
        if self.taken == self.length and not ended:  # a sampler may draw when it ends: always before the last update
            self._ended = next(self._iterator, END) is END
            self.taken += not self._ended
        if self.length is not None and (self.taken < self.length if ended else self.taken > self.length):
            raise RuntimeError(
                f"`train_dataloader` must give as many batches as its len(), {self.length}, but gives "
                f"{self.taken if ended else 'more'} instead. Correct its len(), or give a loader without one."
            )
        return batch

    def finish(self) -> None:
        """Note that the epoch is over."""
        self._iterator = None
        self._ended = False
        self.taken = 0

    def state_dict(self) -> dict[str, Any]:
        """Return where the loader is, and the generators with which the epoch began."""
        if self._loaded is not None:
            return dict(self._loaded)  # to ask the loader would make its iterator too early, with other generators
        begun = self._start is not None
        loader = self._loader.state_dict() if self.stateful and begun else None  # type: ignore[attr-defined]
        return {"taken": self.taken, "ended": self._ended, "loader": loader, "start": self._start}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where *state* was saved, when the next epoch begins."""
        self._iterator = None
        self._ended = state["ended"]
        self.taken = state["taken"]
        self._start = state["start"]
        self._loaded = None
        if state["loader"] is not None:
            self._loaded = state
            self._skips = _must_skip(self._loader, state["loader"])
            self._begun = not state["loader"].get("_iterator_finished", True)
            self._loader.load_state_dict({} if self._skips else state["loader"])  # type: ignore[attr-defined]


def _forget_first_iterator(loader: object) -> None:
    """Let a loader that has made an iterator to say where it is, as Accelerate asks it to, make one in each epoch."""
    inner = wrapped_in(loader)
    if inner is not loader and getattr(inner, "_initial_iter_for_state_dict", False):
        inner.load_state_dict({})


def _must_skip(loader: Any, state: Mapping[str, Any]) -> bool:  # noqa: ANN401 - any loader with a state
    """Return whether the batches that were taken must be skipped here, because *state* does not lead behind them."""
    if wrapped_in(loader) is None or place_in(loader, state) is None:
        return False  # a loader of another kind, whose state says all
    if wrapped_in(loader) is not loader or stateless_dataset(loader, state):
        return True  # Accelerate's draws when it is asked for its first batch, and is one ahead
    if unknown_sampler(loader, state) is None:
        return False
    # With workers, torchdata skips what the sampler gives without loading it. Before, it asks the sampler for an
    # iterator more than once, and draws a seed for workers although they stay: the same order only if that matters not.
    left_to_torchdata = loader.num_workers > 0 and not loader.persistent_workers
    return not (left_to_torchdata and _draws_when_asked(index_sampler_of(loader)))


def _draws_when_asked(sampler: object) -> bool:
    """Return whether it is sure that *sampler* draws nothing before it is asked for its first sample."""
    if is_torchdata(sampler) and hasattr(sampler, "batch_size"):  # its iterator makes that of its sampler
        return _draws_when_asked(getattr(sampler, "sampler", None))
    return inspect.isgeneratorfunction(getattr(type(sampler), "__iter__", None))


def _skip(iterator: Any, taken: int, loader: Any) -> None:  # noqa: ANN401 - any loader with a state
    """Let *iterator* go behind the batches that were taken; where no worker has to load them, nobody does."""
    alone = wrapped_in(loader) is loader and loader.num_workers == 0 and not isinstance(loader.dataset, IterableDataset)
    deque(islice(iter(iterator._next_index, END) if alone else iterator, taken), maxlen=0)  # noqa: SLF001 - it loads nothing
    if alone:
        iterator._num_yielded = taken  # noqa: SLF001 - it is in its state


def _length(loader: object) -> int | None:
    try:
        length = len(loader)  # type: ignore[arg-type]  # whether it has one is the question
    except TypeError:
        return None
    if length < 1:
        raise ValueError("`train_dataloader` must have at least one batch, but its len() is 0.")
    return length
