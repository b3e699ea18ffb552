"""The manager in one process: a run goes on bit for bit, in place; metrics, arguments, and what others do meanwhile."""

from __future__ import annotations

import gc
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resumable_sched.checkpoint import CheckpointManager, LocalStorage, Retention, load
from resumable_sched.errors import IncompleteCheckpointError, UnstorableError
from tests.checkpoint.interposed import Interposed
from tests.checkpoint.states import Run, seed_everything, small_model


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("stop", [0, 1, 4])
def test_a_run_that_was_restored_goes_on_bit_for_bit(tmp_path: Path, stop: int, *, asynchronous: bool) -> None:
    """Losses and the final state equal the uninterrupted run's; the training goes on while the save does."""
    whole = Run()
    seed_everything(5)
    losses = whole.train(7)

    run = Run()
    seed_everything(5)
    run.train(stop)
    with CheckpointManager(tmp_path, run.state, asynchronous=asynchronous) as manager:
        manager.save(stop)
        run.train(2)

    again = Run(seed=99)
    seed_everything(77)
    with CheckpointManager(tmp_path, again.state) as manager:
        restored = manager.restore()
    rest = again.train(7 - stop)

    assert restored is not None
    assert restored.iteration == stop
    assert rest == losses[stop:]
    assert again.bits() == whole.bits()


def test_to_restore_twice_or_into_a_run_that_has_trained_changes_nothing(tmp_path: Path) -> None:
    """Whatever the objects have been through, after a restore they are what was saved."""
    run = Run()
    run.train(3)
    with CheckpointManager(tmp_path, run.state) as manager:
        manager.save(3)
        manager.wait()
        expected = run.bits()
        run.train(2)
        manager.restore()
        once = run.bits()
        manager.restore()

    assert once == expected
    assert run.bits() == expected


def test_restoring_writes_into_the_live_tensors(tmp_path: Path) -> None:
    """Parameters, buffers and the moments of a stepped optimizer stay where they are in memory."""
    run = Run()
    run.train(2)
    with CheckpointManager(tmp_path, run.state, asynchronous=False) as manager:
        manager.save(2)
        run.train(1)
        tensors = [*run.model.parameters(), *run.model.buffers()]
        moments = [entry["exp_avg"] for entry in run.optimizer.state.values()]
        places = [it.data_ptr() for it in (*tensors, *moments)]
        manager.restore()

    after = [*run.model.parameters(), *run.model.buffers(), *(it["exp_avg"] for it in run.optimizer.state.values())]
    assert [it.data_ptr() for it in after] == places
    assert [it.grad is None for it in run.model.parameters()] == [False] * len(list(run.model.parameters()))


def test_only_restores_the_named_and_leaves_the_others(tmp_path: Path) -> None:
    """Names that are left out are neither loaded nor expected."""
    with CheckpointManager(tmp_path, {"a": 1, "b": 2}) as manager:
        manager.save(0)
    state = {"a": 0, "c": 0}

    with CheckpointManager(tmp_path, state) as manager:
        manager.restore(only=["a"])
        with pytest.raises(ValueError, match="`only` must be among"):
            manager.restore(only=["b"])
        with pytest.raises(TypeError, match="must be a list of names"):
            manager.restore(only="a")

    assert state == {"a": 1, "c": 0}


def test_what_cannot_be_stored_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    """The path and type are in the error, and the URL stays empty: not even a claim."""
    state = {"model": small_model(), "loader": {"worker": [0, 1, 2, {3}]}}

    with (
        CheckpointManager(tmp_path, state) as manager,
        pytest.raises(UnstorableError, match=r'state\["loader"\]\["worker"\]\[3\] .* builtins.set'),
    ):
        manager.save(0)

    assert LocalStorage(tmp_path).list() == {}


def test_a_second_writing_manager_is_refused(tmp_path: Path) -> None:
    """One process has one writer per URL, however it is spelled, until that one is closed."""
    first = CheckpointManager(tmp_path, {"a": 1})
    with pytest.raises(RuntimeError, match="already has an open manager"):
        CheckpointManager(f"file://{tmp_path}/", {"a": 1})
    CheckpointManager(tmp_path, {"a": 1}, read_only=True).close()
    first.close()

    second = CheckpointManager(tmp_path, {"a": 1})
    del second
    gc.collect()
    CheckpointManager(tmp_path, {"a": 1}).close()


def test_a_read_only_manager_writes_nothing(tmp_path: Path) -> None:
    """It restores, even past a damaged checkpoint, and the listing is the same byte for byte; it refuses to save."""
    with CheckpointManager(tmp_path, {"a": 1, "t": torch.zeros(3)}) as manager:
        manager.save(1)
        manager.save(2)
    (shard,) = tmp_path.glob("*-0002/*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x55")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    with CheckpointManager(tmp_path, {"a": 0, "t": torch.ones(3)}, read_only=True) as manager:
        restored = manager.restore()
        for refused in (lambda: manager.save(3), lambda: manager.record(1, {})):
            with pytest.raises(RuntimeError, match="read_only=True"):
                refused()

    assert restored is not None
    assert restored.iteration == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_metrics_are_kept_recorded_and_decide_what_is_best(tmp_path: Path) -> None:
    """Metrics of the save and later ones are listed; NaN is never best; numpy and tensor numbers count as numbers."""
    retention = Retention(keep_last=1, keep_best=("loss", "min", 1))
    with CheckpointManager(tmp_path, {"a": 1}, retention=retention, asynchronous=False) as manager:
        manager.save(1, {"loss": float("nan")})
        manager.save(2, {"loss": np.float32(0.5), "accuracy": torch.tensor(0.25)})  # type: ignore[dict-item]
        manager.save(3, {"loss": math.inf})
        manager.record(3, {"loss": 0.75})
        manager.record(3, {"loss": 0.625})
        manager.save(4)
        restored = manager.restore()
        listed = {it.iteration: dict(it.metrics) for it in manager.checkpoints()}

        assert listed == {2: {"loss": 0.5, "accuracy": 0.25}, 4: {}}
        assert restored is not None
        manager.record(4, {"loss": 0.25})
        assert manager.checkpoints()[-1].metrics == {"loss": 0.25}
        with pytest.raises(IncompleteCheckpointError, match="no complete checkpoint of iteration 9"):
            manager.record(9, {"loss": 1.0})


@pytest.mark.parametrize("value", ["3", None, [1.0], torch.ones(2), 10**400, object()])
def test_metrics_that_are_no_numbers_are_refused(tmp_path: Path, value: Any) -> None:
    """The name is in the error, and nothing is written."""
    with CheckpointManager(tmp_path, {"a": 1}) as manager:
        with pytest.raises(TypeError, match=r"`metrics\['loss'\]` must be a number"):
            manager.save(1, {"loss": value})
        with pytest.raises(TypeError, match="A name in `metrics` must be a string"):
            manager.save(1, {1: 1.0})  # type: ignore[dict-item]

    assert manager.checkpoints() == []


def test_nothing_there_yet_is_no_error(tmp_path: Path) -> None:
    """The first start restores None; to ask for an iteration, or to load, is an error."""
    with CheckpointManager(tmp_path, {"a": 1}) as manager:
        assert manager.restore() is None
        with pytest.raises(IncompleteCheckpointError, match="iteration 3, but has none instead"):
            manager.restore(3)
    with pytest.raises(IncompleteCheckpointError):
        load(tmp_path, {"a": 1})


@pytest.mark.parametrize("iteration", [-1, 1.5, "1", None, 10**12])
def test_iterations_that_are_no_counts_are_refused(tmp_path: Path, iteration: Any) -> None:
    """The error names the argument and its value."""
    with CheckpointManager(tmp_path, {"a": 1}) as manager, pytest.raises(ValueError, match="`iteration` must be"):
        manager.save(iteration)


@pytest.mark.parametrize("state", [{}, {"": 1}, {1: 1}, {"$x": 1}, {"__x": 1}, {"rank-00000": 1}])
def test_names_that_would_clash_with_the_format_are_refused(tmp_path: Path, state: Any) -> None:
    """Names that the format uses itself are refused at construction."""
    with pytest.raises(ValueError, match="`state` must"):
        CheckpointManager(tmp_path, state)


def test_storage_options_go_with_urls_only(tmp_path: Path) -> None:
    """Options beside a ready storage would be ignored, so they are refused."""
    with pytest.raises(ValueError, match="`storage_options` must be empty"):
        CheckpointManager(LocalStorage(tmp_path), {"a": 1}, storage_options={"anon": True})


def test_a_closed_manager_and_a_forked_one_refuse_to_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After close, or in a forked process, saving and restoring are errors that say what to do."""
    manager = CheckpointManager(tmp_path, {"a": 1})
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", lambda: -1)
        with pytest.raises(RuntimeError, match="which this one is a fork"):
            manager.save(1)
    manager.close()
    manager.close()

    for call in (lambda: manager.save(1), manager.restore, lambda: manager.record(1, {})):
        with pytest.raises(RuntimeError, match="is closed"):
            call()


def test_a_checkpoint_that_vanishes_while_it_is_read_is_passed_over(tmp_path: Path) -> None:
    """If another job's retention deletes the newest one meanwhile, the listing is made again."""
    with CheckpointManager(tmp_path, {"t": torch.zeros(2), "n": 1}, asynchronous=False) as manager:
        manager.save(1)
        manager.save(2)
    storage = Interposed(LocalStorage(tmp_path), lambda _: None)
    read = storage.read

    def vanish(key: str) -> bytes:
        content = read(key)
        if key.endswith("-0002/manifest.json"):
            LocalStorage(tmp_path).delete_folder(Path(key).parent.name)
        return content

    storage.read = vanish

    assert load(storage, {"t": torch.ones(2)}).iteration == 1


def test_no_note_is_left_in_a_checkpoint_that_vanished(tmp_path: Path) -> None:
    """What another job deletes while it is read is not damaged, and nothing is written into its folder again."""
    with CheckpointManager(tmp_path, {"t": torch.zeros(2), "n": 1}, asynchronous=False) as manager:
        manager.save(1)
        manager.save(2)
    storage = Interposed(LocalStorage(tmp_path), lambda _: None)
    read = storage.read_into

    def vanish(key: str, offset: int, target: memoryview) -> int:
        if "-0002/" in key:
            LocalStorage(tmp_path).delete_folder(Path(key).parent.name)
        return read(key, offset, target)

    storage.read_into = vanish
    with CheckpointManager(storage, {"t": torch.ones(2), "n": 0}) as manager:
        restored = manager.restore()

    assert restored is not None
    assert restored.iteration == 1
    assert [it.iteration for it in manager.checkpoints()] == [1]


def test_an_object_that_is_listed_for_ever_but_not_there_ends_in_an_error(tmp_path: Path) -> None:
    """A storage whose listing is wrong does not make a restore run for ever."""
    with CheckpointManager(tmp_path, {"n": 1}, asynchronous=False) as manager:
        manager.save(1)
    storage = Interposed(LocalStorage(tmp_path), lambda _: None)

    def missing(key: str) -> bytes:
        raise FileNotFoundError(2, "No such file", key)

    storage.read = missing

    with pytest.raises(IncompleteCheckpointError, match="listed, but reading it says that it is not there"):
        load(storage, {"n": 0})
