"""Accelerate calls a schedule once per process and update; a group counts each completed update once all the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch.multiprocessing.spawn import spawn

from resumable_sched import CosineAnnealingLR, LinearLR, LinearMomentum, SchedulerGroup
from resumable_sched.integrations.torch_lr_scheduler import as_torch_lr_scheduler

if TYPE_CHECKING:
    from collections.abc import Iterator

UPDATES = 12
ACCUMULATE = 2
OVERFLOW = (3, 4, 9)
"""The tries of an update whose gradients are inf, where there is a scaler."""


@pytest.fixture(autouse=True)
def _forget_the_accelerator() -> Iterator[None]:
    """Accelerate keeps what it found out about the machine in shared state."""
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


class Run:
    """All that a training is made of, built from nothing.

    Args:
        scaler: Scale gradients as for float16, and let some updates overflow.
    """

    def __init__(self, *, scaler: bool = False) -> None:
        torch.manual_seed(0)
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=ACCUMULATE)
        if scaler:
            self.accelerator.scaler = torch.amp.GradScaler("cpu")  # by itself it has one on accelerators only
        self.scaler = scaler
        model = torch.nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        schedulers = [
            LinearLR(optimizer, start_factor=0.1, end=5, by_epoch=False),
            CosineAnnealingLR(optimizer, 3, begin=1, by_epoch=True),
            LinearMomentum(optimizer, 0.5, end=10, by_epoch=False),
        ]
        self.group = SchedulerGroup(optimizer, schedulers, epoch_length=4)
        self.model, self.optimizer, self.scheduler = self.accelerator.prepare(
            model, optimizer, as_torch_lr_scheduler(self.group)
        )
        self.values: list[tuple[int, float, float]] = []

    def train(self, first: int, last: int) -> None:
        """Try the updates from *first* on, as Accelerate's guide does."""
        for batch in range(first * ACCUMULATE, last * ACCUMULATE):
            inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(batch))
            if self.scaler and batch // ACCUMULATE in OVERFLOW:
                inputs = inputs * torch.inf
            with self.accelerator.accumulate(self.model):
                self.accelerator.backward(self.model(inputs).square().mean())
                self.optimizer.step()
                self.scheduler.step()
                self.optimizer.zero_grad()
            if self.accelerator.sync_gradients:
                group: Any = self.optimizer.param_groups[0]
                self.values.append((self.group.iteration, group["lr"], group["momentum"]))


def check(folder: Path, *, scaler: bool = False) -> None:
    """Train, save in the middle, load into a new run, and compare with what the group says in advance."""
    run = Run(scaler=scaler)
    trace = run.group.trace(UPDATES + 1).values
    run.train(0, UPDATES)

    expected = UPDATES - scaler * len(OVERFLOW)
    assert run.group.iteration == expected
    assert run.group.epoch == expected // 4
    for iteration, lr, momentum in run.values:
        assert (lr, momentum) == (trace["lr"][0][iteration], trace["momentum"][0][iteration])

    for stop in (2, 5, 8):
        first = Run(scaler=scaler)
        first.train(0, stop)
        first.accelerator.save_state(str(folder / str(stop)))
        second = Run(scaler=scaler)
        second.accelerator.load_state(str(folder / str(stop)))
        second.train(stop, UPDATES)
        assert [*first.values, *second.values] == run.values


@pytest.mark.parametrize("scaler", [False, True], ids=["all updates", "some updates skipped"])
def test_an_iteration_is_a_completed_update(tmp_path: Path, *, scaler: bool) -> None:
    """With accumulated gradients, and where a scaler has skipped updates; also after its own save and load."""
    check(tmp_path, scaler=scaler)


def worker(rank: int, folder: str) -> None:
    """Be one of two processes, for each of which Accelerate calls the schedule."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "1"}  # asked for, and not used: the group is there
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    check(Path(folder))
    assert AcceleratorState().num_processes == 2
    assert not Run().scheduler.split_batches
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_count_an_update_once(tmp_path: Path) -> None:
    """Accelerate calls `step` twice for each update there, to make up for a larger batch; the second counts nothing."""
    spawn(worker, (str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call]
