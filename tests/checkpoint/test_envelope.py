"""The envelope of JSON files: nothing but the exact bytes that were written is accepted."""

from __future__ import annotations

from typing import Any

import pytest

from resumable_sched.checkpoint.envelope import seal, unseal
from resumable_sched.checkpoint.lineage import Claim
from resumable_sched.errors import CorruptCheckpointError

_BODY = {"a": [1, 2.5, "text"], "b": None}
_SEALED = seal("manifest", _BODY)


def test_what_was_sealed_is_unsealed() -> None:
    """The body comes back as it was."""
    assert unseal("f", "manifest", _SEALED, dict[str, Any]) == _BODY


@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_is_refused(bit: int) -> None:
    """Whichever bit of the file changes, in its frame, checksum or body, it is corrupt."""
    for position in range(len(_SEALED)):
        damaged = bytearray(_SEALED)
        damaged[position] ^= 1 << bit

        with pytest.raises(CorruptCheckpointError) as caught:
            unseal("run/manifest.json", "manifest", bytes(damaged), dict[str, Any])
        assert caught.value.file == "run/manifest.json"


def test_every_truncation_is_refused() -> None:
    """A file cut off anywhere is corrupt, an empty one too."""
    for length in range(len(_SEALED)):
        with pytest.raises(CorruptCheckpointError):
            unseal("f", "manifest", _SEALED[:length], dict[str, Any])


def test_every_appended_byte_is_refused() -> None:
    """No byte may follow, not even white space, and none may come first."""
    for byte in range(256):
        with pytest.raises(CorruptCheckpointError):
            unseal("f", "manifest", _SEALED + bytes([byte]), dict[str, Any])
        with pytest.raises(CorruptCheckpointError):
            unseal("f", "manifest", bytes([byte]) + _SEALED, dict[str, Any])
    with pytest.raises(CorruptCheckpointError):
        unseal("f", "manifest", _SEALED + _SEALED, dict[str, Any])


def test_a_file_of_another_kind_or_shape_is_refused() -> None:
    """A claim is no manifest, even with a good checksum, and a body must have its fields and no others."""
    with pytest.raises(CorruptCheckpointError, match="does not begin as a manifest"):
        unseal("f", "manifest", seal("claim", _BODY), dict[str, Any])
    with pytest.raises(CorruptCheckpointError, match="not a claim"):
        unseal("f", "claim", seal("claim", {"host": "h"}), Claim)
    with pytest.raises(CorruptCheckpointError, match="not a claim"):
        unseal("f", "claim", seal("claim", {"host": "h", "pid": 1, "command": "", "started": "", "more": 1}), Claim)
