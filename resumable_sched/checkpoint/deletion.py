"""Delete what retention does not keep, and what jobs that died have left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resumable_sched.checkpoint.catalog import metrics_of
from resumable_sched.checkpoint.lineage import eligible, require_newest
from resumable_sched.checkpoint.manifest import (
    INCARNATIONS,
    MANIFEST,
    Folder,
    Survey,
    claim_of,
    claim_order,
    read_manifest,
    survey,
)
from resumable_sched.checkpoint.retention import Candidate, Retention

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resumable_sched.checkpoint.storage import Storage

__all__ = ["retire"]


def retire(storage: Storage, newest: Folder, retention: Retention) -> None:
    """Delete what need not be kept and what died jobs have left; manifests first, so that nothing is half there.

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
    with_metrics = retention.keep_best is not None
    candidates = [
        Candidate(it, it.save_id in current, _metrics_of(storage, it) if with_metrics else {}) for it in committed
    ]
    left_behind = [it for it in view.folders if not it.committed and it.order < newest.order]
    doomed = [it for it in (*retention.doomed(candidates), *left_behind) if it != newest]
    for folder in doomed:
        require_newest(storage, newest.claim)
        storage.delete(f"{folder.name}/{MANIFEST}")
        storage.delete_folder(folder.name)
    oldest = min(claim_order(it.claim) for it in (newest, *view.folders) if it not in doomed)
    for claim in view.claims:
        # A claim of which nothing is left decides nothing any more: newer ones outrank it.
        if claim_order(claim) < oldest:
            require_newest(storage, newest.claim)
            storage.delete(f"{INCARNATIONS}/{claim}.json")
            storage.delete(f"{INCARNATIONS}/{claim}.resumed.json")
    for key in _leftovers(view, newest.claim):
        require_newest(storage, newest.claim)
        storage.delete(key)


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


def _metrics_of(storage: Storage, folder: Folder) -> Mapping[str, float]:
    try:
        return metrics_of(storage, folder, read_manifest(storage, folder))
    except OSError:  # a damaged one has no metrics, and is nobody's best
        return {}
