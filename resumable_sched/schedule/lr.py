"""Declare the schedules of the learning rate: each pins `param_name` of its family, where everything is documented."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from resumable_sched.schedule.cyclic import (
    CosineAnnealingWarmRestartsParamScheduler,
    CyclicParamScheduler,
    PolyRestartParamScheduler,
    TanhParamScheduler,
)
from resumable_sched.schedule.families import (
    ConstantParamScheduler,
    CosineAnnealingParamScheduler,
    CosineRestartParamScheduler,
    ExponentialParamScheduler,
    LinearParamScheduler,
    MultiStepParamScheduler,
    OneCycleParamScheduler,
    PolyParamScheduler,
    StepParamScheduler,
)
from resumable_sched.schedule.functional import LambdaParamScheduler, MultiplicativeParamScheduler
from resumable_sched.schedule.phased import (
    HalfLifeParamScheduler,
    InverseSqrtParamScheduler,
    PiecewiseParamScheduler,
    QuadraticWarmupParamScheduler,
    TriStageParamScheduler,
    WarmupStableDecayParamScheduler,
)
from resumable_sched.schedule.plateau import ReduceOnPlateauParamScheduler
from resumable_sched.schedule.sequential import SequentialParamScheduler

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestartsLR",
    "CosineRestartLR",
    "CyclicLR",
    "ExponentialLR",
    "HalfLifeLR",
    "InverseSqrtLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PiecewiseLR",
    "PolyLR",
    "PolyRestartLR",
    "QuadraticWarmupLR",
    "ReduceOnPlateauLR",
    "SequentialLR",
    "StepLR",
    "TanhLR",
    "TriStageLR",
    "WarmupStableDecayLR",
]


@final
@dataclass(frozen=True, eq=False)
class ConstantLR(ConstantParamScheduler):
    """Schedule the learning rate as `ConstantParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class CosineAnnealingLR(CosineAnnealingParamScheduler):
    """Schedule the learning rate as `CosineAnnealingParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class CosineAnnealingWarmRestartsLR(CosineAnnealingWarmRestartsParamScheduler):
    """Schedule the learning rate as `CosineAnnealingWarmRestartsParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class CosineRestartLR(CosineRestartParamScheduler):
    """Schedule the learning rate as `CosineRestartParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class CyclicLR(CyclicParamScheduler):
    """Schedule the learning rate as `CyclicParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class ExponentialLR(ExponentialParamScheduler):
    """Schedule the learning rate as `ExponentialParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class HalfLifeLR(HalfLifeParamScheduler):
    """Schedule the learning rate as `HalfLifeParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class InverseSqrtLR(InverseSqrtParamScheduler):
    """Schedule the learning rate as `InverseSqrtParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class LambdaLR(LambdaParamScheduler):
    """Schedule the learning rate as `LambdaParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class LinearLR(LinearParamScheduler):
    """Schedule the learning rate as `LinearParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class MultiStepLR(MultiStepParamScheduler):
    """Schedule the learning rate as `MultiStepParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class MultiplicativeLR(MultiplicativeParamScheduler):
    """Schedule the learning rate as `MultiplicativeParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class OneCycleLR(OneCycleParamScheduler):
    """Schedule the learning rate as `OneCycleParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class PiecewiseLR(PiecewiseParamScheduler):
    """Schedule the learning rate as `PiecewiseParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class PolyLR(PolyParamScheduler):
    """Schedule the learning rate as `PolyParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class PolyRestartLR(PolyRestartParamScheduler):
    """Schedule the learning rate as `PolyRestartParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class QuadraticWarmupLR(QuadraticWarmupParamScheduler):
    """Schedule the learning rate as `QuadraticWarmupParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class ReduceOnPlateauLR(ReduceOnPlateauParamScheduler):
    """Schedule the learning rate as `ReduceOnPlateauParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class SequentialLR(SequentialParamScheduler):
    """Schedule the learning rate as `SequentialParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class StepLR(StepParamScheduler):
    """Schedule the learning rate as `StepParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class TanhLR(TanhParamScheduler):
    """Schedule the learning rate as `TanhParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class TriStageLR(TriStageParamScheduler):
    """Schedule the learning rate as `TriStageParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class WarmupStableDecayLR(WarmupStableDecayParamScheduler):
    """Schedule the learning rate as `WarmupStableDecayParamScheduler` does."""

    param_name: str = field(default="lr", init=False)
