"""A group behind torch's ``LRScheduler``: what it counts, what it shows, what it refuses, and its copies."""

from __future__ import annotations

import copy
import io
import json
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import LRScheduler, SequentialLR

from resumable_sched import LinearLR, LinearMomentum, ReduceOnPlateauLR, SchedulerGroup, StepLR
from resumable_sched.integrations.torch_lr_scheduler import PATIENCE, GroupLRScheduler, as_torch_lr_scheduler


def build(*more: Any, **settings: Any) -> tuple[torch.optim.Optimizer, SchedulerGroup]:
    """Return an optimizer and a group with both clocks."""
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    groups: list[dict[str, Any]] = [{"params": [weights[0]]}, {"params": [weights[1]], "lr": 0.5}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    schedulers = [LinearLR(optimizer, 0.1, end=11, by_epoch=False), StepLR(optimizer, 2)]
    return optimizer, SchedulerGroup(optimizer, [*schedulers, *(each(optimizer) for each in more)], **settings)


def update(scheduler: LRScheduler, times: int = 1) -> None:
    """Make updates as torch's documentation does."""
    for _ in range(times):
        scheduler.optimizer.step()
        scheduler.step()


def test_it_is_a_scheduler_of_torchs_that_leaves_the_optimizer_alone() -> None:
    """No first step, no wrapped `optimizer.step`, no keys of its own; and torch's attributes follow the group."""
    optimizer, group = build(epoch_length=4)
    before = [dict(each) for each in optimizer.param_groups]
    scheduler = as_torch_lr_scheduler(group)

    assert isinstance(scheduler, LRScheduler)
    assert [{**each, "params": 0} for each in optimizer.param_groups] == [{**each, "params": 0} for each in before]
    assert "step" not in vars(optimizer)
    assert (scheduler.last_epoch, scheduler.base_lrs) == (0, [0.1, 0.5])
    assert scheduler.get_last_lr() == scheduler.get_lr() == [0.1 * 0.1, 0.5 * 0.1]
    trace = group.trace(9).values["lr"]
    update(scheduler, 8)
    assert (scheduler.last_epoch, group.epoch, group.iteration_in_epoch) == (8, 2, 0)
    assert scheduler.get_last_lr() == scheduler._last_lr == [each[8] for each in trace]
    assert repr(scheduler).startswith("as_torch_lr_scheduler(SchedulerGroup([LinearLR(")


def test_its_state_is_the_groups_and_passes_weights_only() -> None:
    """Through torch.save and through JSON; loaded into another, the values are the same from there on."""
    _, group = build(epoch_length=4)
    scheduler = as_torch_lr_scheduler(group)
    update(scheduler, 6)
    file = io.BytesIO()
    torch.save(scheduler.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)

    assert state == scheduler.state_dict() == group.state_dict() == json.loads(json.dumps(state))
    other = as_torch_lr_scheduler(build(epoch_length=4)[1])
    other.load_state_dict(state)
    for _ in range(7):
        assert other.get_last_lr() == scheduler.get_last_lr()
        update(other)
        update(scheduler)


def test_an_epoch_that_was_not_counted_yet_is_counted_by_the_load() -> None:
    """A loop that counts epochs itself may have saved between the last update and the end of the epoch."""
    _, group = build(epoch_length=4)
    for _ in range(4):
        group.step()
    scheduler = as_torch_lr_scheduler(build(epoch_length=4)[1])
    scheduler.load_state_dict(group.state_dict())

    assert (scheduler.group.epoch, scheduler.group.iteration_in_epoch) == (1, 0)


def test_only_completed_updates_count_however_often_it_is_called() -> None:
    """A loop that accumulates, one that calls twice, and a gradient scaler that skips."""
    optimizer, group = build(epoch_length=100)
    scheduler = as_torch_lr_scheduler(group)
    scheduler.step()
    assert group.iteration == 0
    update(scheduler, 3)
    scheduler.step()
    assert group.iteration == 3

    scaler = torch.amp.GradScaler("cpu")
    for factor in (1.0, torch.inf, torch.inf, 1.0):
        weights = [each for group_ in optimizer.param_groups for each in group_["params"]]
        optimizer.zero_grad()
        scaler.scale((weights[0] + weights[1]).sum() * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
    assert group.iteration == 5


def test_a_fused_optimizer_that_skips_by_itself_has_not_made_an_update() -> None:
    """Its `step` is called all the same, with the finding of the scaler beside it."""
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1, fused=True)
    group = SchedulerGroup(optimizer, [LinearLR(optimizer, 0.1, end=11, by_epoch=False)])
    scheduler = as_torch_lr_scheduler(group)
    scaler = torch.amp.GradScaler("cpu")
    for factor in (1.0, torch.inf, 1.0):
        optimizer.zero_grad()
        scaler.scale((weight * factor).sum()).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()

    assert group.iteration == 2
    assert torch.isfinite(weight).all()


def test_an_optimizer_that_nobody_steps_is_an_error_and_calls_can_be_counted() -> None:
    """Else the schedule would stand still, silently."""
    _, group = build(epoch_length=1000)
    scheduler = as_torch_lr_scheduler(group)
    for _ in range(PATIENCE):
        scheduler.step()
    with pytest.raises(RuntimeError, match=r"`SGD.step` must be called .* but was never called in 100 steps"):
        scheduler.step()

    _, group = build(epoch_length=1000)
    scheduler = as_torch_lr_scheduler(group, counts="calls", samples_per_iteration=8, tokens_per_iteration=64)
    for _ in range(3):
        scheduler.step()
    assert (group.iteration, group.samples, group.tokens) == (3, 24, 192)


def test_three_intervals_are_one_position() -> None:
    """By iteration, by epoch and after a validation, as a framework calls them; a number is the metric."""
    optimizer, group = build(lambda o: ReduceOnPlateauLR(o, "score", patience=0))
    by_iteration = as_torch_lr_scheduler(group, count_epochs=False)
    by_epoch = as_torch_lr_scheduler(group, interval="epoch")
    validated = as_torch_lr_scheduler(group, interval="validation")
    for metrics in (torch.tensor(1.0), {"score": 2.0}):
        update(by_iteration, 3)
        by_epoch.step()
        validated.step(metrics)
    validated.step(metrics=2.0)

    assert (by_iteration.last_epoch, by_epoch.last_epoch, validated.last_epoch) == (6, 2, 2)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.64 * 0.1 * 0.1 * 0.1)
    assert by_iteration.state_dict() == by_epoch.state_dict()
    with pytest.raises(RuntimeError, match=r"`step` must have been called for each iteration of epoch 2"):
        by_epoch.step()


def test_what_makes_no_sense_is_refused_and_says_what_to_do() -> None:
    """Nothing is counted then."""
    optimizer, group = build()
    with pytest.raises(ValueError, match=r"`epoch_length` of the group must be given.*count_epochs=False"):
        as_torch_lr_scheduler(group)
    with pytest.raises(ValueError, match='`interval` must be "iteration", "epoch" or "validation"'):
        as_torch_lr_scheduler(group, interval="step")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must have a plateau schedule"):
        as_torch_lr_scheduler(group, interval="validation")
    scheduler = as_torch_lr_scheduler(group, count_epochs=False)
    with pytest.raises(ValueError, match=r"`step` must have no argument .* but has 3"):
        scheduler.step(3)
    with pytest.raises(AttributeError, match=r"`last_epoch` must not be set.*SequentialLR"):
        SequentialLR(optimizer, [scheduler, scheduler], [5])
    assert group.iteration == 0

    several = [lambda o: ReduceOnPlateauLR(o, "one"), lambda o: ReduceOnPlateauLR(o, "other")]
    validated = as_torch_lr_scheduler(build(*several)[1], interval="validation")
    with pytest.raises(ValueError, match=r"must get a dict of metrics where several are monitored \(one, other\)"):
        validated.step(0.5)
    with pytest.raises(ValueError, match="must get the metrics"):
        validated.step()

    class Wrapper:
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            self.param_groups = inner.param_groups
            self.defaults = inner.defaults

    wrapped = Wrapper(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1))
    with pytest.raises(TypeError, match="must act on a torch optimizer, but acts on Wrapper"):
        as_torch_lr_scheduler(SchedulerGroup(wrapped, [LinearLR(wrapped, by_epoch=False)]))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["copy", "pickle"])  # noqa: S301 - our own bytes
def test_a_copy_drives_copies(copied: Any) -> None:
    """Of the group and of the optimizer, whose updates it notices; the original goes its own way."""
    _, group = build(lambda o: LinearMomentum(o, 0.5, end=9, by_epoch=False), epoch_length=4)
    scheduler = as_torch_lr_scheduler(group)
    update(scheduler, 3)
    twin: GroupLRScheduler = copied(scheduler)

    assert twin.optimizer is twin.group.optimizers["optimizer"]
    assert twin.optimizer is not scheduler.optimizer
    update(twin, 2)
    scheduler.step()
    assert (twin.last_epoch, twin.group.epoch, scheduler.last_epoch) == (5, 1, 3)
    update(scheduler, 2)
    assert twin.get_last_lr() == scheduler.get_last_lr()
    assert twin.group.values() == group.values()


def test_a_group_without_a_learning_rate_shows_the_optimizers() -> None:
    """And a learning rate that is a tensor is shown as a copy."""
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=torch.tensor(0.1), momentum=0.9)
    group = SchedulerGroup(optimizer, [LinearMomentum(optimizer, 0.5, end=9, by_epoch=False)])
    scheduler = as_torch_lr_scheduler(group)
    (shown,) = scheduler.get_last_lr()

    assert isinstance(shown, torch.Tensor)
    assert shown is not optimizer.param_groups[0]["lr"]
    assert scheduler.base_lrs == [torch.tensor(0.1)]


def test_nothing_holds_the_scheduler_alive_or_warns_when_it_is_gone() -> None:
    """The optimizer forgets it."""
    optimizer, group = build(epoch_length=4)
    scheduler = as_torch_lr_scheduler(group)
    hooks: Any = vars(optimizer)["_optimizer_step_post_hooks"]
    assert len(hooks) == 1
    del scheduler

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
    assert len(hooks) == 0
