"""An error about another configuration says from which iteration on it makes a difference."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from resumable_sched.errors import ScheduleMismatchError
from resumable_sched.schedule import CosineAnnealingLR, ExponentialLR, LinearLR, MultiStepLR, SchedulerGroup


def group_of(*schedules: tuple[type[Any], dict[str, Any]], lr: float = 1.0, **lengths: Any) -> SchedulerGroup:
    """Build a group on a new optimizer."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    return SchedulerGroup(optimizer, [cls(optimizer, **config) for cls, config in schedules], **lengths)


def difference(saved: SchedulerGroup, new: SchedulerGroup) -> str:
    """Return what the error says besides the fields."""
    with pytest.raises(ScheduleMismatchError) as raised:
        new.load_state_dict(saved.state_dict())
    assert all(line in str(raised.value) for line in raised.value.differences)
    return str(raised.value)


@pytest.mark.parametrize("milestone", [1, 37, 998])
def test_the_first_iteration_with_another_value_is_named(milestone: int) -> None:
    """Both values are there, however far away it is."""
    saved = group_of((MultiStepLR, {"milestones": [999], "by_epoch": False}), max_iters=1000)
    new = group_of((MultiStepLR, {"milestones": [milestone], "by_epoch": False}), max_iters=1000)

    text = difference(saved, new)

    assert f"Values differ from iteration {milestone} on: `lr` of param group 0 is 1.0 as saved" in text
    assert "and 0.1 as built now" in text
    assert 'Pass on_mismatch="keep"' in text


def test_values_that_are_the_same_are_said_to_be() -> None:
    """A field may differ without any consequence."""
    saved = group_of((LinearLR, {"end": 10, "by_epoch": False}), max_iters=5)
    new = group_of(
        (LinearLR, {"end": 10, "by_epoch": False}), (ExponentialLR, {"gamma": 1.0, "by_epoch": False}), max_iters=5
    )

    assert "All values are the same in the first 5 iterations" in difference(saved, new)


def test_epochs_are_compared_as_epochs_where_nobody_says_how_long_they_are() -> None:
    """And by iterations where it can be told from the position."""
    saved = group_of((MultiStepLR, {"milestones": [3]}))
    assert "Values differ from epoch 2 on" in difference(saved, group_of((MultiStepLR, {"milestones": [2]})))
    for _ in range(2):
        saved.step()
    saved.step_epoch()

    assert "Values differ from iteration 4 on" in difference(saved, group_of((MultiStepLR, {"milestones": [2]})))


def test_samples_are_compared_where_the_position_tells_the_size_of_an_update() -> None:
    """Otherwise the fields have to do."""
    saved = group_of((MultiStepLR, {"milestones": [300], "unit": "sample"}))
    new = group_of((MultiStepLR, {"milestones": [200], "unit": "sample"}))
    assert "Values differ" not in difference(saved, new)
    saved.step(samples=50)

    assert "Values differ from iteration 4 on" in difference(saved, new)


def test_chains_and_bases_are_compared() -> None:
    """A path is replayed, and another initial value is a difference from the beginning."""
    chain = [(CosineAnnealingLR, {"T_max": 50, "eta_min": 0.1, "by_epoch": False})]
    saved = group_of(*chain, (ExponentialLR, {"gamma": 0.9, "by_epoch": False, "begin": 20}), max_iters=60)
    new = group_of(*chain, (ExponentialLR, {"gamma": 0.8, "by_epoch": False, "begin": 20}), max_iters=60)
    assert "Values differ from iteration 21 on" in difference(saved, new)

    other = group_of(*chain, (ExponentialLR, {"gamma": 0.9, "by_epoch": False, "begin": 20}), lr=0.5, max_iters=60)
    assert "Values differ from iteration 0 on: `lr` of param group 0 is 1.0" in difference(saved, other)


def test_a_schedule_that_is_stepped_by_itself_says_the_same() -> None:
    """In its own ticks, and as if it were alone."""
    saved, new = (
        MultiStepLR(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), [milestone]) for milestone in (7, 5)
    )

    with pytest.raises(ScheduleMismatchError) as raised:
        new.load_state_dict(saved.state_dict())
    assert "Values differ from epoch 5 on: `lr` of param group 0 is 1.0 as saved, and 0.1 as built now." in str(
        raised.value
    )
    assert len(raised.value.differences) == 1
