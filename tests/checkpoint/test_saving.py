"""Saving in the background, on full disks, and in processes that die."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from resumable_sched.checkpoint import CheckpointManager, LocalStorage, Retention, load
from resumable_sched.checkpoint.lineage import claim_url
from resumable_sched.errors import FencedError, IncompleteCheckpointError
from resumable_sched.testing import FaultyStorage, SimulatedCrash
from tests.checkpoint.exact import bits
from tests.checkpoint.interposed import Interposed, fail_on_second, wait_for
from tests.checkpoint.states import OneParameter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from resumable_sched.checkpoint.storage import Buffer


@pytest.mark.parametrize("kind", [".safetensors", "manifest.json"])
@pytest.mark.parametrize("call", ["save", "wait", "close", "restore", "record", "handle"])
def test_an_error_in_the_background_is_raised_at_the_next_call_once(tmp_path: Path, kind: str, call: str) -> None:
    """A failed save is not forgotten, whatever is called next; then the manager goes on."""
    state = {"a": 1}
    manager = CheckpointManager(Interposed(LocalStorage(tmp_path), fail_on_second(kind)), state)
    manager.save(1).wait()
    handle = manager.save(2)
    calls: dict[str, Callable[[], object]] = {
        "save": lambda: manager.save(3),
        "wait": manager.wait,
        "close": manager.close,
        "restore": manager.restore,
        "record": lambda: manager.record(1, {}),
        "handle": handle.wait,
    }

    with pytest.raises(OSError, match="No space left"):
        calls[call]()

    assert handle.done
    if call == "handle":
        with pytest.raises(OSError, match="No space left"):
            manager.wait()
    if call != "close":
        manager.save(4).wait()
    manager.close()
    assert [it.iteration for it in manager.checkpoints() if it.status == "complete"] == [
        1,
        *([4] if call != "close" else []),
    ]


def test_a_shard_that_could_not_be_written_gives_its_room_back(tmp_path: Path) -> None:
    """On a full disk the parts of a failed save would keep the next one from succeeding."""
    manager = CheckpointManager(
        Interposed(LocalStorage(tmp_path), fail_on_second(".safetensors")), {"a": 1}, asynchronous=False
    )
    manager.save(1)
    with pytest.raises(OSError, match="No space left"):
        manager.save(2)
    manager.close()

    assert {it.iteration for it in manager.checkpoints()} == {1}
    assert len(list(tmp_path.glob("ckpt-*"))) == 1


@pytest.mark.parametrize("half_written", [False, True])
def test_a_manifest_that_does_not_fit_gives_the_room_of_its_shards_back(tmp_path: Path, *, half_written: bool) -> None:
    """Where the disk is full at the very end, nothing of the save is left, and one that fits succeeds."""
    manager = CheckpointManager(
        storage := Interposed(LocalStorage(tmp_path), fail_on_second("manifest.json")), {"a": 1}, asynchronous=False
    )
    manager.save(1)
    if half_written:  # as fsspec's local files do
        storage.before_write = _after_half_a_manifest(tmp_path, storage.before_write)
    with pytest.raises(OSError, match="No space left"):
        manager.save(2)

    assert [path.name.rpartition("-")[2] for path in tmp_path.glob("ckpt-*")] == ["0001"]
    manager.save(3)
    manager.close()
    assert [(it.iteration, it.status) for it in manager.checkpoints()] == [(1, "complete"), (3, "complete")]


def _after_half_a_manifest(root: Path, hook: Callable[[str], None]) -> Callable[[str], None]:
    def leave(key: str) -> None:
        if key.endswith("-0002/manifest.json"):
            (root / key).write_bytes(b"{")
        hook(key)

    return leave


@pytest.mark.parametrize(
    ("error", "arrives", "stays"),
    [(OSError(5, "I/O error"), True, True), (TimeoutError(), False, True), (OSError(5, "I/O error"), False, False)],
)
def test_a_manifest_that_is_there_or_may_still_come_keeps_its_shards(
    tmp_path: Path, error: OSError, *, arrives: bool, stays: bool
) -> None:
    """An error after the manifest was written, or an answer that was lost, is no reason to delete what it refers to."""
    storage = Interposed(LocalStorage(tmp_path), lambda _: None)
    write = storage._storage.write

    def fail_after(key: str, parts: Iterable[Buffer], size: int) -> None:
        if arrives or not key.endswith("manifest.json"):
            write(key, parts, size)
        if key.endswith("manifest.json"):
            raise error

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(storage._storage, "write", fail_after)
        with CheckpointManager(storage, {"a": 1}, asynchronous=False) as manager, pytest.raises(type(error)):
            manager.save(1)

    found = [it.status for it in manager.checkpoints()]
    assert found == ([] if not stays else ["complete"] if arrives else ["partial"])


def test_a_replaced_job_whose_manifest_fails_deletes_nothing(tmp_path: Path) -> None:
    """If a newer start claims meanwhile, the failed save is fenced and its files are left to that start."""
    storage = Interposed(LocalStorage(tmp_path), lambda _: None)

    def replaced(key: str) -> None:
        if key.endswith("manifest.json"):
            claim_url(LocalStorage(tmp_path))
            raise OSError(28, "No space left on device")

    storage.before_write = replaced
    with CheckpointManager(storage, {"a": 1}, asynchronous=False) as manager, pytest.raises(FencedError):
        manager.save(1)

    assert [it.status for it in manager.checkpoints()] == ["partial"]


def test_a_writer_that_cannot_be_started_is_an_error_of_the_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system gives no thread, the handle and the next call say so; nothing hangs, and later saves go on."""
    with CheckpointManager(tmp_path, {"a": 1}) as manager:
        manager.save(1)
        manager.wait()
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", _no_thread)
            handle = manager.save(2)

        with pytest.raises(RuntimeError, match="can't start new thread"):
            handle.wait(timeout=10)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            manager.save(3)
        manager.save(4)

    assert [it.iteration for it in manager.checkpoints()] == [1, 4]


def _no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_the_training_may_change_everything_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    """The checkpoint has the values of the call, although tensors and containers change before a byte is written."""
    go = threading.Event()
    inner: dict[str, Any] = {"list": [1, 2], "tensor": torch.zeros(3), "array": np.zeros(3)}
    state: dict[str, Any] = {"model": OneParameter(torch.zeros(3)), "inner": inner, "n": 0}
    storage = Interposed(LocalStorage(tmp_path), lambda _: None)
    manager = CheckpointManager(storage, state)
    manager.save(0).wait()
    storage.before_write = wait_for(go)

    handle = manager.save(1)
    with torch.no_grad():
        state["model"].w.fill_(7)
    inner["list"].append(3)
    inner["tensor"].fill_(7)
    inner["array"].fill(7)
    state["n"] = 7
    assert not handle.done
    go.set()
    manager.close()

    target: dict[str, Any] = {"model": OneParameter(torch.ones(3)), "inner": None, "n": None}
    load(tmp_path, target, 1)
    assert bits(target["inner"]) == bits({"list": [1, 2], "tensor": torch.zeros(3), "array": np.zeros(3)})
    assert (target["model"].w.sum().item(), target["n"]) == (0.0, 0)


def test_an_interrupt_while_waiting_does_not_forget_the_save_under_way(tmp_path: Path) -> None:
    """After Ctrl-C in a save that waits for the one before, another save still waits: the copy is not overwritten."""
    go = threading.Event()
    state: dict[str, Any] = {"t": torch.zeros(4)}
    storage = Interposed(LocalStorage(tmp_path), lambda _: None)
    manager = CheckpointManager(storage, state)
    manager.restore()
    storage.before_write = wait_for(go)
    manager.save(1)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)  # whenever it comes, the save below cannot have got past the wait
    with pytest.raises(KeyboardInterrupt):
        manager.save(2)
    signal.signal(signal.SIGALRM, previous)
    state["t"] = torch.ones(4)
    releaser = threading.Timer(0.05, go.set)
    releaser.start()
    manager.save(3)
    manager.close()

    for iteration, value in ((1, 0.0), (3, 1.0)):
        load(tmp_path, target := {"t": None}, iteration)
        assert target["t"] is not None
        assert target["t"].tolist() == [value] * 4


@pytest.mark.parametrize("half_written", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("crash_after", range(18))
def test_a_crash_leaves_the_last_acknowledged_checkpoint(
    tmp_path: Path, crash_after: int, *, asynchronous: bool, half_written: bool
) -> None:
    """Whichever write is the last one to succeed, a new process gets what was acknowledged last, or newer and whole."""
    acknowledged = 0
    for _ in range(2):  # the second process dies too, at the same write of its own
        storage = FaultyStorage(LocalStorage(tmp_path), fail_after=crash_after, half_written=half_written)
        state: dict[str, Any] = {"t": torch.zeros(5), "n": 0}
        manager = CheckpointManager(storage, state, retention=Retention(keep_last=1), asynchronous=asynchronous)
        with contextlib.suppress(SimulatedCrash, IncompleteCheckpointError):
            manager.restore()
            assert state["n"] >= acknowledged
            for _ in range(5):
                state["n"] += 1
                state["t"].fill_(state["n"])
                manager.save(state["n"]).wait()
                acknowledged = state["n"]
        with contextlib.suppress(SimulatedCrash):
            manager.close()

        fresh: dict[str, Any] = {"t": torch.full((5,), -1.0), "n": -1}
        try:
            found = load(tmp_path, fresh)
        except IncompleteCheckpointError:
            # Nothing was acknowledged yet. Where a storage leaves half a manifest, a restart says so, too.
            assert acknowledged == 0
            continue
        assert acknowledged <= found.iteration <= acknowledged + 1
        assert fresh["t"].tolist() == [fresh["n"]] * 5
        assert fresh["n"] == found.iteration


def test_the_error_that_ends_the_block_is_the_one_that_is_raised(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If the last save failed too, that goes to the log."""
    storage = Interposed(LocalStorage(tmp_path), fail_on_second(".safetensors"))

    def fail() -> None:
        with CheckpointManager(storage, {"a": 1}) as manager:
            manager.save(1)
            manager.save(2)
            raise ZeroDivisionError

    with caplog.at_level(logging.ERROR), pytest.raises(ZeroDivisionError):
        fail()

    assert "The last save did not end well either" in caplog.text
    assert "No space left" in caplog.text
