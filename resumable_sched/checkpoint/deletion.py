"""Delete what retention does not keep, and what jobs that died have left behind."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from resumable_sched.checkpoint.catalog import metrics_of
from resumable_sched.checkpoint.lineage import claim_key, eligible, readable_note, require_newest, resumed_key
from resumable_sched.checkpoint.manifest import (
    MANIFEST,
    Folder,
    Survey,
    claim_of,
    claim_order,
    load_manifest,
    read_manifest,
    survey,
)
from resumable_sched.checkpoint.notes import both
from resumable_sched.checkpoint.retention import Candidate, Retention
from resumable_sched.errors import CorruptCheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from resumable_sched.checkpoint.storage import Storage

__all__ = ["give_back", "retire"]

_log = logging.getLogger(__name__)


def give_back(storage: Storage, folder: Folder) -> None:
    """Delete the shards of a checkpoint whose manifest could not be written; on a full disk the next save needs room.

    A manifest that reads back is a commit, whatever the error was, and stays.

    Raises:
        FencedError: If a newer start of the job has taken over; nothing is deleted then.
    """
    with contextlib.suppress(OSError):
        require_newest(storage, folder.claim)
        try:
            read_manifest(storage, folder)
        except (FileNotFoundError, CorruptCheckpointError):
            storage.delete(f"{folder.name}/{MANIFEST}")
            storage.delete_folder(folder.name)


def retire(storage: Storage, newest: Folder, retention: Retention) -> None:
    """Delete what need not be kept and what died jobs have left; manifests first, so that nothing is half there.

    What cannot be deleted is logged, and the rest is deleted all the same.

    Args:
        storage: Where.
        newest: The checkpoint that was just committed.
        retention: What to keep.

    Raises:
        FencedError: If a newer start of the job has taken over; nothing is deleted from then on.
    """
    view = survey(storage)
    current = {folder.save_id for folder in eligible(storage, view)}
    committed = [folder for folder in view.folders if folder.committed]
    metrics = {it: _metrics_of(storage, it) for it in committed} if retention.keep_best is not None else {}
    candidates = [Candidate(it, it.save_id in current, metrics.get(it) or {}) for it in committed]
    unknown = {it for it, known in metrics.items() if known is None}  # perhaps among the best: the next save tells
    left_behind = [
        it
        for it in view.folders
        if it.order < newest.order and not (it.committed and (it.save_id in current or _is_whole(storage, it)))
    ]
    doomed = [it for it in dict.fromkeys((*retention.doomed(candidates), *left_behind)) if it not in {newest, *unknown}]
    deletion = _Deletion(storage, newest.claim)
    gone = [it for it in doomed if deletion.of_folder(it)]
    alive = {it.claim for it in (newest, *view.folders) if it not in gone}
    for claim in _void_claims(view, newest.claim, alive, told=_has_told(storage, view, newest.claim)):
        deletion.of_objects(*both(resumed_key(claim)), *both(claim_key(claim)))
    deletion.of_objects(*_leftovers(view, newest.claim))
    if deletion.failed:
        # The checkpoint is committed, and that is what the caller asked for.
        _log.error(
            "%s could not be deleted from %s; the next save tries again.",
            ", ".join(deletion.failed),
            storage.url,
            exc_info=next(iter(deletion.failed.values())),
        )


class _Deletion:
    """Deletions one after the other, each only while nobody has taken over, and none stopped by one that fails."""

    def __init__(self, storage: Storage, claim: str) -> None:
        self._storage = storage
        self._claim = claim
        self.failed: dict[str, Exception] = {}
        """Why, by name of a folder or an object."""

    def of_folder(self, folder: Folder) -> bool:
        """Delete a checkpoint, its manifest first, and return whether it is gone."""
        self._attempt(f"{folder.name}/{MANIFEST}", self._storage.delete)
        if f"{folder.name}/{MANIFEST}" not in self.failed:
            self._attempt(folder.name, self._storage.delete_folder)
        return not self.failed.keys() & {folder.name, f"{folder.name}/{MANIFEST}"}

    def of_objects(self, *keys: str) -> None:
        """Delete some objects."""
        for key in keys:
            self._attempt(key, self._storage.delete)

    def _attempt(self, name: str, delete: Callable[[str], None]) -> None:
        require_newest(self._storage, self._claim)
        try:
            delete(name)
        except Exception as error:  # noqa: BLE001 - such as no permission for one folder; the others must go still
            self.failed[name] = error


def _has_told(storage: Storage, view: Survey, mine: str) -> bool:
    try:
        return mine in view.notes and readable_note(storage, mine) is not None
    except OSError:
        return False


def _void_claims(view: Survey, mine: str, alive: AbstractSet[str], *, told: bool) -> Iterator[str]:
    """Yield the claims that decide nothing any more: those older than *mine* of which no checkpoint is *alive*.

    One that left a note says which older checkpoints count. That is void where *mine* has *told* so itself, and where
    no older checkpoint is alive.
    """
    oldest = min(map(claim_order, alive))
    for claim in view.claims:
        outranked = told or claim not in view.notes or claim_order(claim) < oldest
        if claim not in alive and claim_order(claim) < claim_order(mine) and outranked:
            yield claim


def _leftovers(view: Survey, mine: str) -> list[str]:
    """Return the unfinished writes outside of the folders that go as a whole, of which nothing can come any more.

    Nobody misses a temporary name whose object is there, and a claim that is not higher than *mine* is void. Metrics
    may just be being written, by a process that has no claim; they stay as long as their checkpoint.
    """
    there = {f"{folder.name}/{name}" for folder in view.folders for name in folder.files}
    found = []
    for key, becomes in view.leftovers.items():
        claim = claim_of(becomes)
        if becomes in there or (claim is not None and claim_order(claim) <= claim_order(mine)):
            found.append(key)
    return found


def _metrics_of(storage: Storage, folder: Folder) -> Mapping[str, float] | None:
    """Return the metrics of a checkpoint; none at all if it is damaged, and None if they cannot be read now."""
    try:
        return metrics_of(storage, folder, read_manifest(storage, folder))
    except (CorruptCheckpointError, FileNotFoundError):  # it is nobody's best
        return {}
    except OSError:
        _log.warning("The metrics of %s cannot be read, so it is kept for now.", folder.name, exc_info=True)
        return None


def _is_whole(storage: Storage, folder: Folder) -> bool:
    """Return whether a checkpoint that does not count could be read: a replaced job may have written half of one."""
    try:
        load_manifest(storage, folder)
    except (CorruptCheckpointError, FileNotFoundError):
        return False
    except OSError:
        return True  # for all that is known
    return True
