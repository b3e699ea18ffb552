"""Incarnations: which start of the job may write, and which checkpoints count.

Every start of the job that writes makes a claim, numbered one higher than the highest it sees. Whoever sees a higher
claim than its own has been replaced. A job that restores also leaves a note: what it resumed from and which older
checkpoints it saw. A checkpoint that a replaced job manages to write after that is in no note, and no reader takes
it.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
import uuid
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

import msgspec

from resumable_sched.checkpoint.manifest import INCARNATIONS, Folder, Survey, claim_order, newest_claim, survey
from resumable_sched.checkpoint.notes import read_note, write_note
from resumable_sched.errors import CorruptCheckpointError, FencedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resumable_sched.checkpoint.storage import Storage

__all__ = [
    "Claim",
    "Resumed",
    "claim_key",
    "claim_url",
    "eligible",
    "newest_note",
    "now",
    "readable_note",
    "require_newest",
    "resumed_key",
    "tell_resumed",
]

_log = logging.getLogger(__name__)
_LISTINGS: Final = 5  # in which a note may vanish, each time because a newer one came


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who made a claim; for people, nothing is decided by it."""

    host: str
    pid: int
    command: str
    started: str


class Resumed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an incarnation resumed from, and the older checkpoints that count for it, by save id."""

    parent: str | None
    seen: list[str]


def claim_key(claim: str) -> str:
    """Return where a claim stands."""
    return f"{INCARNATIONS}/{claim}.json"


def resumed_key(claim: str) -> str:
    """Return where the note of a claim stands."""
    return f"{INCARNATIONS}/{claim}.resumed.json"


def now() -> str:
    """Return the time in UTC, for people; nothing is ordered by it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def claim_url(storage: Storage) -> str:
    """Make a claim that is the highest one, and return its name."""
    body = Claim(platform.node(), os.getpid(), " ".join(sys.orig_argv), now())
    while True:
        claims = survey(storage).claims
        number = claim_order(claims[-1])[0] + 1 if claims else 1
        mine = f"{number:06d}-{uuid.uuid4().hex[:12]}"
        try:
            write_note(storage, claim_key(mine), "claim", body)
        except FileNotFoundError:
            # If a higher claim is there, its retention took the unfinished file for what a dead job has left.
            newest = newest_claim(storage)
            if newest is None or claim_order(newest) <= claim_order(mine):
                raise
            continue
        # Somebody may have claimed the same number at the same time. The greater name wins; the other one goes higher.
        if survey(storage).claims[-1] == mine:
            return mine


def require_newest(storage: Storage, mine: str) -> None:
    """Check that nobody has claimed the URL since.

    Raises:
        FencedError: With what is known about the newer claim.
    """
    newest = newest_claim(storage)
    if newest is None or claim_order(newest) <= claim_order(mine):
        return
    try:
        owner = read_note(storage, claim_key(newest), "claim", Claim)
    except (OSError, CorruptCheckpointError):  # an unreadable claim still counts, by its name
        raise FencedError(storage.url) from None
    raise FencedError(storage.url, host=owner.host, pid=owner.pid, command=owner.command, started=owner.started)


def tell_resumed(storage: Storage, mine: str, parent: Folder | None, seen: Sequence[Folder]) -> None:
    """Say what the incarnation resumed from, and which older checkpoints it saw."""
    body = Resumed(parent.save_id if parent else None, [folder.save_id for folder in seen])
    write_note(storage, resumed_key(mine), "resumed", body)


def eligible(storage: Storage, view: Survey) -> list[Folder]:
    """Return the committed checkpoints that count, oldest first.

    Those are the ones of the newest incarnation, and of older ones what its note lists. An incarnation without a note
    (it never restored, or died before it had picked) takes nothing away.
    """
    for _ in range(_LISTINGS):
        try:
            found = newest_note(storage, view)
        except FileNotFoundError:  # deleted since the listing, because a newer note outranks it
            view = survey(storage)
            continue
        break
    else:
        found = None
    committed = [folder for folder in view.folders if folder.committed]
    if found is None:
        return committed
    claim, note = found
    seen = set(note.seen)
    return [it for it in committed if claim_order(it.claim) >= claim_order(claim) or it.save_id in seen]


def newest_note(storage: Storage, view: Survey) -> tuple[str, Resumed] | None:
    """Return the newest claim with a note that can be believed, and the note.

    Raises:
        FileNotFoundError: If one that was listed is gone.
    """
    for claim in reversed(view.claims):
        if claim in view.notes and (note := readable_note(storage, claim)) is not None:
            return claim, note
    return None


def readable_note(storage: Storage, claim: str) -> Resumed | None:
    """Return the note of *claim*; None, and a warning in the log, if both copies are damaged.

    Raises:
        FileNotFoundError: If both are gone.
    """
    try:
        return read_note(storage, resumed_key(claim), "resumed", Resumed)
    except CorruptCheckpointError as error:
        _log.warning("%s is damaged and is ignored: %s", error.file, error.reason)
        return None
