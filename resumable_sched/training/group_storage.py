"""A scheduler group with its optimizers, saved and loaded in one commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from resumable_sched.checkpoint import CheckpointManager, Retention, load
from resumable_sched.distributed import shared_ranks

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from resumable_sched.checkpoint import Checkpoint, Storage
    from resumable_sched.schedule import SchedulerGroup

__all__ = ["load_group", "named_in_checkpoint", "save_group"]

T = TypeVar("T")


def save_group(
    url: str | os.PathLike[str] | Storage,
    group: SchedulerGroup,
    *,
    retention: Retention | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Save *group* and its optimizers in one commit, at its iteration; a collective if there are several ranks.

    Both are in the checkpoint or neither is. For a model, generators and data too, use a `CheckpointManager`.

    Args:
        url: A folder, or any URL that fsspec knows. Give the group a URL of its own: this counts as a new start of
            the job, and fences a manager that writes there.
        group: What to save.
        retention: Which earlier commits to keep; None keeps all.
        storage_options: What the fsspec file system takes.

    Raises:
        OSError: If it could not be written; earlier commits are untouched.
    """
    state = _state(group)
    with CheckpointManager(
        url,
        state,
        retention=retention,
        storage_options=storage_options,
        process_group=shared_ranks(),
        asynchronous=False,
    ) as manager:
        manager.save(group.iteration)


def load_group(
    url: str | os.PathLike[str] | Storage,
    group: SchedulerGroup,
    iteration: int | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """Load *group* and its optimizers from what `save_group` wrote; nothing is written.

    Args:
        url: Where it is.
        group: What to load, built as it was for the save.
        iteration: Which one; None for the newest that verifies.
        storage_options: What the fsspec file system takes.

    Returns:
        The checkpoint that was loaded.

    Raises:
        IncompleteCheckpointError: If there is none.
        StateMismatchError: If the optimizers differ; nothing was changed.
        ScheduleMismatchError: If the schedule differs; nothing was changed.
    """
    return load(url, _state(group), iteration, storage_options=storage_options)


def _state(group: SchedulerGroup) -> dict[str, Any]:
    return {"schedule": group, **named_in_checkpoint(group.optimizers)}


def named_in_checkpoint(optimizers: Mapping[str, T]) -> dict[str, T]:
    """Return *optimizers* by the names that they have in a checkpoint.

    >>> named_in_checkpoint({"only": 1}), named_in_checkpoint({"a": 1, "b": 2})
    ({'optimizer': 1}, {'optimizer a': 1, 'optimizer b': 2})
    """
    several = len(optimizers) > 1
    return {f"optimizer {name}" if several else "optimizer": each for name, each in optimizers.items()}
