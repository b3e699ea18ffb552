"""What retention deletes, and in which order."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from resumable_sched.checkpoint import CheckpointManager, LocalStorage, Retention
from resumable_sched.checkpoint.lineage import claim_url
from tests.checkpoint.interposed import Interposed

if TYPE_CHECKING:
    from pathlib import Path


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


@pytest.mark.parametrize("part", ["manifest.json", "folder"])
def test_a_checkpoint_that_cannot_be_deleted_does_not_keep_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    """All others go; the log says once per save which one stays, and when it can be deleted it is."""
    storage = Interposed(LocalStorage(tmp_path), lambda _: None)
    delete, delete_folder = storage.delete, storage.delete_folder

    def refuse_object(key: str) -> None:
        if part == "manifest.json" and key.startswith("ckpt-000000000001-"):
            raise PermissionError(1, "Operation not permitted", key)
        delete(key)

    def refuse_folder(folder: str) -> None:
        if part == "folder" and folder.startswith("ckpt-000000000001-"):
            raise PermissionError(1, "Operation not permitted", folder)
        delete_folder(folder)

    storage.delete, storage.delete_folder = refuse_object, refuse_folder
    with CheckpointManager(storage, {"a": 1}, retention=Retention(keep_last=1), asynchronous=False) as manager:
        for iteration in range(1, 6):
            manager.save(iteration)
        stays = [(it.iteration, it.status) for it in manager.checkpoints()]
        messages = [record.getMessage() for record in caplog.records]
        storage.delete, storage.delete_folder = delete, delete_folder
        manager.save(6)

    assert stays == [(1, "complete" if part == "manifest.json" else "partial"), (5, "complete")]
    assert len(messages) == 4
    assert all("ckpt-000000000001-" in it and "could not be deleted" in it for it in messages)
    assert [it.iteration for it in manager.checkpoints()] == [6]


def _leave(path: Path, size: int = 3) -> Path:
    """Leave what a process leaves that is killed while it writes *path*."""
    path.parent.mkdir(exist_ok=True)
    leftover = path.with_name(f".tmp-{uuid.uuid4().hex}-{path.name}")
    leftover.write_bytes(bytes(size))
    return leftover


@pytest.mark.parametrize("empty", [False, True])
def test_a_save_that_was_killed_in_its_first_write_is_listed_and_then_removed(tmp_path: Path, *, empty: bool) -> None:
    """A folder with nothing but an unfinished shard, or with nothing at all, is partial; the next commit removes it."""
    with CheckpointManager(tmp_path, {"a": 1}) as manager:
        manager.save(1)
    claim = manager.checkpoints()[0].save_id.rpartition("-")[0]
    killed = tmp_path / f"ckpt-000000000002-{claim}-0002"
    killed.mkdir()
    if not empty:
        _leave(killed / "rank-00000.safetensors")

    with CheckpointManager(tmp_path, {"a": 1}, retention=Retention(keep_last=2)) as manager:
        listed = [(it.iteration, it.status, it.size) for it in manager.checkpoints()][1:]
        manager.restore()
        manager.save(3)

    assert listed == [(2, "partial", 0 if empty else 3)]
    assert [it.iteration for it in manager.checkpoints()] == [1, 3]
    assert not killed.exists()


@pytest.mark.parametrize("restores", [True, False])
def test_claims_that_decide_nothing_any_more_are_removed(tmp_path: Path, *, restores: bool) -> None:
    """Starts that died in their claim, before they had picked, or before their first save, leave nothing for good."""
    state = {"a": 1}
    for iteration in (1, 2):
        with CheckpointManager(tmp_path, state) as manager:
            manager.save(iteration)
    with CheckpointManager(tmp_path, state) as manager:
        manager.restore(1)  # gone back, and died before the first save
    note = next(tmp_path.glob("incarnations/000003-*.resumed.json"))
    claim_url(LocalStorage(tmp_path))  # died before it had picked
    (tmp_path / "incarnations" / "000005-0123456789ab.json").write_bytes(note.read_bytes())  # died in its claim

    with CheckpointManager(tmp_path, state, retention=Retention(keep_last=3)) as manager:
        if restores:
            manager.restore()
        manager.save(3)

    assert [it.iteration for it in manager.checkpoints()] == [1, 3]
    # What the start that went back says of older checkpoints stands until a newer one says it.
    expected = {1, 6} if restores else {1, 3, 6}
    assert {int(path.name[:6]) for path in tmp_path.glob("incarnations/*")} == expected
    assert manager.verify() == []


def test_unfinished_writes_of_older_starts_are_removed_and_those_of_newer_ones_are_not(tmp_path: Path) -> None:
    """Claims and notes that a killed job was writing go; a claim that may just be coming, and metrics, stay."""
    with CheckpointManager(tmp_path, {"a": 1}) as manager:
        manager.save(1, block=True)
        (kept,) = tmp_path.glob("ckpt-*")
        claim, copy = sorted(tmp_path.glob("incarnations/*"), reverse=True)
        gone = [
            _leave(tmp_path / "incarnations" / "000001-0123456789ab.json"),
            _leave(tmp_path / "incarnations" / "000001-0123456789ab.resumed.json"),
            _leave(claim),
            _leave(copy),
            _leave(kept / "manifest.json"),
            _leave(kept / "rank-00000.safetensors"),
        ]
        stays = [
            _leave(tmp_path / "incarnations" / "000009-0123456789ab.json"),
            _leave(kept / "metrics-000000-0a1b2c3d4e5f.json"),
            _leave(tmp_path / "notes.txt"),
        ]
    with CheckpointManager(tmp_path, {"a": 1}, retention=Retention(keep_last=2)) as manager:
        manager.restore()
        manager.save(2)

    assert [it.exists() for it in gone] == [False] * len(gone)
    assert [it.exists() for it in stays] == [True] * len(stays)
