"""Declare the schedules of the learning rate: each pins `param_name` of its family, where everything is documented."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

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
from resumable_sched.schedule.plateau import ReduceOnPlateauParamScheduler

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineRestartLR",
    "ExponentialLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "PolyLR",
    "ReduceOnPlateauLR",
    "StepLR",
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
class CosineRestartLR(CosineRestartParamScheduler):
    """Schedule the learning rate as `CosineRestartParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class ExponentialLR(ExponentialParamScheduler):
    """Schedule the learning rate as `ExponentialParamScheduler` does."""

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
class OneCycleLR(OneCycleParamScheduler):
    """Schedule the learning rate as `OneCycleParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class PolyLR(PolyParamScheduler):
    """Schedule the learning rate as `PolyParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class ReduceOnPlateauLR(ReduceOnPlateauParamScheduler):
    """Schedule the learning rate as `ReduceOnPlateauParamScheduler` does."""

    param_name: str = field(default="lr", init=False)


@final
@dataclass(frozen=True, eq=False)
class StepLR(StepParamScheduler):
    """Schedule the learning rate as `StepParamScheduler` does."""

    param_name: str = field(default="lr", init=False)
