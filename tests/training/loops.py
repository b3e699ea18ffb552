"""Trainings that have what a resume can get wrong, what is recorded of them, and hooks that end them."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from resumable_sched import Runner
from resumable_sched.distributed import seed_all
from resumable_sched.testing import digest
from resumable_sched.training import CheckpointHook, Hook, TraceHook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from resumable_sched.training import Run, Update

SAMPLES = 22
BATCH = 4  # 6 batches in an epoch, the last of 2 samples


class KilledError(Exception):
    """Stand for the end of the process."""


class Memory:
    """Record in memory what a `Recorder` writes."""

    def __init__(self) -> None:
        self.lines: dict[int, dict[str, Any]] = {}
        self.end: dict[str, Any] = {}

    def record(self, iteration: int, **facts: Any) -> None:
        """Remember an update; one that is done again must come out the same."""
        assert self.lines.get(iteration, facts) == facts
        self.lines[iteration] = facts

    def record_end(self, **facts: Any) -> None:
        """Remember the end."""
        self.end = facts


class Events(Hook):
    """Write down every event, and do something at some of them."""

    def __init__(self, **actions: Callable[[Run], None]) -> None:
        self.events: list[str] = []
        self._actions = actions

    def _note(self, event: str, runner: Run) -> None:
        self.events.append(f"{event} {runner.iteration}/{runner.epoch}")
        if event in self._actions:
            self._actions[event](runner)

    def before_train(self, runner: Run) -> None:  # noqa: D102
        self._note("before_train", runner)

    def before_train_epoch(self, runner: Run) -> None:  # noqa: D102
        self._note("before_train_epoch", runner)

    def before_train_iter(self, runner: Run) -> None:  # noqa: D102
        self._note("before_train_iter", runner)

    def after_train_iter(self, runner: Run, update: Update) -> None:  # noqa: D102
        del update
        self._note("after_train_iter", runner)

    def after_train_epoch(self, runner: Run) -> None:  # noqa: D102
        self._note("after_train_epoch", runner)

    def after_val(self, runner: Run, metrics: Mapping[str, float]) -> None:  # noqa: D102
        del metrics
        self._note("after_val", runner)

    def after_train(self, runner: Run) -> None:  # noqa: D102
        self._note("after_train", runner)


def kill_at(iteration: int) -> Callable[[Run], None]:
    """Return an action that ends the training when it has come to *iteration*."""

    def kill(runner: Run) -> None:
        if runner.iteration == iteration:
            raise KilledError

    return kill


def stop_at(count: int, unit: str = "epoch") -> Callable[[Run], None]:
    """Return an action that sends this process SIGTERM when *count* epochs, or iterations, are done."""

    def stop(runner: Run) -> None:
        if getattr(runner, unit) == count:
            os.kill(os.getpid(), signal.SIGTERM)

    return stop


class Net(nn.Module):
    """Have what a resume can get wrong: dropout, BatchNorm, and a loss that is not finite now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, batch: list[torch.Tensor]) -> torch.Tensor:
        """Return the loss."""
        inputs, targets = batch
        loss = nn.functional.mse_loss(self.body(inputs), targets)
        return loss * float("inf") if bool((inputs == 0).all(1).any()) else loss


def dataset(*, with_bad_sample: bool = False) -> TensorDataset:
    """Return 22 samples; a sample of zeros makes the loss infinite."""
    inputs = torch.randn(SAMPLES, 3, generator=torch.Generator().manual_seed(5))
    if with_bad_sample:
        inputs[7] = 0
    return TensorDataset(inputs, inputs.sum(1, keepdim=True).sin())


WARM_UP = {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "end": 5}
COSINE = {"type": "CosineAnnealingLR", "convert_to_iter_based": True, "eta_min": 1e-4}
PLATEAU = {"type": "ReduceOnPlateauLR", "monitor": "loss", "factor": 0.5, "patience": 0, "threshold": 10.0}
MOMENTUM = {"type": "MultiStepMomentum", "milestones": [1, 2], "gamma": 0.9}


def build(url: object = None, *hooks: Hook, **settings: Any) -> Runner:
    """Build a training of 3 epochs from nothing, as the process would that is started again."""
    seed_all(3)
    torch.manual_seed(3)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    bad = "scaler" in settings
    loader: Any = settings.pop("loader", None)
    if loader is None:
        loader = StatefulDataLoader(dataset(with_bad_sample=bad), BATCH, shuffle=True)
    settings = {"scheduler": [WARM_UP, COSINE, MOMENTUM], **settings}
    if "max_iters" not in settings:
        settings.setdefault("max_epochs", 3)
    if settings.pop("validated", False):
        settings["val_dataloader"] = DataLoader(dataset(), 5)
        settings["scheduler"] = [WARM_UP, PLATEAU, MOMENTUM]
    if url is not None and not isinstance(url, CheckpointHook):
        url = CheckpointHook(url, by_epoch=False)  # type: ignore[arg-type]
    return Runner(model, optimizer, loader, checkpoint=url, hooks=hooks, **settings)


def trace_into(memory: Memory) -> TraceHook:
    """Record losses, values, parameters, buffers and optimizer of each update."""

    def facts(runner: Run) -> dict[str, Any]:
        optimizer = [it for each in runner.optimizers["optimizer"].state.values() for it in each.values()]
        return {
            "model": digest(runner.model.state_dict().values()),
            "optimizer": digest(optimizer),
            "samples": runner.group.samples,
        }

    return TraceHook(memory, facts)


def scaler() -> torch.amp.GradScaler:
    """Return a scaler for CPU whose scale grows and falls."""
    return torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=3)


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "one batch": dict,
    "accumulated": lambda: {"accumulate": 4},
    "scaled": lambda: {"scaler": scaler(), "max_grad_norm": 0.5},
    "scaled, accumulated": lambda: {"scaler": scaler(), "accumulate": 2},
    "validated": lambda: {"validated": True},
    "validated by iteration": lambda: {"validated": True, "val_by_epoch": False, "val_every": 4},
    "so many updates": lambda: {"max_iters": 12, "validated": True},
    "ends in mid-epoch": lambda: {"max_iters": 14, "validated": True, "val_every": 2},
    "own generator": lambda: {
        "loader": StatefulDataLoader(dataset(), BATCH, shuffle=True, generator=torch.Generator().manual_seed(9))
    },
    "own sampler": lambda: {"loader": StatefulDataLoader(dataset(), BATCH, sampler=Shuffled(), drop_last=True)},
    "no length": lambda: {
        "loader": StatefulDataLoader(Stream(), batch_size=None),
        "scheduler": [WARM_UP, MOMENTUM],
        "accumulate": 2,
    },
}


class Shuffled(torch.utils.data.Sampler[int]):
    """Draw from the global generator, and know nothing of states."""

    def __iter__(self) -> Iterator[int]:
        """Draw when the first sample is asked for."""
        yield from torch.randperm(SAMPLES).tolist()

    def __len__(self) -> int:
        """Return the samples of an epoch."""
        return SAMPLES


class Stream(IterableDataset[list[torch.Tensor]]):
    """Return batches of an epoch, with a state and without a length."""

    def __init__(self) -> None:
        self.given = 0

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        """Go on where the state says."""
        tensors = dataset().tensors
        for start in range(self.given, 5):
            self.given = start + 1
            yield [it[start * 4 : start * 4 + 4] for it in tensors]
        self.given = 0

    def state_dict(self) -> dict[str, int]:
        """Return the batches that were given."""
        return {"given": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on there."""
        self.given = state["given"]
