"""Small files that nothing else mentions: each is written twice, so that the loss of one shows, and costs nothing.

A manifest lists its shards, and a folder without a manifest shows by itself. Claims, what they resumed from, and
metrics that came later stand in no list, and what was written last of all cannot be missed by anything written after
it. So there are two files of the same bytes, ``NAME.json`` and ``NAME.copy.json``, and either will do.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, TypeVar

from resumable_sched.checkpoint.envelope import seal, unseal
from resumable_sched.errors import CorruptCheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resumable_sched.checkpoint.storage import Storage

__all__ = ["both", "examine_note", "original", "read_note", "what_is_wrong", "write_note"]

_log = logging.getLogger(__name__)

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
    """Write the note *key*, then its copy; the note counts as soon as one is there.

    Raises:
        OSError: If the note could not be written. Where only its copy could not, that is logged.
    """
    content = seal(kind, body)
    first, second = both(key)
    storage.write(first, [content], len(content))
    try:
        storage.write(second, [content], len(content))
    except OSError:
        _log.warning("%s was written, but not its copy %s.", first, second, exc_info=True)


def read_note(storage: Storage, key: str, kind: str, body_type: type[T]) -> T:
    """Return the body of the note *key*, from its copy if it is missing or damaged itself.

    Raises:
        FileNotFoundError: If both are missing.
        CorruptCheckpointError: If neither can be believed.
        OSError: If one cannot be read now, and the other does not help.
    """
    failures: list[OSError] = []
    for each in both(key):
        try:
            return unseal(each, kind, storage.read(each), body_type)
        except OSError as error:  # it is missing or damaged, or cannot be read
            failures.append(error)
    # One that cannot be read now may be whole: that says more than damage of the other, and damage more than a gap.
    raise min(failures, key=lambda it: (isinstance(it, FileNotFoundError), isinstance(it, CorruptCheckpointError)))


def what_is_wrong(error: OSError) -> str:
    """Say why a file could not be read.

    Raises:
        OSError: *error*, if that may be over soon, and says nothing of the file.
    """
    if isinstance(error, CorruptCheckpointError):
        return error.reason
    if isinstance(error, FileNotFoundError):
        return "it is missing"
    if isinstance(error, (TimeoutError, ConnectionError)):
        raise error
    return f"it cannot be read: {error}"


def examine_note(storage: Storage, key: str, kind: str, body_type: type) -> Iterator[CorruptCheckpointError]:
    """Yield what is wrong with the note *key* and with its copy."""
    errors: dict[str, str] = {}
    contents = set()
    for each in both(key):
        try:
            content = storage.read(each)
            unseal(each, kind, content, body_type)
            contents.add(content)
        except OSError as error:
            errors[each] = what_is_wrong(error)
    if len(contents) > 1:
        errors[both(key)[1]] = f"it is not a copy of {key}: both can be read, and they differ"
    for each, reason in errors.items():
        (twin,) = set(both(key)) - {each}
        mended = f"; {twin} has the same content: copy it" if len(errors) == 1 and len(contents) == 1 else ""
        yield CorruptCheckpointError(each, f"{reason}{mended}")
