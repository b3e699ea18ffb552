"""Declare the schedules of the momentum: each pins `param_name` of its family, where everything is documented."""

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
    "ConstantMomentum",
    "CosineAnnealingMomentum",
    "CosineRestartMomentum",
    "ExponentialMomentum",
    "LinearMomentum",
    "MultiStepMomentum",
    "OneCycleMomentum",
    "PolyMomentum",
    "ReduceOnPlateauMomentum",
    "StepMomentum",
]


@final
@dataclass(frozen=True, eq=False)
class ConstantMomentum(ConstantParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `ConstantParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class CosineAnnealingMomentum(CosineAnnealingParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `CosineAnnealingParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class CosineRestartMomentum(CosineRestartParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `CosineRestartParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class ExponentialMomentum(ExponentialParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `ExponentialParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class LinearMomentum(LinearParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `LinearParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class MultiStepMomentum(MultiStepParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `MultiStepParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class OneCycleMomentum(OneCycleParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `OneCycleParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class PolyMomentum(PolyParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `PolyParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class ReduceOnPlateauMomentum(ReduceOnPlateauParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `ReduceOnPlateauParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class StepMomentum(StepParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `StepParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)
