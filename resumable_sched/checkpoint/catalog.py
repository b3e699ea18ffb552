"""What there is at a URL, as users see it: one `Checkpoint` for each attempt, and the notes that come later."""

from __future__ import annotations

import logging
import platform
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
import xxhash

from resumable_sched.checkpoint.lineage import Claim, Resumed, claim_key, eligible, now, resumed_key
from resumable_sched.checkpoint.manifest import (
    MANIFEST,
    Folder,
    Manifest,
    Survey,
    read_manifest,
    survey,
    wrong_files,
)
from resumable_sched.checkpoint.notes import examine_note, original, read_note, what_is_wrong, write_note
from resumable_sched.checkpoint.tree import flatten, unflatten
from resumable_sched.errors import CorruptCheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resumable_sched.checkpoint.storage import Storage

__all__ = [
    "Checkpoint",
    "Problem",
    "describe",
    "examine",
    "facts",
    "has_later_notes",
    "listed",
    "metrics_of",
    "plain_metrics",
    "quarantine",
    "record_metrics",
]

_log = logging.getLogger(__name__)
_NOTES: Final = {
    "metrics": re.compile(r"metrics-[0-9]{6,}-[0-9a-f]{12}\.json"),
    "quarantine": re.compile(r"quarantine-[0-9a-f]{12}\.json"),
}
_NO_MANIFEST: Final = (
    "it is missing: a job is writing this checkpoint, or died while it did, or the file was deleted since"
)
_GRACE: Final = 0.5  # seconds that a running job has to finish what looked like damage
_BLOCK: Final = 16 * 2**20  # bytes read at once while verifying


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint at a URL.

    Attributes:
        iteration: At which it was saved.
        save_id: What no other attempt is called.
        incarnation: The number of the start of the job that wrote it.
        status: ``"complete"``, ``"partial"`` (the job died while writing it) or ``"corrupt"``.
        reason: Why it is not complete; empty if it is.
        current: Whether it counts; False for a partial one, one of a branch that was left by restoring an older one, or
            one of a job that had been replaced.
        size: In bytes.
        files: How many files it has.
        world_size: How many ranks wrote it; 0 if that is unknown.
        created: When, ISO 8601 in UTC; empty if that is unknown.
        parent: The save id of the checkpoint before it.
        metrics: What was given to `save` and `record`.
        summaries: What each object's ``summary()`` said, by name.
        rejected: For a restored one: the newer checkpoints that were set aside, with the reason, by save id.
    """

    iteration: int
    save_id: str
    incarnation: int
    status: Literal["complete", "partial", "corrupt"]
    reason: str = ""
    current: bool = True
    size: int = 0
    files: int = 0
    world_size: int = 0
    created: str = ""
    parent: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    summaries: Mapping[str, Any] = field(default_factory=dict)
    rejected: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """One damaged or missing file.

    Attributes:
        file: Relative to the URL.
        reason: What is wrong with it.
        save_id: The checkpoint it belongs to; None for files about the whole run.
    """

    file: str
    reason: str
    save_id: str | None = None


class _Quarantine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: str
    reason: str
    host: str
    found: str


def describe(storage: Storage, view: Survey | None = None) -> list[Checkpoint]:
    """Return every checkpoint at the URL, oldest first, judged by its manifest and the sizes of its files."""
    view = view or survey(storage)
    current = {folder.save_id for folder in eligible(storage, view)}
    found = (_describe(storage, folder, current=folder.save_id in current) for folder in view.folders)
    return [it for it in found if it is not None]


def listed(folder: Folder) -> dict[str, Any]:
    """Return what a listing alone tells of a checkpoint, as fields of a `Checkpoint`."""
    return {
        "iteration": folder.iteration,
        "save_id": folder.save_id,
        "incarnation": folder.incarnation,
        "size": folder.size,
        "files": len(folder.files),
    }


def _describe(storage: Storage, folder: Folder, *, current: bool) -> Checkpoint | None:
    """Describe one of them; None if retention has deleted it since the listing."""
    known = {**listed(folder), "current": current}
    if not folder.committed:
        return Checkpoint(**known, status="partial", reason=f"{MANIFEST}: {_NO_MANIFEST}")
    try:
        manifest = read_manifest(storage, folder)
        metrics = metrics_of(storage, folder, manifest)
    except FileNotFoundError:
        return None
    except OSError as error:
        damage = error if isinstance(error, CorruptCheckpointError) else f"{MANIFEST}: {what_is_wrong(error)}"
        return Checkpoint(**known, status="corrupt", reason=_within(folder, damage))
    wrong = next(wrong_files(manifest, folder), None)
    reason = _within(folder, wrong) if wrong else _quarantined(storage, folder)
    return Checkpoint(**known, status="corrupt" if reason else "complete", reason=reason, **facts(manifest, metrics))


def facts(manifest: Manifest, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Return the fields of a `Checkpoint` that its manifest and its notes know."""
    return {
        "world_size": manifest.world_size,
        "created": manifest.created,
        "parent": manifest.parent,
        "metrics": metrics,
        "summaries": unflatten(manifest.summaries, {}),
    }


def _within(folder: Folder, error: object) -> str:
    return str(error).removeprefix(f"{folder.name}/")


def metrics_of(storage: Storage, folder: Folder, manifest: Manifest) -> dict[str, float]:
    """Return the metrics that were saved with the checkpoint and recorded since; later ones win."""
    metrics: dict[str, float] = dict(unflatten(manifest.metrics, {}))
    for name in _notes(folder, "metrics"):
        try:
            metrics |= unflatten(read_note(storage, f"{folder.name}/{name}", "metrics", dict[str, Any]), {})
        except CorruptCheckpointError as error:
            _log.warning("%s is damaged and is ignored: %s", error.file, error.reason)
        except FileNotFoundError:
            continue
    return metrics


def record_metrics(storage: Storage, folder: Folder, metrics: Mapping[str, float]) -> None:
    """Write metrics beside the manifest."""
    following = max(_metrics_numbers(folder), default=-1) + 1
    key = f"{folder.name}/metrics-{following:06d}-{uuid.uuid4().hex[:12]}.json"
    write_note(storage, key, "metrics", flatten(plain_metrics(metrics))[0])


def has_later_notes(folder: Folder) -> bool:
    """Return whether something was written beside the manifest since it was there."""
    return any(_notes(folder, kind) for kind in _NOTES)


def _metrics_numbers(folder: Folder) -> set[int]:
    """Return the numbers of the notes of metrics. Two that were written at the same time have the same one."""
    return {int(name.split("-")[1]) for name in _notes(folder, "metrics")}


def _notes(folder: Folder, kind: str) -> list[str]:
    """Return the names of the notes of *kind*, in the order of writing, also where only the copy is there."""
    found = filter(_NOTES[kind].fullmatch, set(map(original, folder.files)))
    return sorted(found, key=lambda name: (len(name), name))  # the millionth is longer


def plain_metrics(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    """Return *metrics* with plain floats.

    Raises:
        TypeError: If one of them is not a number, by its name.
    """
    plain = {}
    if metrics is not None and not isinstance(metrics, Mapping):
        raise TypeError(f"`metrics` must be a dict of names and numbers, but is {metrics!r} instead.")
    for name, value in (metrics or {}).items():
        if not isinstance(name, str):
            raise TypeError(f"A name in `metrics` must be a string, but is {name!r} instead.")
        try:
            plain[name] = _number(value)
        except (TypeError, ValueError, OverflowError, RuntimeError):  # the last one: a tensor of several elements
            kind = type(value).__name__
            raise TypeError(f"`metrics[{name!r}]` must be a number, but is a {kind} instead.") from None
    return plain


def _number(value: Any) -> float:  # noqa: ANN401 - a number of any library
    if isinstance(value, (str, bytes)):
        raise TypeError
    return float(value)


def quarantine(storage: Storage, folder: Folder, error: CorruptCheckpointError) -> None:
    """Leave a note that a checkpoint failed to verify. For people: it is listed, but no restore believes it."""
    key = f"{folder.name}/quarantine-{uuid.uuid4().hex[:12]}.json"
    try:
        write_note(storage, key, "quarantine", _Quarantine(error.file, error.reason, platform.node(), now()))
    except OSError:
        _log.warning("The note that %s is damaged could not be written.", folder.name, exc_info=True)


def _quarantined(storage: Storage, folder: Folder) -> str:
    for name in _notes(folder, "quarantine"):
        try:
            note = read_note(storage, f"{folder.name}/{name}", "quarantine", _Quarantine)
        except (CorruptCheckpointError, FileNotFoundError):
            continue
        return f"{note.file.removeprefix(f'{folder.name}/')}: {note.reason} (found by {note.host}, {note.found})"
    return ""


def examine(
    storage: Storage, iteration: int | None = None, on_read: Callable[[int], None] = lambda _: None
) -> Iterator[Problem]:
    """Read every byte at the URL and yield each damaged or missing file.

    Args:
        storage: What to examine.
        iteration: Only the checkpoints of this iteration, and the files about the whole run.
        on_read: Told the number of bytes after each read.
    """
    view = survey(storage)
    found = _examine_small_files(storage, view, iteration)
    if found:
        # A job that is running may be between a note and its copy, or in the middle of a checkpoint or of a deletion.
        time.sleep(_GRACE)
        view, before = survey(storage), {it.file for it in found}
        found = [it for it in _examine_small_files(storage, view, iteration) if it.file in before]
    yield from found
    for folder in view.folders:
        if folder.committed and iteration in (None, folder.iteration):
            yield from _examine_shards(storage, folder, on_read)


def _examine_small_files(storage: Storage, view: Survey, iteration: int | None) -> list[Problem]:
    """Examine all but the shards."""
    found: list[Problem] = []
    resumed: set[str] = set()
    for folder in view.folders:
        if iteration in (None, folder.iteration):
            found += _examine_folder(storage, folder, resumed)
    for claim in view.claims:
        wrong = [*examine_note(storage, claim_key(claim), "claim", Claim)]
        if claim in view.notes or claim in resumed:
            wrong += examine_note(storage, resumed_key(claim), "resumed", Resumed)
        found += (Problem(error.file, error.reason) for error in wrong)
    return found


def _examine_folder(storage: Storage, folder: Folder, resumed: set[str]) -> Iterator[Problem]:
    """Examine a checkpoint, and add its claim to *resumed* if its manifest says that there is a note."""
    for kind, body_type in (("metrics", dict), ("quarantine", _Quarantine)):
        for name in _notes(folder, kind):
            for error in examine_note(storage, f"{folder.name}/{name}", kind, body_type):
                yield Problem(error.file, error.reason, folder.save_id)
    key = f"{folder.name}/{MANIFEST}"
    if not folder.committed:
        yield Problem(key, _NO_MANIFEST, folder.save_id)
        return
    try:
        manifest = read_manifest(storage, folder)
    except FileNotFoundError:  # deleted since the listing, by the retention of a job that is still running
        return
    except OSError as error:
        yield Problem(key, what_is_wrong(error), folder.save_id)
        return
    if manifest.resumed:
        resumed.add(folder.claim)
    numbers = _metrics_numbers(folder)
    for number in sorted(set(range(max(numbers, default=0))) - numbers):
        key = f"{folder.name}/metrics-{number:06d}-*.json"
        yield Problem(key, "it is missing: there are later ones", folder.save_id)


def _examine_shards(storage: Storage, folder: Folder, on_read: Callable[[int], None]) -> Iterator[Problem]:
    try:
        manifest = read_manifest(storage, folder)
    except OSError:  # which was told before, or it was deleted since the listing
        return
    wrong = {error.file: error.reason for error in wrong_files(manifest, folder)}
    for file, record in manifest.files.items():
        key = f"{folder.name}/{file}"
        if key in wrong:
            yield Problem(key, wrong[key], folder.save_id)
            continue
        try:
            digest = _digest(storage, key, record.size, on_read)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and _deleted_meanwhile(storage, folder):
                return
            yield Problem(key, what_is_wrong(error), folder.save_id)
            continue
        if digest != record.xxh3_128:
            yield Problem(key, f"its checksum is {digest} instead of {record.xxh3_128}", folder.save_id)


def _deleted_meanwhile(storage: Storage, folder: Folder) -> bool:
    """Return whether a running job's retention has deleted the checkpoint since the listing; manifests go first."""
    return f"{folder.name}/{MANIFEST}" not in storage.list(folder.name)


def _digest(storage: Storage, key: str, size: int, on_read: Callable[[int], None]) -> str:
    digest = xxhash.xxh3_128()
    block = memoryview(bytearray(min(size, _BLOCK)))
    for offset in range(0, size, _BLOCK):
        part = block[: min(_BLOCK, size - offset)]
        count = storage.read_into(key, offset, part)
        digest.update(part[:count])
        on_read(count)
    return digest.hexdigest()
