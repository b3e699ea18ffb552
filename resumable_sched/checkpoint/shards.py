"""Shards: who writes which part of which tensor, and where it stands in a safetensors file.

Everything is computed from names, dtypes and shapes alone, so every rank knows the whole plan without asking, and
rank 0 can tell a complete checkpoint from one that lacks a piece.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
import torch
import xxhash

from resumable_sched.errors import CorruptCheckpointError, StateMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from resumable_sched.checkpoint.storage import Storage

__all__ = [
    "Chunk",
    "Content",
    "FileRecord",
    "Layout",
    "Piece",
    "TensorSpec",
    "bytes_of",
    "deal",
    "dtype_of",
    "is_plain_memory",
    "plain_copy",
    "read_chunk",
    "write_shard",
]

_SAFETENSORS: Final[Mapping[torch.dtype, str]] = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.complex64: "C64",
}
_WHOLE: Final = 2**20  # a tensor of fewer bytes is never split over ranks
_ALIGNMENT: Final = 64  # of the data section, so that a memory map can be used as it is


@dataclass(frozen=True)
class TensorSpec:
    """What is known of a tensor without its values."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @classmethod
    def of(cls, name: str, tensor: torch.Tensor) -> TensorSpec:
        """Describe *tensor*."""
        return cls(name, tensor.dtype, tuple(tensor.shape))

    @property
    def nbytes(self) -> int:
        """Return its size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Piece:
    """Rows ``start`` to ``stop`` of a tensor; all of it where ``rows`` is None."""

    spec: TensorSpec
    rows: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the piece."""
        return self.spec.shape if self.rows is None else (self.rows[1] - self.rows[0], *self.spec.shape[1:])

    @property
    def start(self) -> tuple[int, ...]:
        """Return where the piece begins in the tensor, per dimension."""
        return tuple(0 for _ in self.spec.shape) if self.rows is None else (self.rows[0], *(0 for _ in self.shape[1:]))

    @property
    def nbytes(self) -> int:
        """Return its size in bytes."""
        return math.prod(self.shape) * self.spec.dtype.itemsize

    @property
    def key(self) -> str:
        """Return its name in the shard; a piece of a tensor also says which rows it has."""
        return self.spec.name if self.rows is None else f"{self.spec.name}[{self.rows[0]}:{self.rows[1]}]"

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the view of *tensor* that the piece is about."""
        return tensor if self.rows is None else tensor[self.rows[0] : self.rows[1]]


class Chunk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the bytes of one piece are, and their checksum."""

    file: str
    offset: int
    length: int
    xxh3_128: str
    start: tuple[int, ...]
    shape: tuple[int, ...]


class FileRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A shard file: its size, its checksum, and its header, which is a chunk too: chunks tile the file exactly."""

    size: int
    xxh3_128: str
    header_length: int
    header_xxh3_128: str


def deal(specs: Sequence[TensorSpec], world_size: int) -> list[list[Piece]]:
    """Deal tensors out to ranks, evenly by bytes, in order; large ones are cut between rows.

    >>> big = TensorSpec("w", torch.float32, (1024, 1024))
    >>> [[piece.key for piece in hand] for hand in deal([big], 2)]
    [['w[0:512]'], ['w[512:1024]']]
    """
    hands: list[list[Piece]] = [[] for _ in range(world_size)]
    total = sum(spec.nbytes for spec in specs)
    position = 0

    def owner(byte: int) -> int:
        return min(byte * world_size // total, world_size - 1) if total else 0

    for spec in specs:
        size, end = spec.nbytes, position + spec.nbytes
        first, last = owner(position), owner(max(position, end - 1))
        if first == last or size < _WHOLE or not spec.shape or spec.shape[0] < last - first + 1:
            hands[owner(position + size // 2)].append(Piece(spec))
        else:
            row = size // spec.shape[0]
            cuts = [round((total * rank / world_size - position) / row) for rank in range(first + 1, last + 1)]
            edges = [0, *(min(max(cut, 0), spec.shape[0]) for cut in cuts), spec.shape[0]]
            for rank, (start, stop) in enumerate(itertools.pairwise(edges), first):
                if stop > start:
                    hands[rank].append(Piece(spec, None if stop - start == spec.shape[0] else (start, stop)))
        position = end
    return hands


class Layout:
    """Where each piece stands in a shard: a safetensors header, then the pieces without gaps.

    Wide dtypes come first, so that each piece is aligned to its dtype.

    Args:
        pieces: What the shard holds, in any order.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        ordered = sorted(pieces, key=lambda piece: (-piece.spec.dtype.itemsize, piece.key))
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        self.places: list[tuple[Piece, int]] = []
        """Each piece and its offset in the data section."""
        position = 0
        for piece in ordered:
            name = _SAFETENSORS.get(piece.spec.dtype)
            key = piece.key
            while key in header:  # a tensor may be called like the piece of another one
                key += "~"
            header[key] = {
                "dtype": name or "U8",  # no name for it: raw bytes there, the true dtype is in the manifest
                "shape": list(piece.shape) if name else [piece.nbytes],
                "data_offsets": [position, position + piece.nbytes],
            }
            self.places.append((piece, position))
            position += piece.nbytes
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-(8 + len(text)) % _ALIGNMENT)
        self.header: bytes = len(text).to_bytes(8, "little") + text
        self.data_size: int = position

    @property
    def size(self) -> int:
        """Return the size of the file in bytes."""
        return len(self.header) + self.data_size


Content: TypeAlias = "Callable[[Piece, int], memoryview]"
"""What gives the bytes of a piece, which stands at an offset of the data section."""


def write_shard(
    storage: Storage, key: str, layout: Layout, content: Content
) -> tuple[FileRecord, list[tuple[str, Chunk]]]:
    """Write a shard in one pass, checksums included.

    Args:
        storage: Where to.
        key: The name of the file; its last part is what the manifest calls it.
        layout: What goes where.
        content: Gives the bytes of each piece.

    Returns:
        The record of the file, and each tensor's name with its chunk.

    Raises:
        OSError: If it could not be written.
    """
    file = key.rpartition("/")[2]
    whole = xxhash.xxh3_128(layout.header)
    chunks: list[tuple[str, Chunk]] = []

    def parts() -> Iterator[bytes | memoryview]:
        yield layout.header
        for piece, offset in layout.places:
            data = content(piece, offset)
            digest = xxhash.xxh3_128_hexdigest(data)
            whole.update(data)
            place = len(layout.header) + offset
            chunks.append((piece.spec.name, Chunk(file, place, piece.nbytes, digest, piece.start, piece.shape)))
            yield data

    storage.write(key, parts(), layout.size)
    header_digest = xxhash.xxh3_128_hexdigest(layout.header)
    return FileRecord(layout.size, whole.hexdigest(), len(layout.header), header_digest), chunks


def read_chunk(storage: Storage, folder: str, chunk: Chunk, target: torch.Tensor) -> None:
    """Read a chunk into *target*, in place where its memory allows, and verify it.

    Args:
        storage: Where from.
        folder: The folder of the checkpoint.
        chunk: What to read.
        target: The part of the tensor that the chunk is; on any device, of any strides.

    Raises:
        CorruptCheckpointError: If the bytes are not the ones that were written; *target* may hold some of them.
        FileNotFoundError: If the file is gone.
    """
    direct = is_plain_memory(target)
    landing = target if direct else torch.empty(chunk.shape, dtype=target.dtype, device="cpu")
    data = bytes_of(landing)
    count = storage.read_into(f"{folder}/{chunk.file}", chunk.offset, data)
    if count != chunk.length:
        raise CorruptCheckpointError(f"{folder}/{chunk.file}", f"it ends {chunk.length - count} bytes too early")
    if xxhash.xxh3_128_hexdigest(data) != chunk.xxh3_128:
        end = chunk.offset + chunk.length
        raise CorruptCheckpointError(f"{folder}/{chunk.file}", f"bytes {chunk.offset} to {end} fail their checksum")
    if not direct:
        with torch.no_grad():
            target.copy_(landing)


def is_plain_memory(tensor: torch.Tensor) -> bool:
    """Return whether the bytes of *tensor* are its values: on the CPU, without gaps, with nothing left to negate."""
    return tensor.device.type == "cpu" and tensor.is_contiguous() and not tensor.is_conj() and not tensor.is_neg()


def plain_copy(tensor: torch.Tensor) -> torch.Tensor:
    """Return *tensor* itself if `is_plain_memory`, else such a copy of it."""
    if is_plain_memory(tensor):
        return tensor
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu").copy_(tensor.detach())


def bytes_of(tensor: torch.Tensor) -> memoryview:
    r"""Return the memory of a tensor of any dtype that `is_plain_memory`, not a copy.

    >>> bytes(bytes_of(torch.tensor([1, 256], dtype=torch.int16)))
    b'\x01\x00\x00\x01'
    """
    if tensor.numel() == 0:
        return memoryview(b"")
    # as_strided: one element of a larger tensor is contiguous whatever its stride is, but view() wants a stride of 1.
    flat = tensor.detach().as_strided((tensor.numel(),), (1,))
    return flat.view(torch.uint8).numpy().data.cast("B")


def dtype_of(name: str) -> torch.dtype:
    """Return the dtype that the manifest calls *name*.

    Raises:
        StateMismatchError: If this torch has no such dtype.

    >>> dtype_of("bfloat16")
    torch.bfloat16
    """
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise StateMismatchError(
            f"The dtype of a saved tensor must be one of torch {torch.__version__}, but is {name!r}; restore with the "
            "torch that saved it, or leave the object out with restore(only=[...])."
        )
    return dtype
