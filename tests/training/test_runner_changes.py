"""What is changed while a `Runner` trains (its length, a value, a param group) is state like everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from resumable_sched import Runner, SchedulerGroup
from resumable_sched.distributed import seed_all
from resumable_sched.schedule import LinearLR
from resumable_sched.training import CheckpointHook, Hook

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resumable_sched.training import Run, Update

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata, on torch 2.13


class KilledError(Exception):
    """Stand for the end of the process."""


class At(Hook):
    """Do something after some updates, and remember the learning rate of each."""

    def __init__(self, actions: dict[int, Callable[[Run], None]]) -> None:
        self.rates: dict[int, float] = {}
        self._actions = actions

    def before_train_iter(self, runner: Run) -> None:
        """Remember the rate."""
        self.rates[runner.iteration] = runner.optimizers["optimizer"].param_groups[0]["lr"]

    def after_train_iter(self, runner: Run, update: Update) -> None:
        """Act if it is time."""
        del update
        action = self._actions.get(runner.iteration)
        if action is not None:
            action(runner)


def kill(runner: Run) -> None:
    """End the training as a machine does that is taken away."""
    raise KilledError(runner.iteration)


def longer(runner: Run) -> None:
    """Make the training longer."""
    runner.group.extend(max_iters=24)


def halve(runner: Run) -> None:
    """Make the learning rate smaller, and write it by hand later on."""
    runner.group.amend("lr", scale=0.5, reason="loss spike")


def by_hand(runner: Run) -> None:
    """Set the learning rate as somebody who knows nothing of schedules."""
    runner.optimizers["optimizer"].param_groups[0]["lr"] = 0.0123


def build(url: Path | None, hook: Hook, scheduler: Any, **settings: Any) -> Runner:
    """Build a training of 12 updates of 4 samples each."""
    seed_all(1)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    data = TensorDataset(torch.randn(20, 3, generator=torch.Generator().manual_seed(2)))
    return Runner(
        model,
        optimizer,
        StatefulDataLoader(data, 4, shuffle=True),
        max_iters=12,
        scheduler=scheduler,
        train_step=lambda net, batch: net(batch[0]).square().mean(),
        checkpoint=None if url is None else CheckpointHook(url, by_epoch=False),
        hooks=[hook],
        **settings,
    )


SCHEDULES = {
    "left open": [{"type": "LinearLR", "start_factor": 1.0, "end_factor": 0.0, "by_epoch": False}],
    "shares": [
        {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "end": "20%"},
        {"type": "CosineAnnealingLR", "by_epoch": False, "begin": "20%", "end": "100%"},
    ],
    "samples": [{"type": "LinearLR", "start_factor": 1.0, "end_factor": 0.0, "unit": "sample", "end": 100}],
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("stop", [5, 9, 14, 20])
def test_a_training_that_was_changed_resumes_with_the_same_bits(tmp_path: Path, name: str, stop: int) -> None:
    """It is as long as it was made, with the values that it would have had, started by the old command line."""
    changes = {4: halve, 6: longer, 8: by_hand}
    whole, killed, again = At(dict(changes)), At({**changes, stop: kill}), At(dict(changes))
    expected = build(None, whole, SCHEDULES[name])
    expected.train()
    with pytest.raises(KilledError):
        build(tmp_path, killed, SCHEDULES[name]).train()
    resumed = build(tmp_path, again, SCHEDULES[name])
    resumed.train()

    assert resumed.iteration == expected.iteration == resumed.max_iters == 24
    assert {**killed.rates, **again.rates} == whole.rates
    first, second = (runner.model.state_dict() for runner in (expected, resumed))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_a_cadence_is_for_loops_of_ones_own() -> None:
    """A Runner steps every optimizer in every update, and says so."""
    seed_all(1)
    owners = {name: torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1) for name in ("generator", "critic")}
    schedulers = [LinearLR(each, by_epoch=False, end=5) for each in owners.values()]
    group = SchedulerGroup(owners, schedulers, cadence={"generator": 2})

    with pytest.raises(ValueError, match=r"`scheduler` must have no `cadence`, but has {'generator': 2}"):
        Runner(nn.Linear(1, 1), owners, [torch.zeros(1)], scheduler=group, max_epochs=1)
