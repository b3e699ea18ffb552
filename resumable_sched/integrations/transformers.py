"""Tell a group what transformers' Trainer keeps to itself: the metrics of evaluations, and the ends of epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers.trainer_callback import TrainerCallback

from resumable_sched.integrations.torch_lr_scheduler import require_counted_epoch
from resumable_sched.schedule.plateau import ReduceOnPlateauParamScheduler

if TYPE_CHECKING:
    from transformers.trainer_callback import TrainerControl, TrainerState
    from transformers.training_args import TrainingArguments

    from resumable_sched.schedule import SchedulerGroup

__all__ = ["GroupCallback"]


class GroupCallback(TrainerCallback):
    """Feed the plateau schedules of *group* after each evaluation, and check that its epochs are the Trainer's.

    The Trainer steps its one scheduler after each update, and gives metrics to ``ReduceLROnPlateau`` alone::

        scheduler = as_torch_lr_scheduler(group)
        Trainer(..., optimizers=(optimizer, scheduler), callbacks=[GroupCallback(group)])

    A metric has the name that the Trainer gives it, such as "eval_loss".

    Args:
        group: The group.
    """

    def __init__(self, group: SchedulerGroup) -> None:
        self._group = group

    def on_evaluate(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        **others: Any,  # noqa: ANN401 - what else the Trainer gives
    ) -> None:
        """Give the metrics to the plateau schedules, before the Trainer saves.

        Raises:
            KeyError: A metric that is monitored is not there.
        """
        if any(isinstance(each, ReduceOnPlateauParamScheduler) for each in self._group.schedulers):
            self._group.observe(others["metrics"])

    def on_epoch_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401
    ) -> None:
        """Check that the group has counted the epoch too.

        Raises:
            RuntimeError: It has not: its `epoch_length` is another.
        """
        if not (control.should_training_stop or control.should_epoch_stop):  # before its end
            require_counted_epoch(self._group, state.global_step)
