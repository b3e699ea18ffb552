"""Make one of the metrics that each rank has measured."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from resumable_sched.distributed.ranks import gather, shared_ranks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resumable_sched.distributed.ranks import Ranks

__all__ = ["mean_over_ranks"]


def mean_over_ranks(metrics: Mapping[str, float], ranks: Ranks | None = None) -> dict[str, float]:
    """Return the mean of each metric over the ranks: the same number, to the last bit, on each of them. A collective.

    Ranks count alike. Where they have seen different numbers of samples, reduce the metrics before; what is equal on
    all ranks stays as it is.

    Args:
        metrics: Names and numbers, the same names on all ranks.
        ranks: The ranks; by default those of the default process group, or this process alone.

    Raises:
        ValueError: Ranks have other names.
    """
    ranks = shared_ranks() if ranks is None else ranks
    numbers = {name: float(value) for name, value in metrics.items()}
    replies = [json.loads(reply) for reply in gather(ranks, lambda: json.dumps(numbers).encode())]
    for rank, reply in enumerate(replies):
        if reply.keys() != replies[0].keys():
            raise ValueError(
                f"`metrics` must have the same names on all ranks, but has {sorted(reply)} on rank {rank} and "
                f"{sorted(replies[0])} on rank 0."
            )
    return {name: _mean([reply[name] for reply in replies]) for name in replies[0]}


def _mean(values: list[float]) -> float:
    """Return the mean, and of equal numbers that number.

    >>> _mean([0.1, 0.1, 0.1]), _mean([0.5, 1.0])
    (0.1, 0.75)
    """
    return values[0] if all(value == values[0] for value in values) else sum(values) / len(values)
