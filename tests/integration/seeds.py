"""Say which random cases the parity tests draw: always the same ones, unless the environment asks for others.

``RESUMABLE_SCHED_FIRST_SEED=1000000 RESUMABLE_SCHED_TIMES=50 python -m pytest tests/integration/test_torch_parity.py``
draws fifty times as many cases, none of them seen before. A failure shows its seed.
"""

from __future__ import annotations

import os

__all__ = ["batches"]

FIRST = int(os.environ.get("RESUMABLE_SCHED_FIRST_SEED", "0"))
TIMES = int(os.environ.get("RESUMABLE_SCHED_TIMES", "1"))


def batches(size: int, count: int) -> list[range]:
    """Return *count* ranges (or some times as many) of *size* seeds; each is for one test."""
    return [range(FIRST + size * index, FIRST + size * (index + 1)) for index in range(count * TIMES)]
