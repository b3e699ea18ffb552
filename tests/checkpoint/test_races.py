"""What comes at a bad moment: another start, a retention that deletes, a read that fails; and what was lost before."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from resumable_sched.checkpoint import CheckpointManager, LocalStorage, Retention, load, storage
from resumable_sched.errors import FencedError, IncompleteCheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class _Elsewhere:
    """The storage of another machine: the same objects under its own name, with something before each verb."""

    def __init__(self, root: Path, before: Callable[[str, str], None] = lambda _verb, _key: None) -> None:
        self._storage = LocalStorage(root)
        self.url = f"{root}#{id(self)}"
        self.before = before

    def __getattr__(self, verb: str) -> Any:
        method = getattr(self._storage, verb)

        def call(*arguments: Any) -> Any:
            self.before(verb, arguments[0] if arguments else "")
            return method(*arguments)

        return call


def start(root: Path, **options: Any) -> CheckpointManager:
    """Start the job anew, on another machine."""
    return CheckpointManager(_Elsewhere(root), {"x": 0}, asynchronous=False, **options)


def once(verb: str, end: str, act: Callable[[], object]) -> Callable[[str, str], None]:
    """Return a hook that does something before the first *verb* on a key that ends with *end*."""
    left = [act]

    def hook(seen: str, key: str) -> None:
        if seen == verb and key.endswith(end) and left:
            left.pop()()

    return hook


def listed(root: Path) -> list[tuple[int, str, bool]]:
    """Return iteration and status of each checkpoint, and whether it counts."""
    return [(it.iteration, it.status, it.current) for it in start(root, read_only=True).checkpoints()]


# ---------------------------------------------------------------------------------------- what was lost
def test_a_run_that_lost_the_manifest_it_went_on_from_does_not_start_from_nothing(tmp_path: Path) -> None:
    """Other checkpoints are there but do not count; the error says how to take them, and that works."""
    first = start(tmp_path)
    for iteration in (10, 20, 30):
        first.save(iteration)
    start(tmp_path).restore(10)
    next(tmp_path.glob("ckpt-000000000010-*/manifest.json")).unlink()

    with pytest.raises(IncompleteCheckpointError, match=r"whose manifest.json is missing. .* delete (\S+)") as caught:
        start(tmp_path, retention=Retention(keep_last=1)).restore()

    assert {iteration for iteration, status, _ in listed(tmp_path) if status == "complete"} == {20, 30}
    (note,) = tmp_path.glob("incarnations/*2-*.resumed.json")
    assert note.name in str(caught.value)
    for path in tmp_path.glob("incarnations/*.resumed*"):
        path.unlink()
    restored = start(tmp_path).restore()
    assert restored is not None
    assert restored.iteration == 30


@pytest.mark.parametrize("later", ["metrics", "start"])
def test_the_only_checkpoint_without_its_manifest_is_missed(tmp_path: Path, later: str) -> None:
    """Late metrics beside it, or a start that went on from it, show that it was no save that was killed."""
    with start(tmp_path) as manager:
        manager.save(10)
        if later == "metrics":
            manager.record(10, {"loss": 1.0})
        else:
            start(tmp_path).restore()
    next(tmp_path.glob("ckpt-*/manifest.json")).unlink()

    with pytest.raises(IncompleteCheckpointError, match=r"manifest.json is missing"):
        start(tmp_path).restore()


def test_a_save_that_was_killed_is_passed_over_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing shows that there was more; the log names the folder, and it does not count."""
    start(tmp_path).save(10)
    next(tmp_path.glob("ckpt-*/manifest.json")).unlink()

    assert start(tmp_path).restore() is None
    assert "is passed over: manifest.json is missing" in caplog.text
    assert listed(tmp_path) == [(10, "partial", False)]


# ---------------------------------------------------------------------------------------- what cannot be read
@pytest.mark.parametrize("part", ["manifest.json", ".json"])
@pytest.mark.parametrize("error", [TimeoutError(110, "timed out"), PermissionError(13, "denied"), OSError(5, "EIO")])
def test_a_best_checkpoint_that_cannot_be_read_now_is_kept(tmp_path: Path, part: str, error: OSError) -> None:
    """Retention that cannot read its metrics, or its manifest, deletes it no sooner than it can."""
    manager = start(tmp_path, retention=Retention(keep_last=1, keep_best=("acc", "max", 1)))
    manager.save(1, {"acc": 0.2})
    manager.record(1, {"acc": 0.99})
    manager.save(2, {"acc": 0.5})

    def fail(verb: str, key: str) -> None:
        if verb == "read" and "ckpt-000000000001" in key and key.endswith(part):
            raise error

    manager._storage.before = fail  # type: ignore[attr-defined]
    manager.save(3, {"acc": 0.4})
    manager._storage.before = lambda _verb, _key: None  # type: ignore[attr-defined]

    assert [it.iteration for it in manager.checkpoints()] == [1, 2, 3]
    manager.save(4, {"acc": 0.3})
    assert [it.iteration for it in manager.checkpoints()] == [1, 4]


@pytest.mark.parametrize(
    ("pattern", "iteration"),
    [
        ("ckpt-000000000002-*/rank-*", None),
        ("ckpt-000000000002-*/manifest.json", None),
        ("ckpt-000000000002-*/metrics-*[0-9a-f].json", 2),
        ("incarnations/000002-????????????.json", 2),
        ("incarnations/000002-*[0-9a-f].resumed.json", 2),
        ("incarnations/000002-*.resumed.copy.json", 2),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_its_copy_is_taken(
    tmp_path: Path, pattern: str, iteration: int | None
) -> None:
    """A bad sector gives an error and not other bytes; `verify` goes on to the other files, and listings too."""
    manager = start(tmp_path)
    manager.save(1)
    manager.save(2)
    manager.record(2, {"loss": 1.0})
    start(tmp_path).restore()
    (path,) = tmp_path.glob(pattern)
    bad = path.relative_to(tmp_path).as_posix()

    def fail(verb: str, key: str) -> None:
        if verb.startswith("read") and key == bad:
            raise OSError(errno.EIO, "Input/output error")

    reader = CheckpointManager(_Elsewhere(tmp_path, fail), {"x": 0}, read_only=True)
    (problem,) = reader.verify()

    assert problem.file == bad
    assert "it cannot be read: [Errno 5]" in problem.reason
    assert len(reader.checkpoints()) == 2
    if iteration is not None:
        assert load(_Elsewhere(tmp_path, fail), {"x": 0}).iteration == iteration
    else:  # it may be over soon: stepping back is for what is known to be damaged
        with pytest.raises(OSError, match="Input/output error"):
            load(_Elsewhere(tmp_path, fail), {"x": 0})


def test_a_note_that_may_be_whole_is_not_taken_for_damaged(tmp_path: Path) -> None:
    """Where one copy is damaged and the other cannot be read now, a restore fails: it takes no branch that was left."""
    first = start(tmp_path)
    first.save(10)
    first.save(20)
    start(tmp_path).restore(10)
    (note,) = tmp_path.glob("incarnations/*-*[0-9a-f].resumed.json")
    note.write_bytes(b"")

    def fail(verb: str, key: str) -> None:
        if verb == "read" and key.endswith(".resumed.copy.json"):
            raise TimeoutError(110, "timed out")

    with pytest.raises(TimeoutError):
        load(_Elsewhere(tmp_path, fail), {"x": 0})
    assert load(_Elsewhere(tmp_path), {"x": 0}).iteration == 10


# ---------------------------------------------------------------------------------------- who is replaced
@pytest.mark.parametrize("end", ["safetensors", "manifest.json", ".resumed.json", ".resumed.copy.json"])
def test_a_job_whose_unfinished_file_was_cleared_away_hears_that_it_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """The retention of its replacement takes the file for what a dead job has left; that is no missing file."""
    start(tmp_path).save(1)
    publish, left = storage._publish, [True]

    def publish_late(temporary: Path, path: Path) -> None:
        if path.name.endswith(end) and left:
            left.clear()
            other = start(tmp_path, retention=Retention(keep_last=1))
            other.restore()
            other.save(5)
        publish(temporary, path)

    monkeypatch.setattr(storage, "_publish", publish_late)
    frozen = start(tmp_path)

    def go_on() -> None:
        frozen.restore()
        frozen.save(2)

    with pytest.raises(FencedError):
        go_on()

    assert listed(tmp_path) == [(5, "complete", True)]


def test_a_job_that_was_replaced_records_no_metrics(tmp_path: Path) -> None:
    """They would be about a checkpoint of another job, and might decide what that one deletes."""
    old, new = start(tmp_path), start(tmp_path)
    old.save(1)
    new.restore()
    new.save(2)

    with pytest.raises(FencedError):
        old.record(2, {"loss": -99.0})

    assert [dict(it.metrics) for it in new.checkpoints()] == [{}, {}]


def test_half_a_checkpoint_of_a_replaced_job_goes_even_at_a_milestone(tmp_path: Path) -> None:
    """A manifest that was written into a folder that had been cleared away counts for nothing, and cannot be read."""
    retention = Retention(keep_last=2, keep_every=10)
    start(tmp_path).save(5)
    frozen = start(tmp_path)
    frozen.restore()

    def replace() -> None:
        other = start(tmp_path, retention=retention)
        other.restore()
        other.save(6)

    frozen._storage.before = once("write", "manifest.json", replace)  # type: ignore[attr-defined]
    with pytest.raises(FencedError):
        frozen.save(10)
    last = start(tmp_path, retention=retention)
    last.restore()
    last.save(11)

    assert listed(tmp_path) == [(6, "complete", True), (11, "complete", True)]
    assert last.verify() == []


def test_a_note_that_cannot_be_believed_outranks_nothing(tmp_path: Path) -> None:
    """Where both copies of the newest note are damaged, the older one that decides is not deleted."""
    first = start(tmp_path)
    for iteration in (10, 20):
        first.save(iteration)
    start(tmp_path).restore(10)
    last = start(tmp_path, retention=Retention(keep_last=5, keep_every=10))
    last.restore()
    for note in tmp_path.glob("incarnations/000003-*.resumed*"):
        note.write_bytes(b"")
    last.save(11)

    assert listed(tmp_path) == [(10, "complete", True), (20, "complete", False), (11, "complete", True)]


# ---------------------------------------------------------------------------------------- who reads meanwhile
def test_a_reader_takes_no_branch_that_was_left_because_a_note_goes_meanwhile(tmp_path: Path) -> None:
    """A running job deletes the note that the listing had, as its own says the same; an older one must not speak."""
    first = start(tmp_path)
    for iteration in (10, 20):
        first.save(iteration)
    second = start(tmp_path)
    second.restore()
    second.save(40)
    start(tmp_path).restore(10)

    def go_on() -> None:
        running = start(tmp_path, retention=Retention(keep_last=1, keep_every=10))
        running.restore()
        running.save(11)

    reader = _Elsewhere(tmp_path, once("read", ".resumed.json", go_on))

    assert load(reader, {"x": 0}).iteration == 11


@pytest.fixture
def changing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a URL whose only checkpoint goes, and the next one comes, in the middle of the next listing."""
    running = start(tmp_path, retention=Retention(keep_last=1))
    running.save(1)
    walk, left = os.walk, [True]

    def slow_walk(top: Path, **options: Any) -> Iterator[Any]:
        steps = walk(top, **options)
        yield next(steps)
        if Path(top) == tmp_path and left:
            left.clear()
            running.save(2)
        yield from steps

    monkeypatch.setattr(os, "walk", slow_walk)
    return tmp_path


@pytest.mark.parametrize("look", ["restore", "load", "checkpoints", "verify"])
def test_a_listing_in_which_everything_changes_is_made_again(changing: Path, look: str) -> None:
    """A walk that saw the old checkpoint go and not the new one come would tell of none."""
    reader = CheckpointManager(LocalStorage(changing), {"x": 0}, read_only=True)
    found: Any = load(LocalStorage(changing), {"x": 0}) if look == "load" else getattr(reader, look)()

    if look == "checkpoints":
        assert [it.iteration for it in found] == [2]
    elif look == "verify":
        assert found == []
    else:
        assert found.iteration == 2


def test_what_a_running_job_is_about_to_finish_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`verify` looks again at a note without its copy, and at a folder without its manifest, before it names them."""
    manager = start(tmp_path)
    manager.save(1)
    manager.record(1, {"loss": 1.0})
    unfinished = [
        *tmp_path.glob("ckpt-*/manifest.json"),
        *tmp_path.glob("ckpt-*/metrics-*.copy.json"),
        *tmp_path.glob("incarnations/*.copy.json"),
    ]
    contents = {path: path.read_bytes() for path in unfinished}
    assert len(contents) == 3
    for path in unfinished:
        path.unlink()

    def finish(_: float) -> None:
        for path, content in contents.items():
            path.write_bytes(content)

    monkeypatch.setattr(time, "sleep", finish)

    assert manager.verify() == []
