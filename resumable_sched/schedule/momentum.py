"""Declare the schedules of the momentum: each pins `param_name` of its family, where everything is documented."""

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
    "ConstantMomentum",
    "CosineAnnealingMomentum",
    "CosineAnnealingWarmRestartsMomentum",
    "CosineRestartMomentum",
    "CyclicMomentum",
    "ExponentialMomentum",
    "HalfLifeMomentum",
    "InverseSqrtMomentum",
    "LambdaMomentum",
    "LinearMomentum",
    "MultiStepMomentum",
    "MultiplicativeMomentum",
    "OneCycleMomentum",
    "PiecewiseMomentum",
    "PolyMomentum",
    "PolyRestartMomentum",
    "QuadraticWarmupMomentum",
    "ReduceOnPlateauMomentum",
    "SequentialMomentum",
    "StepMomentum",
    "TanhMomentum",
    "TriStageMomentum",
    "WarmupStableDecayMomentum",
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
class CosineAnnealingWarmRestartsMomentum(CosineAnnealingWarmRestartsParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `CosineAnnealingWarmRestartsParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class CosineRestartMomentum(CosineRestartParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `CosineRestartParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class CyclicMomentum(CyclicParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `CyclicParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class ExponentialMomentum(ExponentialParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `ExponentialParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class HalfLifeMomentum(HalfLifeParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `HalfLifeParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class InverseSqrtMomentum(InverseSqrtParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `InverseSqrtParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class LambdaMomentum(LambdaParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `LambdaParamScheduler` does."""

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
class MultiplicativeMomentum(MultiplicativeParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `MultiplicativeParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class OneCycleMomentum(OneCycleParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `OneCycleParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class PiecewiseMomentum(PiecewiseParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `PiecewiseParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class PolyMomentum(PolyParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `PolyParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class PolyRestartMomentum(PolyRestartParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `PolyRestartParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class QuadraticWarmupMomentum(QuadraticWarmupParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `QuadraticWarmupParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class ReduceOnPlateauMomentum(ReduceOnPlateauParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `ReduceOnPlateauParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class SequentialMomentum(SequentialParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `SequentialParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class StepMomentum(StepParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `StepParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class TanhMomentum(TanhParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `TanhParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class TriStageMomentum(TriStageParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `TriStageParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)


@final
@dataclass(frozen=True, eq=False)
class WarmupStableDecayMomentum(WarmupStableDecayParamScheduler):
    """Schedule the momentum (Adam's is ``betas[0]``) as `WarmupStableDecayParamScheduler` does."""

    param_name: str = field(default="momentum", init=False)
