"""The state of a schedule that is stepped by itself, its comparison with what was built, and its copies."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from resumable_sched.errors import ScheduleMismatchError, StateFormatError
from resumable_sched.schedule import (
    LinearLR,
    ParamScheduler,
    StepLR,
)
from resumable_sched.schedule.curves import Affine


def sgd(lr: Any = 1.0, groups: int = 1) -> torch.optim.SGD:
    """Return an optimizer with *groups* param groups."""
    return torch.optim.SGD(
        [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(groups)], lr=lr, momentum=0.5
    )


def lr(optimizer: torch.optim.Optimizer) -> float:
    """Return the learning rate of the first group."""
    return float(optimizer.param_groups[0]["lr"])


def run(optimizer: torch.optim.Optimizer, schedulers: list[ParamScheduler], steps: int) -> list[float]:
    """Return the learning rate before each of *steps*."""
    seen = []
    for _ in range(steps):
        seen.append(lr(optimizer))
        for scheduler in schedulers:
            scheduler.step()
    return seen


@dataclass(frozen=True, eq=False)
class HalveEach(ParamScheduler):
    """Halve the value every *every* ticks: a schedule of the user's own."""

    every: int = 2

    def at(self, t: int, base: float) -> Affine:  # noqa: ARG002
        """Halve."""
        return Affine(0.5 ** (t // self.every))


def test_a_pickle_continues() -> None:
    """A schedule that was pickled with its optimizer registers again and goes on."""
    optimizer = sgd()
    scheduler = LinearLR(optimizer, 0.5, end=5)
    scheduler.step()

    again, other = pickle.loads(pickle.dumps((optimizer, scheduler)))  # noqa: S301 - our own bytes

    assert other.optimizer is again
    other.step()
    scheduler.step()
    assert lr(again) == lr(optimizer)
    assert repr(other) == repr(scheduler)


def test_a_shape_of_ones_own_needs_one_method() -> None:
    """A subclass with `at` has windows, state, copies and comparison."""
    optimizer = sgd()
    scheduler = HalveEach(optimizer, "lr", every=2)
    assert run(optimizer, [scheduler], 5) == [1.0, 1.0, 0.5, 0.5, 0.25]

    state = json.loads(json.dumps(scheduler.state_dict()))
    again = sgd()
    other = HalveEach(again, "lr", every=2)
    other.load_state_dict(state)
    assert lr(again) == 0.25
    assert state["config"]["type"].endswith(":HalveEach")


def test_a_field_that_json_cannot_hold_is_refused_at_build() -> None:
    """What cannot be saved and compared is an error before training, not at the first checkpoint."""

    @dataclass(frozen=True, eq=False)
    class Called(ParamScheduler):
        function: Any = None

        def at(self, t: int, base: float) -> Affine:  # noqa: ARG002
            return Affine(float(t))

    with pytest.raises(TypeError, match="`function` must be a number, a string"):
        Called(sgd(), "lr", lambda t, _: t)


def test_a_changed_configuration_is_an_error_that_names_each_field() -> None:
    """The saved and the new value are said, and what to do."""
    state = LinearLR(sgd(), 0.1, end=5).state_dict()
    scheduler = LinearLR(sgd(0.2), 0.3, end=5)

    with pytest.raises(ScheduleMismatchError) as caught:
        scheduler.load_state_dict(state)

    assert caught.value.differences == (
        "LinearLR: `start_factor` was 0.1 when tick 0 was saved, but is 0.3 now.",
        "LinearLR: the initial `lr` of param group 0 was 1.0 when tick 0 was saved, but is 0.2 now.",
    )
    assert 'on_mismatch="keep"' in str(caught.value)
    assert '"adopt"' in str(caught.value)


def test_keep_continues_with_what_was_saved_and_adopt_with_what_was_built() -> None:
    """Both start from the saved position."""
    optimizer = sgd()
    scheduler = LinearLR(optimizer, 0.0, end=5)
    scheduler.step()
    state = scheduler.state_dict()

    kept, adopted = sgd(2.0), sgd(2.0)
    LinearLR(kept, 0.5, end=3).load_state_dict(state, "keep")
    LinearLR(adopted, 0.5, end=3).load_state_dict(state, "adopt")

    assert (lr(kept), lr(adopted)) == (0.25, 1.5)


def test_training_longer_is_not_a_change() -> None:
    """A default `end` is the length of training, whatever that is; nothing but `end` says so."""
    assert LinearLR(sgd()).state_dict()["config"]["end"] == "length of training"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "`version` of the state must be 1, but is 2"),
        ({"version": None}, "`version` of the state must be 1, but is None"),
        ({"kind": "SchedulerGroup"}, "kind"),
        ({"tick": -1}, "tick"),
        ({"tick": "7"}, "tick"),
        ({"tick": True}, "tick"),
        ({"values": ["big"]}, "values"),
        ({"values": []}, "`values`"),
        ({"extra": 1}, "extra"),
        ({"config": []}, "config"),
    ],
)
def test_a_damaged_state_is_refused_by_the_name_of_the_field(change: dict[str, Any], words: str) -> None:
    """Every field is checked before anything is changed."""
    optimizer = sgd()
    scheduler = LinearLR(optimizer, 0.5)
    state = {**scheduler.state_dict(), **change}

    with pytest.raises(StateFormatError) as caught:
        scheduler.load_state_dict(state)

    assert words in str(caught.value)
    assert lr(optimizer) == 0.5


@pytest.mark.parametrize("state", [None, [], {}, {"last_step": 5, "base_values": [0.1]}])
def test_a_state_of_another_kind_is_refused(state: Any) -> None:
    """The state dict of a peer, or of nothing, is not half loaded."""
    with pytest.raises(StateFormatError, match=r"LinearLR\.state_dict\(\)"):
        LinearLR(sgd()).load_state_dict(state)


@pytest.mark.parametrize("field", ["tick", "values", "config", "kind", "base", "opened", "plateau"])
def test_a_missing_field_is_refused(field: str) -> None:
    """A state that lost a field is damaged, whichever it is."""
    scheduler = LinearLR(sgd())
    state = scheduler.state_dict()
    del state[field]

    with pytest.raises(StateFormatError, match=field):
        scheduler.load_state_dict(state)


def test_a_copy_of_a_schedule_alone_takes_its_optimizer_along() -> None:
    """A deep copy is independent of the original."""
    optimizer = sgd()
    scheduler = LinearLR(optimizer, 0.5, end=5)

    other = copy.deepcopy(scheduler)
    other.step()

    assert (lr(optimizer), other.get_last_value(), scheduler.base_values) == (0.5, [0.625], [1.0])


def test_a_schedule_that_kept_a_saved_configuration_holds_all_that_the_saved_one_did() -> None:
    """MMEngine's own tests compare the attributes of both, one by one."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    saved = StepLR(optimizer, 3)
    saved.step()
    kept = StepLR(optimizer, 5, gamma=0.5)
    kept.load_state_dict(saved.state_dict(), "keep")

    assert saved.__dict__.keys() <= kept.__dict__.keys()
    assert kept.configuration() == saved.configuration()
