"""What a preview costs: a trace of a million iterations, a plain loop over the closed form, and stepping.

python benchmarks/bench_trace.py [--iterations 1000000] [--quick]
"""

from __future__ import annotations

import argparse
import math
from functools import partial
from typing import TYPE_CHECKING

import mmengine.optim as mm
from measuring import BASE, each, in_turns, prepare, sgd

from resumable_sched import CosineAnnealingLR, LinearLR, SchedulerGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FAR = 10**9


def sequence(end: int, warm_up: int) -> SchedulerGroup:
    """Build warm-up and cosine."""
    optimizer = sgd()
    schedulers = [
        LinearLR(optimizer, start_factor=0.01, end=warm_up, by_epoch=False),
        CosineAnnealingLR(optimizer, T_max=end - warm_up, begin=warm_up, end=end, by_epoch=False),
    ]
    return SchedulerGroup(optimizer, schedulers)


def chain(end: int) -> SchedulerGroup:
    """Build two schedules that overlap, one of which has a floor: the value depends on the path."""
    optimizer = sgd()
    schedulers = [
        LinearLR(optimizer, start_factor=0.1, end=end, by_epoch=False),
        CosineAnnealingLR(optimizer, T_max=end, eta_min=0.01, by_epoch=False),
    ]
    return SchedulerGroup(optimizer, schedulers)


def step(build: Callable[[], SchedulerGroup], iterations: int) -> None:
    """Step a new group."""
    group = build()
    for _ in range(iterations):
        group.step()


def step_peer(iterations: int, end: int, warm_up: int) -> None:
    """Step MMEngine's schedules."""
    optimizer = sgd()
    run = each(
        [
            mm.LinearLR(optimizer, start_factor=0.01, end=warm_up, by_epoch=False),
            mm.CosineAnnealingLR(optimizer, T_max=end - warm_up, begin=warm_up, by_epoch=False),
        ]
    )
    for _ in range(iterations):
        run()


def loop(iterations: int, warm_up: int) -> list[float]:
    """Return the learning rates as one would compute them by hand."""

    def closed_form(t: int) -> float:
        if t < warm_up:
            return BASE * (0.01 + 0.99 * t / (warm_up - 1))
        return BASE * (1 + math.cos(math.pi * (t - warm_up) / (iterations - warm_up))) / 2

    return [closed_form(t) for t in range(iterations)]


def differing(build: Callable[[], SchedulerGroup], iterations: int) -> int:
    """Return how many values of a trace are not, to the last bit, those that stepping writes."""
    group = build()
    traced = group.trace(iterations).values["lr"][0]
    param_group = group.optimizers["optimizer"].param_groups[0]
    stepped = []
    for _ in range(iterations):
        stepped.append(param_group["lr"])
        group.step()
    return sum(one != other for one, other in zip(traced, stepped, strict=True))


def show(title: str, rows: Mapping[str, float], unit: float) -> None:
    """Print a row for each name."""
    print(f"\n{title}")
    for name, seconds in rows.items():
        print(f"{name:52} {seconds * 1e3:10.1f} ms {seconds / unit:8.2f} x")


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=10**6)
    parser.add_argument("--quick", action="store_true", help="see that everything runs; the figures mean nothing")
    args = parser.parse_args()
    prepare()
    n = 2000 if args.quick else args.iterations
    rounds = 1 if args.quick else 5
    warm_up, part = n // 100, n // 10

    new = partial(sequence, n, warm_up)
    group, far = new(), sequence(FAR, warm_up)
    rows = in_turns(
        {
            "plain loop over the closed form": partial(loop, n, warm_up),
            "group.trace(iterations)": partial(group.trace, n),
            "10^4 points of 10^9 iterations": partial(far.trace, range(0, FAR, 10**5)),
        },
        rounds=rounds,
    )
    floor = rows["plain loop over the closed form"]
    stepped = in_turns(
        {
            "group.step(), a tenth of the iterations, x 10": partial(step, new, part),
            "MMEngine, a tenth of the iterations, x 10": partial(step_peer, part, n, warm_up),
        },
        rounds=rounds,
    )
    rows |= {name: seconds * 10 for name, seconds in stepped.items()}
    show(f"warm-up + cosine, {n} iterations; as a multiple of the plain loop", rows, floor)

    new_chain = partial(chain, n)
    rows = in_turns(
        {
            "group.step()": partial(step, new_chain, part),
            "group.trace(iterations)": partial(new_chain().trace, part),
        },
        rounds=rounds,
    )
    show(f"a chain, {part} iterations; as a multiple of stepping", rows, rows["group.step()"])

    print("\nvalues of the trace that differ, in any bit, from those that stepping writes")
    found = {"warm-up + cosine": (new, n), "a chain": (new_chain, part)}
    for name, (build, iterations) in found.items():
        count = differing(build, iterations)
        print(f"{name:52} {count:10} of {iterations}")
        if count:
            raise SystemExit("A trace must be what stepping writes.")


if __name__ == "__main__":
    main()
