# ruff: noqa: S311 - random cases, no secrets
"""The families that torch has, and MMEngine has not, give torch's values over random configurations.

torch advances some of them step by step and ours are closed forms: 1e-11 of the larger of value and base is what some
tens of roundings may differ by, and a thousand times less than a step of any schedule here.
"""

from __future__ import annotations

import inspect
import math
import random
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.optim import lr_scheduler as peer

from resumable_sched import schedule
from tests.integration.seeds import batches

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step\\(\\)`:UserWarning")

TOLERANCE = 1e-11
ITERATIONS = 120
SEEDS = batches(20, 5)


def optimizer() -> torch.optim.Optimizer:
    """Return an optimizer of two param groups with different learning rates."""
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups: list[dict[str, Any]] = [{"params": [weights[0]]}, {"params": [weights[1]], "lr": 0.5}]
    return torch.optim.SGD(groups, lr=0.05, momentum=0.9)


def waves(tick: int) -> float:
    """Return a factor that is 0 at times."""
    return (1.0 + math.cos(tick / 5.0)) / 2.0 if tick % 7 else 0.0


def slow(tick: int) -> float:
    """Return a factor near 1."""
    return 0.95 + 0.1 * (tick % 2)


def damp(cycle: float) -> float:
    """Scale a cycle, or a tick."""
    return 1.0 / (1.0 + 0.1 * cycle)


def cyclic(r: random.Random) -> dict[str, Any]:
    """Draw the arguments of a cyclic schedule."""
    low, high = r.choice([(0.1, 0.6), ([0.1, 0.2], [0.6, 0.5]), (0.1, [0.6, 0.2])])
    return {
        "base_lr": low,
        "max_lr": high,
        "step_size_up": r.randrange(1, 20),
        "step_size_down": r.choice([None, r.randrange(1, 20)]),
        "mode": r.choice(["triangular", "triangular2", "exp_range"]),
        "gamma": r.uniform(0.9, 1.0),
        "scale_fn": r.choice([None, None, damp]),
        "scale_mode": r.choice(["cycle", "iterations"]),
    }


def warm_restarts(r: random.Random) -> dict[str, Any]:
    """Draw the arguments of cosines."""
    return {"T_0": r.randrange(1, 20), "T_mult": r.randrange(1, 4), "eta_min": r.choice([0.0, 0.01])}


def function(r: random.Random) -> dict[str, Any]:
    """Draw a function, or one for each group."""
    return {"lr_lambda": r.choice([waves, slow, [waves, slow]])}


def never_zero(r: random.Random) -> dict[str, Any]:  # noqa: ARG001 - one signature for all
    """Return a function that does not end everything."""
    return {"lr_lambda": slow}


CASES = [
    ("Cyclic", cyclic, "CyclicLR"),
    ("CosineAnnealingWarmRestarts", warm_restarts, "CosineAnnealingWarmRestarts"),
    ("Lambda", function, "LambdaLR"),
    ("Multiplicative", never_zero, "MultiplicativeLR"),
]


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
@pytest.mark.parametrize(("family", "draw", "name"), CASES, ids=lambda it: it if isinstance(it, str) else "")
def test_families_give_torchs_learning_rates(
    family: str, draw: Callable[[random.Random], dict[str, Any]], name: str, seeds: range
) -> None:
    """In every iteration both groups have the peer's learning rate."""
    for seed in seeds:
        arguments = draw(random.Random(f"{family} {seed}"))
        mine, theirs = optimizer(), optimizer()
        base = [group["lr"] for group in mine.param_groups]
        ours = getattr(schedule, f"{family}LR")(mine, **arguments, by_epoch=False)
        more = {"cycle_momentum": False} if family == "Cyclic" else {}
        other = getattr(peer, name)(theirs, **arguments, **more)
        for tick in range(ITERATIONS):
            for one, two, first in zip(mine.param_groups, theirs.param_groups, base, strict=True):
                limit = TOLERANCE * max(abs(two["lr"]), first)
                assert abs(one["lr"] - two["lr"]) <= limit, (seed, tick, one["lr"], two["lr"], arguments)
            ours.step()
            other.step()


@pytest.mark.parametrize("seed", range(20))
def test_a_second_schedule_is_torchs_cyclic_momentum(seed: int) -> None:
    """The momentum that torch's CyclicLR moves against the learning rate is a schedule with the ends exchanged."""
    r = random.Random(f"momentum {seed}")
    arguments = {**cyclic(r), "base_lr": 0.1, "max_lr": 0.6}
    low, high = r.uniform(0.5, 0.8), r.uniform(0.8, 0.95)
    mine, theirs = optimizer(), optimizer()
    momentum = schedule.CyclicMomentum(mine, **{**arguments, "base_lr": high, "max_lr": low}, by_epoch=False)
    other = peer.CyclicLR(theirs, **arguments, base_momentum=low, max_momentum=high)
    for _ in range(ITERATIONS):
        assert abs(mine.param_groups[1]["momentum"] - theirs.param_groups[1]["momentum"]) <= TOLERANCE
        momentum.step()
        other.step()


@pytest.mark.parametrize("seeds", SEEDS[:2], ids=str)
def test_random_chains_give_the_values_of_torchs_chained_scheduler(seeds: range) -> None:
    """Multiplying schedules that overlap give what torch's ChainedScheduler gives."""
    for seed in seeds:
        r = random.Random(f"chain {seed}")
        gamma, step, start, length = r.uniform(0.9, 1), r.randrange(1, 9), r.uniform(0.1, 1), r.randrange(2, 40)
        mine, theirs = optimizer(), optimizer()
        ours = [
            schedule.MultiplicativeLR(mine, slow, by_epoch=False),
            schedule.ExponentialLR(mine, gamma, by_epoch=False),
            schedule.StepLR(mine, step, gamma, by_epoch=False),
            schedule.LinearLR(mine, start, end=length + 1, by_epoch=False),
        ]
        group = schedule.SchedulerGroup(mine, ours)
        other = peer.ChainedScheduler(
            [
                peer.MultiplicativeLR(theirs, slow),
                peer.ExponentialLR(theirs, gamma),
                peer.StepLR(theirs, step, gamma),
                peer.LinearLR(theirs, start, total_iters=length),
            ]
        )
        for _ in range(ITERATIONS):
            for one, two in zip(mine.param_groups, theirs.param_groups, strict=True):
                assert abs(one["lr"] - two["lr"]) <= TOLERANCE * max(abs(two["lr"]), two["initial_lr"])
            group.step()
            other.step()


@pytest.mark.parametrize(("family", "name"), [(family, name) for family, _, name in CASES])
def test_arguments_have_torchs_names_and_order(family: str, name: str) -> None:
    """What torch takes by position is taken by position, with its default; what we add comes after it, by keyword."""
    theirs = {
        each: parameter.default
        for each, parameter in inspect.signature(getattr(peer, name)).parameters.items()
        if each not in ("last_epoch", "cycle_momentum", "base_momentum", "max_momentum")
    }
    ours = inspect.signature(getattr(schedule, f"{family}LR")).parameters

    positional = {
        each: parameter.default
        for each, parameter in ours.items()
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    }
    assert list(positional.items()) == list(theirs.items())
