"""What cannot be trained, or could not go on, is refused by name before anything is trained."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from resumable_sched import CheckpointManager, Runner, SchedulerGroup, StepLR, errors
from resumable_sched.training import CheckpointHook, Hook, PreemptionHook
from tests.training.loops import BATCH, PLATEAU, Net, build, dataset, scaler

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata, on torch 2.13

REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no length of training": (lambda: build(None, max_epochs=None), ValueError, "One of `max_epochs` and `max_iters`"),
    "two lengths": (lambda: build(None, max_epochs=1, max_iters=2), ValueError, "and not both"),
    "accumulate": (lambda: build(None, accumulate=0), ValueError, "`accumulate` must be"),
    "a hook": (lambda: build(None, "progress"), TypeError, "must be a list of hooks"),  # type: ignore[arg-type]
    "two savers": (lambda: build("memory://a", CheckpointHook("memory://b")), ValueError, "one CheckpointHook at most"),
    "no saver": (lambda: build(None, PreemptionHook()), ValueError, "`checkpoint` must be given"),
    "no validation": (
        lambda: build(None, scheduler=[PLATEAU]),
        ValueError,
        "`val_dataloader` must be given for Reduce",
    ),
    "a step": (lambda: build(None, val_step=lambda *_: {}), ValueError, "`val_dataloader` must be given where"),
    "an optimizer": (lambda: Runner(Net(), {}, [1], max_epochs=1), TypeError, "`optimizer` must be a torch Optimizer"),
    "an empty loader": (lambda: build(None, loader=[]), ValueError, "at least one batch"),
    "a config": (lambda: build(None, scheduler=[{"type": "LinerLR"}]), errors.ConfigError, "Did you mean LinearLR"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_when_it_is_built(what: str) -> None:
    """Each message names the argument and the rule."""
    call, kind, message = REFUSED[what]
    with pytest.raises(kind, match=message):
        call()


def test_a_plain_loader_is_refused_where_a_checkpoint_could_fall_into_an_epoch() -> None:
    """It cannot go on there; the remedy is named. Between epochs it resumes like any other."""
    remedy = "Use torchdata's StatefulDataLoader, or save by epoch"
    by_epoch, anywhere = CheckpointHook("memory://x"), CheckpointHook("memory://x", by_epoch=False)

    def plain(hook: CheckpointHook, *hooks: Hook, **settings: Any) -> Runner:
        return build(hook, *hooks, loader=DataLoader(dataset(), BATCH, shuffle=True), **settings)

    refusals: list[Callable[[], Runner]] = [
        lambda: plain(anywhere),
        lambda: plain(by_epoch, PreemptionHook()),
        lambda: plain(by_epoch, max_iters=13),
        lambda: plain(by_epoch, max_iters=12, scaler=scaler()),
    ]
    for refused in refusals:
        with pytest.raises(ValueError, match=remedy):
            refused()
    plain(by_epoch, max_iters=12)


@pytest.mark.parametrize("result", [3.0, torch.ones(2), {"acc": torch.ones(())}, None])
def test_a_step_must_return_a_loss(result: object) -> None:
    """The message shows what it returned instead."""
    runner = build(None, train_step=lambda *_: result)
    with pytest.raises(TypeError, match="must return a loss"):
        runner.train()


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"max_grad_norm": -1}, ValueError, "`max_grad_norm` must be at least 0"),
        ({"max_grad_norm": 0}, ValueError, "`max_grad_norm` must be more than 0"),
        ({"max_grad_norm": float("nan")}, ValueError, "`max_grad_norm` must be finite"),
        ({"max_grad_norm": "x"}, TypeError, "`max_grad_norm` must be a number"),
        ({"train_step": 3}, TypeError, "`train_step` must be a function"),
        ({"train_dataloader": None}, TypeError, "`train_dataloader` must give batches"),
        ({"val_dataloader": 3}, TypeError, "`val_dataloader` must give batches"),
        ({"model": None}, TypeError, "`model` must be a torch module"),
        ({"hooks": 3}, TypeError, "`hooks` must be a list of hooks"),
    ],
)
def test_a_wrong_argument_is_refused_when_the_runner_is_built(
    wrong: dict[str, Any], error: type[Exception], text: str
) -> None:
    """Nothing is trained with it: a negative norm would climb, one of 0 learn nothing."""
    model = torch.nn.Linear(1, 1)
    arguments: dict[str, Any] = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "train_dataloader": [torch.zeros(1)],
        "max_iters": 1,
    }

    with pytest.raises(error, match=text):
        Runner(**arguments | wrong)


@pytest.mark.parametrize(
    ("lengths", "on_mismatch", "text"),
    [
        ({"epoch_length": 99}, None, "length of an epoch in iterations must be 6 for the group .* but is 99"),
        ({"max_epochs": 2}, None, "length of training in epochs must be 3 for the group .* but is 2"),
        ({"max_iters": 20}, None, "length of training in iterations must be 18 for the group .* but is 20"),
        ({"max_epochs": 3}, "adopt", "`on_mismatch` must be given to the SchedulerGroup"),
    ],
)
def test_a_group_is_for_the_same_training(lengths: dict[str, Any], on_mismatch: Any, text: str) -> None:
    """Its lengths are those of the runner, and it alone is told what to do about a changed schedule."""
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    group = SchedulerGroup(optimizer, [StepLR(optimizer, 1)], **lengths)

    with pytest.raises(ValueError, match=text):
        Runner(model, optimizer, DataLoader(dataset(), BATCH), scheduler=group, max_epochs=3, on_mismatch=on_mismatch)


def test_an_old_torchdata_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its loaders would go on with other samples, in a Runner and in a loop of one's own."""
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "0.10.1")

    with pytest.raises(ValueError, match=r"`train_dataloader` must be of torchdata 0\.11 or newer, but is of 0\.10\.1"):
        build(None)
    manager = CheckpointManager(tmp_path, {"loader": StatefulDataLoader(dataset(), BATCH)})
    with manager, pytest.raises(ValueError, match=r"state\[\"loader\"\] must be of torchdata 0\.11 or newer"):
        manager.save(0)
