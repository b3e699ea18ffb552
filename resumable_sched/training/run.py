"""What hooks see of a training: what it is made of, and where it is."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from resumable_sched.errors import StateMismatchError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from resumable_sched.distributed import Ranks
    from resumable_sched.schedule import SchedulerGroup
    from resumable_sched.training.batches import Batches

__all__ = ["Progress", "Run", "Update"]


@dataclass(frozen=True)
class Update:
    """Say what a completed optimizer update was made of.

    Attributes:
        loss: The mean loss of its batches on this rank, detached.
        outputs: What else `train_step` returned for its last batch.
        samples: Samples that it has seen, on all ranks.
        tokens: Tokens that it has seen, on all ranks; 0 unless `train_step` says how many.
    """

    loss: torch.Tensor
    outputs: Mapping[str, Any] = field(default_factory=dict)
    samples: int = 0
    tokens: int = 0


class Progress:
    """Keep what a checkpoint must know of a training beside its schedule: shared by all ranks.

    Attributes:
        validation_due: Whether a validation comes before the next update.
        skipped_updates: Updates that did not take place, because a scaler found gradients that were inf or nan.
        metrics: What the last validation has found; empty before the first one.
        measured_at: The iteration and the epoch at which it was.
    """

    per_rank: ClassVar[bool] = False

    def __init__(self, batches: Batches, accumulate: int) -> None:
        self._batches = batches
        self._accumulate = accumulate
        self.validation_due = False
        self.skipped_updates = 0
        self.metrics: dict[str, float] = {}
        self.measured_at = (-1, -1)

    def state_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "validation_due": self.validation_due,
            "skipped_updates": self.skipped_updates,
            "metrics": self.metrics,
            "measured_at": self.measured_at,
            "batches_taken": self._batches.taken,
            "epoch_batches": self._batches.length,
            "accumulate": self._accumulate,
        }

    def check_state_dict(self, state: Mapping[str, Any]) -> None:
        """Refuse to go on in the middle of an epoch that is divided into other updates now.

        Raises:
            StateMismatchError: That is so.
        """
        if not state["batches_taken"]:
            return
        names = {"accumulate": "`accumulate`", "epoch_batches": "The number of batches in `train_dataloader`"}
        for name, label in names.items():
            present = self.state_dict()[name]
            if state[name] != present:
                raise StateMismatchError(
                    f"{label} must be the saved {state[name]}, but is {present} instead: the checkpoint was taken in "
                    f"the middle of an epoch, after {state['batches_taken']} batches. Change it from a checkpoint at "
                    "the end of an epoch."
                )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what was saved."""
        self.validation_due = state["validation_due"]
        self.skipped_updates = state["skipped_updates"]
        self.metrics = dict(state["metrics"])
        self.measured_at = tuple(state["measured_at"])


class Run:
    """Show hooks what a training is made of, and where it is. It is always a `Runner`.

    Args:
        max_epochs: Epochs of the training; None where `max_iters` says when it ends.
        max_iters: Updates of the training; None where `max_epochs` says when it ends.

    Attributes:
        model: The model, as it was given.
        optimizers: The optimizers by name; the name is "optimizer" where none was given.
        group: The schedules and the position.
        ranks: The ranks that train together.
        hooks: All hooks, in the order of the ``after_...`` events.
        state: What a checkpoint holds, by name.
        resources: What is closed when `train` ends, in whichever way.
        progress: What is known beside the position.
        epoch_length: Updates of an epoch; None where the loader has no length.
    """

    model: torch.nn.Module
    optimizers: dict[str, torch.optim.Optimizer]
    group: SchedulerGroup
    ranks: Ranks
    hooks: tuple[object, ...]
    state: dict[str, Any]
    progress: Progress
    epoch_length: int | None

    def __init__(self, max_epochs: int | None = None, max_iters: int | None = None) -> None:
        self.resources = ExitStack()
        self._max_epochs = max_epochs
        self._max_iters = max_iters

    @property
    def max_epochs(self) -> int | None:
        """Return the epochs of the training, as `SchedulerGroup.extend` says if it was called.

        Raises:
            RuntimeError: It was called with `max_iters`, by which this training does not end.
        """
        return self._extended("max_epochs", self._max_epochs, other="max_iters")

    @property
    def max_iters(self) -> int | None:
        """Return the updates of the training, as `SchedulerGroup.extend` says if it was called.

        Raises:
            RuntimeError: It was called with `max_epochs`, by which this training does not end.
        """
        return self._extended("max_iters", self._max_iters, other="max_epochs")

    def _extended(self, name: str, built: int | None, *, other: str) -> int | None:
        if built is None:
            return None
        extension = self.group.extension
        if other in extension:
            raise RuntimeError(
                f"`extend` must be called with `{name}`, which this training was given and ends by, but was called "
                f"with `{other}`={extension[other]} instead."
            )
        return extension.get(name, built)

    @property
    def iteration(self) -> int:
        """Return the completed optimizer updates."""
        return self.group.iteration

    @property
    def epoch(self) -> int:
        """Return the completed epochs."""
        return self.group.epoch

    @property
    def total_iterations(self) -> int | None:
        """Return the updates of the whole training; None where nobody knows."""
        return self.group.training_length("iteration")

    @property
    def validation_due(self) -> bool:
        """Return whether a validation comes before the next update."""
        return self.progress.validation_due

    @property
    def skipped_updates(self) -> int:
        """Return the updates that did not take place because gradients were inf or nan."""
        return self.progress.skipped_updates

    @property
    def metrics(self) -> dict[str, float]:
        """Return what the last validation has found; empty before the first one."""
        return self.progress.metrics

    @property
    def metrics_here(self) -> dict[str, float] | None:
        """Return the metrics of the model as it is now; None where it was not validated since its last update."""
        return self.metrics if self.progress.measured_at == (self.iteration, self.epoch) else None

    @property
    def position(self) -> tuple[int, int, bool]:
        """Return where the training is; two checkpoints at one position are the same."""
        return self.iteration, self.epoch, self.validation_due
