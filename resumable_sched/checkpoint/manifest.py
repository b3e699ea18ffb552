"""The manifest of a checkpoint, and what a listing of the URL says about all of them.

A checkpoint is a folder named after its iteration, the claim of the job that wrote it and the attempt. It exists when
its ``manifest.json`` does, which is written last. See ``docs/format.md``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from resumable_sched.checkpoint.envelope import seal, unseal
from resumable_sched.checkpoint.shards import Chunk, FileRecord
from resumable_sched.errors import CorruptCheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from resumable_sched.checkpoint.storage import Storage

__all__ = [
    "INCARNATIONS",
    "MANIFEST",
    "Folder",
    "Manifest",
    "Survey",
    "TensorRecord",
    "claim_of",
    "claim_order",
    "load_manifest",
    "newest_claim",
    "read_manifest",
    "save_manifest",
    "survey",
    "wrong_files",
]

MANIFEST: Final = "manifest.json"
INCARNATIONS: Final = "incarnations"
_FOLDER: Final = re.compile(r"ckpt-([0-9]{12,})-(([0-9]{6,})-[0-9a-f]{12})-([0-9]{4,})")
_LEFTOVER: Final = re.compile(r"(.*/)?\.tmp-[0-9a-f]+-([^/]+)")  # its object has the same folder and the second part
_CLAIM: Final = re.compile(INCARNATIONS + r"/([0-9]{6,}-[0-9a-f]{12})(\.resumed)?(\.copy)?\.json")


class TensorRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor: its dtype, its shape and the chunks that hold it."""

    dtype: str
    shape: tuple[int, ...]
    chunks: list[Chunk]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All that a checkpoint is."""

    save_id: str
    iteration: int
    claim: str
    parent: str | None
    resumed: bool
    """Whether its incarnation has left a note; then `verify` knows that there must be one."""
    world_size: int
    files: dict[str, FileRecord]
    tensors: dict[str, TensorRecord]
    state: dict[str, Any]
    """The JSON tree of each object that all ranks share."""
    rank_state: list[dict[str, Any]]
    """The JSON trees of the objects that each rank has for itself, by rank."""
    kinds: dict[str, tuple[str, str]] = {}
    """By object: what it is (see `Adapter`), and its class, for people; early checkpoints lack them."""
    metrics: dict[str, Any]
    summaries: dict[str, Any]
    software: dict[str, str]
    created: str


@dataclass(frozen=True)
class Folder:
    """A checkpoint as a listing shows it: complete, or left behind by a job that died while writing it."""

    iteration: int
    claim: str
    attempt: int
    files: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def save_id(self) -> str:
        """Return what no other attempt is called."""
        return f"{self.claim}-{self.attempt:04d}"

    @property
    def name(self) -> str:
        """Return the name of the folder.

        >>> Folder(1200, "000003-0123456789ab", 7).name
        'ckpt-000000001200-000003-0123456789ab-0007'
        """
        return f"ckpt-{self.iteration:012d}-{self.save_id}"

    @property
    def incarnation(self) -> int:
        """Return the number of the start of the job that wrote it."""
        return int(self.claim.partition("-")[0])

    @property
    def order(self) -> tuple[int, str, int, int]:
        """Return what sorts checkpoints from old to new: by claim, then in the order of saving; no clock is asked."""
        return (self.incarnation, self.claim, self.attempt, self.iteration)

    @property
    def committed(self) -> bool:
        """Return whether the manifest is there."""
        return MANIFEST in self.files

    @property
    def size(self) -> int:
        """Return the bytes that it takes."""
        return sum(self.files.values())


@dataclass(frozen=True)
class Survey:
    """What one listing of the URL shows."""

    folders: Sequence[Folder]
    claims: Sequence[str]
    """The names of all claims, oldest first."""
    notes: frozenset[str]
    """The claims that have a note of what they resumed from."""
    leftovers: Mapping[str, str] = field(default_factory=dict)
    """The keys of unfinished writes, and which object each would have become."""


def survey(storage: Storage) -> Survey:
    """List the URL once and sort what is there."""
    files: dict[tuple[int, str, int], dict[str, int]] = {}
    claims: set[str] = set()
    notes: set[str] = set()
    leftovers: dict[str, str] = {}
    for key, size in storage.list().items():
        if unfinished := _LEFTOVER.fullmatch(key):
            leftovers[key] = f"{unfinished[1] or ''}{unfinished[2]}"
        place, _, name = key.partition("/")
        if found := _FOLDER.fullmatch(place):
            files.setdefault((int(found[1]), found[2], int(found[4])), {})[name] = size
            claims.add(found[2])
        elif found := _CLAIM.fullmatch(key):
            claims.add(found[1])
            if found[2]:
                notes.add(found[1])
    folders = sorted((Folder(*identity, content) for identity, content in files.items()), key=lambda it: it.order)
    return Survey(folders, sorted(claims, key=claim_order), frozenset(notes), leftovers)


def claim_of(key: str) -> str | None:
    """Return the claim that *key* is, or is the note of, or a copy of either; None if it is nothing of that.

    >>> claim_of("incarnations/000003-0123456789ab.resumed.json")
    '000003-0123456789ab'
    """
    found = _CLAIM.fullmatch(key)
    return found[1] if found else None


def newest_claim(storage: Storage) -> str | None:
    """Return the highest claim, readable or not, for the price of a small listing."""
    return max(filter(None, map(claim_of, storage.list(INCARNATIONS))), key=claim_order, default=None)


def claim_order(claim: str) -> tuple[int, str]:
    """Return what sorts claims: by number, ties by name.

    >>> sorted(["1000000-aa", "999999-bb"], key=claim_order)
    ['999999-bb', '1000000-aa']
    """
    return int(claim.partition("-")[0]), claim


def save_manifest(storage: Storage, folder: Folder, manifest: Manifest) -> None:
    """Commit the checkpoint.

    Raises:
        OSError: If it could not be written; the checkpoint then does not exist.
    """
    content = seal("manifest", manifest)
    storage.write(f"{folder.name}/{MANIFEST}", [content], len(content))


def read_manifest(storage: Storage, folder: Folder) -> Manifest:
    """Read the manifest and check it against itself.

    Raises:
        CorruptCheckpointError: If it is damaged, or belongs to another checkpoint.
        FileNotFoundError: If it is gone.
    """
    key = f"{folder.name}/{MANIFEST}"
    manifest = unseal(key, "manifest", storage.read(key), Manifest)
    if (manifest.save_id, manifest.iteration, manifest.claim) != (folder.save_id, folder.iteration, folder.claim):
        raise CorruptCheckpointError(
            key, f"it belongs to save {manifest.save_id}, iteration {manifest.iteration}, claim {manifest.claim}"
        )
    try:
        _require_tiling(manifest)
    except CorruptCheckpointError as error:
        raise CorruptCheckpointError(key, error.reason) from None
    return manifest


def wrong_files(manifest: Manifest, folder: Folder) -> Iterator[CorruptCheckpointError]:
    """Yield an error for each file that the listing lacks or shows with another size."""
    for file, record in manifest.files.items():
        size = folder.files.get(file)
        if size is None:
            yield CorruptCheckpointError(f"{folder.name}/{file}", "it is missing")
        elif size != record.size:
            yield CorruptCheckpointError(f"{folder.name}/{file}", f"it has {size} bytes instead of {record.size}")


def load_manifest(storage: Storage, folder: Folder) -> Manifest:
    """Read the manifest and check it against itself and against the listing.

    Raises:
        CorruptCheckpointError: If it is damaged, or a file is missing or has another size.
        FileNotFoundError: If it is gone.
    """
    manifest = read_manifest(storage, folder)
    for error in wrong_files(manifest, folder):
        raise error
    return manifest


def _require_tiling(manifest: Manifest) -> None:
    """Check that headers and chunks cover every file without gap or overlap, so that to read them is to read every bit.

    Raises:
        CorruptCheckpointError: If they do not.
    """
    spans: dict[str, list[tuple[int, int]]] = {file: [(0, it.header_length)] for file, it in manifest.files.items()}
    for record in manifest.tensors.values():
        for chunk in record.chunks:
            if chunk.file not in spans:
                raise CorruptCheckpointError(MANIFEST, f"a chunk is in {chunk.file}, which it does not list")
            spans[chunk.file].append((chunk.offset, chunk.length))
    for file, parts in spans.items():
        position = 0
        for offset, length in sorted(parts):
            if offset != position:
                raise CorruptCheckpointError(MANIFEST, f"the chunks of {file} do not tile it at byte {position}")
            position += length
        if position != manifest.files[file].size:
            raise CorruptCheckpointError(MANIFEST, f"the chunks of {file} end at byte {position}, not at its end")
