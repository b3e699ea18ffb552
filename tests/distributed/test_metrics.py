"""What each rank has measured becomes one number, the same on all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from resumable_sched.distributed import FakeRanks, SingleProcess, mean_over_ranks

if TYPE_CHECKING:
    from resumable_sched.distributed import Ranks


def test_all_ranks_get_the_same_mean(on_ranks: Any) -> None:
    """To the last bit; what is equal stays as it is."""
    losses = [0.1, 0.7, 0.2]

    def work(ranks: Ranks) -> dict[str, float]:
        return mean_over_ranks({"loss": losses[ranks.rank], "accuracy": 0.1}, ranks)

    assert on_ranks(3, work) == [{"loss": sum(losses) / 3, "accuracy": 0.1}] * 3
    assert mean_over_ranks({"loss": 0.3}, SingleProcess()) == {"loss": 0.3}


def test_other_names_are_an_error_on_all_ranks() -> None:
    """Nobody goes on with half of the metrics."""
    outcomes = FakeRanks.run(2, lambda ranks: mean_over_ranks({f"loss{ranks.rank}": 1.0}, ranks))

    for outcome in outcomes:
        assert isinstance(outcome, ValueError)
        with pytest.raises(ValueError, match=r"has \['loss1'\] on rank 1 and \['loss0'\] on rank 0"):
            raise outcome
