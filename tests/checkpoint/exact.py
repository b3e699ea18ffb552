"""Comparison to the last bit."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import torch

from resumable_sched.checkpoint.shards import bytes_of, plain_copy

__all__ = ["bits"]


def bits(value: Any) -> Any:
    """Return what is equal exactly if two states have the same types and bits, ``nan`` and ``-0.0`` included."""
    content: object = value
    if isinstance(value, torch.Tensor):
        content = (value.dtype, tuple(value.shape), bytes(bytes_of(plain_copy(value))))
    elif isinstance(value, (np.ndarray, np.generic)):
        content = (value.dtype.str, value.shape, value.tobytes())
    elif isinstance(value, float):
        content = struct.pack("d", value)
    elif isinstance(value, complex):
        content = struct.pack("dd", value.real, value.imag)
    elif isinstance(value, dict):
        content = [(bits(key), bits(item)) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        content = [bits(item) for item in value]
    return type(value), content
