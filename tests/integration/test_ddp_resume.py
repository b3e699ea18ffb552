"""Two gloo ranks, stopped at every kind of place and started again, end with the same parameters bit for bit."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from resumable_sched import (
    CheckpointManager,
    CosineAnnealingLR,
    LinearLR,
    MultiStepMomentum,
    RNGState,
    SchedulerGroup,
)
from resumable_sched.distributed import seed_all

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata, on torch 2.13

WORLD_SIZE = 2
EPOCHS = 4
EPOCH_LENGTH = 7
STOPS = {
    "in the middle of the warm-up": 3,
    "in the middle of the cosine": 17,
    "at an epoch boundary": 14,
    "after the last batch of an epoch, before its end is counted": 21,
    "in mid-epoch": 10,
}


class Run:
    """All that a training is made of, built from nothing."""

    def __init__(self) -> None:
        seed_all(10 + dist.get_rank())
        inputs = torch.randn(EPOCH_LENGTH * 4 * WORLD_SIZE, 6, generator=torch.Generator().manual_seed(1))
        dataset = TensorDataset(inputs, inputs.sum(1, keepdim=True).sin())
        self.sampler: DistributedSampler[Any] = DistributedSampler(dataset, shuffle=True)
        self.loader = StatefulDataLoader(dataset, 4, sampler=self.sampler, generator=torch.Generator())
        net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Dropout(0.4), nn.ReLU(), nn.Linear(16, 1))
        self.model = DistributedDataParallel(net)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        schedulers = [
            LinearLR(self.optimizer, start_factor=0.1, end=EPOCH_LENGTH, by_epoch=False),
            CosineAnnealingLR.build_iter_from_epoch(
                self.optimizer, T_max=EPOCHS - 1, begin=1, end=EPOCHS, epoch_length=EPOCH_LENGTH
            ),
            MultiStepMomentum(self.optimizer, milestones=[1, 3], gamma=0.9),
        ]
        self.group = SchedulerGroup(self.optimizer, schedulers, epoch_length=EPOCH_LENGTH, max_epochs=EPOCHS)
        self.state = {
            "model": self.model,
            "optimizer": self.optimizer,
            "schedule": self.group,
            "rng": RNGState(),
            "loader": self.loader,
        }

    def train(self, until: int, save_to: CheckpointManager | None = None) -> None:
        """Go on until *until* updates are done, then save; a stop at the end of an epoch has counted it if it is 14."""
        while self.group.epoch < EPOCHS:
            self.sampler.set_epoch(self.group.epoch)
            for inputs, targets in self.loader:
                loss = nn.functional.mse_loss(self.model(inputs), targets)
                self.optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                self.optimizer.step()
                self.group.step(samples=len(inputs) * WORLD_SIZE)
                if self.group.iteration == until and until != STOPS["at an epoch boundary"]:
                    break
            else:
                self.group.step_epoch()
            if self.group.iteration == until:
                break
        if save_to is not None:
            save_to.save(self.group.iteration, block=True)


def worker(rank: int, folder: str) -> None:
    """Train once undisturbed, then once for each stop, and compare."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD_SIZE)
    undisturbed = Run()
    undisturbed.train(EPOCHS * EPOCH_LENGTH + 1)
    draws = torch.rand(3)
    for (place, stop), asynchronous in itertools.product(STOPS.items(), (True, False)):
        url = f"{folder}/{stop}-{asynchronous}"
        first = Run()
        with CheckpointManager(url, first.state, asynchronous=asynchronous) as manager:
            assert manager.restore() is None
            first.train(stop, manager)
        del first
        torch.rand(17)

        second = Run()
        with CheckpointManager(url, second.state, asynchronous=asynchronous) as manager:
            restored = manager.restore()
        assert restored is not None
        assert restored.iteration == second.group.iteration == stop
        second.train(EPOCHS * EPOCH_LENGTH + 1)

        torch.testing.assert_close(torch.rand(3), draws, rtol=0, atol=0, msg=f"generators, stopped {place}")
        for name, expected in undisturbed.model.state_dict().items():
            actual = second.model.state_dict()[name]
            torch.testing.assert_close(actual, expected, rtol=0, atol=0, msg=f"{name}, stopped {place}, rank {rank}")
        assert second.group.state_dict() == undisturbed.group.state_dict()
    dist.barrier()
    dist.destroy_process_group()


def test_parameters_equal_the_uninterrupted_runs_wherever_it_was_stopped(tmp_path: Path) -> None:
    """Parameters, buffers, generators and schedule are the same bits in warm-up, cosine, mid-epoch, at a boundary."""
    spawn(worker, (str(tmp_path),), nprocs=WORLD_SIZE)  # type: ignore[no-untyped-call]
