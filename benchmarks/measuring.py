"""Time peers in turns, so that what else the machine does hits all of them, and print what they take."""

from __future__ import annotations

import gc
import logging
import math
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


OURS = "resumable_sched"
BASE = 0.1


def prepare() -> None:
    """Let torch use one thread and not warn of the order of calls, and us not say that schedules overlap."""
    warnings.simplefilter("ignore")
    logging.getLogger("resumable_sched").setLevel(logging.ERROR)
    torch.set_num_threads(1)


def sgd(groups: int = 1, *, distinct: bool = False) -> torch.optim.Optimizer:
    """Build an optimizer whose param groups have equal, or all different, learning rates."""
    return torch.optim.SGD(_groups(groups, distinct=distinct), lr=BASE, momentum=0.9)


def adam(groups: int = 1, *, distinct: bool = False) -> torch.optim.Optimizer:
    """Build an optimizer whose momentum is the first of its betas."""
    return torch.optim.AdamW(_groups(groups, distinct=distinct), lr=BASE)


def bases(groups: int, *, distinct: bool) -> list[float]:
    """Return the learning rate of each param group."""
    return [BASE * (1 + index / groups) if distinct else BASE for index in range(groups)]


def _groups(groups: int, *, distinct: bool) -> list[dict[str, Any]]:
    return [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in bases(groups, distinct=distinct)]


def each(schedulers: Sequence[Any]) -> Callable[[], None]:
    """Return what steps all *schedulers*."""
    steps = [scheduler.step for scheduler in schedulers]

    def run() -> None:
        for step in steps:
            step()

    return run


@contextmanager
def _without_collector() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def in_turns(works: Mapping[str, Callable[[], object]], *, rounds: int, calls: int = 1) -> dict[str, float]:
    """Return the best seconds of a call of each of *works*, over rounds of *calls* calls in which all take turns.

    The collector of garbage waits meanwhile: which of the peers it would interrupt is luck, and the same one each time.
    """
    best = dict.fromkeys(works, math.inf)
    for _ in range(rounds):
        gc.collect()
        with _without_collector():
            for name, work in works.items():
                began = time.perf_counter()
                for _ in range(calls):
                    work()
                best[name] = min(best[name], (time.perf_counter() - began) / calls)
    return best


def in_turns_on_new(
    works: Mapping[str, tuple[Callable[[], Any], Callable[[Any], object]]], *, rounds: int, calls: int
) -> dict[str, float]:
    """Return the best seconds of what is done once with each new thing: (what makes a thing, what is done with it).

    The collector of garbage waits meanwhile, as in `in_turns`.
    """
    best = dict.fromkeys(works, math.inf)
    for _ in range(rounds):
        for name, (make, work) in works.items():
            things = [make() for _ in range(calls)]
            with _without_collector():
                began = time.perf_counter()
                kept = [work(thing) for thing in things]
                seconds = time.perf_counter() - began
            best[name] = min(best[name], seconds / calls)
            del kept
    return best


def table(title: str, columns: Mapping[str, Mapping[str, float]], *, scale: float = 1e6, ours: str = OURS) -> None:
    """Print a row for each name, with the value in each column and, in brackets, ours as a multiple of it."""
    print(f"\n{title}")
    print(" " * 44 + "".join(f"{column:>20}" for column in columns))
    for name in next(iter(columns.values())):
        cells = ""
        for values in columns.values():
            cells += (
                f"{values[name] * scale:11.2f} ({values[ours] / values[name]:5.2f}x)" if name in values else " " * 20
            )
        print(f"{name:44}{cells}")
