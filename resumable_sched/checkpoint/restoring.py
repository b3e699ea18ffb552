"""The read half: pick a checkpoint, see that it fits, read and verify it, and only then load it.

Every decision is taken by rank 0 or by all ranks together, so that they end with the same checkpoint or the same error.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
import torch
import xxhash

from resumable_sched.checkpoint.catalog import has_later_notes, quarantine
from resumable_sched.checkpoint.lineage import eligible, newest_note, resumed_key
from resumable_sched.checkpoint.manifest import MANIFEST, Folder, Manifest, Survey, load_manifest, survey
from resumable_sched.checkpoint.objects import Adapter, Fit, misplaced
from resumable_sched.checkpoint.shards import dtype_of, read_chunk
from resumable_sched.checkpoint.tree import tensor_names
from resumable_sched.distributed.ranks import from_rank_zero, gather
from resumable_sched.errors import (
    CheckpointError,
    CorruptCheckpointError,
    IncompleteCheckpointError,
    StateMismatchError,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from resumable_sched.checkpoint.storage import Storage
    from resumable_sched.distributed.ranks import Ranks

__all__ = ["Request", "Restored", "restore"]

_log = logging.getLogger(__name__)
_VANISHED: Final = "it is listed, but reading it says that it is not there"


class _Offer(msgspec.Struct, frozen=True):
    """What rank 0 proposes to read; no manifest where there is nothing to restore."""

    iteration: int = 0
    claim: str = ""
    attempt: int = 0
    files: dict[str, int] = {}
    manifest: Manifest | None = None
    rejected: dict[str, tuple[str, str]] = {}
    """File and reason, by save id, of the newer ones that are damaged."""


class _Verdict(msgspec.Struct, frozen=True):
    """What became of one rank's reading; no file where all is well."""

    file: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Request:
    """What a caller wants restored."""

    adapters: Mapping[str, Adapter]
    iteration: int | None = None
    strict: bool = True
    whole: bool = True
    """Whether the objects are all that should be in the checkpoint; False with ``only``."""
    read_only: bool = False


@dataclass(frozen=True)
class Restored:
    """What was restored, and what was set aside on the way."""

    folder: Folder
    manifest: Manifest
    rejected: Mapping[str, str] = field(default_factory=dict)


def restore(storage: Storage, ranks: Ranks, request: Request) -> Restored | None:
    """Restore the newest checkpoint that verifies on all ranks, or the one of a given iteration; a collective.

    Args:
        storage: Where from.
        ranks: Who restores.
        request: What to restore.

    Returns:
        What was restored; None if nothing was ever committed.

    Raises:
        StateMismatchError: If the state does not fit; no live tensor was touched.
        IncompleteCheckpointError: If none verifies, or there is none of that iteration.
    """
    rejected: dict[str, tuple[str, str]] = {}
    dirty: set[str] = set()
    while True:
        offer = _agree_on_offer(storage, ranks, request, rejected, touched=bool(dirty))
        rejected |= offer.rejected
        if offer.manifest is None:
            return None
        folder = Folder(offer.iteration, offer.claim, offer.attempt, offer.files)
        attempt = _Attempt(storage, ranks, request, folder, offer.manifest, dirty)
        gather(ranks, attempt.require_fit)
        verdict = next((it for it in map(_verdict, gather(ranks, attempt.read)) if it.file), None)
        if verdict is None:
            gather(ranks, attempt.apply)
            reasons = {save_id: f"{file}: {reason}" for save_id, (file, reason) in rejected.items()}
            return Restored(folder, offer.manifest, reasons)
        _log.warning("Checkpoint %s is set aside: %s: %s.", folder.save_id, verdict.file, verdict.reason)
        rejected[folder.save_id] = (verdict.file, verdict.reason)
        if ranks.rank == 0 and not request.read_only and verdict.reason != _VANISHED:
            quarantine(storage, folder, CorruptCheckpointError(verdict.file, verdict.reason))


def _agree_on_offer(
    storage: Storage, ranks: Ranks, request: Request, rejected: Mapping[str, tuple[str, str]], *, touched: bool
) -> _Offer:
    reply = from_rank_zero(ranks, lambda: msgspec.json.encode(_offer(storage, request, rejected, touched=touched)))
    return msgspec.json.decode(reply, type=_Offer)


def _verdict(reply: bytes) -> _Verdict:
    return msgspec.json.decode(reply, type=_Verdict)


def _offer(
    storage: Storage,
    request: Request,
    rejected: Mapping[str, tuple[str, str]],
    *,
    touched: bool,
    vanished: Collection[str] = (),
    relisted: bool = False,
) -> _Offer:
    """Find the newest checkpoint that counts and is not known to be damaged."""
    view = survey(storage)
    wanted = request.iteration
    current = eligible(storage, view)
    candidates = [it for it in reversed(current) if wanted is None or it.iteration == wanted]
    found: dict[str, tuple[str, str]] = {}
    for folder in candidates:
        if folder.save_id in rejected:
            continue
        try:
            manifest = load_manifest(storage, folder)
        except CorruptCheckpointError as error:
            _log.warning("Checkpoint %s is set aside: %s.", folder.save_id, error)
            found[folder.save_id] = (error.file, error.reason)
        except FileNotFoundError:  # deleted since the listing, by the retention of a job that is still running
            if folder.save_id in vanished:  # listed again, and again not there
                found[folder.save_id] = (f"{folder.name}/{MANIFEST}", _VANISHED)
                continue
            again = _offer(
                storage, request, {**rejected, **found}, touched=touched, vanished={*vanished, folder.save_id}
            )
            return msgspec.structs.replace(again, rejected={**found, **again.rejected})
        else:
            _tell_partial(view, folder)
            return _Offer(folder.iteration, folder.claim, folder.attempt, dict(folder.files), manifest, found)
    damaged = {**rejected, **found}
    if wanted is None and view.folders and not damaged and not relisted:
        # A listing may take its time: what it saw of an older checkpoint may be gone, and a newer one be there.
        return _offer(storage, request, rejected, touched=touched, vanished=vanished, relisted=True)
    lost = "" if damaged else _lost(storage, view)
    if wanted is not None or damaged or lost:
        raise _nothing(storage, view, current, wanted, damaged, touched=touched, lost=lost)
    _tell_partial(view, None)
    return _Offer(rejected=found)


def _tell_partial(view: Survey, pick: Folder | None) -> None:
    """Log which folders are passed over for want of a manifest, of those that are newer than *pick*."""
    for folder in view.folders:
        if not folder.committed and (pick is None or folder.order > pick.order):
            _log.warning(
                "%s is passed over: %s is missing, because the job died while writing it, or it was deleted since.",
                folder.name,
                MANIFEST,
            )


def _lost(storage: Storage, view: Survey) -> str:
    """Say what shows that there has been a checkpoint, though none counts; empty if nothing does."""
    evidence = next((it.name for it in view.folders if not it.committed and has_later_notes(it)), None)
    if evidence is not None:
        return f" {evidence}/{MANIFEST} is missing, although notes were written beside it since."
    with contextlib.suppress(FileNotFoundError):  # then a job has gone on since the listing
        if (newest := newest_note(storage, view)) is not None and newest[1].parent is not None:
            claim, note = newest
            return (
                f" The run went on from save {note.parent}, whose {MANIFEST} is missing. To go on from one that was "
                f"left then, delete {resumed_key(claim)} and its copy; to begin anew, take another URL."
            )
    return ""


def _nothing(
    storage: Storage,
    view: Survey,
    current: Sequence[Folder],
    wanted: int | None,
    damaged: Mapping[str, tuple[str, str]],
    *,
    touched: bool,
    lost: str,
) -> IncompleteCheckpointError:
    """Say what there is instead of a checkpoint to restore."""
    reasons = [f"{file}: {reason}" for file, reason in damaged.values()]
    details = "".join(f" {reason}." for reason in reasons) + lost
    if touched:
        details += " The live objects now hold parts of what was read: build them again before you use them."
    if wanted is None:
        partial = sum(not folder.committed for folder in view.folders)
        return IncompleteCheckpointError(
            f"{storage.url} has no complete checkpoint that counts: {partial} are partial (the job died while writing "
            f"them, or {MANIFEST} was deleted), "
            f"{len(damaged)} are damaged.{details}",
            damaged=reasons,
        )
    there = sorted({folder.iteration for folder in current})
    if any(folder.iteration == wanted and folder.committed and folder not in current for folder in view.folders):
        details = " That iteration was left when an older one was restored, or is of a replaced job." + details
    return IncompleteCheckpointError(
        f"{storage.url} must have a complete checkpoint of iteration {wanted}, but has {there or 'none'} instead."
        + details,
        iteration=wanted,
        damaged=reasons,
    )


@dataclass
class _Attempt:
    """One checkpoint being restored on one rank, in three phases with an agreement after each."""

    storage: Storage
    ranks: Ranks
    request: Request
    folder: Folder
    manifest: Manifest
    dirty: set[str]
    """The live tensors that this or an earlier attempt may have written into."""
    trees: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    def require_fit(self) -> bytes:
        """Check that the saved state can be loaded here, and note the tree of each object; nothing is touched."""
        manifest, rank = self.manifest, self.ranks.rank
        own = manifest.rank_state[rank] if rank < manifest.world_size else {}
        per_rank = manifest.rank_state[0].keys()
        saved = manifest.state.keys() | per_rank
        total = Fit()
        total.missing += [name for name in self.request.adapters if name not in saved]
        if self.request.whole:
            total.unexpected += sorted(saved - self.request.adapters.keys())
        for name, adapter in self.request.adapters.items():
            tree = manifest.rank_state[0][name] if name in per_rank else manifest.state.get(name)
            if name in saved and (sentence := misplaced(name, adapter, manifest.kinds.get(name), tree)):
                total.wrong.append(sentence)
            elif name in per_rank and manifest.world_size != self.ranks.world_size:
                total.wrong.append(
                    f'state["{name}"] is kept per rank and was saved by {manifest.world_size} ranks, but there are '
                    f"{self.ranks.world_size}; leave it out with restore(only=[...])"
                )
            elif name in saved:
                self.trees[name] = own[name] if name in per_rank else manifest.state[name]
                total += adapter.fit(self.trees[name], manifest.tensors)
        _require(total, strict=self.request.strict)
        written = {name for tree in self.trees.values() for name in tensor_names(tree)}
        for name in written:
            dtype_of(manifest.tensors[name].dtype)  # raises where this torch does not have it
        if left := self.dirty - written:
            raise CheckpointError(
                f"A damaged checkpoint was partly read into {', '.join(sorted(left))}, which the next older one does "
                "not have. Build the objects again and restore by iteration."
            )
        return b""

    def read(self) -> bytes:
        """Read this rank's tensors, in place where there is a live one, and verify every byte; return the verdict."""
        try:
            for index, (file, record) in enumerate(self.manifest.files.items()):
                # No tensor is in a header, but a flipped bit there is damage too. The ranks share this out.
                if index % self.ranks.world_size == self.ranks.rank:
                    key = f"{self.folder.name}/{file}"
                    _verify_header(self.storage, key, record.header_length, record.header_xxh3_128)
            for name, tree in self.trees.items():
                live = self.request.adapters[name].live()
                for key in tensor_names(tree):
                    self.tensors[key] = self._read_tensor(key, live.get(key))
        except CorruptCheckpointError as error:
            return msgspec.json.encode(_Verdict(error.file, error.reason))
        except FileNotFoundError as error:  # deleted while we read: another listing tells more
            return msgspec.json.encode(_Verdict(str(error.filename or self.folder.name), _VANISHED))
        return msgspec.json.encode(_Verdict())

    def _read_tensor(self, key: str, live: torch.Tensor | None) -> torch.Tensor:
        record = self.manifest.tensors[key]
        if live is not None:
            self.dirty.add(key)
        target = torch.empty(record.shape, dtype=dtype_of(record.dtype), device="cpu") if live is None else live
        for chunk in record.chunks:
            read_chunk(self.storage, self.folder.name, chunk, _narrow(target, chunk.start, chunk.shape))
        return target

    def apply(self) -> bytes:
        """Load what was read; generators last, so that nothing draws from them any more."""
        loaded: list[str] = []
        for name in sorted(self.trees, key=lambda name: self.request.adapters[name].last):
            try:
                self.request.adapters[name].apply(self.trees[name], self.tensors)
            except Exception as error:
                raise CheckpointError(
                    f'state["{name}"] could not be loaded: {type(error).__name__}: {error}. Loaded already: '
                    f"{', '.join(loaded) or 'nothing'}. Build all objects again before you go on."
                ) from error
            loaded.append(name)
        return b""


def _require(fit: Fit, *, strict: bool) -> None:
    if fit.changed:
        warnings.warn(
            f"Saved settings replace those of the program: {'; '.join(fit.changed)}.", UserWarning, stacklevel=2
        )
    lines = [f"{sentence}." for sentence in fit.wrong]
    if fit.missing:
        lines.append(f"Expected, but not saved: {', '.join(fit.missing)}.")
    if fit.unexpected:
        lines.append(f"Saved, but not restored: {', '.join(fit.unexpected)}.")
    if not lines:
        return
    message = "The checkpoint does not fit what it should be restored into. " + " ".join(lines)
    if fit.wrong or strict:
        remedy = "" if fit.wrong else " Pass strict=False to restore what fits, or only=[...] to say what."
        raise StateMismatchError(message + remedy, missing=fit.missing, unexpected=fit.unexpected)
    warnings.warn(message, UserWarning, stacklevel=2)


def _verify_header(storage: Storage, key: str, length: int, checksum: str) -> None:
    header = memoryview(bytearray(length))
    if storage.read_into(key, 0, header) != length or xxhash.xxh3_128_hexdigest(header) != checksum:
        raise CorruptCheckpointError(key, f"its header, bytes 0 to {length}, fails its checksum")


def _narrow(tensor: torch.Tensor, start: Sequence[int], shape: Sequence[int]) -> torch.Tensor:
    for dimension, (first, count) in enumerate(zip(start, shape, strict=True)):
        tensor = tensor.narrow(dimension, first, count)
    return tensor
