# ruff: noqa: S311 - random cases, no secrets
"""Lists of schedules give the learning rates of torch's ChainedScheduler, and a sequence those of its SequentialLR.

The peer multiplies floats step by step, ours mostly evaluates closed forms; 1e-11 of the larger of value and base is
what some tens of roundings may differ by, and a thousand times less than a step of any schedule here. Where torch does
something else on purpose or by mistake is in docs/torch-differences.md, and in the tests of that name.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as peer

from resumable_sched import schedule
from resumable_sched.schedule import SchedulerGroup
from tests.integration.seeds import batches

pytestmark = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step\\(\\)`:UserWarning")

TOLERANCE = 1e-11
ITERATIONS = 90
RATES = (0.05, 0.5, 0.013)
FAMILIES = (
    "Constant",
    "CosineAnnealing",
    "CosineAnnealingWarmRestarts",
    "Cyclic",
    "Exponential",
    "Lambda",
    "Linear",
    "MultiStep",
    "Multiplicative",
    "OneCycle",
    "Poly",
    "Step",
)
PEERS = {"Poly": "PolynomialLR", "CosineAnnealingWarmRestarts": "CosineAnnealingWarmRestarts"}


def waves(tick: int) -> float:
    """Return a factor that is 0 at times."""
    return (1.0 + math.cos(tick / 5.0)) / 2.0 if tick % 7 else 0.0


def slow(tick: int) -> float:
    """Return a factor near 1."""
    return 0.95 + 0.1 * (tick % 2)


def damp(cycle: float) -> float:
    """Scale a cycle, or a tick."""
    return 1.0 / (1.0 + 0.1 * cycle)


@dataclass(frozen=True)
class Drawn:
    """Describe one schedule: its family, the arguments of the peer, and ours where they are others."""

    family: str
    theirs: dict[str, Any]
    ours: dict[str, Any]

    def build_peer(self, optimizer: torch.optim.Optimizer) -> Any:
        """Build the peer."""
        return getattr(peer, PEERS.get(self.family, f"{self.family}LR"))(optimizer, **self.theirs)

    def build(self, optimizer: torch.optim.Optimizer) -> Any:
        """Build ours."""
        return getattr(schedule, f"{self.family}LR")(optimizer, **self.ours, by_epoch=False)


def optimizer() -> torch.optim.Optimizer:
    """Return an optimizer of some param groups with different learning rates."""
    groups: list[dict[str, Any]] = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in RATES]
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9)


def drawn(r: random.Random, family: str) -> Drawn:  # noqa: C901, PLR0911 - a case for each family
    """Draw one schedule."""
    ticks, own = r.choice([1, r.randrange(1, 2 * ITERATIONS)]), dict[str, Any]()
    match family:
        case "Step":
            return same(family, step_size=r.randrange(1, 30), gamma=r.uniform(0.3, 1.05))
        case "MultiStep":
            milestones = [r.randrange(ITERATIONS) for _ in range(r.randrange(1, 6))]
            milestones += r.choice([[], [0], milestones[:1]])
            return same(family, milestones=sorted(milestones), gamma=r.uniform(0.3, 1.05))
        case "Constant":
            factor = r.choice([1.0, r.uniform(0.05, 1)])
            return Drawn(family, {"factor": factor, "total_iters": ticks}, {"factor": factor, "end": ticks + 1})
        case "Linear":
            own = {"start_factor": r.choice([1.0, r.uniform(0.01, 1)]), "end_factor": r.choice([1.0, 0.0, r.random()])}
            return Drawn(family, {**own, "total_iters": ticks}, {**own, "end": ticks + 1})
        case "Poly":
            power = r.choice([1.0, 2.0, 0.5, r.uniform(0.2, 4)])
            return Drawn(family, {"total_iters": ticks, "power": power}, {"power": power, "end": ticks + 1})
        case "Exponential":
            return same(family, gamma=r.uniform(0.85, 1.03))
        case "CosineAnnealing":
            return same(family, T_max=r.choice([1, 2, r.randrange(3, 40), r.randrange(40, 200)]), eta_min=floor(r))
        case "CosineAnnealingWarmRestarts":
            own = {"T_0": r.choice([1, r.randrange(1, 40)]), "T_mult": r.randrange(1, 4), "eta_min": floor(r)}
            return Drawn(family, own, {**own, "absolute": True})
        case "Cyclic":
            own = {
                "base_lr": r.choice([r.uniform(0.001, 0.1), [r.uniform(0.001, 0.1) for _ in RATES]]),
                "max_lr": r.choice([r.uniform(0.1, 1), [r.uniform(0.1, 1) for _ in RATES]]),
                "step_size_up": r.randrange(1, 20),
                "step_size_down": r.choice([None, r.randrange(1, 20)]),
                "mode": r.choice(["triangular", "triangular2", "exp_range"]),
                "gamma": r.uniform(0.9, 1.0),
                "scale_fn": r.choice([None, None, damp]),
                "scale_mode": r.choice(["cycle", "iterations"]),
            }
            return Drawn(family, {**own, "cycle_momentum": False}, own)
        case "OneCycle":
            peak = r.choice([r.uniform(0.1, 1), [r.uniform(0.1, 1) for _ in RATES]])
            own = {
                "total_steps": r.randrange(20, 2 * ITERATIONS),
                "pct_start": r.uniform(0.1, 0.5),
                "anneal_strategy": r.choice(["cos", "linear"]),
                "div_factor": r.uniform(2, 30),
                "final_div_factor": r.choice([1e4, r.uniform(1, 100)]),
                "three_phase": r.random() < 0.4,
            }
            return Drawn(family, {"max_lr": peak, "cycle_momentum": False, **own}, {"eta_max": peak, **own})
        case "Lambda":
            own = {"lr_lambda": r.choice([waves, slow, damp, [waves, slow, damp]])}
            return Drawn(family, own, {**own, "absolute": True})
        case _:
            return same(family, lr_lambda=r.choice([waves, slow, slow, [waves, slow, slow]]))


def same(family: str, **own: Any) -> Drawn:
    """Return a schedule whose arguments are the same on both sides."""
    return Drawn(family, own, own)


def floor(r: random.Random) -> float:
    """Draw a floor, which may be above the base."""
    return r.choice([0.0, 0.0, r.uniform(0, 0.01), r.uniform(0.01, 0.2)])


def compare(mine: torch.optim.Optimizer, theirs: torch.optim.Optimizer, *told: object) -> None:
    """Compare the learning rates of all groups."""
    for one, two, base in zip(mine.param_groups, theirs.param_groups, RATES, strict=True):
        limit = TOLERANCE * max(abs(two["lr"]), base)
        assert abs(one["lr"] - two["lr"]) <= limit, (one["lr"], two["lr"], *told)


def chain(seed: int) -> list[Drawn]:
    """Draw a list of schedules that all act from the beginning."""
    r = random.Random(f"chain {seed}")
    chosen: list[str] = []
    for _ in range(r.choice([1, 2, 2, 3, 3, 4, 5])):
        refused = {"OneCycle"} & {*chosen}  # torch has one peak for all of them
        chosen.append(r.choice([each for each in FAMILIES if each not in refused]))
    return [drawn(r, family) for family in chosen]


def run_chain(seed: int, *, grouped: bool) -> None:
    """Train both and compare at every iteration."""
    parts = chain(seed)
    mine, theirs = optimizer(), optimizer()
    ours = [each.build(mine) for each in parts]
    group = SchedulerGroup(mine, ours) if grouped else None
    other = peer.ChainedScheduler([each.build_peer(theirs) for each in parts])
    last = min([each.theirs["total_steps"] - 1 for each in parts if each.family == "OneCycle"] + [ITERATIONS])
    if "Cyclic" not in [each.family for each in parts[1:]]:  # there torch starts from `initial_lr`, for a tick
        compare(mine, theirs, seed, 0, parts)
    for iteration in range(1, last + 1):
        other.step()
        if group is None:
            for each in ours:
                each.step()
        else:
            group.step()
        compare(mine, theirs, seed, iteration, parts)


@pytest.mark.parametrize("seeds", batches(25, 8), ids=str)
def test_random_lists_give_the_values_of_torchs_chained_scheduler(seeds: range) -> None:
    """Whatever families overlap in whatever order, every learning rate is the peer's."""
    for seed in seeds:
        run_chain(seed, grouped=seed % 2 == 0)


def sequence(seed: int) -> tuple[list[Drawn], list[int]]:
    """Draw schedules that take turns, and when."""
    r = random.Random(f"sequence {seed}")
    count = r.choice([1, 2, 2, 2, 3, 3, 4, 5])
    milestones = sorted(r.choice([0, 1, *[r.randrange(1, ITERATIONS) for _ in range(9)]]) for _ in range(count - 1))
    parts: list[Drawn] = []
    for index in range(count):
        refused = {"Multiplicative"} if index else set()  # torch goes on from where the schedule before it was
        if "OneCycle" in [each.family for each in parts]:
            refused.add("OneCycle")
        parts.append(from_the_base(drawn(r, r.choice([each for each in FAMILIES if each not in refused])), index))
    return parts, milestones


def from_the_base(part: Drawn, index: int) -> Drawn:
    """Let a schedule that sets values of its own begin at the base, which in torch it overwrites for all others too."""
    match part.family:
        case "OneCycle":
            peak = {"div_factor": 20.0, "total_steps": 2 * ITERATIONS}
            rates = [20.0 * rate for rate in RATES]
            return Drawn(part.family, {**part.theirs, **peak, "max_lr": rates}, {**part.ours, **peak, "eta_max": rates})
        case "Cyclic" if index == 0:
            return Drawn(part.family, {**part.theirs, "base_lr": [*RATES]}, {**part.ours, "base_lr": [*RATES]})
    return part


def run_sequence(seed: int) -> None:
    """Train both and compare at every iteration."""
    parts, milestones = sequence(seed)
    mine, theirs = optimizer(), optimizer()
    described = [{"type": f"{each.family}LR", **each.ours} for each in parts]
    ours = schedule.SequentialLR(mine, described, milestones, by_epoch=False)
    group = SchedulerGroup(mine, [ours])
    other = peer.SequentialLR(theirs, [each.build_peer(theirs) for each in parts], [*milestones])
    for iteration in range(ITERATIONS):
        compare(mine, theirs, seed, iteration, milestones, parts)
        other.step()
        group.step()


@pytest.mark.parametrize("seeds", batches(25, 8), ids=str)
def test_random_sequences_give_the_values_of_torchs_sequential_lr(seeds: range) -> None:
    """Whatever takes turns, and whenever, every learning rate is the peer's."""
    for seed in seeds:
        run_sequence(seed)
