"""Schedules and checkpoints together: the training loop, its hooks, and groups on their own."""

from resumable_sched.training.group_storage import load_group, save_group
from resumable_sched.training.hooks import CheckpointHook, Hook, ParamSchedulerHook, PreemptionHook, TraceHook
from resumable_sched.training.progress import ProgressHook
from resumable_sched.training.run import Run, Update
from resumable_sched.training.runner import Runner

__all__ = [
    "CheckpointHook",
    "Hook",
    "ParamSchedulerHook",
    "PreemptionHook",
    "ProgressHook",
    "Run",
    "Runner",
    "TraceHook",
    "Update",
    "load_group",
    "save_group",
]
