"""A loader is where the iterations and epochs are that were counted, or its save is refused."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import torch

from resumable_sched import CheckpointManager, SchedulerGroup, StepLR
from tests.checkpoint.test_loaders import built

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata, on torch 2.13


def test_an_iterator_that_was_made_before_the_restore_is_refused(tmp_path: Path) -> None:
    """It begins the epoch again; a save of the restored iteration itself, and a loader that has ended, are fine."""
    loader = built()
    next(iter(loader))
    with CheckpointManager(tmp_path, {"loader": loader}) as manager:
        manager.save(4)
    loader = built()
    with CheckpointManager(tmp_path, {"loader": loader}) as manager:
        batches = iter(loader)
        manager.restore()
        manager.save(4, block=True)
        next(batches)
        with pytest.raises(ValueError, match=r"follow iteration 4, which was restored, but has given none up to .* 5"):
            manager.save(5)
        next(iter(loader))
        manager.save(5)


def test_a_loader_whose_epoch_had_ended_need_not_be_used(tmp_path: Path) -> None:
    """That of a validation is at its end, in a save and long after a restore."""
    for start in range(2):
        train, validation = built(), built()
        list(validation)
        group = _counting(epoch_length=6)
        with CheckpointManager(tmp_path, {"train": train, "val": validation, "group": group}) as manager:
            manager.restore()
            for _ in itertools.islice(train, 2):
                group.step()
            manager.save(2 * (start + 1), block=True)


def test_a_validation_that_was_left_early_need_not_go_on_after_a_restore(tmp_path: Path) -> None:
    """The loader of the training tells that the epoch goes on."""
    for start in range(3):
        train, validation = built(), built()
        if start == 0:
            next(iter(validation))
        with CheckpointManager(tmp_path, {"train": train, "val": validation}) as manager:
            manager.restore()
            next(iter(train))
            manager.save(start + 1, block=True)


def _counting(**lengths: Any) -> SchedulerGroup:
    return SchedulerGroup(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1), [], **lengths)


@pytest.mark.parametrize("counted", ["length", "schedule", "epoch"])
def test_an_epoch_of_the_loader_that_is_not_counted_is_refused(counted: str, tmp_path: Path) -> None:
    """After its last batch it must be counted, or the save must be inside the loop."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    schedules = [StepLR(optimizer, 1)] if counted == "schedule" else []
    group = SchedulerGroup(optimizer, schedules, epoch_length=6 if counted == "length" else None)
    loader = built()
    with CheckpointManager(tmp_path, {"loader": loader, "group": group}) as manager:
        for epoch in range(2):
            for _ in loader:
                optimizer.step()
                group.step()
                manager.save(group.iteration, block=True)
            if counted != "epoch" or epoch > 0:
                with pytest.raises(
                    ValueError, match=r'as state\["loader"\] is, but .* 6 of one.* step_epoch\(\) before'
                ):
                    manager.save(group.iteration)
            group.step_epoch()
            manager.save(group.iteration, block=True)


def test_a_loop_that_counts_no_epochs_may_save_anywhere(tmp_path: Path) -> None:
    """Its loader begins again, and nobody waits for the end of an epoch."""
    loader, group = built(), _counting()
    with CheckpointManager(tmp_path, {"loader": loader, "group": group}) as manager:
        for _ in range(2):
            for _ in loader:
                group.step()
            manager.save(group.iteration, block=True)
