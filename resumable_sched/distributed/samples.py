"""Give each sample random numbers of its own, whatever process it is made in."""

from __future__ import annotations

import operator
import random
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
import xxhash
from torch.utils.data import Dataset, get_worker_info

from resumable_sched.distributed.rng import RNGState

if TYPE_CHECKING:
    from typing import Protocol

    class _MapStyle(Protocol):
        def __getitem__(self, index: Any, /) -> Any: ...  # noqa: ANN401 - as the dataset has it
        def __len__(self) -> int: ...


__all__ = ["SeededDataset"]


@final
class SeededDataset(Dataset[Any]):
    """Seed python's, numpy's and torch's generators for each sample of a map-style dataset.

    Random augmentations draw from these generators. Those of worker processes are in nobody's state, so that after a
    resume the rest of an epoch would have other augmentations. Around the dataset this class makes what a sample draws
    a function of *seed*, the epoch and the index::

        dataset = SeededDataset(dataset, seed=7)
        loader = StatefulDataLoader(dataset, 64, sampler=sampler, num_workers=8, generator=torch.Generator())
        for epoch in range(group.epoch, epochs):
            dataset.set_epoch(epoch)  # a Runner does it
            for batch in loader:
                ...

    What a ``collate_fn`` draws in a worker follows from the last sample of its batch. The generators of the training
    process are left as they were. A transform with a generator of its own is not seen.

    Args:
        dataset: It has ``__getitem__`` and ``__len__``.
        seed: The same in each start, and on all ranks.

    Raises:
        TypeError: *dataset* is no map-style dataset, or *seed* no integer; later: an index is neither an integer nor
            a string nor a tuple of such.
    """

    def __init__(self, dataset: _MapStyle, seed: int = 0) -> None:
        if not all(hasattr(dataset, name) for name in ("__getitem__", "__len__")):
            raise TypeError(f"`dataset` must have __getitem__ and __len__, but is {dataset!r} instead.")
        self.dataset = dataset
        self.seed = operator.index(seed)
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]  # workers that stay see it change

    @property
    def epoch(self) -> int:
        """Return the epoch that the samples are drawn for."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins, before the loader is iterated; also to a dataset inside that wants to know."""
        self._epoch.fill_(epoch)
        if callable(inner := getattr(self.dataset, "set_epoch", None)):
            inner(epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - as the dataset has it
        seed = xxhash.xxh3_64_intdigest(repr((self.seed, self.epoch, _plain(index))).encode())
        if get_worker_info() is not None:
            _seed(seed)
            return self.dataset[index]
        rng = RNGState()
        before = rng.state_dict()
        _seed(seed)
        try:
            return self.dataset[index]
        finally:
            rng.load_state_dict(before)


def _plain(index: Any) -> object:  # noqa: ANN401 - as the sampler gives it
    """Return *index* as what is written alike in every process and release: integers, strings, tuples of them.

    Raises:
        TypeError: It is something else.
    """
    if isinstance(index, tuple | list):
        return tuple(map(_plain, index))
    if isinstance(index, str):
        return str(index)
    return operator.index(index)


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global generator is what transforms draw from
    torch.default_generator.manual_seed(seed)  # and not those of CUDA devices, which no transform in a worker has
