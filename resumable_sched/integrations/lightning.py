"""Tell a group the metrics of Lightning's validations, before Lightning saves a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from pytorch_lightning.callbacks import Callback
except ImportError:  # the same class by its other name; either does for either Trainer
    from lightning.pytorch.callbacks import Callback  # type: ignore[no-redef, import-not-found, unused-ignore]

from resumable_sched.integrations.torch_lr_scheduler import GroupLRScheduler, require_counted_epoch
from resumable_sched.schedule.plateau import ReduceOnPlateauParamScheduler

if TYPE_CHECKING:
    from resumable_sched.schedule import SchedulerGroup

__all__ = ["GroupCallback"]


class GroupCallback(Callback):  # type: ignore[misc, unused-ignore]  # Any where Lightning is not installed
    """Feed the plateau schedules after each validation, and check that the group's epochs are the Trainer's.

    It finds the groups by itself, from what ``configure_optimizers`` returns::

        Trainer(..., callbacks=[GroupCallback()])

    Lightning can call ``step(metric)`` itself (``"reduce_on_plateau": True``), but does so at the end of an epoch after
    its checkpoint is saved, and not at all after a resume: the reduction is lost.
    """

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401, ARG002 - of either package
        """Give the metrics to the plateau schedules.

        Raises:
            KeyError: A metric that is monitored was not logged.
        """
        if trainer.sanity_checking:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        for group in _groups(trainer):
            if any(isinstance(each, ReduceOnPlateauParamScheduler) for each in group.schedulers):
                group.observe(metrics)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401, ARG002
        """Check that the group has counted the epoch too.

        Raises:
            RuntimeError: It has not: its `epoch_length` is another.
        """
        if trainer.should_stop or trainer.global_step == trainer.max_steps:
            return  # before its end
        for group in _groups(trainer):
            require_counted_epoch(group, trainer.global_step)


def _groups(trainer: Any) -> list[SchedulerGroup]:  # noqa: ANN401
    """Return each group that the Trainer steps once."""
    found = [
        each.scheduler.group for each in trainer.lr_scheduler_configs if isinstance(each.scheduler, GroupLRScheduler)
    ]
    return list({id(group): group for group in found}.values())
