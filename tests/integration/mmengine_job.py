"""Train with MMEngine's own Runner, with its schedules and with ours, and print the values of each update as JSON.

    python tests/integration/mmengine_job.py FOLDER

MMEngine keeps runners, loggers and registries in globals, so this runs in a process of its own.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS, PARAM_SCHEDULERS
from mmengine.runner import Runner

from resumable_sched.integrations.mmengine import checkpoint_globals, register_in_mmengine
from resumable_sched.schedule import ParamScheduler

CONFIG = """
model = dict(type="ToyModel")
train_dataloader = dict(
    dataset=dict(type="ToyDataset"),
    batch_size=4,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
)
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.1, momentum=0.9))
default_hooks = dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=3))
randomness = dict(seed=1)
log_level = "ERROR"
custom_hooks = [dict(type="Values")]
"""
BY_ITERATION = """
train_cfg = dict(type="IterBasedTrainLoop", max_iters=20, val_interval=100)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=8),
    dict(type="CosineAnnealingLR", T_max=12, eta_min=1e-4, by_epoch=False, begin=8),
    dict(type="LinearMomentum", start_factor=0.5, by_epoch=False, end=8),
    dict(type="MultiStepMomentum", milestones=[2], end=4, convert_to_iter_based=True),
]
"""
BY_EPOCH = """
train_cfg = dict(by_epoch=True, max_epochs=8)
val_cfg = dict()
val_dataloader = train_dataloader
val_evaluator = dict(type="ToyMetric")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=8),
    dict(type="StepLR", step_size=3, gamma=0.5),
    dict(type="ReduceOnPlateauLR", monitor="score", rule="less", patience=1, factor=0.5),
]
default_hooks = dict(checkpoint=dict(type="CheckpointHook", interval=1))
"""


@MODELS.register_module()
class ToyModel(BaseModel):  # type: ignore[misc]
    """Fit a line."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)

    def forward(self, inputs: torch.Tensor, mode: str) -> Any:
        """Return the loss, or what is predicted."""
        predicted = self.linear(inputs)
        return {"loss": (predicted - inputs.sum(1, keepdim=True)).square().mean()} if mode == "loss" else [predicted]


@DATASETS.register_module()
class ToyDataset(torch.utils.data.Dataset[Any]):
    """Return 20 samples, so 5 iterations of an epoch."""

    def __len__(self) -> int:
        """Return how many."""
        return 20

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Return one."""
        return {"inputs": torch.tensor([index / 20, 1 - index / 30])}


@METRICS.register_module()
class ToyMetric(BaseMetric):  # type: ignore[misc]
    """Improve for three epochs, and never again."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        """Count a batch."""
        del data_batch, data_samples
        self.results.append(1)

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        """Return the metric of this epoch."""
        epoch = Values.epoch
        del results
        return {"score": 1.0 / min(epoch, 3)}


@HOOKS.register_module()
class Values(Hook):  # type: ignore[misc]
    """Note what each update uses."""

    epoch = 0

    def __init__(self) -> None:
        self.values: dict[int, list[float]] = {}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Note it."""
        del batch_idx, data_batch
        group = runner.optim_wrapper.param_groups[0]
        self.values[runner.iter] = [group["lr"], group["momentum"]]

    def after_train_epoch(self, runner: Runner) -> None:
        """Tell the metric which epoch this was."""
        Values.epoch = runner.epoch + 1


def train(config: str, folder: Path, **more: Any) -> dict[int, list[float]]:
    """Train with MMEngine's Runner, and give the values of each update."""
    settings = Config.fromstring(CONFIG + config, file_format=".py")
    settings.merge_from_dict({"work_dir": str(folder), "experiment_name": f"{folder.name}-{len(more)}", **more})
    runner = Runner.from_cfg(settings)
    with torch.serialization.safe_globals(checkpoint_globals()):
        runner.train()
    ours = [isinstance(each, ParamScheduler) for each in runner.param_schedulers]
    assert all(ours) or not any(ours)
    assert all(ours) == (PARAM_SCHEDULERS.get("LinearLR").__module__.startswith("resumable_sched"))
    return next(hook.values for hook in runner.hooks if isinstance(hook, Values))


def require_narrow_getattr() -> None:
    """Check that a checkpoint cannot get at more than the public methods of the history."""
    method, name = next(each for each in checkpoint_globals() if isinstance(each, tuple))
    assert name == "builtins.getattr"
    assert method(HistoryBuffer, "mean") is HistoryBuffer.mean
    for owner, attribute in ((torch, "load"), (HistoryBuffer, "__init__"), (HistoryBuffer.mean, "func")):
        try:
            method(owner, attribute)
        except ValueError:
            continue
        raise AssertionError(f"{attribute} was given")


def main() -> None:
    """Run everything, peers first."""
    require_narrow_getattr()
    logging.disable(logging.WARNING)
    folder = Path(sys.argv[1])
    found = {
        "peer by iteration": train(BY_ITERATION, folder / "peer-iteration"),
        "peer by epoch": train(BY_EPOCH, folder / "peer-epoch"),
    }
    assert "InverseSqrtLR" in register_in_mmengine()
    register_in_mmengine()  # a second time changes nothing
    own = folder / "own"
    found["by iteration"] = train(BY_ITERATION, own)
    found["by epoch"] = train(BY_EPOCH, folder / "own-epoch")
    for stop in (3, 6, 12):  # twice in the middle of the warm-up, once in the cosine
        checkpoint = str(own / f"iter_{stop}.pth")
        found[f"resumed at {stop}"] = train(BY_ITERATION, folder / f"{stop}", resume=True, load_from=checkpoint)
    # MMEngine saves before the validation of the epoch and does not make up for it: a plateau misses that metric. That
    # of epoch 2 does not matter, because that of epoch 3 is better than all before.
    checkpoint = str(folder / "own-epoch" / "epoch_2.pth")
    found["resumed by epoch"] = train(BY_EPOCH, folder / "resumed-epoch", resume=True, load_from=checkpoint)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
