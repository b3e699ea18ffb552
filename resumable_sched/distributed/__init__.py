"""Ranks, signals and random numbers of a job."""

from resumable_sched.distributed.metrics import mean_over_ranks
from resumable_sched.distributed.preemption import EXIT_PREEMPTED, PreemptionGuard
from resumable_sched.distributed.ranks import (
    FakeRanks,
    ProcessGroupRanks,
    Ranks,
    SingleProcess,
    current_ranks,
    shared_ranks,
)
from resumable_sched.distributed.rng import RNGState, seed_all
from resumable_sched.distributed.samples import SeededDataset

__all__ = [
    "EXIT_PREEMPTED",
    "FakeRanks",
    "PreemptionGuard",
    "ProcessGroupRanks",
    "RNGState",
    "Ranks",
    "SeededDataset",
    "SingleProcess",
    "current_ranks",
    "mean_over_ranks",
    "seed_all",
    "shared_ranks",
]
