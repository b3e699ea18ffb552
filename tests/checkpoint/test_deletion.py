"""What retention deletes, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resumable_sched.checkpoint import CheckpointManager, LocalStorage, Retention
from tests.checkpoint.interposed import Interposed

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_retention_that_fails_does_not_fail_the_save(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The checkpoint is committed; the next save tries to delete again."""

    def refuse(key: str) -> None:
        del key
        raise PermissionError(1, "Operation not permitted")

    storage = Interposed(LocalStorage(tmp_path), lambda _: None)
    delete = storage.delete
    storage.delete = refuse
    with CheckpointManager(storage, {"a": 1}, retention=Retention(keep_last=1), asynchronous=False) as manager:
        for iteration in range(3):
            manager.save(iteration)
        assert [it.iteration for it in manager.checkpoints()] == [0, 1, 2]
        storage.delete = delete
        manager.save(3)

    assert "could not be deleted" in caplog.text
    assert [it.iteration for it in manager.checkpoints()] == [3]
