"""What a step of a schedule costs: ours, which detects foreign writes, the peers' and the floor, in one process.

python benchmarks/bench_step.py [--only TITLE] [--groups 1 10 100 1000] [--quick]
"""

from __future__ import annotations

import argparse
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import mmengine.optim as mm
from ignite.handlers.param_scheduler import (
    CosineAnnealingScheduler,
    LinearCyclicalScheduler,
    ParamGroupScheduler,
    create_lr_scheduler_with_warmup,
)
from measuring import BASE, OURS, adam, bases, each, in_turns, prepare, sgd, table
from torch.optim import lr_scheduler
from transformers.optimization import get_cosine_schedule_with_warmup

from resumable_sched import CosineAnnealingLR, LinearLR, LinearMomentum, SchedulerGroup

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer

    Steps = dict[str, Callable[[], object]]

SPAN = 10**7
WARM_UP = 100
BATCH = 64
RUN = 1024
"""What we compute ahead at most: calls come in multiples of it, so that each round pays its share of that."""


def cosine(groups: int, *, distinct: bool) -> Steps:
    """Return steps of a cosine."""
    new = partial(sgd, groups, distinct=distinct)
    bare, multiplied = new(), new()

    def write() -> None:
        for group in bare.param_groups:
            group["lr"] = BASE

    tick = [0]
    initial = bases(groups, distinct=distinct)

    def cosine_once() -> None:
        tick[0] += 1
        factor = (1 + math.cos(math.pi * tick[0] / SPAN)) / 2
        for group, base in zip(multiplied.param_groups, initial, strict=True):
            group["lr"] = base * factor

    peer = new()
    if distinct:
        ignite: list[Any] = [
            CosineAnnealingScheduler(peer, "lr", base, 0.0, SPAN, param_group_index=index)
            for index, base in enumerate(initial)
        ]
        last = {"Ignite (a scheduler for each group)": partial(ParamGroupScheduler(ignite), None)}
    else:
        last = {"Ignite (one value for all)": partial(CosineAnnealingScheduler(peer, "lr", BASE, 0.0, SPAN), None)}
    one, two, three = new(), new(), new()
    return {
        "floor: bare loop": write,
        "floor: cosine once, multiply": cosine_once,
        OURS: SchedulerGroup(one, [CosineAnnealingLR(one, T_max=SPAN, by_epoch=False)]).step,
        f"{OURS}, step(samples={BATCH})": partial(
            SchedulerGroup(two, [CosineAnnealingLR(two, T_max=SPAN, by_epoch=False)]).step, samples=BATCH
        ),
        f'{OURS}, unit="sample"': partial(
            SchedulerGroup(three, [CosineAnnealingLR(three, T_max=SPAN * BATCH, unit="sample")]).step, samples=BATCH
        ),
        "torch CosineAnnealingLR": lr_scheduler.CosineAnnealingLR(new(), SPAN).step,
        "torch LambdaLR": lr_scheduler.LambdaLR(new(), lambda t: (1 + math.cos(math.pi * t / SPAN)) / 2).step,
        "MMEngine": mm.CosineAnnealingLR(new(), T_max=SPAN, by_epoch=False).step,
        **last,
    }


def floored(groups: int, *, distinct: bool) -> Steps:
    """Return steps of a cosine that ends above 0."""
    new = partial(sgd, groups, distinct=distinct)
    floor = new()
    tick = [0]
    initial = bases(groups, distinct=distinct)

    def cosine_once() -> None:
        tick[0] += 1
        factor = (1 + math.cos(math.pi * tick[0] / SPAN)) / 2
        for group, base in zip(floor.param_groups, initial, strict=True):
            group["lr"] = 0.01 + (base - 0.01) * factor

    ours = new()
    return {
        "floor: cosine once, multiply and add": cosine_once,
        OURS: SchedulerGroup(ours, [CosineAnnealingLR(ours, T_max=SPAN, eta_min=0.01, by_epoch=False)]).step,
        "torch CosineAnnealingLR": lr_scheduler.CosineAnnealingLR(new(), SPAN, eta_min=0.01).step,
        "MMEngine": mm.CosineAnnealingLR(new(), T_max=SPAN, eta_min=0.01, by_epoch=False).step,
    }


def composed(groups: int, *, distinct: bool, new: Callable[..., Optimizer] = sgd) -> Steps:
    """Return steps of a warm-up, a cosine and a momentum schedule."""
    ours, peer, other, third = (new(groups, distinct=distinct) for _ in range(4))
    schedulers = [
        LinearLR(ours, start_factor=0.1, end=WARM_UP, by_epoch=False),
        CosineAnnealingLR(ours, T_max=SPAN, begin=WARM_UP, by_epoch=False),
        LinearMomentum(ours, start_factor=0.5, end=SPAN, by_epoch=False),
    ]
    theirs = [
        mm.LinearLR(peer, start_factor=0.1, end=WARM_UP, by_epoch=False),
        mm.CosineAnnealingLR(peer, T_max=SPAN, begin=WARM_UP, by_epoch=False),
        mm.LinearMomentum(peer, start_factor=0.5, end=SPAN, by_epoch=False),
    ]
    sequence = [lr_scheduler.LinearLR(other, 0.1, total_iters=WARM_UP), lr_scheduler.CosineAnnealingLR(other, SPAN)]
    steps: Steps = {
        OURS: SchedulerGroup(ours, schedulers).step,
        "torch SequentialLR (lr only)": lr_scheduler.SequentialLR(other, sequence, [WARM_UP]).step,
        "transformers (lr only)": get_cosine_schedule_with_warmup(third, WARM_UP, SPAN).step,
        "MMEngine": each(theirs),
    }
    if new is sgd and not distinct:
        fourth = sgd(groups)
        warmed = create_lr_scheduler_with_warmup(
            CosineAnnealingScheduler(fourth, "lr", BASE, 0.0, SPAN), 0.1 * BASE, WARM_UP
        )
        momentum = LinearCyclicalScheduler(fourth, "momentum", 0.45, 0.9, 2 * SPAN)

        def ignite() -> None:
            warmed(None)
            momentum(None)

        steps["Ignite (one value for all)"] = ignite
    return steps


def overlapping(groups: int, *, distinct: bool) -> Steps:
    """Return steps of two schedules whose product depends on the path, because one has a floor."""
    ours, peer, other = (sgd(groups, distinct=distinct) for _ in range(3))
    schedulers = [
        LinearLR(ours, start_factor=0.1, end=SPAN, by_epoch=False),
        CosineAnnealingLR(ours, T_max=SPAN, eta_min=0.01, by_epoch=False),
    ]
    theirs = [
        mm.LinearLR(peer, start_factor=0.1, end=SPAN, by_epoch=False),
        mm.CosineAnnealingLR(peer, T_max=SPAN, eta_min=0.01, by_epoch=False),
    ]
    chain = [
        lr_scheduler.LinearLR(other, 0.1, total_iters=SPAN),
        lr_scheduler.CosineAnnealingLR(other, SPAN, eta_min=0.01),
    ]
    return {
        OURS: SchedulerGroup(ours, schedulers).step,
        "torch ChainedScheduler": lr_scheduler.ChainedScheduler(chain).step,
        "MMEngine": each(theirs),
    }


TABLES: dict[str, Callable[..., Steps]] = {
    "cosine": cosine,
    "cosine to a floor": floored,
    "warm-up + cosine + momentum": composed,
    "warm-up + cosine + betas[0]": partial(composed, new=adam),
    "overlap with a floor (a chain)": overlapping,
}


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=TABLES, help="one of the tables")
    parser.add_argument("--groups", type=int, nargs="+", default=[1, 10, 100, 1000], help="numbers of param groups")
    parser.add_argument("--quick", action="store_true", help="see that everything runs; the figures mean nothing")
    args = parser.parse_args()
    prepare()
    run, rounds = (4, 1) if args.quick else (RUN, 7)
    for title, build in TABLES.items():
        if args.only not in (None, title):
            continue
        for distinct in (False, True):
            columns = {}
            for groups in args.groups:
                steps = build(groups, distinct=distinct)
                in_turns(steps, rounds=1, calls=2 * run)  # until we go as far ahead as we ever do
                columns[str(groups)] = in_turns(steps, rounds=rounds, calls=run * max(1, min(16, 320 // groups)))
            kind = "all different" if distinct else "equal"
            table(f"{title}, learning rates {kind}: microseconds per step (and ours as a multiple), by groups", columns)


if __name__ == "__main__":
    main()
