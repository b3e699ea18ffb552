"""What a step of a schedule costs: ours, which detects foreign writes, the peers' and the floor, in one process.

python benchmarks/bench_step.py        (needs `pip install pytorch-ignite` beside the test extra)
"""

from __future__ import annotations

import math
import time
import warnings
from typing import TYPE_CHECKING, Any

import mmengine.optim as mm
import torch
from ignite.handlers.param_scheduler import CosineAnnealingScheduler

from resumable_sched import CosineAnnealingLR, LinearLR, LinearMomentum, SchedulerGroup

if TYPE_CHECKING:
    from collections.abc import Callable

GROUPS = (1, 10, 100, 1000)
SPAN = 10**7
FLOORS = ("bare loop", "cosine once, multiply")


def sgd(groups: int) -> torch.optim.Optimizer:
    """Build an optimizer with equal groups."""
    parameters = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(groups)]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    optimizer.step()  # so that torch does not warn about the order
    return optimizer


def microseconds(step: Callable[[], object], groups: int) -> float:
    """Return the best time of a step over several rounds."""
    count = max(200, 20_000 // groups)
    for _ in range(200):
        step()
    best = math.inf
    for _ in range(7):
        began = time.perf_counter()
        for _ in range(count):
            step()
        best = min(best, (time.perf_counter() - began) / count)
    return best * 1e6


def each(steps: list[Callable[[], object]]) -> Callable[[], None]:
    """Return what calls all *steps*."""

    def run() -> None:
        for step in steps:
            step()

    return run


def one_schedule(groups: int) -> dict[str, Callable[[], object]]:
    """Return steps of a cosine."""
    floor = sgd(groups)

    def bare() -> None:
        for group in floor.param_groups:
            group["lr"] = 0.1

    tick = [0]
    bases = [0.1] * groups

    def cosine_once() -> None:
        tick[0] += 1
        factor = (1 + math.cos(math.pi * tick[0] / SPAN)) / 2
        for group, base in zip(floor.param_groups, bases, strict=True):
            group["lr"] = base * factor

    ours = sgd(groups)
    group = SchedulerGroup(ours, [CosineAnnealingLR(ours, T_max=SPAN, by_epoch=False)])
    ignite = CosineAnnealingScheduler(sgd(groups), "lr", 0.1, 0.0, SPAN)
    return {
        "bare loop": bare,
        "cosine once, multiply": cosine_once,
        "resumable_sched": group.step,
        "torch": torch.optim.lr_scheduler.CosineAnnealingLR(sgd(groups), SPAN).step,
        "MMEngine": mm.CosineAnnealingLR(sgd(groups), T_max=SPAN, by_epoch=False).step,
        "Ignite (one value for all)": lambda: ignite(None),
    }


def composed(groups: int) -> dict[str, Callable[[], object]]:
    """Return steps of a warm-up, a cosine and a momentum schedule."""
    ours = sgd(groups)
    schedulers = [
        LinearLR(ours, start_factor=0.1, end=100, by_epoch=False),
        CosineAnnealingLR(ours, T_max=SPAN, begin=100, by_epoch=False),
        LinearMomentum(ours, start_factor=0.5, end=SPAN, by_epoch=False),
    ]
    peer = sgd(groups)
    theirs: list[Any] = [
        mm.LinearLR(peer, start_factor=0.1, end=100, by_epoch=False),
        mm.CosineAnnealingLR(peer, T_max=SPAN, begin=100, by_epoch=False),
        mm.LinearMomentum(peer, start_factor=0.5, end=SPAN, by_epoch=False),
    ]
    other = sgd(groups)
    lr = torch.optim.lr_scheduler
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sequence = lr.SequentialLR(
            other, [lr.LinearLR(other, 0.1, total_iters=100), lr.CosineAnnealingLR(other, SPAN)], [100]
        )
    return {
        "resumable_sched": SchedulerGroup(ours, schedulers).step,
        "torch SequentialLR (lr only)": sequence.step,
        "MMEngine": each([it.step for it in theirs]),
    }


def main() -> None:
    """Measure and print two tables."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for title, build in (("cosine", one_schedule), ("warm-up + cosine + momentum", composed)):
        print(f"\n{title}: microseconds per step, and ours as a share of it")
        print(f"{'param groups':30}" + "".join(f"{groups:>18}" for groups in GROUPS))
        rows = {groups: {name: microseconds(step, groups) for name, step in build(groups).items()} for groups in GROUPS}
        for name in rows[1]:
            cells = [f"{rows[n][name]:8.2f} ({rows[n]['resumable_sched'] / rows[n][name]:5.2f} x)" for n in GROUPS]
            print(f"{name:30}" + "".join(f"{cell:>18}" for cell in cells))


if __name__ == "__main__":
    main()
