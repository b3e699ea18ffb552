"""What is changed while a `Runner` trains (its length, a value, a param group) is state like everything else."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from resumable_sched import Runner, SchedulerGroup
from resumable_sched.distributed import seed_all
from resumable_sched.schedule import CosineAnnealingLR, LinearLR
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


def rates_of(scheduler: Callable[[torch.optim.Optimizer], Any], **settings: Any) -> list[float]:
    """Train 2 epochs of 5 updates, and return the learning rate of each update."""
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    rates = At({})
    data = DataLoader(TensorDataset(torch.ones(20, 3)), 4)
    Runner(
        model,
        optimizer,
        data,
        max_epochs=2,
        scheduler=scheduler(optimizer),
        train_step=lambda net, batch: net(batch[0]).square().mean(),
        hooks=[rates],
        **settings,
    ).train()
    return [*rates.rates.values()]


def test_a_group_is_told_how_long_training_is() -> None:
    """What lasts as long as training ends with it, whoever has built the schedules, and whatever they count."""
    cosine = {"type": "CosineAnnealingLR", "by_epoch": False}

    expected = rates_of(lambda _: cosine)

    assert expected[-1] < 0.1 * expected[0]
    assert rates_of(lambda it: [CosineAnnealingLR(it, by_epoch=False)]) == expected
    assert rates_of(lambda it: SchedulerGroup(it, [CosineAnnealingLR(it, by_epoch=False)])) == expected
    for samples in ({"unit": "sample"}, {"unit": "sample", "begin": "0%", "end": "100%"}):
        by_sample = rates_of(lambda _, more=samples: {**cosine, **more}, max_samples=40)  # type: ignore[misc]
        assert by_sample[0] == expected[0]
        assert by_sample[-1] < 0.1 * by_sample[0]


def test_what_nobody_told_the_length_of_is_not_silent(caplog: pytest.LogCaptureFixture) -> None:
    """A cosine over samples, whose number nobody knows, would stand still."""
    rates_of(lambda _: {"type": "CosineAnnealingLR", "unit": "sample"})

    assert "nobody says how many samples training has" in caplog.text


def test_epochs_that_become_shorter_end_with_the_schedule(tmp_path: Path) -> None:
    """After another batch size the iterations of training are those that were done and those that are left."""

    def run(size: int, stop: int | None = None) -> tuple[Runner, dict[int, float]]:
        seed_all(1)
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
        hook = At({} if stop is None else {stop: kill})
        runner = Runner(
            model,
            optimizer,
            StatefulDataLoader(TensorDataset(torch.ones(40, 3)), size),
            max_epochs=4,
            scheduler={"type": "LinearLR", "start_factor": 1.0, "end_factor": 0.0, "by_epoch": False},
            train_step=lambda net, batch: net(batch[0]).square().mean(),
            checkpoint=CheckpointHook(tmp_path, by_epoch=True),
            hooks=[hook],
        )
        with contextlib.suppress(KilledError):
            runner.train()
        return runner, hook.rates

    run(2, stop=25)  # an epoch of 20 is done, and saved
    run(4, stop=35)  # and one of 10
    runner, rates = run(4)

    assert runner.total_iterations == runner.iteration == 20 + 3 * 10
    assert [rates[it] for it in sorted(rates)] == pytest.approx([0.2 * (1 - it / 49) for it in range(30, 50)])


def test_training_is_extended_in_its_own_unit(tmp_path: Path) -> None:
    """It would end elsewhere than its schedules."""
    with pytest.raises(RuntimeError, match="with `max_iters`, which this training was given"):
        build(tmp_path, At({4: lambda it: it.group.extend(max_epochs=9)}), SCHEDULES["left open"]).train()


def test_a_group_that_was_extended_is_for_the_same_training() -> None:
    """It was built for what the Runner is told, and trains as long as it was made."""
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    group = SchedulerGroup(optimizer, [CosineAnnealingLR(optimizer, by_epoch=False)], max_epochs=2, epoch_length=5)
    group.extend(max_epochs=3)

    runner = Runner(
        model,
        optimizer,
        DataLoader(TensorDataset(torch.ones(20, 3)), 4),
        max_epochs=2,
        scheduler=group,
        train_step=lambda net, batch: net(batch[0]).square().mean(),
    )
    runner.train()

    assert (runner.epoch, runner.iteration, runner.total_iterations) == (3, 15, 15)
