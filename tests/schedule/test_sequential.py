"""Schedules that take turns: what they are built from, their state, and what is refused."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import torch

from resumable_sched import errors
from resumable_sched.schedule import (
    ExponentialLR,
    MultiStepLR,
    SchedulerGroup,
    SequentialLR,
    SequentialParamScheduler,
    StepLR,
    build_schedulers,
)
from tests.schedule.drawn import shrink

if TYPE_CHECKING:
    from collections.abc import Callable

PARTS: list[dict[str, Any]] = [{"type": "ExponentialLR", "gamma": 0.5}, {"type": "StepLR", "step_size": 2}]


def sgd() -> torch.optim.SGD:
    """Return an optimizer of two param groups."""
    groups: list[dict[str, Any]] = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 2.0)]
    return torch.optim.SGD(groups, lr=1.0, momentum=0.9, weight_decay=0.5)


def run(scheduler: Any, count: int) -> list[float]:
    """Return the first values of the first group."""
    values = []
    for _ in range(count):
        values.append(scheduler.get_last_value()[0])
        scheduler.step()
    return values


def test_each_part_starts_from_what_comes_in() -> None:
    """What the parts before it did is gone, and what other schedules do is not."""
    assert run(SequentialLR(sgd(), PARTS, [2]), 5) == [1.0, 0.5, 1.0, 1.0, 0.1]

    optimizer = sgd()
    both = [SequentialLR(optimizer, PARTS, [2], by_epoch=False), MultiStepLR(optimizer, [1], 0.5, by_epoch=False)]
    assert SchedulerGroup(optimizer, both).trace(4).values["lr"] == [[1.0, 0.25, 0.5, 0.5], [2.0, 0.5, 1.0, 1.0]]


def test_a_part_without_an_end_is_as_long_as_its_turn() -> None:
    """The last one ends with the window, which may be the length of training."""
    optimizer, parts = sgd(), [{"type": "LinearLR", "start_factor": 0.0}] * 2
    group = SchedulerGroup(optimizer, [SequentialLR(optimizer, parts, [3], by_epoch=False)], max_iters=8)

    assert group.trace(8).values["lr"][0] == [0.0, 0.5, 1.0, 0.0, 0.25, 0.5, 0.75, 1.0]


def test_a_part_with_an_end_holds_its_last_value() -> None:
    """Its window is its own."""
    parts = [{"type": "PolyLR", "end": 3, "eta_min": 0.25}, {"type": "ConstantLR", "factor": 0.5, "end": 2}]

    assert run(SequentialLR(sgd(), parts, [4]), 6) == [1.0, 0.625, 0.25, 0.25, 0.5, 1.0]


def test_a_part_may_be_named_by_its_class() -> None:
    """The configuration is the same, and is complete."""
    named = SequentialLR(sgd(), PARTS, [2])
    classes = SequentialLR(sgd(), [{"type": ExponentialLR, "gamma": 0.5}, {"type": StepLR, "step_size": 2}], [2])

    assert named.configuration() == classes.configuration()
    assert named.configuration()["schedulers"][1] == {"type": "StepLR", "step_size": 2, "gamma": 0.1}


def test_any_parameter_has_sequences() -> None:
    """The parts take the name from the whole."""
    parts = [{"type": "ExponentialParamScheduler", "gamma": 0.5}, {"type": "StepParamScheduler", "step_size": 1}]

    assert run(SequentialParamScheduler(sgd(), "weight_decay", parts, [2]), 3) == [0.5, 0.25, 0.5]


def test_a_changed_part_is_a_changed_configuration() -> None:
    """Saved through JSON, it is compared, kept and adopted as any field."""
    saved = json.loads(json.dumps(SequentialLR(sgd(), PARTS, [1]).state_dict()))
    other = SequentialLR(sgd(), [PARTS[0], {"type": "StepLR", "step_size": 1}], [1])

    with pytest.raises(errors.ScheduleMismatchError, match="SequentialLR: `schedulers` was"):
        other.load_state_dict(saved)
    other.load_state_dict(saved, on_mismatch="keep")
    assert run(other, 4) == [1.0, 1.0, 1.0, 0.1]


def test_a_saved_part_does_not_import_code() -> None:
    """A state may name a class that the program knows, and no other."""
    saved = SequentialLR(sgd(), PARTS, [2]).state_dict()
    saved["config"]["schedulers"][0]["type"] = "os:path"

    with pytest.raises(errors.ScheduleMismatchError, match="there is no class 'os:path' here"):
        SequentialLR(sgd(), PARTS, [2]).load_state_dict(saved, on_mismatch="keep")


def test_sequences_survive_pickle_and_copies() -> None:
    """Parts, functions and all."""
    parts = [*PARTS, {"type": "LambdaLR", "lr_lambda": shrink}]
    scheduler = SequentialLR(sgd(), parts, [2, 3])
    scheduler.step()
    for twin in (copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))):  # noqa: S301 - our own bytes
        assert run(twin, 5) == run(copy.deepcopy(scheduler), 5)


def test_parts_do_not_keep_an_optimizer_alive() -> None:
    """Nothing in the ledger refers to it."""
    optimizer = sgd()
    reference = weakref.ref(optimizer)
    SequentialLR(optimizer, PARTS, [2])
    del optimizer
    gc.collect()

    assert reference() is None


def test_epochs_become_iterations_in_each_part() -> None:
    """Durations of the parts are multiplied, rates rooted, and the milestones too."""
    slow, fast = SequentialLR(sgd(), PARTS, [3]), SequentialLR.build_iter_from_epoch(sgd(), PARTS, [3], epoch_length=4)
    for _ in range(8):
        assert fast.get_last_value() == pytest.approx(slow.get_last_value(), rel=1e-12)
        slow.step()
        for _ in range(4):
            fast.step()


def test_a_config_has_sequences() -> None:
    """As any schedule, also by epoch and stepped by iteration."""
    config = {"type": "SequentialLR", "schedulers": PARTS, "milestones": [2]}
    [plain] = build_schedulers(sgd(), config)
    [converted] = build_schedulers(sgd(), {**config, "convert_to_iter_based": True}, epoch_length=4)

    assert plain.configuration() == SequentialLR(sgd(), PARTS, [2]).configuration()
    assert converted.configuration()["milestones"] == [8]


@pytest.mark.parametrize(
    ("parts", "milestones", "error", "message"),
    [
        ([], [], ValueError, "`milestones` must be ticks that do not decrease, one less than the 0 `schedulers`"),
        (PARTS, [], ValueError, "one less than the 2 `schedulers`"),
        ([*PARTS, *PARTS], [5, 3, 9], ValueError, "ticks that do not decrease"),
        ([3], [], TypeError, r"`schedulers\[0\]` must be a dict with a `type`"),
        ([{"type": "StpLR"}], [], ValueError, "Did you mean StepLR"),
        ([{"type": "StepLR"}], [], TypeError, r"`schedulers\[0\]`: StepLR: missing a required argument"),
        ([{"type": "StepLR", "step_size": 0}], [], ValueError, r"`schedulers\[0\]`: StepLR: `step_size` must be at"),
        ([{"type": "StepLR", "step_size": "2"}], [], TypeError, r"`schedulers\[0\]`: StepLR: `step_size` must be an"),
        ([{"type": "StepLR", "stepsize": 1}], [], ValueError, "but has 'stepsize'. Did you mean step_size"),
        ([{"type": "LinearLR", "begin": 1}], [], ValueError, "must have arguments of LinearLR only, but has 'begin'"),
        ([{"type": "LinearMomentum"}], [], ValueError, r"`schedulers\[0\]` must act on `lr`"),
        ([{"type": "ReduceOnPlateauLR", "monitor": "loss"}], [], ValueError, "must not follow a metric"),
    ],
)
def test_what_cannot_be_meant_is_refused(parts: Any, milestones: Any, error: type[Exception], message: str) -> None:
    """The error names the part, the rule and the value."""
    build: Callable[..., Any] = SequentialLR

    with pytest.raises(error, match=message):
        build(sgd(), parts, milestones)
