# ruff: noqa: S311 - random cases, no secrets
"""Random lists of schedules give the values of MMEngine 0.10.7.

The peer multiplies floats step by step, ours mostly evaluates closed forms; 1e-11 of the larger of value and base is
what some tens of roundings may differ by, and a thousand times less than a step of any schedule here.
"""

from __future__ import annotations

import inspect
import random
import warnings
from typing import Any

import pytest
import torch

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*pkg_resources.*")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    import mmengine.optim.scheduler as peer
    from mmengine.optim import OptimWrapper

from resumable_sched import schedule
from resumable_sched.schedule import SchedulerGroup
from tests.integration.seeds import batches

pytestmark = pytest.mark.filterwarnings(
    "ignore:Detected call of `scheduler.step\\(\\)` before `optimizer.step\\(\\)`:UserWarning"
)

TOLERANCE = 1e-11
FOREVER = 10**9
ITERATIONS = 60
FAMILIES = (
    "Constant",
    "CosineAnnealing",
    "CosineRestart",
    "Exponential",
    "Linear",
    "MultiStep",
    "OneCycle",
    "Poly",
    "ReduceOnPlateau",
    "Step",
)
SEEDS = batches(25, 16)


def sgd() -> torch.optim.Optimizer:
    """Return an optimizer of three param groups with different values."""
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(3)]
    groups: list[dict[str, Any]] = [
        {"params": [weights[0]]},
        {"params": [weights[1]], "lr": 0.5, "momentum": 0.7},
        {"params": [weights[2]], "lr": 0.013},
    ]
    return torch.optim.SGD(groups, lr=0.05, momentum=0.9)


def adam() -> torch.optim.Optimizer:
    """Return an optimizer that keeps its momentum in `betas`."""
    return torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=0.1, betas=(0.9, 0.99))


def arguments(random_: random.Random, family: str, begin: int, end: int) -> dict[str, Any]:
    """Draw the arguments of one schedule."""
    r, n, window = random_, ITERATIONS, {"begin": begin, "end": end}
    floor: dict[str, Any] = {"eta_min_ratio": 0.1} if r.random() < 0.3 else {"eta_min": r.choice([0.0, 0.0, 0.004])}
    match family:
        case "Constant":
            own: dict[str, Any] = {"factor": r.uniform(0.1, 1)}
        case "CosineAnnealing":
            period = r.choice([None, r.randrange(3, 12), r.randrange(n, 2 * n), r.randrange(1, 4)])
            own = {"T_max": 50 if period is None and end == FOREVER else period, **floor}
        case "CosineRestart":
            own = {"periods": [r.randrange(1, n) for _ in range(3)], "restart_weights": [1, 0.5, 0.25], **floor}
        case "Exponential":
            own = {"gamma": r.uniform(0.9, 1.03)}
        case "Linear":
            own = {"start_factor": r.uniform(0.01, 0.9), "end_factor": r.choice([1.0, 0.5])}
        case "MultiStep":
            own = {"milestones": [r.randrange(n) for _ in range(r.randrange(1, 5))], "gamma": r.uniform(0.3, 0.9)}
        case "OneCycle":
            own = {
                "eta_max": r.choice([r.uniform(0.1, 1), [0.1, 0.2, 0.3]]),
                "total_steps": 200 if end == FOREVER else max(end - begin, 20),
                "pct_start": r.choice([0.3, 0.5, 0.25]),
                "anneal_strategy": r.choice(["cos", "linear"]),
                "three_phase": r.random() < 0.3,
            }
        case "Poly":
            own = {"power": r.choice([1.0, 0.5, 2.0]), "eta_min": r.choice([0.0, 0.004])}
        case "ReduceOnPlateau":
            own = {
                "patience": r.randrange(3),
                "factor": r.uniform(0.2, 0.9),
                "cooldown": r.randrange(3),
                "min_value": r.choice([0.0, 0.001, [0.001, 0.01, 0.002]]),
                "rule": r.choice(["less", "greater"]),
                "threshold": r.choice([1e-4, 0.1]),
                "threshold_rule": r.choice(["rel", "abs"]),
            }
        case _:
            own = {"step_size": r.randrange(1, 20), "gamma": r.uniform(0.5, 0.95)}
    return {**own, **window}


def windows(random_: random.Random) -> list[tuple[int, int]]:
    """Draw windows: one, some that follow each other (with or without gaps), that overlap, or that are tiny."""
    r, n = random_, ITERATIONS
    match r.choice(["one", "follow", "overlap", "tiny"]):
        case "one":
            return [(r.choice([0, 0, 5]), r.choice([FOREVER, n // 2, n + 5]))]
        case "follow":
            cuts = [0, *sorted(r.sample(range(4, n - 4), r.choice([1, 2])))]
            ends = [cut - r.choice([0, 0, 1, 2]) for cut in cuts[1:]] + [r.choice([n + 20, cuts[-1] + 10, FOREVER])]
            return [(begin, max(end, begin + 1)) for begin, end in zip(cuts, ends, strict=True)]
        case "overlap":
            begins = [r.choice([0, 0, r.randrange(n // 2)]) for _ in range(r.choice([2, 2, 3]))]
            return [(begin, r.choice([3 * n, r.randrange(begin + 4, n + 10)])) for begin in begins]
        case _:
            return [(begin, begin + r.randrange(1, 4)) for begin in (r.randrange(n // 2) for _ in range(3))]


def case(seed: int) -> tuple[random.Random, int, list[tuple[str, dict[str, Any]]]]:
    """Draw a list of schedules in random order, on one clock or on both, and the length of an epoch."""
    r = random.Random(f"parity {seed}")
    epoch_length, mixed = r.choice([3, 5, 7]), r.random() < 0.5
    specs, cycles = [], 0
    for begin, end in windows(r):
        family = r.choice([each for each in FAMILIES if each != "OneCycle" or not cycles])
        cycles += family == "OneCycle"
        config = arguments(r, family, begin, end)
        by_epoch = family == "ReduceOnPlateau" or (mixed and r.random() < 0.4)
        if by_epoch and r.random() < 0.8:
            length = max(1, (end - begin) // epoch_length)
            config["begin"] = begin // epoch_length
            config["end"] = FOREVER if end == FOREVER else config["begin"] + length
        specs.append((family, {**config, "by_epoch": by_epoch}))
    if r.random() < 0.5:
        r.shuffle(specs)
    return r, epoch_length, specs


def step_all(schedulers: list[Any], *, by_epoch: bool) -> None:
    """Step the schedules of one clock, as MMEngine's hook does."""
    for scheduler in schedulers:
        if scheduler.by_epoch == by_epoch:
            scheduler.step()


def observe_all(peers: list[Any], ours: list[Any], group: SchedulerGroup | None, metrics: dict[str, float]) -> None:
    """Give the metrics of a validation to all schedules that want them."""
    for scheduler in peers if group is not None else peers + ours:
        if getattr(scheduler, "need_val_args", False):
            scheduler.step(metrics)
    if group is not None:
        group.observe(metrics)


def run(seed: int, *, grouped: bool) -> None:
    """Train both for some epochs and compare the learning rates at every iteration."""
    r, epoch_length, specs = case(seed)
    mine, theirs = sgd(), sgd()
    base = [group["lr"] for group in mine.param_groups]
    ours = [getattr(schedule, f"{family}LR")(mine, **config) for family, config in specs]
    group = SchedulerGroup(mine, ours) if grouped else None
    peers = [getattr(peer, f"{family}LR")(theirs, **config) for family, config in specs]
    for iteration in range(ITERATIONS):
        for one, other, initial in zip(mine.param_groups, theirs.param_groups, base, strict=True):
            limit = TOLERANCE * max(abs(other["lr"]), initial)
            assert abs(one["lr"] - other["lr"]) <= limit, (seed, iteration, one["lr"], other["lr"], specs)
        clocks = [False, True] if (iteration + 1) % epoch_length == 0 else [False]
        for by_epoch in clocks:
            try:
                step_all(peers, by_epoch=by_epoch)
            except ValueError:  # the peer refuses to step beyond a cycle
                return
            if group is None:
                step_all(ours, by_epoch=by_epoch)
            elif by_epoch:
                group.step_epoch()
            else:
                group.step()
        if clocks[-1] and r.random() < 0.9:
            observe_all(peers, ours, group, {"loss": r.choice([1.0, 2.0, 0.5, 0.4, 0.1, 3.0])})


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
def test_random_lists_give_the_peers_values(seeds: range) -> None:
    """Whatever windows, order, clocks and families there are, stepping each schedule gives MMEngine's values."""
    for seed in seeds:
        run(seed, grouped=False)


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
def test_random_groups_give_the_peers_values(seeds: range) -> None:
    """A `SchedulerGroup` over the same list gives MMEngine's learning rates."""
    for seed in seeds:
        run(seed, grouped=True)


@pytest.mark.parametrize("make", [sgd, adam])
@pytest.mark.parametrize("family", [each for each in FAMILIES if each not in ("OneCycle", "ReduceOnPlateau")])
def test_momentum_gives_the_peers_values(make: Any, family: str) -> None:
    """Momentum is scheduled where the optimizer keeps it, `betas[0]` for Adam."""
    r = random.Random(family)
    for _ in range(5):
        config = arguments(r, family, 3, 40)
        mine, theirs = make(), make()
        ours = getattr(schedule, f"{family}Momentum")(mine, by_epoch=False, **config)
        other = getattr(peer, f"{family}Momentum")(theirs, by_epoch=False, **config)
        for _ in range(50):
            for one, two in zip(mine.param_groups, theirs.param_groups, strict=True):
                key = "betas" if "betas" in one else "momentum"
                assert one[key] == pytest.approx(two[key], rel=1e-11, abs=1e-12)
            ours.step()
            other.step()


def test_an_optim_wrapper_gives_the_peers_values() -> None:
    """MMEngine's wrapper can be scheduled, also where it shows one more group than the optimizer has."""
    for settings in (None, {"lr": 0.3}):
        mine, theirs = OptimWrapper(sgd()), OptimWrapper(sgd())
        for wrapper in (mine, theirs):
            wrapper.base_param_settings = None if settings is None else {"params": [], "momentum": 0.9, **settings}
        ours = [
            schedule.LinearLR(mine, 0.1, end=5, by_epoch=False),
            schedule.CosineAnnealingMomentum(mine, T_max=9, by_epoch=False),
        ]
        peers = [
            peer.LinearLR(theirs, 0.1, end=5, by_epoch=False),
            peer.CosineAnnealingMomentum(theirs, T_max=9, by_epoch=False),
        ]
        for _ in range(9):
            for one, two in zip(mine.param_groups, theirs.param_groups, strict=True):
                assert (one["lr"], one["momentum"]) == pytest.approx((two["lr"], two["momentum"]), rel=1e-11)
            for each in ours + peers:
                each.step()


@pytest.mark.parametrize("suffix", ["LR", "Momentum", "ParamScheduler"])
@pytest.mark.parametrize("family", FAMILIES)
def test_arguments_have_the_peers_names_and_defaults(family: str, suffix: str) -> None:
    """A configuration moves over unchanged: names and defaults are the peer's, the order too before the window."""
    theirs = dict(inspect.signature(getattr(peer, f"{family}ParamScheduler")).parameters)
    ours = dict(inspect.signature(getattr(schedule, family + suffix)).parameters)
    if suffix != "ParamScheduler":
        theirs.pop("param_name")

    assert {name: each.default for name, each in theirs.items()} == {
        name: each.default for name, each in ours.items() if name not in ("unit", "groups")
    }
    positional = [name for name, each in ours.items() if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert positional == list(theirs)[: len(positional)]


@pytest.mark.parametrize("family", [each for each in FAMILIES if each not in ("Exponential", "ReduceOnPlateau")])
def test_epochs_become_iterations_as_in_the_peer(family: str) -> None:
    """`build_iter_from_epoch` multiplies what the peer multiplies."""
    r = random.Random(f"convert {family}")
    for _ in range(10):
        config = {**arguments(r, family, 1, 8), "epoch_length": 7}
        mine, theirs = sgd(), sgd()
        ours = getattr(schedule, f"{family}LR").build_iter_from_epoch(mine, **config)
        other = getattr(peer, f"{family}LR").build_iter_from_epoch(theirs, **config)

        assert (ours.begin, ours.end, ours.by_epoch) == (other.begin, other.end, other.by_epoch)
        for _ in range(60):
            for one, two in zip(mine.param_groups, theirs.param_groups, strict=True):
                assert one["lr"] == pytest.approx(two["lr"], rel=1e-11, abs=1e-13)
            ours.step()
            other.step()
