"""What each of several gloo processes does in `test_process_group`; an error ends the process with its traceback."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from resumable_sched import LinearLR, ReduceOnPlateauLR, SchedulerGroup, errors, load_group, save_group
from resumable_sched.checkpoint import CheckpointManager, load
from resumable_sched.distributed import PreemptionGuard, ProcessGroupRanks, RNGState, current_ranks, mean_over_ranks
from resumable_sched.distributed.ranks import from_rank_zero, gather


def ranks_behave() -> None:
    """Do with a real process group what the suite of the fake does."""
    ranks = current_ranks()
    assert isinstance(ranks, ProcessGroupRanks)
    size = ranks.world_size
    for turn in range(20):
        expected = [bytes([rank, 0]) * (turn * rank) for rank in range(size)]
        assert ranks.all_gather(expected[ranks.rank]) == expected
        assert ranks.broadcast(b"%d-%d" % (ranks.rank, turn) * turn) == b"0-%d" % turn * turn
    for flag, answer in ((False, False), (ranks.rank == size - 1, True), (True, True), (ranks.rank == 0, True)):
        assert ranks.start_any(flag).result() == answer

    other = ranks.fork()
    heard: list[list[bytes]] = []

    def talk() -> None:
        heard.extend(other.all_gather(b"other %d %d" % (turn, ranks.rank)) for turn in range(100))

    thread = threading.Thread(target=talk)
    thread.start()
    for turn in range(100):
        assert ranks.all_gather(b"main %d" % turn) == [b"main %d" % turn] * size
        dist.all_reduce(torch.ones(3))  # the training's own collectives go on meanwhile
    thread.join()
    assert heard == [[b"other %d %d" % (turn, rank) for rank in range(size)] for turn in range(100)]

    error = errors.CorruptCheckpointError("file", "reason")
    for call, failing in ((gather, size - 1), (from_rank_zero, 0)):

        def work(failing: int = failing) -> bytes:
            if ranks.rank == failing:
                raise error
            return b""

        with pytest.raises(errors.CorruptCheckpointError) as caught:
            call(ranks, work)
        assert (caught.value.file, caught.value.reason) == ("file", "reason")

    members = list(range(size))[::-1]
    assert ProcessGroupRanks(dist.new_group(members)).all_gather(b"%d" % ranks.rank) == [
        b"%d" % it for it in range(size)
    ]
    with PreemptionGuard() as guard:
        assert [guard.should_stop() for _ in range(3)] == [False] * 3


class _Run:
    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        inner = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(), torch.nn.Linear(8, 1)
        )
        self.model = DistributedDataParallel(inner)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.05)
        torch.manual_seed(100 * seed + dist.get_rank())
        self.state: dict[str, Any] = {"model": self.model, "optimizer": self.optimizer, "rng": RNGState()}

    def train(self, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            loss = self.model(torch.randn(6, 4) + dist.get_rank()).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return losses


def ddp_resumes(root: Path) -> None:
    """Save in the middle, restore into other objects, and get the same losses on every rank."""
    run = _Run(seed=1)
    run.train(3)
    with CheckpointManager(root, run.state) as manager:
        manager.save(3, {"loss": 0.5} if dist.get_rank() == 0 else None)
        expected = run.train(4)

    again = _Run(seed=2)
    again.train(1)
    with CheckpointManager(root, again.state) as manager:
        restored = manager.restore()
        assert restored is not None
        assert (restored.iteration, restored.world_size, dict(restored.metrics)) == (3, 2, {"loss": 0.5})
        assert again.train(4) == expected
        for name, value in run.model.state_dict().items():
            assert torch.equal(value, again.model.state_dict()[name]), name

    plain = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(), torch.nn.Linear(8, 1)
    )
    load(root, {"model": plain}, 3)
    mean = plain[1].running_mean
    assert isinstance(mean, torch.Tensor)
    both = [torch.empty_like(mean) for _ in range(2)]
    dist.all_gather(both, mean)
    assert torch.equal(both[0], both[1])  # rank 0's buffers, on both


def one_shot_calls_share_their_sockets(root: Path) -> None:
    """Load and save a group again and again, and open no more files than the first time."""
    optimizer = torch.optim.SGD(torch.nn.Linear(2, 1).parameters(), lr=0.1)
    group = SchedulerGroup(optimizer, [LinearLR(optimizer, end=9, by_epoch=False)])
    counts = []
    for _ in range(5):
        group.step()
        save_group(root, group)
        assert load_group(root, group).iteration == group.iteration
        counts.append(len(list(Path("/proc/self/fd").iterdir())))
    assert counts[1:] == counts[:1] * 4, counts


def a_metric_is_agreed_on() -> None:
    """Each rank observes its own loss, and all reduce at the same validation."""
    optimizer = torch.optim.SGD(torch.nn.Linear(2, 1).parameters(), lr=0.1)
    schedulers = [ReduceOnPlateauLR(optimizer, patience=0, factor=0.5)]
    group = SchedulerGroup(optimizer, schedulers, agree=mean_over_ranks)
    mine = [(1.0, 0.5), (0.2, 1.4), (0.1, 0.2)]  # better on the first rank, worse on the mean, better on both
    values = []
    for losses in mine:
        group.observe({"loss": losses[dist.get_rank()], "other": "not a number"})
        values += group.values()["lr"]
    assert values == [0.1, 0.05, 0.05], values
    assert mean_over_ranks({"a": 0.1}) == {"a": 0.1}


def a_schedule_that_differs_is_noticed(root: Path) -> None:
    """A rank whose metrics were others has another learning rate, which a save refuses."""
    optimizer = torch.optim.SGD(torch.nn.Linear(2, 1).parameters(), lr=0.1)
    group = SchedulerGroup(optimizer, [ReduceOnPlateauLR(optimizer, patience=0, factor=0.5)])
    for loss in (1.0, 1.0 + dist.get_rank() - 0.5):
        group.observe({"loss": loss})
    with CheckpointManager(root, {"schedule": group}) as manager, pytest.raises(errors.RankError, match="schedule"):
        manager.save(0, block=True)


def another_default_device_changes_nothing() -> None:
    """Exchange messages where new tensors are elsewhere, as with ``torch.set_default_device("cuda")``."""
    ranks = current_ranks()
    torch.set_default_device("meta")
    try:
        assert ranks.all_gather(b"%d" % ranks.rank) == [b"0", b"1"]
        assert ranks.broadcast(b"%d" % ranks.rank) == b"0"
        assert ranks.start_any(ranks.rank == 1).result()
    finally:
        torch.set_default_device(None)


def main() -> None:
    """Join the group that the environment describes, and run everything."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}/store", rank=int(sys.argv[2]), world_size=2)
    ranks_behave()
    ddp_resumes(Path(sys.argv[1]) / "run")
    one_shot_calls_share_their_sockets(Path(sys.argv[1]) / "group")
    a_metric_is_agreed_on()
    a_schedule_that_differs_is_noticed(Path(sys.argv[1]) / "differs")
    another_default_device_changes_nothing()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
