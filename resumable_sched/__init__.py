"""Parameter schedulers for PyTorch, and checkpoints that let a run continue as if it had never stopped.

::

    group = SchedulerGroup(optimizer, [LinearLR(...), CosineAnnealingLR(...)], epoch_length=len(loader), max_epochs=12)
    state = {"model": model, "optimizer": optimizer, "schedule": group, "rng": RNGState(), "loader": loader}
    with CheckpointManager("s3://bucket/run", state) as manager:
        manager.restore()
        ...
"""

from resumable_sched import errors, testing
from resumable_sched._version import __version__
from resumable_sched.checkpoint import Checkpoint, CheckpointManager, Retention, load
from resumable_sched.distributed import RNGState
from resumable_sched.schedule import (
    ConstantLR,
    ConstantMomentum,
    ConstantParamScheduler,
    CosineAnnealingLR,
    CosineAnnealingMomentum,
    CosineAnnealingParamScheduler,
    CosineRestartLR,
    CosineRestartMomentum,
    CosineRestartParamScheduler,
    ExponentialLR,
    ExponentialMomentum,
    ExponentialParamScheduler,
    LinearLR,
    LinearMomentum,
    LinearParamScheduler,
    MultiStepLR,
    MultiStepMomentum,
    MultiStepParamScheduler,
    OneCycleLR,
    OneCycleMomentum,
    OneCycleParamScheduler,
    ParamScheduler,
    PolyLR,
    PolyMomentum,
    PolyParamScheduler,
    ReduceOnPlateauLR,
    ReduceOnPlateauMomentum,
    ReduceOnPlateauParamScheduler,
    SchedulerGroup,
    StepLR,
    StepMomentum,
    StepParamScheduler,
    Trace,
    build_schedulers,
    load_config,
    register_scheduler,
)
from resumable_sched.training import load_group, save_group

__all__ = [
    "Checkpoint",
    "CheckpointManager",
    "ConstantLR",
    "ConstantMomentum",
    "ConstantParamScheduler",
    "CosineAnnealingLR",
    "CosineAnnealingMomentum",
    "CosineAnnealingParamScheduler",
    "CosineRestartLR",
    "CosineRestartMomentum",
    "CosineRestartParamScheduler",
    "ExponentialLR",
    "ExponentialMomentum",
    "ExponentialParamScheduler",
    "LinearLR",
    "LinearMomentum",
    "LinearParamScheduler",
    "MultiStepLR",
    "MultiStepMomentum",
    "MultiStepParamScheduler",
    "OneCycleLR",
    "OneCycleMomentum",
    "OneCycleParamScheduler",
    "ParamScheduler",
    "PolyLR",
    "PolyMomentum",
    "PolyParamScheduler",
    "RNGState",
    "ReduceOnPlateauLR",
    "ReduceOnPlateauMomentum",
    "ReduceOnPlateauParamScheduler",
    "Retention",
    "SchedulerGroup",
    "StepLR",
    "StepMomentum",
    "StepParamScheduler",
    "Trace",
    "__version__",
    "build_schedulers",
    "errors",
    "load",
    "load_config",
    "load_group",
    "register_scheduler",
    "save_group",
    "testing",
]
