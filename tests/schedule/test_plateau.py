"""The schedule that a metric drives."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from resumable_sched.schedule import (
    ReduceOnPlateauLR,
)


def sgd(lr: Any = 1.0, groups: int = 1) -> torch.optim.SGD:
    """Return an optimizer with *groups* param groups."""
    return torch.optim.SGD(
        [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(groups)], lr=lr, momentum=0.5
    )


def lr(optimizer: torch.optim.Optimizer) -> float:
    """Return the learning rate of the first group."""
    return float(optimizer.param_groups[0]["lr"])


def test_a_plateau_reduces_after_patience_and_waits_after_it() -> None:
    """Metrics that do not improve reduce the value, then as many as `cooldown` are ignored."""
    optimizer = sgd()
    scheduler = ReduceOnPlateauLR(optimizer, factor=0.5, patience=1, cooldown=1, min_value=0.3)
    seen = []
    for metric in (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.1):
        scheduler.step()
        scheduler.step({"loss": metric})
        seen.append(lr(optimizer))

    assert seen == [1.0, 1.0, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3]


def test_nan_is_never_better() -> None:
    """A diverged metric counts as no improvement, also as the first one."""
    optimizer = sgd()
    scheduler = ReduceOnPlateauLR(optimizer, factor=0.5, patience=0)
    scheduler.step({"loss": torch.tensor(math.nan)})
    assert lr(optimizer) == 0.5

    scheduler.step({"loss": 3.0})
    assert lr(optimizer) == 0.5
    assert json.dumps(scheduler.state_dict(), allow_nan=False)


def test_a_metric_that_is_missing_is_named() -> None:
    """The error says what was asked for and what was there."""
    scheduler = ReduceOnPlateauLR(sgd(), monitor="accuracy")

    with pytest.raises(KeyError, match="'accuracy', but holds 'loss'"):
        scheduler.step({"loss": 1.0})
    with pytest.raises(TypeError, match="`metrics` must be a dict"):
        scheduler.step(("loss", 1.0))  # type: ignore[arg-type]
