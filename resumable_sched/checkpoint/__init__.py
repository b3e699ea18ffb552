"""Checkpoints: state in, committed files out, and back."""

from resumable_sched.checkpoint.catalog import Checkpoint, Problem
from resumable_sched.checkpoint.manager import CheckpointManager, load
from resumable_sched.checkpoint.retention import Retention
from resumable_sched.checkpoint.staging import Save
from resumable_sched.checkpoint.storage import FsspecStorage, LocalStorage, Storage, open_storage

__all__ = [
    "Checkpoint",
    "CheckpointManager",
    "FsspecStorage",
    "LocalStorage",
    "Problem",
    "Retention",
    "Save",
    "Storage",
    "load",
    "open_storage",
]
