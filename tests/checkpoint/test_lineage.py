"""Claims and notes: who may write, and which checkpoints count."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch

from resumable_sched.checkpoint import CheckpointManager, LocalStorage, Retention, Storage, load
from resumable_sched.checkpoint.lineage import claim_url, require_newest
from resumable_sched.checkpoint.manifest import newest_claim, survey
from resumable_sched.errors import FencedError, IncompleteCheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from resumable_sched.checkpoint.storage import Buffer


class _Job:
    """One start of a job on a machine of its own: it has its own storage object, so it may meet others at a URL."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.storage = _Elsewhere(LocalStorage(root))
        self.state: dict[str, Any] = {"x": torch.zeros(2), "step": 0}
        self.manager = CheckpointManager(self.storage, self.state, asynchronous=False, **options)

    def save(self, iteration: int) -> None:
        self.state.update(x=torch.full((2,), float(iteration)), step=iteration)
        self.manager.save(iteration)

    def restore(self, iteration: int | None = None) -> int | None:
        found = self.manager.restore(iteration)
        if found is None:
            return None
        assert self.state["x"].tolist() == [self.state["step"]] * 2
        assert self.state["step"] == found.iteration
        return found.iteration


class _Elsewhere:
    """A storage that another machine has: the same objects under its own name, with a hook before each write."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.url = f"{storage.url}#{id(self)}"
        self.before_write: Callable[[str], None] = lambda _: None
        self.after_write: Callable[[str], None] = lambda _: None
        self.deleted: list[str] = []

    def write(self, key: str, parts: Iterable[Buffer], size: int) -> None:
        self.before_write(key)
        self._storage.write(key, parts, size)
        self.after_write(key)

    def read(self, key: str) -> bytes:
        return self._storage.read(key)

    def read_into(self, key: str, offset: int, target: memoryview) -> int:
        return self._storage.read_into(key, offset, target)

    def list(self, folder: str = "") -> dict[str, int]:
        return self._storage.list(folder)

    def delete(self, key: str) -> None:
        self.deleted.append(key)
        self._storage.delete(key)

    def delete_folder(self, folder: str) -> None:
        self.deleted.append(folder)
        self._storage.delete_folder(folder)


def _once(suffix: str, act: Callable[[], object]) -> Callable[[str], None]:
    """Return a hook that acts once, at the first key that ends so."""
    pending = [act]

    def hook(key: str) -> None:
        if key.endswith(suffix) and pending:
            pending.pop()()

    return hook


def test_a_job_that_was_replaced_cannot_save(tmp_path: Path) -> None:
    """After a newer start has claimed, a save of the older one is fenced, with who did it, and nothing is committed."""
    old, new = _Job(tmp_path), _Job(tmp_path)
    old.save(1)
    new.restore()

    with pytest.raises(FencedError) as caught:
        old.save(2)

    assert caught.value.pid > 0
    assert caught.value.host
    assert "pytest" in caught.value.command
    assert f"process {caught.value.pid} on {caught.value.host}" in str(caught.value)
    assert _Job(tmp_path).restore() == 1


def test_a_replaced_job_that_passed_the_fence_already_commits_invisibly(tmp_path: Path) -> None:
    """If the newer start claims, picks and notes between the fence check and the manifest, no reader sees that one."""
    old, new = _Job(tmp_path), _Job(tmp_path)
    old.save(1)
    old.storage.before_write = _once("manifest.json", new.restore)

    with pytest.raises(FencedError):
        old.save(2)

    assert [it.iteration for it in new.manager.checkpoints() if it.current] == [1]
    assert [it.iteration for it in new.manager.checkpoints()] == [1, 2]
    assert _Job(tmp_path).restore() == 1
    assert load(LocalStorage(tmp_path), {"x": torch.zeros(2)}).iteration == 1


def test_a_replaced_job_whose_manifest_came_first_is_not_acknowledged_but_whole(tmp_path: Path) -> None:
    """If the newer start claims just after the manifest, the save fails, and the newer start may resume from it."""
    old, new = _Job(tmp_path), _Job(tmp_path)
    picked: list[int | None] = []
    old.save(1)
    old.storage.after_write = _once("manifest.json", lambda: picked.append(new.restore()))

    with pytest.raises(FencedError):
        old.save(2)

    assert picked == [2]


def test_a_commit_between_the_pick_and_the_note_does_not_count(tmp_path: Path) -> None:
    """What lands after a restore has picked is in no note, even if the note is written later."""
    old, new = _Job(tmp_path), _Job(tmp_path)
    old.save(1)
    at_the_manifest, picked, committed = threading.Event(), threading.Event(), threading.Event()

    def hold(key: str) -> None:
        if key.endswith("manifest.json"):
            at_the_manifest.set()
            picked.wait()

    def save() -> None:
        with pytest.raises(FencedError):
            old.save(2)
        committed.set()

    def let_it_commit() -> None:
        picked.set()
        committed.wait()

    old.storage.before_write = hold
    new.storage.before_write = _once(".resumed.json", let_it_commit)
    thread = threading.Thread(target=save)
    thread.start()
    at_the_manifest.wait()
    restored = new.restore()
    thread.join()

    assert restored == 1
    assert {it.iteration: it.current for it in new.manager.checkpoints()} == {1: True, 2: False}


def test_a_replaced_job_starts_no_deletion(tmp_path: Path) -> None:
    """A job that is replaced just after its commit does not delete the checkpoint that the other one uses."""
    old = _Job(tmp_path, retention=Retention(keep_last=1))
    new = _Job(tmp_path)
    old.save(1)
    lists = old.storage.list
    old.storage.after_write = _once("manifest.json", lambda: _at_the_second(lists, old, new))

    old.save(2)

    assert old.storage.deleted == []
    assert {it.iteration for it in new.manager.checkpoints()} == {1, 2}


def _at_the_second(lists: Callable[[str], dict[str, int]], old: _Job, new: _Job) -> None:
    """Let the new job restore after the fence check that follows the manifest, before the old one retires anything."""
    calls = [0]

    def hooked(folder: str = "") -> dict[str, int]:
        calls[0] += 1
        if calls[0] == 2:
            new.restore()
        return lists(folder)

    old.storage.list = hooked  # type: ignore[method-assign]


@pytest.mark.parametrize("seed", range(5))
def test_threads_that_claim_at_the_same_time_get_different_claims(tmp_path: Path, seed: int) -> None:
    """After a race all claims differ, exactly one passes the fence, and each was the highest when it was returned."""
    del seed
    claims: list[str] = []
    start = threading.Barrier(4)

    def claim() -> None:
        start.wait()
        claims.append(claim_url(LocalStorage(tmp_path)))

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    owners = [it for it in claims if not _is_fenced(tmp_path, it)]
    assert len(set(claims)) == 4
    assert owners == [newest_claim(LocalStorage(tmp_path))]


def _is_fenced(root: Path, claim: str) -> bool:
    try:
        require_newest(LocalStorage(root), claim)
    except FencedError:
        return True
    return False


def test_of_two_claims_of_one_number_the_lower_name_claims_again(tmp_path: Path) -> None:
    """If another claim with the same number and a greater name appears meanwhile, the next number is taken."""
    storage = _Elsewhere(LocalStorage(tmp_path))
    rival = "incarnations/000001-ffffffffffff.json"
    storage.before_write = _once(".json", lambda: LocalStorage(tmp_path).write(rival, [b"x"], 1))

    mine = claim_url(storage)

    assert mine.startswith("000002-")


def test_a_claim_that_a_newer_start_clears_away_while_it_is_written_is_made_again(tmp_path: Path) -> None:
    """A start that is frozen in its claim, and whose unfinished file is removed as a leftover, claims higher."""
    _Job(tmp_path).save(1)
    frozen = _Elsewhere(LocalStorage(tmp_path))

    def clear_away() -> None:
        for iteration in (2, 3):
            _Job(tmp_path).save(iteration)
        _raise_not_found("")

    frozen.before_write = _once(".json", clear_away)
    mine = claim_url(frozen)
    frozen.before_write = _raise_not_found

    assert mine == newest_claim(LocalStorage(tmp_path))
    assert mine.startswith("000004-")
    with pytest.raises(FileNotFoundError):  # any other reason is an error
        claim_url(frozen)


def _raise_not_found(key: str) -> None:
    raise FileNotFoundError(2, "No such file", key)


def test_an_unreadable_claim_still_fences(tmp_path: Path) -> None:
    """A claim counts by its name, whatever its content has become."""
    job = _Job(tmp_path)
    job.save(1)
    (tmp_path / "incarnations" / "000007-0123456789ab.json").write_bytes(b"damaged")

    with pytest.raises(FencedError, match="its claim cannot be read"):
        job.save(2)


def test_foreign_files_among_the_claims_are_left_alone(tmp_path: Path) -> None:
    """What is not of this format neither fences nor breaks anything."""
    job = _Job(tmp_path, retention=Retention(keep_last=1))
    job.save(1)
    for name in (".DS_Store", "README", "zzz.json", "999999-nothex.json", "٣٣٣٣٣٣-0123456789ab.json"):
        (tmp_path / "incarnations" / name).write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"")

    job.save(2)

    assert _Job(tmp_path).restore() == 2
    assert (tmp_path / "incarnations" / "README").exists()


def test_numbers_go_on_beyond_six_digits(tmp_path: Path) -> None:
    """The millionth start is newer than the one before it, although its name sorts lower as text."""
    job = _Job(tmp_path)
    job.save(1)
    LocalStorage(tmp_path).write("incarnations/999999-0123456789ab.json", [b""], 0)

    later = _Job(tmp_path)
    later.restore()
    later.save(2)
    last = _Job(tmp_path)
    last.restore()
    last.save(3)

    assert newest_claim(LocalStorage(tmp_path)) == last.manager._claim
    assert [it.incarnation for it in last.manager.checkpoints()] == [1, 1_000_000, 1_000_001]
    assert _Job(tmp_path).restore() == 3


def test_going_back_leaves_the_later_checkpoints_of_the_branch(tmp_path: Path) -> None:
    """After a restore of an iteration, later ones do not count, even before anything new is saved, nor afterwards."""
    first = _Job(tmp_path)
    for iteration in (10, 20, 30):
        first.save(iteration)

    assert _Job(tmp_path).restore(10) == 10
    second = _Job(tmp_path)
    assert second.restore() == 10
    second.save(15)

    third = _Job(tmp_path)
    assert third.restore() == 15
    assert [it.iteration for it in third.manager.checkpoints() if it.current] == [10, 15]
    with pytest.raises(IncompleteCheckpointError, match=r"iteration 20, but has \[10, 15\]"):
        third.restore(20)


def test_a_lower_iteration_of_a_newer_start_is_newer(tmp_path: Path) -> None:
    """Checkpoints are ordered by the start of the job first: going back and failing to get as far is no way forward."""
    first = _Job(tmp_path)
    first.save(10)
    first.save(100)
    second = _Job(tmp_path)
    second.restore(10)
    second.save(11)

    assert _Job(tmp_path).restore() == 11


def test_the_same_iteration_may_be_saved_again(tmp_path: Path) -> None:
    """The later attempt is restored."""
    job = _Job(tmp_path)
    job.save(1)
    job.state["more"] = True
    job.save(1)

    assert len(job.manager.checkpoints()) == 2
    load(LocalStorage(tmp_path), state := {"more": False})
    assert state == {"more": True}


def test_a_claim_without_a_note_changes_nothing_for_readers(tmp_path: Path) -> None:
    """A start that died before it had picked fences, and that is all."""
    job = _Job(tmp_path)
    job.save(1)
    claim_url(LocalStorage(tmp_path))

    with pytest.raises(FencedError):
        job.save(2)
    assert load(LocalStorage(tmp_path), {"x": torch.zeros(2)}).iteration == 1


def test_a_damaged_note_with_its_copy_takes_away_what_it_did(tmp_path: Path) -> None:
    """Going back to an iteration stays gone back, though the note that says so is damaged or missing."""
    job = _Job(tmp_path)
    job.save(1)
    job.save(2)
    assert _Job(tmp_path).restore(1) == 1
    note, copy = sorted((tmp_path / "incarnations").glob("*.resumed*.json"), key=lambda it: len(it.name))
    content = note.read_bytes()
    note.write_bytes(b"")

    assert load(LocalStorage(tmp_path), {"x": torch.zeros(2)}).iteration == 1
    note.write_bytes(content)
    copy.unlink()
    assert load(LocalStorage(tmp_path), {"x": torch.zeros(2)}).iteration == 1


def test_a_note_of_which_both_copies_are_damaged_is_ignored_and_said_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without its note an incarnation takes nothing away; the log has the reason."""
    _Job(tmp_path).save(1)
    job = _Job(tmp_path)
    job.restore()
    job.save(2)
    for note in (tmp_path / "incarnations").glob("*.resumed*.json"):
        note.write_bytes(note.read_bytes()[:-1])

    with caplog.at_level(logging.WARNING):
        assert _Job(tmp_path).restore() == 2

    assert ".resumed.json is damaged and is ignored" in caplog.text


def test_readers_and_an_idle_manager_claim_nothing(tmp_path: Path) -> None:
    """To construct, list, verify, load or restore read-only leaves the URL as it was."""
    _Job(tmp_path).save(1)
    before = LocalStorage(tmp_path).list()

    job = _Job(tmp_path)
    job.manager.checkpoints()
    job.manager.verify()
    reader = _Job(tmp_path, read_only=True)
    assert reader.restore() == 1
    load(LocalStorage(tmp_path), {"x": torch.zeros(2)})

    assert LocalStorage(tmp_path).list() == before


def test_claims_of_which_nothing_is_left_are_cleared_away(tmp_path: Path) -> None:
    """A thousand preemptions do not leave a thousand claims, once retention has taken their checkpoints."""
    for iteration in range(5):
        job = _Job(tmp_path, retention=Retention(keep_last=1))
        job.restore()
        job.save(iteration)

    view = survey(LocalStorage(tmp_path))
    assert [it.iteration for it in view.folders] == [4]
    assert len(view.claims) == 1
    assert _Job(tmp_path).restore() == 4


def test_a_start_that_did_not_restore_leaves_the_later_iterations_behind(tmp_path: Path) -> None:
    """If a run was begun anew in the same place, those who resume do not fall back to the other run's future."""
    _Job(tmp_path).save(100)
    _Job(tmp_path).save(5)
    third = _Job(tmp_path)

    assert third.restore() == 5
    assert {it.iteration: it.current for it in third.manager.checkpoints()} == {100: False, 5: True}
