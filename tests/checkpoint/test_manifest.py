"""Manifests: complete against the plan when written, and consistent with themselves when read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import torch

from resumable_sched.checkpoint import CheckpointManager, LocalStorage
from resumable_sched.checkpoint.manifest import Folder, Manifest, read_manifest, save_manifest, survey
from resumable_sched.checkpoint.objects import adapt
from resumable_sched.checkpoint.saving import About, Report, assemble, prepare, write
from resumable_sched.checkpoint.staging import direct
from resumable_sched.distributed import SingleProcess
from resumable_sched.errors import CheckpointError, CorruptCheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_FOLDER = Folder(1, "000001-0123456789ab", 1)


def _report(root: Path) -> tuple[Any, Report]:
    state: dict[str, Any] = {"a": torch.zeros(3), "b": torch.ones(2)}
    prepared = prepare(SingleProcess(), {name: adapt(name, state) for name in state}, lambda: About(1, {}, {}))
    return prepared, write(LocalStorage(root), _FOLDER, 0, prepared, direct(prepared.tensors))


@pytest.mark.parametrize(
    "change",
    [
        lambda chunks: chunks[:1],
        lambda _: [],
        lambda chunks: [*chunks, ("c", chunks[0][1])],
        lambda chunks: [chunks[0], ("b", msgspec.structs.replace(chunks[1][1], shape=(1,)))],
    ],
)
def test_what_is_not_the_plan_is_not_committed(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    """A missing piece, an extra one, or one of another shape is an error that names it, before the manifest."""
    prepared, report = _report(tmp_path)
    assert assemble(_FOLDER, prepared, [report], parent=None, resumed=False).tensors.keys() == {"a", "b"}

    with pytest.raises(CheckpointError, match=r"Rank 0 did not write what was planned: .*not committed"):
        assemble(
            _FOLDER,
            prepared,
            [msgspec.structs.replace(report, chunks=change(report.chunks))],
            parent=None,
            resumed=False,
        )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"offset": 7}, "do not tile it"),
        ({"length": 3}, "do not tile it|not at its end"),
        ({"file": "other"}, "a chunk is in other"),
    ],
)
def test_a_manifest_whose_chunks_do_not_tile_its_files_is_corrupt(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    """A byte that no chunk covers could be damaged without anybody noticing."""
    prepared, report = _report(tmp_path)
    manifest = assemble(_FOLDER, prepared, [report], parent=None, resumed=False)
    record = manifest.tensors["b"]
    record.chunks[0] = msgspec.structs.replace(record.chunks[0], **change)
    save_manifest(LocalStorage(tmp_path), _FOLDER, manifest)

    with pytest.raises(CorruptCheckpointError, match=says) as caught:
        read_manifest(LocalStorage(tmp_path), _FOLDER)
    assert caught.value.file == f"{_FOLDER.name}/manifest.json"


def test_a_manifest_says_what_it_was_made_with(tmp_path: Path) -> None:
    """Position, parent, versions and files are in the file that is the commit."""
    with CheckpointManager(tmp_path, {"a": 1}, asynchronous=False) as manager:
        manager.save(7)
        manager.save(8)

    first, second = (read_manifest(LocalStorage(tmp_path), it) for it in survey(LocalStorage(tmp_path)).folders)
    assert isinstance(first, Manifest)
    assert (first.iteration, first.parent, first.resumed) == (7, None, False)
    assert (second.iteration, second.parent) == (8, first.save_id)
    assert first.software["torch"] == str(torch.__version__)
