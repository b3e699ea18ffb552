# ruff: noqa: S311 - random cases, no secrets
"""The recipes give the learning rates of transformers' `get_*_schedule` over random configurations.

Both sides are closed forms, evaluated in another order: 1e-11 of the larger of value and base is far more than their
few roundings, and far less than a step of any schedule here.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import optimization as peer

from resumable_sched.schedule import SchedulerGroup, recipes
from tests.integration.seeds import batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from resumable_sched.schedule import ParamScheduler

pytestmark = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step\\(\\)`:UserWarning")

TOLERANCE = 1e-11
SEEDS = batches(20, 5)


def optimizer() -> torch.optim.Optimizer:
    """Return an optimizer of two param groups with different learning rates."""
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups: list[dict[str, Any]] = [{"params": [weights[0]]}, {"params": [weights[1]], "lr": 0.5}]
    return torch.optim.AdamW(groups, lr=0.05)


def constant(r: random.Random, warm: int, total: int) -> tuple[Any, ...]:  # noqa: ARG001 - one signature for all
    """Draw a warm-up and nothing after it."""
    return recipes.warmup_constant, (warm,), {}, peer.get_constant_schedule_with_warmup, (warm,), {}


def linear(r: random.Random, warm: int, total: int) -> tuple[Any, ...]:  # noqa: ARG001
    """Draw two lines."""
    return recipes.warmup_linear, (warm, total), {}, peer.get_linear_schedule_with_warmup, (warm, total), {}


def cosine(r: random.Random, warm: int, total: int) -> tuple[Any, ...]:
    """Draw a cosine of any number of waves."""
    own = {"num_cycles": r.choice([0.5, 0.5, 1.0, 1.5, r.uniform(0.2, 3)])}
    return recipes.warmup_cosine, (warm, total), own, peer.get_cosine_schedule_with_warmup, (warm, total), own


def cosine_with_floor(r: random.Random, warm: int, total: int) -> tuple[Any, ...]:
    """Draw a cosine with a floor, as a value or as a share."""
    rate = r.choice([0.0, 1.0, r.random()])
    floor = r.choice([{"min_lr": r.choice([0.0, r.uniform(0, 0.04), 0.07])}, {"min_lr_rate": rate}])
    own = {"num_cycles": r.choice([0.5, 0.5, 1.0, r.uniform(0.2, 3)]), **floor}
    theirs = peer.get_cosine_with_min_lr_schedule_with_warmup
    return recipes.warmup_cosine, (warm, total), own, theirs, (warm, total), own


def cosine_from_first_step(r: random.Random, warm: int, total: int) -> tuple[Any, ...]:
    """Draw a cosine whose warm-up does not start at 0."""
    floor = r.choice([{"min_lr": r.uniform(0, 0.04)}, {"min_lr_rate": r.choice([0.0, r.random()])}])
    waves = {"num_cycles": r.choice([0.5, 0.5, 1.0, r.uniform(0.2, 3)])}
    own = {"warmup_lr_rate": r.choice([None, 0.0, r.uniform(0.1, 0.9)]), **floor, **waves}
    theirs = peer.get_cosine_with_min_lr_schedule_with_warmup_lr_rate
    return recipes.warmup_cosine_from_first_step, (warm, total), own, theirs, (warm, total), own


def restarts(r: random.Random, warm: int, total: int) -> tuple[Any, ...]:
    """Draw some cosines."""
    args = (warm, total, r.choice([1, r.randrange(1, 7), r.randrange(1, 40)]))
    return (
        recipes.warmup_cosine_restarts,
        args,
        {},
        peer.get_cosine_with_hard_restarts_schedule_with_warmup,
        args,
        {},
    )


def polynomial(r: random.Random, warm: int, total: int) -> tuple[Any, ...]:
    """Draw a power."""
    own = {"lr_end": r.choice([1e-7, 0.0, r.uniform(0, 0.04)]), "power": r.choice([1.0, 2.0, r.uniform(0.3, 3)])}
    theirs = peer.get_polynomial_decay_schedule_with_warmup
    return recipes.warmup_polynomial, (warm, total), own, theirs, (warm, total), own


def inverse_sqrt(r: random.Random, warm: int, total: int) -> tuple[Any, ...]:  # noqa: ARG001
    """Draw a root."""
    own = {"timescale": r.choice([None, r.randrange(1, 100), r.randrange(1, 20_000)])}
    return recipes.warmup_inverse_sqrt, (warm,), own, peer.get_inverse_sqrt_schedule, (warm,), own


def wsd(r: random.Random, warm: int, total: int) -> tuple[Any, ...]:
    """Draw three phases."""
    decay = r.choice([0, total - warm, r.randrange(total - warm + 1)])
    own = {
        "warmup_type": r.choice(["linear", "cosine", "1-sqrt"]),
        "decay_type": r.choice(["linear", "cosine", "1-sqrt"]),
        "min_lr_ratio": r.choice([0.0, 0, r.random()]),
        "num_cycles": r.choice([0.5, 1.5, r.uniform(0.1, 3)]),
    }
    given, length = r.choice([("training_steps", total), ("stable_steps", total - warm - decay)])
    theirs = {f"num_{given}": length, **own}
    return (
        recipes.warmup_stable_decay,
        (warm, decay),
        {given: length, **own},
        peer.get_wsd_schedule,
        (warm, decay),
        theirs,
    )


DRAWN = [constant, linear, cosine, cosine_with_floor, cosine_from_first_step, restarts, polynomial, inverse_sqrt, wsd]

AFTER = {cosine: 1, cosine_with_floor: 1, cosine_from_first_step: 0}
"""Ticks to compare after the last one of training, where the peer's cosines rise again."""


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
@pytest.mark.parametrize("draw", DRAWN)
def test_recipes_give_the_peers_learning_rates(draw: Callable[..., tuple[Any, ...]], seeds: range) -> None:
    """In every iteration of training, and where the peer holds also after it, all groups have its learning rate."""
    for seed in seeds:
        r = random.Random(f"{draw.__name__} {seed}")
        warm = r.choice([0, 1, r.randrange(2, 30), r.randrange(2, 200)])
        total = warm + r.choice([1, 2, r.randrange(1, 60), r.randrange(1, 300)])
        make, args, kwargs, make_peer, peer_args, peer_kwargs = draw(r, warm, total)
        mine, theirs = optimizer(), optimizer()
        base = [group["lr"] for group in mine.param_groups]
        schedulers: list[ParamScheduler] = make(mine, *args, **kwargs)
        group = SchedulerGroup(mine, schedulers)
        other = make_peer(theirs, *peer_args, **peer_kwargs)
        for tick in range(total + AFTER.get(draw, 20)):
            if not (draw is restarts and rounds_a_restart_down(tick - warm, total - warm, args[2])):
                for one, two, first in zip(mine.param_groups, theirs.param_groups, base, strict=True):
                    limit = TOLERANCE * max(abs(two["lr"]), first)
                    assert abs(one["lr"] - two["lr"]) <= limit, (seed, tick, one["lr"], two["lr"], args, kwargs)
            group.step()
            other.step()


def rounds_a_restart_down(tick: int, length: int, cycles: int) -> bool:
    """Return whether the peer takes a restart for the end of the cycle before.

    It computes the share of the cycle as ``cycles * (tick / length) % 1``, which is 0.999... and not 0 at some ticks.
    """
    return tick > 0 and (cycles * tick) % length == 0 and (cycles * (tick / length)) % 1.0 > 0.5


def test_the_length_of_the_window_stands_for_training_steps() -> None:
    """A recipe of three phases may leave out how long the middle one is where the group knows the end."""
    mine, theirs = optimizer(), optimizer()
    group = SchedulerGroup(mine, recipes.warmup_stable_decay(mine, 5, 10), max_iters=40)
    other = peer.get_wsd_schedule(theirs, 5, 10, 40)
    for _ in range(40):
        assert mine.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-11, abs=1e-12)
        group.step()
        other.step()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda it: recipes.warmup_linear(it, 5, 5), "`training_steps` must be more than `warmup_steps`, 5, but is 5"),
        (lambda it: recipes.warmup_cosine(it, 5, 9, min_lr=0.1, min_lr_rate=0.1), "`min_lr` must not be given"),
        (lambda it: recipes.warmup_cosine_from_first_step(it, 5, 9), "`min_lr` or `min_lr_rate` must be given"),
        (lambda it: recipes.warmup_polynomial(it, 5, 9, lr_end=0.1), "`lr_end` must be less than the learning rate"),
        (lambda it: recipes.warmup_cosine_restarts(it, 5, 9, 0), "`num_cycles` must be at least 1, but is 0"),
        (lambda it: recipes.warmup_stable_decay(it, 5, 9, 10), "`num_training_steps` must be at least"),
    ],
)
def test_recipes_refuse_what_cannot_be_meant(build: Callable[..., Any], message: str) -> None:
    """The error names the argument, the rule and the value."""
    with pytest.raises(ValueError, match=message):
        build(optimizer())
