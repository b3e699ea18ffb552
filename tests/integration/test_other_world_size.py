"""On another number of ranks the schedule goes on in sample space, exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from resumable_sched import CheckpointManager, CosineAnnealingLR, LinearLR, RNGState, SchedulerGroup, share
from resumable_sched.distributed import FakeRanks

if TYPE_CHECKING:
    from pathlib import Path

BATCH = 16  # samples of each rank in an update


def build() -> tuple[dict[str, Any], SchedulerGroup]:
    """Return what a checkpoint holds, and the schedules in it, as a process that starts would."""
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
    schedulers = [
        LinearLR(optimizer, start_factor=0.01, unit="sample", end=share(0.1)),
        CosineAnnealingLR(optimizer, unit="sample", begin=share(0.1), end=share(1)),
    ]
    group = SchedulerGroup(optimizer, schedulers, max_samples=4_000)
    return {"model": model, "optimizer": optimizer, "schedule": group, "rng": RNGState()}, group


def test_the_curve_over_samples_is_the_same_on_any_number_of_ranks(tmp_path: Path) -> None:
    """Four ranks, then two, then one: every value is that of a run on one rank at the same number of samples."""
    _, alone = build()
    expected = {}
    while alone.samples < 4_000:
        expected[alone.samples] = alone.values()["lr"]
        alone.step(samples=BATCH)

    def train(ranks: FakeRanks) -> dict[int, list[float]]:
        state, group = build()
        rates = {}
        with CheckpointManager(tmp_path, state, process_group=ranks) as manager:
            restored = manager.restore(only=["model", "optimizer", "schedule"])
            assert (restored is None) == (ranks.world_size == 4)
            for _ in range(20):
                rates[group.samples] = group.values()["lr"]
                group.step(samples=BATCH * ranks.world_size)
            manager.save(group.iteration, block=True)
        return rates

    seen: dict[int, list[float]] = {}
    for world_size in (4, 2, 1):
        outcomes = FakeRanks.run(world_size, train)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            seen |= outcome

    assert len(seen) == 60
    assert max(seen) == 20 * BATCH * (4 + 2 + 1) - BATCH
    assert seen == {samples: expected[samples] for samples in seen}
