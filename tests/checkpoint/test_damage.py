"""Damage of every file, bit by bit: it is named, restore steps back or needs nothing of it, and never mixes."""

from __future__ import annotations

import re
import shutil
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from resumable_sched.checkpoint import Checkpoint, CheckpointManager, LocalStorage, catalog, load
from resumable_sched.checkpoint.catalog import describe, examine
from resumable_sched.checkpoint.manifest import INCARNATIONS, survey
from resumable_sched.distributed import FakeRanks
from resumable_sched.errors import IncompleteCheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resumable_sched.checkpoint.manifest import Survey

_STEPS = (10, 20)


def _state(step: int) -> dict[str, Any]:
    model = torch.nn.Linear(40, 40)
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, step)
    return {"model": model, "step": step, "moments": {"a": torch.full((5,), step, dtype=torch.int64)}}


def _step_of(state: dict[str, Any]) -> int:
    """Return the step of a state, having seen that all of it is of that step."""
    step: int = state["step"]
    assert all(torch.all(parameter == step) for parameter in state["model"].parameters())
    assert state["moments"]["a"].tolist() == [step] * 5
    return step


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a URL with two starts, each with one checkpoint of two shards, a note, and metrics."""
    root = tmp_path_factory.mktemp("damage")

    def job(step: int, ranks: FakeRanks) -> None:
        state = _state(step)
        with CheckpointManager(root, state, process_group=ranks, asynchronous=False) as manager:
            manager.restore()
            state |= _state(step)
            manager.save(step)
            manager.record(step, {"loss": 1.5})

    for step in _STEPS:
        assert FakeRanks.run(2, partial(job, step)) == [None, None]
    assert list(examine(LocalStorage(root))) == []
    return root


def _files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def _restore(root: Path) -> tuple[int, Checkpoint]:
    state = _state(0)
    found = load(root, state)
    step = _step_of(state)
    assert found.iteration == step
    return step, found


def _expect(root: Path, damaged: Path) -> None:
    """Check that verify names the file, and that restore takes the newest one that does not need it."""
    key = damaged.relative_to(root).as_posix()
    assert [problem.file for problem in examine(LocalStorage(root))] == [key]

    step, found = _restore(root)

    needed = damaged.suffix == ".safetensors" or damaged.name == "manifest.json"
    if needed and damaged.parent.name.startswith("ckpt-000000000020"):
        assert step == 10
        if damaged.exists() or damaged.name != "manifest.json":
            (reason,) = found.rejected.values()
            assert reason.startswith(key)
    else:
        assert (step, found.rejected) == (20, {})


def _positions(path: Path) -> Iterator[int]:
    """Yield enough places: all around the joints, and every so often between them."""
    size = path.stat().st_size
    stride = max(size // 40, 1)
    return iter(sorted({*range(min(size, 12)), *range(0, size, stride), *range(size - 4, size)}))


def test_every_flipped_bit_is_named_and_stepped_over(run: Path) -> None:
    """At sampled positions of every file, with the bit going round, damage costs at most the checkpoint it is in."""
    for path in _files(run):
        content = path.read_bytes()
        for number, position in enumerate(_positions(path)):
            damaged = bytearray(content)
            damaged[position] ^= 1 << number % 8
            path.write_bytes(damaged)
            _expect(run, path)
        path.write_bytes(content)

    assert list(examine(LocalStorage(run))) == []


def test_every_truncated_or_lengthened_file_is_named_and_stepped_over(run: Path) -> None:
    """An empty file, a half one, one byte too few and one too many."""
    for path in _files(run):
        content = path.read_bytes()
        for damaged in (b"", content[: len(content) // 2], content[:-1], content + b"\n"):
            path.write_bytes(damaged)
            _expect(run, path)
        path.write_bytes(content)


def test_every_missing_file_is_named_and_stepped_over(run: Path) -> None:
    """Shards, manifests, claims, notes and metrics that came later, also what was written last of all."""
    for path in _files(run):
        content = path.read_bytes()
        path.unlink()
        if path.name == "manifest.json" and "000000000020" in path.parent.name:
            # With the manifest goes the knowledge that there was a note; the folder is named as partial.
            assert _restore(run)[0] == 10
            assert path.relative_to(run).as_posix() in [it.file for it in examine(LocalStorage(run))]
        else:
            _expect(run, path)
        path.write_bytes(content)


def test_metrics_of_which_both_copies_are_missing_are_named_if_later_ones_are_there(tmp_path: Path) -> None:
    """The numbers of the notes have no gaps, so the loss of any but the last shows; later ones are counted on."""
    with CheckpointManager(tmp_path, _state(1)) as manager:
        manager.save(1, block=True)
        for number in range(4):
            manager.record(1, {"loss": number, f"only {number}": 1.0})
        (folder,) = tmp_path.glob("ckpt-*")
        notes = sorted(folder.glob("metrics-*"))
        assert len(notes) == 8
        for lost in (*notes[6:], *notes[:4]):
            lost.unlink()
        named = [it.file for it in manager.verify()]
        manager.record(1, {"loss": 9})
        metrics = dict(manager.checkpoints()[0].metrics)

    assert named == [f"{folder.name}/metrics-00000{number}-*.json" for number in (0, 1)]
    assert metrics == {"loss": 9.0, "only 2": 1.0}


def test_swapped_files_are_noticed(run: Path) -> None:
    """A good file at the place of another good file is damage."""
    old, new = (min(run.glob(f"ckpt-0000000000{step}*")) for step in _STEPS)
    for name in ("manifest.json", "rank-00000.safetensors", "rank-00001.safetensors"):
        content = (new / name).read_bytes()
        (new / name).write_bytes((old / name).read_bytes())

        assert (new / name).relative_to(run).as_posix() in [it.file for it in examine(LocalStorage(run))]
        assert _restore(run)[0] == 10
        (new / name).write_bytes(content)


@pytest.mark.parametrize("where", ["header", "data", "manifest", "missing"])
def test_with_nothing_left_the_reasons_are_in_the_error(tmp_path: Path, where: str) -> None:
    """If the only checkpoint is damaged, restore says so and why; it does not start from nothing."""
    with CheckpointManager(tmp_path, _state(1)) as manager:
        manager.save(1)
    (shard,), (manifest,) = tmp_path.glob("*/*.safetensors"), tmp_path.glob("*/manifest.json")
    path = manifest if where == "manifest" else shard
    if where == "missing":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[20 if where == "header" else -3] ^= 1
        path.write_bytes(content)

    with pytest.raises(IncompleteCheckpointError) as caught:
        load(tmp_path, _state(0))

    assert "0 are partial (the job died while writing them, or manifest.json was deleted), 1 are damaged" in str(
        caught.value
    )
    assert path.relative_to(tmp_path).as_posix() in str(caught.value)
    assert ("build them again" in str(caught.value)) == (where == "data")


def test_damage_that_restore_met_is_listed_but_not_believed(tmp_path: Path) -> None:
    """The note that restore leaves shows in the listing; when the bytes are right again, they are restored."""
    with CheckpointManager(tmp_path, _state(0)) as manager:
        for step in _STEPS:
            manager._state.update(_state(step))
            manager.save(step)
        manager.wait()
        (shard,) = tmp_path.glob("ckpt-000000000020*/*.safetensors")
        content = shard.read_bytes()
        shard.write_bytes(content[:-1] + b"\x99")

        restored = manager.restore()
        assert restored is not None
        assert restored.iteration == 10
        assert [(it.status, it.iteration) for it in manager.checkpoints()] == [("complete", 10), ("corrupt", 20)]
        assert "fail their checksum (found by" in manager.checkpoints()[1].reason

        shard.write_bytes(content)
        assert manager.verify() == []


def test_a_tensor_that_only_the_damaged_checkpoint_has_is_not_left_half_read(tmp_path: Path) -> None:
    """If a damaged one was read into a live tensor that the next one lacks, that is an error, not a mix."""
    full = {"model": torch.nn.Linear(40, 40), "step": 1}
    with CheckpointManager(tmp_path, {"step": 1}) as manager:
        manager.save(1)
    with CheckpointManager(tmp_path, full) as manager:
        manager.save(2)
    (shard,) = tmp_path.glob("ckpt-000000000002*/*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x99")

    with (
        CheckpointManager(tmp_path, full) as manager,
        pytest.warns(UserWarning, match="not saved: model"),
        pytest.raises(OSError, match=r"was partly read into model/weight"),
    ):
        manager.restore(strict=False)


def test_an_unreadable_claim_is_named_by_verify(tmp_path: Path) -> None:
    """A claim that is there by name only is damage that verify shows."""
    with CheckpointManager(tmp_path, _state(1)) as manager:
        manager.save(1)
    claims = sorted((tmp_path / INCARNATIONS).iterdir())
    assert len(claims) == 2
    for claim in claims:
        claim.write_bytes(b"")

    assert sorted(it.file for it in examine(LocalStorage(tmp_path))) == [f"{INCARNATIONS}/{it.name}" for it in claims]


def test_what_either_copy_of_a_note_says_is_enough(run: Path, tmp_path: Path) -> None:
    """One that is missing or damaged costs nothing, and to copy the other one mends it, as `verify` says."""
    for damage in (Path.unlink, partial(Path.write_bytes, data=b"?")):
        for path in _files(run):
            if path.suffix != ".json" or path.name == "manifest.json":
                continue
            place = tmp_path / uuid.uuid4().hex
            shutil.copytree(run, place)
            damaged = place / path.relative_to(run)
            damage(damaged)
            storage = LocalStorage(place)

            assert [it.metrics for it in describe(storage)] == [{"loss": 1.5}] * 2
            assert [it.current for it in describe(storage)] == [True] * 2
            (problem,) = examine(storage)
            found = re.search(r"; (\S+) has the same content: copy it", problem.reason)
            assert found
            shutil.copy(place / found[1], damaged)
            assert list(examine(storage)) == []


def test_two_copies_that_differ_are_named(run: Path, tmp_path: Path) -> None:
    """A whole note at the place of another one's copy is damage, though both can be read."""
    place = tmp_path / "run"
    shutil.copytree(run, place)
    first, second = sorted((place / INCARNATIONS).glob("*.resumed.copy.json"))
    shutil.copy(first, second)

    (problem,) = examine(LocalStorage(place))

    assert problem.file == f"{INCARNATIONS}/{second.name}"
    assert "it is not a copy of" in problem.reason


def test_what_is_deleted_between_listing_and_reading_is_no_problem(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint with metrics, its claim and its note, which a running job's retention deletes meanwhile."""
    place = tmp_path / "run"
    shutil.copytree(run, place)
    (old,) = place.glob("ckpt-*-000001-*")

    def list_and_delete(storage: LocalStorage) -> Survey:
        view = survey(storage)
        storage.delete_folder(old.name)
        for path in place.glob("incarnations/000001-*"):
            path.unlink()
        return view

    monkeypatch.setattr(catalog, "survey", list_and_delete)

    assert list(examine(LocalStorage(place))) == []


def test_verifying_beside_a_running_retention_finds_no_damage(tmp_path: Path) -> None:
    """A checkpoint that is deleted in mid-verification is not a problem."""
    with CheckpointManager(tmp_path, _state(1)) as manager:
        manager.save(1)
        manager.save(2)

    (newest,) = tmp_path.glob("ckpt-000000000002*")

    def on_read(_: int) -> None:
        LocalStorage(tmp_path).delete(f"{newest.name}/manifest.json")
        LocalStorage(tmp_path).delete_folder(newest.name)

    assert list(examine(LocalStorage(tmp_path), on_read=on_read)) == []
