"""Lightning fits with a group, stepped by iteration and by epoch, and resumes from its own checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from resumable_sched import LinearLR, LinearMomentum, ReduceOnPlateauLR, SchedulerGroup, StepLR
from resumable_sched.integrations.lightning import GroupCallback
from resumable_sched.integrations.torch_lr_scheduler import as_torch_lr_scheduler

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),  # torchdata, on torch 2.13
    # Lightning 2.6 on torch 2.13; its advice to start workers; and that a resumed run saves into a folder of its own
    pytest.mark.filterwarnings("ignore:`isinstance\\(treespec, LeafSpec\\)` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers:Warning"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning"),
]

EPOCH_LENGTH = 6
EPOCHS = 4
INPUTS = torch.randn(44, 4, generator=torch.Generator().manual_seed(1))
DATASET = TensorDataset(INPUTS, INPUTS.sum(1, keepdim=True))


class Net(pl.LightningModule):
    """Predict a sum, and note the values of each update.

    Args:
        together: Let one scheduler count iterations and epochs; else one counts each.
    """

    def __init__(self, *, together: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        self.together = together
        self.values: dict[int, list[float]] = {}

    def training_step(self, batch: Any, index: int) -> torch.Tensor:  # noqa: ARG002
        """Return the loss."""
        return torch.nn.functional.mse_loss(self.layers(batch[0]), batch[1])

    def validation_step(self, batch: Any, index: int) -> None:
        """Log the metric that is monitored."""
        self.log("val_loss", self.training_step(batch, index))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Note the values."""
        group = optimizer.param_groups[0]
        self.values[self.global_step] = [group["lr"], group["momentum"]]

    def configure_optimizers(self) -> Any:
        """Return optimizer and schedulers."""
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        schedulers = [
            LinearLR(optimizer, start_factor=0.1, end=10, by_epoch=False),
            StepLR(optimizer, 1, gamma=0.5),
            LinearMomentum(optimizer, 0.5, end=20, by_epoch=False),
            ReduceOnPlateauLR(optimizer, "val_loss", patience=0, threshold=0.5),
        ]
        if self.together:
            self.group = SchedulerGroup(optimizer, schedulers, epoch_length=EPOCH_LENGTH)
            one = {"scheduler": as_torch_lr_scheduler(self.group), "interval": "step"}
            return {"optimizer": optimizer, "lr_scheduler": one}
        self.group = SchedulerGroup(optimizer, schedulers)
        return [optimizer], [
            {"scheduler": as_torch_lr_scheduler(self.group, count_epochs=False), "interval": "step"},
            {"scheduler": as_torch_lr_scheduler(self.group, interval="epoch"), "interval": "epoch"},
        ]


def fit(folder: Path, *, together: bool, resume: Path | None = None) -> Net:
    """Fit with gradient accumulation; its last update of an epoch has one batch only."""
    model = Net(together=together)
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        accumulate_grad_batches=2,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        callbacks=[
            GroupCallback(),
            ModelCheckpoint(folder, "{step}", save_top_k=-1, save_on_train_epoch_end=True),
            ModelCheckpoint(folder, "inside-{step}", save_top_k=-1, every_n_train_steps=5),
        ],
    )
    trainer.fit(
        model,
        StatefulDataLoader(DATASET, batch_size=4),
        DataLoader(DATASET, batch_size=16),
        ckpt_path=None if resume is None else str(resume),
        weights_only=True,
    )
    return model


@pytest.mark.parametrize("together", [True, False], ids=["one scheduler", "one for each interval"])
def test_lightning_follows_the_group_and_resumes_with_the_same_floats(tmp_path: Path, *, together: bool) -> None:
    """From a checkpoint at the end of an epoch, and from one in the middle of it, loaded with weights_only."""
    whole = fit(tmp_path, together=together)

    ticks = EPOCHS * EPOCH_LENGTH
    assert list(whole.values) == list(range(ticks))
    assert (whole.group.iteration, whole.group.epoch, whole.group.iteration_in_epoch) == (ticks, EPOCHS, 0)
    assert whole.values[ticks - 1][0] < 0.1 * 0.5**3 * 0.2  # the plateau has acted: steps alone give three halvings
    found = sorted(tmp_path.glob("*.ckpt"))
    assert len(found) > EPOCHS
    for path in found:
        start = int(path.stem.rpartition("=")[2])
        resumed = fit(tmp_path / "again" / path.stem, together=together, resume=path)
        assert resumed.values == {tick: each for tick, each in whole.values.items() if tick >= start}, path
        assert all(map(torch.equal, resumed.parameters(), whole.parameters())), path


def test_an_epoch_of_another_length_is_an_error_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The callback compares the group's epochs with the Trainer's."""
    monkeypatch.setitem(globals(), "EPOCH_LENGTH", 5)

    with pytest.raises(RuntimeError, match=r"`epoch_length` .* after 6 updates .* the group is 1 into one"):
        fit(tmp_path, together=True)
