r"""The fixed envelope of every JSON file in a checkpoint URL.

The file is one JSON object whose frame is fixed byte by byte, so that any change of any bit, and any byte too many,
shows::

    {"format":"resumable_sched/1","kind":"manifest","xxh3_128":"<32 hex digits of the body>","body":<body>}\n
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec
import xxhash

from resumable_sched.errors import CorruptCheckpointError

__all__ = ["FORMAT", "seal", "unseal"]

FORMAT: Final = "resumable_sched/1"
_END: Final = b"}\n"

T = TypeVar("T")


def seal(kind: str, body: object) -> bytes:
    r"""Return the bytes of a file of *kind* with *body*, anything that msgspec can write as JSON.

    >>> seal("claim", {"pid": 7})
    b'{"format":"resumable_sched/1","kind":"claim","xxh3_128":"976ada203ce675155b579643ab867801","body":{"pid":7}}\n'
    """
    content = msgspec.json.encode(body)
    return _head(kind) + xxhash.xxh3_128_hexdigest(content).encode() + b'","body":' + content + _END


def unseal(file: str, kind: str, content: bytes, body_type: type[T]) -> T:
    """Check the bytes of a file and return its body.

    Args:
        file: Its name, for the error.
        kind: What it must be.
        content: All of its bytes.
        body_type: The msgspec type of its body.

    Raises:
        CorruptCheckpointError: If a byte is not what was written, or the format is another version's.
    """
    head = _head(kind)
    body_start = len(head) + 32 + len(b'","body":')
    checksum, body = content[len(head) : len(head) + 32], content[body_start : -len(_END)]
    if not content.startswith(head):
        raise CorruptCheckpointError(file, f"it does not begin as a {kind} of format {FORMAT}")
    if content[len(head) + 32 : body_start] != b'","body":' or not content.endswith(_END):
        raise CorruptCheckpointError(file, "its frame is damaged, or it was cut off")
    if xxhash.xxh3_128_hexdigest(body).encode() != checksum:
        raise CorruptCheckpointError(file, "its content does not have the checksum that was written with it")
    try:
        return msgspec.json.decode(body, type=body_type)
    except msgspec.DecodeError as error:
        raise CorruptCheckpointError(file, f"it is not a {kind}: {error}") from None


def _head(kind: str) -> bytes:
    return f'{{"format":"{FORMAT}","kind":"{kind}","xxh3_128":"'.encode()
