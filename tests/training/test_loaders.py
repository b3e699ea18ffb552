"""A Runner goes on with the same samples whatever draws them: it skips what was taken where the loader cannot."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    Subset,
    WeightedRandomSampler,
    get_worker_info,
)
from torchdata.stateful_dataloader import StatefulDataLoader
from torchdata.stateful_dataloader.sampler import RandomSampler as RandomSamplerOfTorchdata

from resumable_sched import SeededDataset
from resumable_sched.checkpoint.places import generators_of
from resumable_sched.training import CheckpointHook, Hook
from resumable_sched.training.batches import Batches
from tests.training.loops import BATCH, SAMPLES, Events, KilledError, Memory, build, dataset, kill_at, trace_into

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata, on torch 2.13


def seeded(seed: int = 9) -> torch.Generator:
    """Return a generator of its own."""
    return torch.Generator().manual_seed(seed)


class Eager(Sampler[int]):
    """Draw at once, from a generator of another name."""

    def __init__(self) -> None:
        self.mine = seeded()

    def __iter__(self) -> Iterator[int]:
        """Draw an order."""
        return iter(torch.randperm(SAMPLES, generator=self.mine).tolist())

    def __len__(self) -> int:
        """Return the samples of an epoch."""
        return SAMPLES


class OfNumpy(Eager):
    """Draw from a generator of numpy."""

    def __init__(self) -> None:
        self.numbers = np.random.default_rng(4)

    def __iter__(self) -> Iterator[int]:
        """Draw an order."""
        return iter(self.numbers.permutation(SAMPLES).tolist())


class OfPython(Eager):
    """Draw from a generator of python."""

    def __init__(self) -> None:
        self.numbers = random.Random(4)  # noqa: S311

    def __iter__(self) -> Iterator[int]:
        """Draw an order."""
        return iter(self.numbers.sample(range(SAMPLES), SAMPLES))


class Late(Eager):
    """Draw again and again in the epoch."""

    def __iter__(self) -> Iterator[int]:
        """Draw two by two."""
        for _ in range(SAMPLES // 2):
            yield from torch.randint(SAMPLES, (2,), generator=self.mine).tolist()


class Wrapping(Eager):
    """Give what another sampler gives."""

    def __init__(self, inner: Sampler[int]) -> None:
        self.inner = inner

    def __iter__(self) -> Iterator[int]:
        """Ask it for all at once."""
        return iter(list(self.inner))


class Batched(Sampler[list[int]]):
    """Draw whole batches."""

    def __init__(self) -> None:
        self.mine = seeded()

    def __iter__(self) -> Iterator[list[int]]:
        """Draw an order."""
        return iter(torch.randperm(SAMPLES, generator=self.mine).view(-1, 2).tolist())

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        return SAMPLES // 2


class Stream(IterableDataset[list[torch.Tensor]]):
    """Give samples, each worker its own; neither it nor its iterator has a state."""

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        """Draw where to begin, and go on from there."""
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        order = torch.randperm(SAMPLES, generator=None if info is None else seeded())
        for index in order[first::step].tolist():
            yield [tensor[index] for tensor in dataset().tensors]


class Noisy(Dataset[list[torch.Tensor]]):
    """Draw from torch's, numpy's and python's generators for each sample."""

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        noise = random.gauss(0.0, 1.0) + np.random.rand()  # noqa: NPY002 - as transforms do
        inputs, targets = dataset()[index]
        return [inputs + 0.1 * torch.randn(3) + noise, targets]

    def __len__(self) -> int:
        return SAMPLES


def _prepared(loader: Any) -> Any:
    configuration = DataLoaderConfiguration(use_stateful_dataloader=True)
    return Accelerator(cpu=True, dataloader_config=configuration).prepare(loader)


def _sampled(sampler: Any) -> Callable[[int], Any]:
    return lambda workers: StatefulDataLoader(dataset(), BATCH, sampler=sampler(), num_workers=workers)


def _batched(sampler: Any) -> Callable[[int], Any]:
    return lambda workers: StatefulDataLoader(
        dataset(), batch_sampler=BatchSampler(sampler(), BATCH, drop_last=False), num_workers=workers
    )


LOADERS: dict[str, Callable[[int], Any]] = {
    "torch's": _sampled(lambda: RandomSampler(dataset())),
    "weighted": _sampled(lambda: WeightedRandomSampler([1.0] * SAMPLES, SAMPLES, generator=seeded())),
    "with replacement": _sampled(
        lambda: RandomSampler(dataset(), replacement=True, num_samples=SAMPLES, generator=seeded())
    ),
    "at once": _sampled(Eager),
    "of numpy": _sampled(OfNumpy),
    "of python": _sampled(OfPython),
    "late": _sampled(Late),
    "wrapping": _sampled(lambda: Wrapping(RandomSampler(dataset(), generator=seeded()))),
    "in a batch sampler": _batched(lambda: RandomSampler(dataset(), generator=seeded())),
    "torchdata's in a batch sampler": _batched(lambda: RandomSamplerOfTorchdata(dataset(), generator=seeded())),
    "batches": lambda workers: StatefulDataLoader(dataset(), batch_sampler=Batched(), num_workers=workers),
    "a stream": lambda workers: StatefulDataLoader(Stream(), BATCH, num_workers=workers),
    "workers that stay": lambda workers: StatefulDataLoader(
        dataset(), BATCH, sampler=RandomSampler(dataset()), num_workers=workers, persistent_workers=workers > 0
    ),
    "augmented": lambda workers: StatefulDataLoader(
        SeededDataset(Noisy()), BATCH, sampler=RandomSampler(dataset()), num_workers=workers
    ),
    "augmented by workers that stay": lambda workers: StatefulDataLoader(
        SeededDataset(Noisy()),
        BATCH,
        sampler=RandomSampler(dataset()),
        num_workers=workers,
        persistent_workers=workers > 0,
    ),
    "of Accelerate": lambda workers: _prepared(DataLoader(dataset(), BATCH, shuffle=True, num_workers=workers)),
    "of Accelerate, torchdata's": lambda workers: _prepared(
        _sampled(lambda: RandomSamplerOfTorchdata(dataset(), generator=seeded()))(workers)
    ),
}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", LOADERS)
def test_several_resumes_have_the_samples_and_numbers_of_one_run(name: str, workers: int, tmp_path: Path) -> None:
    """Killed in the first epoch, twice in the second, at its end and in the third; dropout draws in between."""

    def run(url: Path | None, memory: Memory, *hooks: Hook) -> None:
        saver = None if url is None else CheckpointHook(url, by_epoch=False)
        settings: dict[str, Any] = {"loader": LOADERS[name](workers), "scheduler": None, "max_epochs": 3}
        build(saver, trace_into(memory), *hooks, **settings).train()

    expected, memory = Memory(), Memory()
    run(None, expected)
    length = len(expected.lines) // 3
    for stop in (2, length + 2, length + 4, 2 * length, 2 * length + 3):
        with pytest.raises(KilledError):
            run(tmp_path, memory, Events(before_train_iter=kill_at(stop)))
    run(tmp_path, memory)

    assert memory.lines == expected.lines
    assert memory.end == expected.end


def test_a_save_before_the_first_batch_of_an_epoch_has_its_generators() -> None:
    """The sampler has drawn by then, and the next start must not draw again."""

    def epoch(batches: Batches) -> list[Any]:
        found = []
        while isinstance(batch := batches.take(), list):
            found.append(batch[0].tolist())
        batches.finish()
        return found

    batches = Batches(LOADERS["at once"](0))
    batches.begin(0)
    saved, generators = batches.state_dict(), [it.get_state() for it in _generators(batches)]
    expected = [epoch(batches)]
    batches.begin(1)
    expected.append(epoch(batches))

    again = Batches(LOADERS["at once"](0))
    again.load_state_dict(saved)
    for generator, state in zip(_generators(again), generators, strict=True):
        generator.set_state(state)
    again.begin(0)
    found = [epoch(again)]
    again.begin(1)

    assert [*found, epoch(again)] == expected


def _generators(batches: Batches) -> list[Any]:
    return list(generators_of(batches._loader).values())


def test_generators_are_found_by_whatever_name_and_keep_the_names_they_had() -> None:
    """Those called `generator` have the names of their owners, as in older checkpoints."""
    own, inner, mine = seeded(1), seeded(2), seeded(3)
    sampler = Wrapping(RandomSampler(dataset(), generator=inner))
    sampler.mine = mine
    wrapped = StatefulDataLoader(dataset(), BATCH, sampler=sampler, generator=own)
    batched = StatefulDataLoader(
        dataset(), batch_sampler=BatchSampler(RandomSampler(dataset(), generator=inner), BATCH, drop_last=False)
    )
    shared = DataLoader(dataset(), BATCH, shuffle=True, generator=own)

    assert generators_of(wrapped) == {"loader": own, "sampler_inner": inner, "sampler_mine": mine}
    assert generators_of(batched) == {"inner_sampler": inner}
    assert generators_of(shared) == {"loader": own}
    assert generators_of([1, 2]) == {}


def test_a_dataset_inside_others_is_told_the_epoch() -> None:
    """Else its samples would be augmented in the same way in each."""
    first, second = SeededDataset(Noisy()), SeededDataset(Noisy())
    joined: ConcatDataset[Any] = ConcatDataset([Subset(first, [0, 1]), Subset(second, [2])])

    Batches(StatefulDataLoader(joined, BATCH)).begin(3)

    assert (first.epoch, second.epoch) == (3, 3)


def test_a_sampler_inside_a_batch_sampler_is_told_the_epoch() -> None:
    """It would have the order of the first epoch in each."""
    sampler: DistributedSampler[Any] = DistributedSampler(dataset(), num_replicas=1, rank=0)
    loader = StatefulDataLoader(dataset(), batch_sampler=BatchSampler(sampler, BATCH, drop_last=False))

    Batches(loader).begin(3)

    assert sampler.epoch == 3
