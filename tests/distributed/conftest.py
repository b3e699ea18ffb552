"""What the tests of several ranks share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from resumable_sched.distributed import FakeRanks

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def on_ranks() -> Callable[[int, Callable[[FakeRanks], Any]], list[Any]]:
    """Return what runs a function on so many ranks, and raises if any of them did."""

    def run(world_size: int, work: Callable[[FakeRanks], Any]) -> list[Any]:
        outcomes = FakeRanks.run(world_size, work)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return outcomes

    return run
