"""Say what type checkers must accept and must reject; it is checked, and never run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from typing_extensions import assert_type

from resumable_sched import plot_trace
from resumable_sched.schedule import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestartsLR,
    CyclicLR,
    LambdaLR,
    LinearLR,
    LinearMomentum,
    LinearParamScheduler,
    MultiStepLR,
    OneCycleLR,
    ParamScheduler,
    PiecewiseLR,
    ReduceOnPlateauLR,
    SchedulerGroup,
    StepLR,
    Trace,
    WarmupStableDecayLR,
    build_schedulers,
    load_config,
    recipes,
    register_scheduler,
    share,
)

if TYPE_CHECKING:
    import torch


def check_schedules(optimizer: torch.optim.Optimizer) -> None:
    """Check classes, arguments, attributes and methods of schedules."""
    warm_up = LinearLR(optimizer, 0.1, end=500, by_epoch=False)
    assert_type(warm_up, LinearLR)
    assert_type(warm_up.start_factor, float)
    assert_type(warm_up.last_step, int)
    assert_type(warm_up.base_values, list[float])
    assert_type(warm_up.get_last_value(), list[float])
    assert_type(warm_up.state_dict(), dict[str, Any])
    assert_type(warm_up.load_state_dict({}, "adopt"), None)
    assert_type(CosineAnnealingLR(optimizer, 100, eta_min_ratio=0.1, unit="iteration").T_max, int | None)
    assert_type(StepLR.build_iter_from_epoch(optimizer, 8, epoch_length=100), StepLR)
    assert_type(LinearParamScheduler(optimizer, "weight_decay", end=9).param_name, str)
    assert_type(OneCycleLR(optimizer, [0.1, 0.2], 100), OneCycleLR)
    assert_type(LinearLR(optimizer, unit="sample", end=share(0.1), groups=["head", 1]).end, int)
    every: list[ParamScheduler] = [warm_up, LinearMomentum(optimizer), ReduceOnPlateauLR(optimizer, "loss", "less")]
    assert_type(every, list[ParamScheduler])
    ReduceOnPlateauLR(optimizer).step({"loss": 0.5})

    assert_type(LambdaLR(optimizer, "package.module:function").by_epoch, bool)
    assert_type(CosineAnnealingWarmRestartsLR(optimizer, 10, 2, cycle_decay=0.5).T_mult, float)
    assert_type(PiecewiseLR(optimizer, [(0, 0.1), (9, 0.5)], "cosine", relative=True), PiecewiseLR)
    assert_type(recipes.warmup_cosine(optimizer, 10, 100, min_lr_rate=0.1), list[ParamScheduler])

    CyclicLR(optimizer, 0.1, 0.5, mode="sawtooth")  # type: ignore[arg-type]
    WarmupStableDecayLR(optimizer, 10)  # type: ignore[call-arg]
    recipes.warmup_linear(optimizer, 10)  # type: ignore[call-arg]
    LinearLR("sgd")  # type: ignore[arg-type]
    LinearLR(optimizer, 0.1, 1.0, 5)  # type: ignore[call-arg]
    LinearLR(optimizer, param_name="lr")  # type: ignore[call-arg]
    LinearLR(optimizer, factor=0.1)  # type: ignore[call-arg]
    LinearLR(optimizer, unit="step")  # type: ignore[arg-type]
    LinearParamScheduler(optimizer)  # type: ignore[call-arg]
    StepLR(optimizer)  # type: ignore[call-arg]
    MultiStepLR(optimizer, 8)  # type: ignore[arg-type]
    OneCycleLR(optimizer, 0.1, anneal_strategy="sine")  # type: ignore[arg-type]
    warm_up.start_factor = 0.5  # type: ignore[misc]
    warm_up.load_state_dict({}, "yes")  # type: ignore[arg-type]
    ParamScheduler(optimizer, "lr")  # type: ignore[abstract]


def check_groups(optimizer: torch.optim.Optimizer, warm_up: LinearLR) -> None:
    """Check groups and traces."""
    group = SchedulerGroup(optimizer, [warm_up], epoch_length=100, max_epochs=12)
    SchedulerGroup({"actor": optimizer}, {"actor": [warm_up]}, on_mismatch="keep")
    assert_type(group.iteration, int)
    assert_type(group.schedulers, tuple[ParamScheduler, ...])
    assert_type(group.step(samples=32, tokens=0), None)
    assert_type(group.values(), dict[str, Any])
    assert_type(group.trace(10, 5, samples_per_iteration=32), Trace)
    assert_type(group.check_state_dict({}), None)
    assert_type(group.summary(), dict[str, Any])

    SchedulerGroup(optimizer, [optimizer])  # type: ignore[list-item]
    SchedulerGroup(optimizer, [], 100)  # type: ignore[call-arg]
    SchedulerGroup(optimizer, [], on_mismatch="yes")  # type: ignore[arg-type]
    group.trace(10, 5, 32)  # type: ignore[call-arg]
    group.iteration = 5  # type: ignore[misc]


def check_configs(optimizer: torch.optim.Optimizer, other: torch.optim.Optimizer) -> None:
    """Check configs, the registry and pictures."""
    assert_type(build_schedulers(optimizer, {"type": "StepLR", "step_size": 3}, max_epochs=9), list[ParamScheduler])
    assert_type(
        build_schedulers({"one": optimizer, "two": other}, load_config("config.py"), epoch_length=100),
        dict[str, list[ParamScheduler]],
    )
    assert_type(register_scheduler(LinearLR), type[LinearLR])
    assert_type(register_scheduler(name="Line", replace=True)(LinearLR), type[LinearLR])
    assert_type(plot_trace("old.py", "new.py", epochs=12, epoch_length=100), Figure)
    assert_type(plot_trace(SchedulerGroup(optimizer, []), log=True), Figure)

    build_schedulers(optimizer, [], 100)  # type: ignore[call-overload]
    register_scheduler(dict)  # type: ignore[type-var]
    plot_trace("old.py", "new.py", 100)  # type: ignore[call-arg]
