"""transformers' Trainer trains with a group in the place of its scheduler, and resumes from its own checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from resumable_sched import LinearLR, LinearMomentum, ReduceOnPlateauLR, SchedulerGroup, StepLR
from resumable_sched.integrations.torch_lr_scheduler import as_torch_lr_scheduler
from resumable_sched.integrations.transformers import GroupCallback

if TYPE_CHECKING:
    from pathlib import Path

UPDATES = 24
EPOCH_LENGTH = 8
INPUTS = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
DATA: Any = [{"x": x, "labels": x.sum().reshape(1)} for x in INPUTS]


class Net(torch.nn.Module):
    """Predict a sum, with dropout, so that a wrong generator would show."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what the Trainer wants."""
        predicted = self.layers(x)
        return {"loss": torch.nn.functional.mse_loss(predicted, labels), "logits": predicted}


class Values(TrainerCallback):
    """Note the values that each update uses."""

    def __init__(self) -> None:
        self.seen: dict[int, list[float]] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **others: Any) -> None:  # noqa: ARG002
        """Note them."""
        group = others["optimizer"].param_groups[0]
        self.seen[state.global_step] = [group["lr"], group["momentum"]]


def train(
    folder: Path, resume: Path | None = None, epoch_length: int = EPOCH_LENGTH
) -> tuple[dict[int, list[float]], list[torch.Tensor], SchedulerGroup]:
    """Train with accumulation, evaluations and checkpoints; give the values of each update, and the parameters."""
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedulers = [
        LinearLR(optimizer, start_factor=0.1, end=10, by_epoch=False),
        StepLR(optimizer, 1, gamma=0.5),
        LinearMomentum(optimizer, 0.5, end=20, by_epoch=False),
        ReduceOnPlateauLR(optimizer, "eval_loss", patience=0, threshold=0.5),
    ]
    group = SchedulerGroup(optimizer, schedulers, epoch_length=epoch_length)
    settings = TrainingArguments(
        str(folder),
        max_steps=UPDATES,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        save_steps=3,
        eval_steps=4,
        eval_strategy="steps",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    values = Values()
    trainer = Trainer(
        model,
        settings,
        train_dataset=DATA,
        eval_dataset=DATA[:8],
        optimizers=(optimizer, as_torch_lr_scheduler(group)),  # type: ignore[arg-type]  # it says LambdaLR
        callbacks=[values, GroupCallback(group)],
    )
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return values.seen, [parameter.detach() for parameter in model.parameters()], group


def test_the_trainer_follows_the_group_and_resumes_with_the_same_floats(tmp_path: Path) -> None:
    """Values and parameters are the same from each of its checkpoints: in mid-epoch, at its end, after a reduction."""
    values, parameters, group = train(tmp_path / "whole")

    assert list(values) == list(range(UPDATES))
    assert (group.iteration, group.epoch, group.iteration_in_epoch) == (UPDATES, 3, 0)
    assert [values[tick][0] for tick in (0, 1)] == pytest.approx([0.01, 0.02])
    assert values[UPDATES - 1][0] < 0.1 * 0.5**2 * 0.2  # the plateau has acted: steps alone give two halvings
    for start in (3, 6, 12, 15, 18, 21, 24):
        resumed = train(tmp_path / str(start), tmp_path / "whole" / f"checkpoint-{start}")
        assert resumed[0] == {tick: each for tick, each in values.items() if tick >= start}
        assert all(map(torch.equal, resumed[1], parameters))


def test_an_epoch_of_another_length_is_an_error_at_its_end(tmp_path: Path) -> None:
    """The callback compares the group's epochs with the Trainer's."""
    with pytest.raises(RuntimeError, match=r"`epoch_length` .* after 8 updates .* the group is 3 into one"):
        train(tmp_path, epoch_length=5)
