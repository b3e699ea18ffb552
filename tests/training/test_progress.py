"""What is shown of a training, on a terminal and in a log."""

from __future__ import annotations

import io
import itertools

import torch
from torch import nn

from resumable_sched import Runner
from resumable_sched.training import ProgressHook


class Terminal(io.StringIO):
    """Be a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def show(stream: io.StringIO, max_epochs: int = 2) -> str:
    """Train 3 updates in each epoch, one in each second, and return what was shown."""
    seconds = itertools.count(step=0.5)  # the clock is read before an update and after it
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    Runner(
        model,
        torch.optim.SGD(model.parameters(), lr=0.5),
        [torch.ones(1, 1)] * 3,
        scheduler={"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "end": 3},
        max_epochs=max_epochs,
        train_step=lambda net, batch: net(batch).sum() * 0 + 2,
        val_dataloader=[torch.ones(1, 1)],
        val_step=lambda *_: {"accuracy": 0.25},
        val_every=2,
        hooks=[ProgressHook(every=2, stream=stream, clock=lambda: float(next(seconds)))],
    ).train()
    return stream.getvalue()


def test_a_log_has_a_line_for_every_so_many_updates() -> None:
    """Iteration, epoch, loss, the learning rate that was used, speed and time left; validations; the end."""
    assert show(io.StringIO()).splitlines() == [
        "iteration 2/6, epoch 1/2, loss 2, lr 0.275, 4 iterations/s, 0:00:01 left",
        "iteration 4/6, epoch 2/2, loss 2, lr 0.5, 4 iterations/s, 0:00:00 left",
        "iteration 6/6, epoch 2/2, loss 2, lr 0.5, 4 iterations/s, 0:00:00 left",
        "validation after iteration 6, epoch 2: accuracy 0.25",
    ]


def test_a_terminal_has_one_line_that_is_drawn_again() -> None:
    """A validation is a line of its own above it."""
    shown = show(Terminal(), max_epochs=3)

    assert shown.startswith("\riteration 1/9, epoch 1/3, loss 2, lr 0.05, 2 iterations/s, 0:00:04 left")
    assert "\n" not in shown.partition("validation after iteration 6")[0]
    assert "\rvalidation after iteration 6, epoch 2: accuracy 0.25\n\riteration 7/9" in shown
