"""A `Runner` on two gloo ranks: one schedule, one metric, one stop, and the same bits after a resume."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from resumable_sched import Runner
from resumable_sched.distributed import EXIT_PREEMPTED, seed_all
from resumable_sched.testing import digest
from resumable_sched.training import CheckpointHook, Hook, TraceHook

if TYPE_CHECKING:
    from pathlib import Path

    from resumable_sched.training import Run, Update

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata, on torch 2.13

WORLD_SIZE = 2


class Memory:
    """Record in memory what a `Recorder` writes."""

    def __init__(self) -> None:
        self.lines: dict[int, dict[str, Any]] = {}

    def record(self, iteration: int, **facts: Any) -> None:
        """Remember an update."""
        self.lines[iteration] = facts

    def record_end(self, **facts: Any) -> None:
        """Forget it."""


class SignalAt(Hook):
    """Tell one rank to stop, as a machine that is taken away does."""

    def __init__(self, iteration: int, rank: int) -> None:
        self._iteration = iteration
        self._rank = rank

    def after_train_iter(self, runner: Run, update: Update) -> None:
        """Send the signal."""
        del update
        if (runner.iteration, runner.ranks.rank) == (self._iteration, self._rank):
            os.kill(os.getpid(), signal.SIGTERM)


def facts(runner: Run) -> dict[str, Any]:
    """Say what must be the same."""
    return {"parameters": digest(runner.model.parameters()), "samples": runner.group.samples}


def build(memory: Memory, url: str | None, *hooks: Hook, accumulate: int = 3) -> Runner:
    """Build a training of 4 epochs of 8 batches, so of 3 updates, of which the last has 2 batches."""
    rank = dist.get_rank()
    seed_all(10 + rank)
    inputs = torch.randn(8 * 4 * WORLD_SIZE, 6, generator=torch.Generator().manual_seed(1))
    dataset = TensorDataset(inputs, inputs.sum(1, keepdim=True).sin())
    sampler: DistributedSampler[Any] = DistributedSampler(dataset, shuffle=True)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.4), nn.Tanh(), nn.Linear(16, 1)))
    return Runner(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        StatefulDataLoader(dataset, 4, sampler=sampler),
        scheduler=[
            {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "end": 5},
            {"type": "ReduceOnPlateauLR", "monitor": "loss", "patience": 0, "threshold": 1.0},
        ],
        max_epochs=4,
        train_step=lambda net, batch: nn.functional.mse_loss(net(batch[0]), batch[1]),
        # Each rank validates on other samples, and on another number of them.
        val_dataloader=DataLoader(TensorDataset(*dataset[rank * 5 : 20 + rank * 9]), 4),
        val_step=lambda net, batch: {
            "loss": nn.functional.mse_loss(net(batch[0]), batch[1]),
            "rank": rank,
            "samples": len(batch[0]),
        },
        checkpoint=None if url is None else CheckpointHook(url, by_epoch=False),
        accumulate=accumulate,
        hooks=[TraceHook(memory, facts), *hooks],
    )


def worker(rank: int, folder: str) -> None:
    """Train once undisturbed, then stop at several places and go on, and compare."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD_SIZE)
    expected = Memory()
    undisturbed = build(expected, None)
    undisturbed.train()
    assert (undisturbed.iteration, undisturbed.group.samples) == (12, 4 * 8 * 4 * WORLD_SIZE)
    assert undisturbed.metrics["rank"] == 24 / (20 + 24)
    ends = [(line["parameters"], line["values"]) for line in expected.lines.values()]
    everybodys: list[Any] = [None] * WORLD_SIZE
    dist.all_gather_object(everybodys, ends)
    assert everybodys[0] == everybodys[1]

    for stop in (1, 2, 5, 8):  # in the middle of the warm-up, before the end of an epoch and its validation
        memory, url = Memory(), f"{folder}/{stop}"
        try:
            build(memory, url, SignalAt(stop, rank=stop % 2)).train()
        except SystemExit as end:
            assert end.code == EXIT_PREEMPTED  # noqa: PT017 - all of it runs in a process of its own
        else:
            raise AssertionError("it was not stopped")
        done = max(memory.lines)
        assert done in (stop, stop + 1)
        torch.rand(11)

        resumed = build(memory, url)
        resumed.train()

        assert min(memory.lines) == 1
        assert memory.lines == expected.lines, f"stopped at {stop}"
        assert resumed.metrics == undisturbed.metrics
        assert resumed.group.state_dict() == undisturbed.group.state_dict()
    dist.barrier()
    dist.destroy_process_group()


def test_two_ranks_stop_together_and_go_on_with_the_same_bits(tmp_path: Path) -> None:
    """A signal to one rank stops both; losses, values and parameters of each later update are the same."""
    spawn(worker, (str(tmp_path),), nprocs=WORLD_SIZE)  # type: ignore[no-untyped-call]
