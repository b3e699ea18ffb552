"""Small files that nothing else mentions: each is written twice, so that the loss of one shows, and costs nothing.

A manifest lists its shards, and a folder without a manifest shows by itself. Claims, what they resumed from, and
metrics that came later stand in no list, and what was written last of all cannot be missed by anything written after
it. So there are two files of the same bytes, ``NAME.json`` and ``NAME.copy.json``, and either will do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from resumable_sched.checkpoint.envelope import seal, unseal
from resumable_sched.errors import CorruptCheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resumable_sched.checkpoint.storage import Storage

__all__ = ["both", "examine_note", "original", "read_note", "write_note"]

_END: Final = ".json"
_COPY: Final = ".copy.json"

T = TypeVar("T")


def both(key: str) -> tuple[str, str]:
    """Return the keys of a note and of its copy.

    >>> both("incarnations/000003-0123456789ab.json")
    ('incarnations/000003-0123456789ab.json', 'incarnations/000003-0123456789ab.copy.json')
    """
    return key, key.removesuffix(_END) + _COPY


def original(key: str) -> str:
    """Return the key of the note that *key* is, or is the copy of.

    >>> original("incarnations/000003-0123456789ab.copy.json")
    'incarnations/000003-0123456789ab.json'
    """
    return key.removesuffix(_COPY) + _END if key.endswith(_COPY) else key


def write_note(storage: Storage, key: str, kind: str, body: object) -> None:
    """Write the note *key*, then its copy.

    Raises:
        OSError: If one of them could not be written; the note counts as soon as one is there.
    """
    content = seal(kind, body)
    for each in both(key):
        storage.write(each, [content], len(content))


def read_note(storage: Storage, key: str, kind: str, body_type: type[T]) -> T:
    """Return the body of the note *key*, from its copy if it is missing or damaged itself.

    Raises:
        FileNotFoundError: If both are missing.
        CorruptCheckpointError: If neither can be believed.
    """
    missing, damaged = None, None
    for each in both(key):
        try:
            return unseal(each, kind, storage.read(each), body_type)
        except FileNotFoundError as error:
            missing = error
        except CorruptCheckpointError as error:
            damaged = damaged or error
    failure = damaged or missing
    assert failure is not None
    raise failure


def examine_note(storage: Storage, key: str, kind: str, body_type: type) -> Iterator[CorruptCheckpointError]:
    """Yield what is wrong with the note *key* and with its copy."""
    errors: dict[str, str] = {}
    contents = set()
    for each in both(key):
        try:
            content = storage.read(each)
            unseal(each, kind, content, body_type)
            contents.add(content)
        except FileNotFoundError:
            errors[each] = "it is missing"
        except CorruptCheckpointError as error:
            errors[each] = error.reason
    if len(contents) > 1:
        errors[both(key)[1]] = f"it is not a copy of {key}: both can be read, and they differ"
    for each, reason in errors.items():
        (twin,) = set(both(key)) - {each}
        mended = f"; {twin} has the same content: copy it" if len(errors) == 1 and len(contents) == 1 else ""
        yield CorruptCheckpointError(each, f"{reason}{mended}")
