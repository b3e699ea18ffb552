"""Draw lists of schedules and the ways of training that property tests are about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from hypothesis import strategies as st

from resumable_sched import schedule
from resumable_sched.schedule import ParamScheduler, SchedulerGroup

if TYPE_CHECKING:
    from collections.abc import Sequence

ITERATIONS = 14
FOREVER = 10**9

FAMILIES = (
    "Step",
    "MultiStep",
    "Constant",
    "Exponential",
    "CosineAnnealing",
    "Linear",
    "Poly",
    "OneCycle",
    "CosineRestart",
    "ReduceOnPlateau",
    "CosineAnnealingWarmRestarts",
    "Cyclic",
    "HalfLife",
    "InverseSqrt",
    "Lambda",
    "Multiplicative",
    "Piecewise",
    "PolyRestart",
    "QuadraticWarmup",
    "Sequential",
    "Tanh",
    "TriStage",
    "WarmupStableDecay",
)

FACTOR = st.floats(0.05, 1.0)
GAMMA = st.floats(0.3, 1.05)
FLOOR = st.sampled_from([0.0, 0.004, 0.02])
TICKS = st.integers(1, 9)
PARTS: tuple[dict[str, Any], ...] = (
    {"type": "ExponentialParamScheduler", "gamma": 0.8},
    {"type": "StepParamScheduler", "step_size": 2},
    {"type": "LinearParamScheduler", "start_factor": 0.0},
    {"type": "PolyParamScheduler", "eta_min": 0.004, "end": 4},
    {"type": "CosineAnnealingParamScheduler", "T_max": 3},
    {"type": "OneCycleParamScheduler", "eta_max": [0.3, 0.6], "total_steps": 6},
    {"type": "LambdaParamScheduler", "lr_lambda": "tests.schedule.drawn:shrink"},
)


def ripple(tick: int) -> float:
    """Return a factor that passes through 0."""
    return (tick % 5) / 4


def shrink(tick: int) -> float:
    """Return a factor that is never 0."""
    return 1.0 - 0.1 * (tick % 3)


@dataclass(frozen=True)
class Spec:
    """Describe one schedule: its class, and its arguments without the optimizer."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Describe a training: schedules, the length of each epoch, and the metric after it (None: no validation).

    Before the epochs *writes* somebody else multiplies a learning rate.
    """

    specs: tuple[Spec, ...]
    epochs: tuple[int, ...]
    metrics: tuple[float | None, ...]
    adam: bool
    tensor: bool
    writes: tuple[int, ...] = ()

    def optimizer(self) -> torch.optim.Optimizer:
        """Return a new optimizer."""
        weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
        rate: Any = torch.tensor(0.05) if self.tensor else 0.05
        other: Any = torch.tensor(0.5) if self.tensor else 0.5
        groups: list[dict[str, Any]] = [{"params": [weights[0]]}, {"params": [weights[1]], "lr": other}]
        if self.adam:
            return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99))
        return torch.optim.SGD(groups, lr=rate, momentum=0.9)

    def schedulers(self, optimizer: torch.optim.Optimizer) -> list[ParamScheduler]:
        """Build the schedules."""
        return [getattr(schedule, spec.name)(optimizer, **spec.arguments) for spec in self.specs]

    def group(self, optimizer: torch.optim.Optimizer) -> SchedulerGroup:
        """Build the group."""
        return SchedulerGroup(optimizer, self.schedulers(optimizer), max_iters=ITERATIONS)

    def events(self) -> list[tuple[str, float | None]]:
        """Return what happens in order: ("write", group), ("step", None), ("epoch", None), ("observe", metric)."""
        happened: list[tuple[str, float | None]] = []
        for epoch, (length, metric) in enumerate(zip(self.epochs, self.metrics, strict=True)):
            if epoch in self.writes:
                happened.append(("write", epoch % 2))
            happened += [("step", None)] * length
            happened.append(("epoch", None))
            if metric is not None:
                happened.append(("observe", metric))
        return happened


def shown(optimizer: torch.optim.Optimizer) -> list[tuple[float, float]]:
    """Return learning rate and momentum of each param group."""
    return [
        (float(group["lr"]), float(group["betas"][0] if "betas" in group else group["momentum"]))
        for group in optimizer.param_groups
    ]


def happen(group: SchedulerGroup, event: tuple[str, float | None]) -> None:
    """Tell *group* what has happened."""
    match event:
        case ("step", _):
            group.step(samples=4)
        case ("epoch", _):
            group.step_epoch()
        case ("write", place):
            _write(group.schedulers, place)
        case (_, metric):
            group.observe({"loss": metric})


def happen_alone(schedulers: list[ParamScheduler], event: tuple[str, float | None]) -> None:
    """Tell each of *schedulers* what has happened, as MMEngine's hook does."""
    if event[0] == "write":
        _write(schedulers, event[1])
    for scheduler in schedulers:
        match event:
            case ("step", _) if not scheduler.by_epoch:
                scheduler.step()
            case ("epoch", _) if scheduler.by_epoch:
                scheduler.step()
            case ("observe", metric) if isinstance(scheduler, schedule.ReduceOnPlateauParamScheduler):
                scheduler.step({"loss": metric})


def _write(schedulers: Sequence[ParamScheduler], place: float | None) -> None:
    """Multiply a learning rate that is scheduled, as somebody who knows nothing of schedules."""
    if any(scheduler.param_name == "lr" for scheduler in schedulers):
        group = schedulers[0].optimizer.param_groups[int(place or 0)]
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].mul_(0.7)
        else:
            group["lr"] = 0.7 * group["lr"]


@st.composite
def beyond(draw: st.DrawFn, family: str) -> dict[str, Any]:  # noqa: C901, PLR0911, PLR0912 - a case for each family
    """Draw the arguments of a family that MMEngine does not have."""
    values = st.sampled_from([0.3, [0.3, 0.3], [0.1, 0.6]])
    function = st.sampled_from([ripple, shrink, [ripple, shrink], "tests.schedule.drawn:shrink"])
    cycles: dict[str, Any] = {
        "cycle_decay": draw(st.sampled_from([1.0, 0.5])),
        "cycle_limit": draw(st.one_of(st.none(), st.integers(1, 2))),
        "skip": draw(st.integers(0, 2)),
    }
    lowest: dict[str, Any] = {"lr_min_ratio": 0.1} if draw(st.booleans()) else {"lr_min": draw(FLOOR)}
    growth = draw(st.sampled_from([1, 1.5, 2]))
    match family:
        case "CosineAnnealingWarmRestarts":
            ratio: dict[str, Any] = {"eta_min_ratio": 0.1} if draw(st.booleans()) else {"eta_min": draw(FLOOR)}
            ratio["absolute"] = draw(st.booleans())
            return {"T_0": draw(TICKS), "T_mult": growth, "k_decay": draw(st.sampled_from([1, 2])), **ratio, **cycles}
        case "Cyclic":
            mode = draw(st.sampled_from(["triangular", "triangular2", "exp_range"]))
            return {
                "base_lr": draw(values),
                "max_lr": draw(values),
                "step_size_up": draw(TICKS),
                "step_size_down": draw(st.one_of(st.none(), TICKS)),
                "mode": mode,
                "gamma": draw(GAMMA),
                "scale_fn": draw(st.sampled_from([None, shrink])),
                "scale_mode": draw(st.sampled_from(["cycle", "iterations"])),
            }
        case "HalfLife":
            return {"decay_period": draw(TICKS)}
        case "InverseSqrt":
            return {"num_warmup_steps": draw(TICKS), "timescale": draw(TICKS), "eta_min": draw(FLOOR)}
        case "Lambda":
            return {"lr_lambda": draw(function), "absolute": draw(st.booleans())}
        case "Multiplicative":
            return {"lr_lambda": draw(function)}
        case "Sequential":
            parts = draw(st.lists(st.sampled_from(PARTS), min_size=1, max_size=3))
            milestones = draw(st.lists(st.integers(0, 8), min_size=len(parts) - 1, max_size=len(parts) - 1))
            return {"schedulers": parts, "milestones": sorted(milestones)}
        case "Piecewise":
            ticks = sorted(draw(st.lists(st.integers(0, 9), min_size=1, max_size=4)))
            return {
                "milestones_values": [(tick, draw(FACTOR)) for tick in ticks],
                "interpolation": draw(st.sampled_from(["linear", "constant", "cosine"])),
                "relative": draw(st.booleans()),
            }
        case "PolyRestart":
            return {"t_initial": draw(TICKS), "cycle_mul": growth, "power": 2.0, **lowest, **cycles}
        case "QuadraticWarmup":
            return {}
        case "Tanh":
            return {"t_initial": draw(TICKS), "cycle_mul": growth, **lowest, **cycles}
        case "TriStage":
            scale = draw(st.sampled_from([0.01, [0.1, 0.2]]))
            return {"num_steps": draw(TICKS), "stage_ratio": (0.3, 0.3, 0.4), "final_lr_scale": scale}
        case _:
            floor: dict[str, Any] = {"eta_min": 0.004} if draw(st.booleans()) else {"min_lr_ratio": draw(FLOOR)}
            return {
                "num_warmup_steps": draw(st.integers(1, 3)),
                "num_decay_steps": draw(st.integers(0, 3)),
                "num_stable_steps": draw(st.integers(0, 3)),
                "warmup_type": draw(st.sampled_from(["linear", "cosine", "1-sqrt"])),
                "decay_type": draw(st.sampled_from(["linear", "cosine", "1-sqrt", "exponential"])),
                "stable_type": draw(st.sampled_from(["constant", "rsqrt"])),
                **floor,
            }


@st.composite
def specs(draw: st.DrawFn, families: tuple[str, ...] = FAMILIES) -> Spec:  # noqa: C901 - a case for each family
    """Draw one schedule of one of *families*, on either clock, with any window."""
    family = draw(st.sampled_from(families))
    begin = draw(st.integers(0, 6))
    window: dict[str, Any] = {
        "begin": begin,
        "end": draw(st.one_of(st.just(FOREVER), st.integers(begin + 1, begin + 10))),
        "by_epoch": family == "ReduceOnPlateau" or draw(st.booleans()),
        "groups": draw(st.sampled_from([None, None, 0, [1]])),
    }
    ratio: dict[str, Any] = {"eta_min_ratio": 0.1} if draw(st.booleans()) else {"eta_min": draw(FLOOR)}
    own: dict[str, Any]
    match family:
        case "Step":
            own = {"step_size": draw(TICKS), "gamma": draw(GAMMA)}
        case "MultiStep":
            own = {"milestones": draw(st.lists(st.integers(0, 9), max_size=4)), "gamma": draw(GAMMA)}
        case "Constant":
            own = {"factor": draw(FACTOR)}
        case "Exponential":
            own = {"gamma": draw(GAMMA)}
        case "CosineAnnealing":
            own = {"T_max": draw(st.one_of(st.none(), TICKS)), **ratio}
        case "Linear":
            own = {"start_factor": draw(st.one_of(st.just(0.0), FACTOR)), "end_factor": draw(FACTOR)}
        case "Poly":
            own = {"power": draw(st.sampled_from([0.5, 1.0, 2.0])), "eta_min": draw(FLOOR)}
        case "OneCycle":
            own = {"eta_max": draw(st.sampled_from([0.8, [0.3, 0.6]])), "total_steps": draw(st.integers(4, 9))}
        case "CosineRestart":
            own = {"periods": draw(st.lists(TICKS, min_size=2, max_size=2)), "restart_weights": [1, 0.5], **ratio}
        case "ReduceOnPlateau":
            own = {"patience": draw(st.integers(0, 1)), "factor": draw(st.floats(0.2, 0.9)), "min_value": 0.001}
        case _:
            own = draw(beyond(family))
    return Spec(family + draw(st.sampled_from(["LR", "LR", "Momentum"])), {**own, **window})


@st.composite
def cases(draw: st.DrawFn, family: str | None = None) -> Case:
    """Draw a list of schedules, one of *family* among them, and a training of some uneven epochs."""
    epochs = tuple(draw(st.lists(st.integers(0, 4), min_size=4, max_size=5)))
    metric = st.one_of(st.none(), st.sampled_from([0.1, 0.5, 1.0, 2.0]))
    chosen = [] if family is None else [draw(specs((family,)))]
    chosen += draw(st.lists(specs(), min_size=1 - len(chosen), max_size=4 - len(chosen)))
    return Case(
        specs=tuple(draw(st.permutations(chosen))),
        epochs=epochs,
        metrics=tuple(draw(metric) for _ in epochs),
        adam=draw(st.booleans()),
        tensor=draw(st.booleans()),
        writes=tuple(draw(st.lists(st.integers(0, 4), max_size=3, unique=True))),
    )
