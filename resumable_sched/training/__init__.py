"""Schedules and checkpoints together."""

from resumable_sched.training.group_storage import load_group, save_group

__all__ = ["load_group", "save_group"]
