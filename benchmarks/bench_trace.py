"""What a preview costs: a trace of a million iterations, a plain loop over the closed form, and stepping.

python benchmarks/bench_trace.py
"""

from __future__ import annotations

import math
import time
import warnings
from typing import TYPE_CHECKING

import mmengine.optim as mm
import torch

from resumable_sched import CosineAnnealingLR, LinearLR, SchedulerGroup

if TYPE_CHECKING:
    from collections.abc import Callable

ITERATIONS = 10**6
WARM_UP = 10**4


def sgd() -> torch.optim.Optimizer:
    """Build an optimizer with one group."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    optimizer.step()
    return optimizer


def seconds(work: Callable[[], object], rounds: int = 3) -> float:
    """Return the best time of several rounds."""
    best = math.inf
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


def build(end: int = ITERATIONS) -> SchedulerGroup:
    """Build warm-up and cosine."""
    optimizer = sgd()
    schedulers = [
        LinearLR(optimizer, start_factor=0.01, end=WARM_UP, by_epoch=False),
        CosineAnnealingLR(optimizer, T_max=end - WARM_UP, begin=WARM_UP, end=end, by_epoch=False),
    ]
    return SchedulerGroup(optimizer, schedulers)


def closed_form(t: int) -> float:
    """Return the learning rate after *t* updates, as one would write it by hand."""
    if t < WARM_UP:
        return 0.1 * (0.01 + 0.99 * t / (WARM_UP - 1))
    return 0.1 * (1 + math.cos(math.pi * (t - WARM_UP) / (ITERATIONS - WARM_UP))) / 2


def main() -> None:
    """Measure and print a table."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    floor = seconds(lambda: [closed_form(t) for t in range(ITERATIONS)])
    group = build()
    far = build(10**9)

    def step_peer() -> None:
        optimizer = sgd()
        schedulers = [
            mm.LinearLR(optimizer, start_factor=0.01, end=WARM_UP, by_epoch=False),
            mm.CosineAnnealingLR(optimizer, T_max=ITERATIONS - WARM_UP, begin=WARM_UP, by_epoch=False),
        ]
        for _ in range(ITERATIONS // 10):
            for scheduler in schedulers:
                scheduler.step()

    def step_ours() -> None:
        stepped = build()
        for _ in range(ITERATIONS // 10):
            stepped.step()

    rows = {
        "plain loop over the closed form, 10^6": floor,
        "group.trace(10**6)": seconds(lambda: group.trace(ITERATIONS)),
        "group.step(), 10^6 (measured: 10^5)": seconds(step_ours) * 10,
        "MMEngine, stepped, 10^6 (measured: 10^5)": seconds(step_peer, rounds=1) * 10,
        "group.trace(range(0, 10**9, 10**5)): 10^4 points": seconds(lambda: far.trace(range(0, 10**9, 10**5))),
    }
    for name, duration in rows.items():
        print(f"{name:52} {duration * 1e3:10.1f} ms {duration / floor:8.2f} x the plain loop")


if __name__ == "__main__":
    main()
