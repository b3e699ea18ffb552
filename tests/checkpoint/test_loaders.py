"""A loader goes on with the samples that follow, or its save is refused: in a training loop of one's own."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    Sampler,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
    get_worker_info,
)
from torchdata.nodes import IterableWrapper, Loader
from torchdata.stateful_dataloader import StatefulDataLoader
from torchdata.stateful_dataloader.sampler import RandomSampler, StatefulDistributedSampler

from resumable_sched import CheckpointManager, RNGState, SchedulerGroup, StepLR
from resumable_sched.errors import UnstorableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata, on torch 2.13

SAMPLES = 12
BATCH = 2  # 6 batches in an epoch
DATASET = TensorDataset(torch.arange(SAMPLES))


def seeded(seed: int = 1) -> torch.Generator:
    """Return a generator of its own."""
    return torch.Generator().manual_seed(seed)


class Shuffled(Sampler[int]):
    """Draw at once from a generator, and have no state, as many samplers of users do."""

    def __init__(self) -> None:
        self.generator = seeded()

    def __iter__(self) -> Iterator[int]:
        """Draw an order."""
        return iter(torch.randperm(SAMPLES, generator=self.generator).tolist())

    def __len__(self) -> int:
        """Return the samples of an epoch."""
        return SAMPLES


class ByEpoch(Sampler[int]):
    """Have an order that follows from the epoch."""

    def __init__(self) -> None:
        self.epoch = 0

    def __iter__(self) -> Iterator[int]:
        """Return that of the epoch."""
        return iter(torch.randperm(SAMPLES, generator=seeded(self.epoch)).tolist())

    def __len__(self) -> int:
        """Return the samples of an epoch."""
        return SAMPLES

    def set_epoch(self, epoch: int) -> None:
        """Take the order of *epoch*."""
        self.epoch = epoch


class Reseeded(Shuffled):
    """Draw from a generator that is seeded with the epoch: a second iterator has another order."""

    def set_epoch(self, epoch: int) -> None:
        """Draw that of *epoch*."""
        self.generator.manual_seed(epoch)


class WithState(Shuffled):
    """Say which samples are left."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[int] = []
        self.loaded = False

    def __iter__(self) -> Iterator[int]:
        """Go on where the state says, or draw an order."""
        if not self.loaded:
            self.left = torch.randperm(SAMPLES, generator=self.generator).tolist()
        self.loaded = False
        while self.left:
            yield self.left.pop(0)

    def state_dict(self) -> dict[str, Any]:
        """Return what is left."""
        return {"left": list(self.left), "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on there."""
        self.left = list(state["left"])
        self.generator.set_state(state["generator"])
        self.loaded = True


class Stream(IterableDataset[int]):
    """Give numbers, each worker its own, and have no state."""

    def __iter__(self) -> Iterator[int]:
        """Return an iterator without a state."""
        info = get_worker_info()
        yield from range(SAMPLES) if info is None else range(info.id, SAMPLES, info.num_workers)


class Numbers:
    """An iterator that can say where it is."""

    def __init__(self) -> None:
        info = get_worker_info()
        self.next, self.step = (0, 1) if info is None else (info.id, info.num_workers)

    def __iter__(self) -> Numbers:
        """Return itself."""
        return self

    def __next__(self) -> int:
        """Return the next number."""
        if self.next >= SAMPLES:
            raise StopIteration
        self.next += self.step
        return self.next - self.step

    def state_dict(self) -> dict[str, int]:
        """Return the next number."""
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on there."""
        self.next = state["next"]


class StreamWithState(Stream):
    """Give the same numbers, from an iterator with a state."""

    def __iter__(self) -> Iterator[int]:
        """Return the iterator."""
        return Numbers()


def built(dataset: Any = DATASET, workers: int = 0, **settings: Any) -> StatefulDataLoader[Any]:
    """Return a loader with a generator of its own."""
    batch_size = 1 if "batch_sampler" in settings else BATCH
    return StatefulDataLoader(dataset, batch_size, num_workers=workers, generator=torch.Generator(), **settings)


def _batched(sampler: Any) -> dict[str, Any]:
    return {"batch_sampler": BatchSampler(sampler, BATCH, drop_last=False)}


def _by_rank(kind: Any = DistributedSampler) -> Any:
    return kind(DATASET, num_replicas=1, rank=0)


KNOWN: dict[str, Callable[[int], Any]] = {
    "no sampler": lambda workers: built(workers=workers),
    "torchdata's": lambda workers: built(workers=workers, sampler=RandomSampler(DATASET, generator=seeded())),
    "by rank": lambda workers: built(workers=workers, sampler=_by_rank()),
    "by rank, with a state": lambda workers: built(workers=workers, sampler=_by_rank(StatefulDistributedSampler)),
    "in order, in a batch sampler": lambda workers: built(workers=workers, **_batched(SequentialSampler(DATASET))),
    "by rank, in a batch sampler": lambda workers: built(workers=workers, **_batched(_by_rank())),
    "by epoch": lambda workers: built(workers=workers, sampler=ByEpoch()),
    "with a state": lambda workers: built(workers=workers, sampler=WithState()),
    "a list": lambda workers: built(workers=workers, sampler=[3, 1, 4, 0, 5, 9, 2, 6]),
    "a stream with a state": lambda workers: built(StreamWithState(), workers),
}
DRAWING: dict[str, tuple[Callable[[int], Any], str]] = {
    "RandomSampler of torch": (
        lambda workers: built(workers=workers, sampler=torch.utils.data.RandomSampler(DATASET, generator=seeded())),
        "with the RandomSampler of torch, which",
    ),
    "WeightedRandomSampler": (
        lambda workers: built(
            workers=workers, sampler=WeightedRandomSampler([1.0] * SAMPLES, SAMPLES, generator=seeded())
        ),
        "with the WeightedRandomSampler of torch, which",
    ),
    "own, by epoch": (lambda workers: built(workers=workers, sampler=Reseeded()), "with the Reseeded, which"),
    "own": (lambda workers: built(workers=workers, sampler=Shuffled()), "with the Shuffled, which"),
    "torchdata's, in a batch sampler": (
        lambda workers: built(workers=workers, **_batched(RandomSampler(DATASET, generator=seeded()))),
        "with the RandomSampler of torchdata in the BatchSampler of torch, which",
    ),
    "prepared by Accelerate": (
        lambda workers: Accelerator(
            cpu=True, dataloader_config=DataLoaderConfiguration(use_stateful_dataloader=True)
        ).prepare(DataLoader(DATASET, BATCH, sampler=RandomSampler(DATASET, generator=seeded()), num_workers=workers)),
        "with the RandomSampler of torchdata in the BatchSampler of torch in a loader that Accelerate has prepared,",
    ),
    "a stream": (lambda workers: built(Stream(), workers), "with the iterable Stream, which has no state"),
}


class Training:
    """A training loop that is started again and again; it notes the samples of each update."""

    def __init__(self, url: Path, build: Callable[[int], Any], workers: int = 0) -> None:
        self._url, self._build, self._workers = url, build, workers
        self.seen: list[list[int]] = []

    def start(self, until: tuple[int, int], epochs: int = 3) -> None:
        """Go on from the newest checkpoint until so many (epochs, updates in the epoch) are done, and save there."""
        parameter = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([parameter], lr=0.1)
        group = SchedulerGroup(optimizer, [StepLR(optimizer, 1)])
        loader = self._build(self._workers)
        samplers = (loader.sampler, getattr(loader.batch_sampler, "sampler", None))
        own = {it for each in samplers if isinstance(it := getattr(each, "generator", None), torch.Generator)}
        rng = RNGState(**{f"sampler_{number}": each for number, each in enumerate(own)})
        with CheckpointManager(self._url, {"loader": loader, "group": group, "rng": rng}) as manager:
            manager.restore()
            while group.epoch < epochs:
                for each in samplers:
                    if callable(set_epoch := getattr(each, "set_epoch", None)):
                        set_epoch(group.epoch)
                for batch in loader:
                    self.seen.append((batch[0] if isinstance(batch, (list, tuple)) else batch).tolist())
                    optimizer.step()
                    group.step()
                    if (group.epoch, group.iteration_in_epoch) == until:
                        manager.save(group.iteration, block=True)
                        return
                group.step_epoch()
                if (group.epoch, 0) == until:
                    manager.save(group.iteration, block=True)
                    return

    def samples(self, *stops: tuple[int, int]) -> list[list[int]]:
        """Train to the end with these stops, and return the samples of each update."""
        for stop in (*stops, (99, 0)):
            self.start(stop)
        return self.seen


MANY_STOPS: Sequence[tuple[int, int]] = [(0, 2), (0, 3), (0, 4), (1, 0), (1, 1), (1, 3), (2, 0), (2, 2)]


@pytest.mark.parametrize("name", KNOWN)
def test_where_the_samples_are_known_they_are_the_same_after_every_resume(name: str, tmp_path: Path) -> None:
    """Eight resumes, in the middle of epochs and between them."""
    undisturbed = Training(tmp_path / "whole", KNOWN[name]).samples()

    assert Training(tmp_path / "broken", KNOWN[name]).samples(*MANY_STOPS) == undisturbed


@pytest.mark.parametrize("name", ["torchdata's", "by rank, with a state", "with a state", "a stream with a state"])
def test_where_the_samples_are_known_workers_change_nothing(name: str, tmp_path: Path) -> None:
    """Samples that were fetched ahead are fetched again."""
    undisturbed = Training(tmp_path / "whole", KNOWN[name], 2).samples()

    assert Training(tmp_path / "broken", KNOWN[name], 2).samples((0, 3), (1, 0), (1, 2)) == undisturbed


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", DRAWING)
def test_what_would_go_on_with_other_samples_is_refused_in_mid_epoch_and_right_between(
    name: str, workers: int, tmp_path: Path
) -> None:
    """The error names what has no state; saves between epochs stay, and the next epoch is drawn once."""
    build, text = DRAWING[name]
    with pytest.raises(ValueError, match=rf"must not be saved in the middle of an epoch {text}.* save between epochs"):
        Training(tmp_path / "refused", build, workers).start((1, 2))
    undisturbed = Training(tmp_path / "whole", build, workers).samples()

    assert Training(tmp_path / "broken", build, workers).samples((1, 0), (2, 0)) == undisturbed


class Kept:
    """Save a generator as users do who have no RNGState."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def state_dict(self) -> dict[str, Any]:
        """Return where it is."""
        return {"state": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on there."""
        self._generator.set_state(state["state"])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_restore_between_epochs_draws_nothing(workers: int, tmp_path: Path) -> None:
    """A generator that was restored before the loader shuffles the next epoch as it would have."""

    def epochs(count: int, url: Path) -> list[Any]:
        sampler = Shuffled()
        loader = built(workers=workers, sampler=sampler)
        state = {"own": Kept(sampler.generator), "loader": loader}
        with CheckpointManager(url, state, require_rng=False) as manager:
            manager.restore()
            found = [[batch.tolist() for (batch,) in loader] for _ in range(count)]
            manager.save(1, block=True)
        return found

    broken = [*epochs(1, tmp_path / "broken"), *epochs(2, tmp_path / "broken")]

    assert broken == epochs(3, tmp_path / "whole")


def test_a_save_after_the_sampler_has_begun_to_draw_is_one_in_mid_epoch(tmp_path: Path) -> None:
    """The generator is elsewhere then, although no batch was given; before it begins, a save makes no iterator."""
    sampler = Shuffled()
    loader = built(sampler=sampler)
    with CheckpointManager(tmp_path, {"loader": loader, "rng": RNGState(own=sampler.generator)}) as manager:
        manager.save(0, block=True)
        drawn = sampler.generator.get_state()
        batches = iter(loader)
        with pytest.raises(ValueError, match="in the middle of an epoch with the Shuffled"):
            manager.save(0)
        list(batches)
        manager.save(6, block=True)

    assert torch.equal(drawn, seeded().get_state())


def test_a_generator_that_shuffles_and_is_not_saved_is_not_silent(tmp_path: Path) -> None:
    """After each resume the orders of the first epochs would come again; torchdata's sampler saves its own."""
    sampler = torch.utils.data.RandomSampler(DATASET, generator=seeded())
    loader = built(sampler=sampler)
    text = r'an RNGState with the generator of the RandomSampler in "loader", but has none'

    with pytest.warns(UserWarning, match=text):
        CheckpointManager(tmp_path, {"loader": loader, "rng": RNGState(other=seeded())}).close()
    with pytest.raises(ValueError, match=text):
        CheckpointManager(tmp_path, {"loader": built(**_batched(sampler))}, require_rng=True)

    CheckpointManager(tmp_path, {"loader": loader}, require_rng=False).close()
    CheckpointManager(tmp_path, {"loader": loader, "rng": RNGState(shuffle=sampler.generator)}).close()
    for build in KNOWN.values():
        CheckpointManager(tmp_path, {"loader": build(0)}).close()


def shuffled(*, shared: bool) -> tuple[Any, dict[str, Any]]:
    """Build a loader that shuffles, and a state with it."""
    dataset = TensorDataset(torch.arange(20.0))
    generator = torch.Generator().manual_seed(1)
    if shared:
        loader: Any = StatefulDataLoader(dataset, 4, shuffle=True, generator=generator)
    else:
        sampler = RandomSampler(dataset, generator=generator)
        loader = StatefulDataLoader(dataset, 4, sampler=sampler, generator=torch.Generator().manual_seed(2))
    return loader, {"loader": loader, "rng": RNGState()}


def test_a_loader_that_shares_the_generator_of_its_sampler_is_refused(tmp_path: Path) -> None:
    """Torchdata draws in another order after a resume, so the next epochs would be others."""
    with CheckpointManager(tmp_path, shuffled(shared=True)[1]) as manager:  # noqa: SIM117
        with pytest.raises(ValueError, match=r'state\["loader"\] must not draw from the generator of its sampler'):
            manager.save(1)


@pytest.mark.parametrize("stop", range(1, 11))
def test_a_loader_with_two_generators_gives_the_same_batches_for_ever(tmp_path: Path, stop: int) -> None:
    """Stopped after any batch, the rest of the epoch and the next two are those of an undisturbed run."""

    def batches(loader: Any) -> Any:
        while True:
            for (batch,) in loader:
                yield batch.tolist(), torch.rand(()).item()

    torch.manual_seed(0)
    undisturbed = list(itertools.islice(batches(shuffled(shared=False)[0]), 20))
    torch.manual_seed(0)
    loader, state = shuffled(shared=False)
    list(itertools.islice(batches(loader), stop))
    with CheckpointManager(tmp_path, state) as manager:
        manager.save(stop)
    torch.rand(7)

    loader, state = shuffled(shared=False)
    with CheckpointManager(tmp_path, state) as manager:
        manager.restore()

    assert list(itertools.islice(batches(loader), 20 - stop)) == undisturbed[stop:]


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_save_before_the_next_batch_changes_no_batch(tmp_path: Path, stop: int) -> None:
    """A run that was restored and saves at once, before its sampler was told the epoch, has what was saved before."""

    def build() -> tuple[StatefulDataLoader[Any], dict[str, Any]]:
        dataset = TensorDataset(torch.arange(24))
        sampler: Any = DistributedSampler(dataset, num_replicas=1, rank=0)
        loader = StatefulDataLoader(dataset, 4, sampler=sampler)
        return loader, {"loader": loader, "rng": RNGState()}

    def batches(loader: StatefulDataLoader[Any], epoch: int) -> list[Any]:
        loader.sampler.set_epoch(epoch)
        return [batch.tolist() for (batch,) in loader]

    undisturbed = batches(build()[0], 1)
    loader, state = build()
    loader.sampler.set_epoch(1)
    list(itertools.islice(loader, stop))
    with CheckpointManager(tmp_path, state) as manager:
        manager.save(stop)

    for _ in range(2):
        loader, state = build()
        with CheckpointManager(tmp_path, state) as manager:
            manager.restore()
            drawn = torch.get_rng_state()
            manager.save(stop)
            assert torch.equal(torch.get_rng_state(), drawn)

    assert batches(loader, 1) == undisturbed[stop:]


def test_a_loader_that_begins_again_by_itself_is_refused(tmp_path: Path) -> None:
    """Saved after its last batch it would give the epoch once more."""
    loader = Loader(IterableWrapper(range(4)))
    with CheckpointManager(tmp_path, {"loader": loader}) as manager:  # noqa: SIM117
        with pytest.raises(ValueError, match="must be built with restart_on_stop_iteration=False"):
            manager.save(1)


def test_a_plain_loader_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """A loader without state cannot go on in mid-epoch."""
    with CheckpointManager(tmp_path, {"loader": DataLoader(TensorDataset(torch.zeros(3)))}) as manager:  # noqa: SIM117
        with pytest.raises(UnstorableError, match=r"use torchdata\.stateful_dataloader\.StatefulDataLoader"):
            manager.save(1)
