"""Take batches from a loader, and go on in the middle of an epoch as if nothing had happened."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any, ClassVar, Final, final

import torch

from resumable_sched.distributed import RNGState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["END", "Batches", "generators_of", "start_workers"]

END: Final = object()
"""What `Batches.take` gives when the epoch is over."""


def generators_of(loader: object) -> dict[str, torch.Generator]:
    """Return the generators of its own that *loader* draws from: its own one, and those of its samplers."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    owners = {
        "loader": loader,
        "sampler": getattr(loader, "sampler", None),
        "batch_sampler": batch_sampler,
        "inner_sampler": getattr(batch_sampler, "sampler", None),
    }
    found: dict[str, torch.Generator] = {}
    for name, owner in owners.items():
        generator = getattr(owner, "generator", None)
        if isinstance(generator, torch.Generator) and all(generator is not other for other in found.values()):
            found[name] = generator
    return found


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

    Args:
        loader: An iterable of batches that can be iterated once per epoch.

    Attributes:
        taken: Batches taken since the epoch began; 0 between epochs.
        length: Batches of an epoch; None where the loader does not say.
        stateful: Whether the loader can say where it is, and go on there.
    """

    per_rank: ClassVar[bool] = True

    def __init__(self, loader: Iterable[Any]) -> None:
        self._loader = loader
        self._rng = RNGState(**generators_of(loader))
        self._iterator: Iterator[Any] | None = None
        self._start: dict[str, Any] | None = None
        self._loaded: Mapping[str, Any] | None = None  # a state that the next epoch goes on from
        self._ended = False
        self.taken = 0
        self.length = _length(loader)
        self.stateful = all(callable(getattr(loader, name, None)) for name in ("state_dict", "load_state_dict"))

    def begin(self, epoch: int) -> None:
        """Begin *epoch*, or go on with it where a state was loaded; samplers with a `set_epoch` are told which."""
        if self._iterator is not None:  # it was left in the middle, and training goes on in the same process
            return
        for owner in (
            self._loader,
            getattr(self._loader, "sampler", None),
            getattr(self._loader, "batch_sampler", None),
        ):
            if callable(set_epoch := getattr(owner, "set_epoch", None)):
                set_epoch(epoch)
        if self._loaded is not None:
            self._loaded = None
            self._iterator = self._resumed()
        if self._iterator is None:
            self._start = self._rng.state_dict()
            self._iterator = iter(self._loader)

    def _resumed(self) -> Iterator[Any] | None:
        """Return an iterator that goes on in the middle of the epoch; None where a new epoch begins."""
        now = self._rng.state_dict()
        if self._start is not None:
            self._rng.load_state_dict(self._start)
        iterator: Iterator[Any] | None = None
        if self.taken and not self._ended:
            iterator = _begun(iter(self._loader))
        elif self.stateful:
            # The state is that of an iterator that has ended. torchdata makes one from it before it makes a new one.
            self._loader.state_dict()  # type: ignore[attr-defined]
            _forget_place(getattr(self._loader, "sampler", None))
            iterator = iter(()) if self._ended else None
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
            self._loader.load_state_dict(state["loader"])  # type: ignore[attr-defined]


def _begun(iterator: Iterator[Any]) -> Iterator[Any]:
    """Let torchdata's iterator find its place, and draw for that, now and not when it is asked for a batch."""
    waiting = getattr(iterator, "_sampler_iter", None)
    if isinstance(waiting, islice):
        first = list(islice(waiting, 1))
        iterator._sampler_iter = chain(first, waiting)  # type: ignore[attr-defined]  # noqa: SLF001 - it has no other name
    return iterator


def _forget_place(sampler: object) -> None:
    """Let a sampler of torchdata's whose epoch has ended begin at the beginning: it would skip all of the next one."""
    if getattr(sampler, "next_yielded", None) is not None:
        sampler.next_yielded = None  # type: ignore[attr-defined]


def _length(loader: object) -> int | None:
    try:
        length = len(loader)  # type: ignore[arg-type]  # whether it has one is the question
    except TypeError:
        return None
    if length < 1:
        raise ValueError("`train_dataloader` must have at least one batch, but its len() is 0.")
    return length
