"""Put the windows of schedules on one axis, that of iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resumable_sched.schedule.scheduler import FOREVER
from resumable_sched.schedule.timeline import training_length

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resumable_sched.schedule.scheduler import ParamScheduler

__all__ = ["Lengths", "Window", "named_schedulers", "windows_of"]


@dataclass(frozen=True)
class Lengths:
    """Say how long epochs and training are, as far as it is known.

    Attributes:
        epoch_length: Iterations of an epoch.
        max_epochs: Epochs of the training.
        max_iters: Iterations of the training.
    """

    epoch_length: int | None = None
    max_epochs: int | None = None
    max_iters: int | None = None

    def of_training(self, scheduler: ParamScheduler) -> int | None:
        """Give the ticks that training lasts on the clock of *scheduler*; None if nobody said."""
        return training_length(
            scheduler.clock_unit,
            epoch_length=self.epoch_length,
            max_epochs=self.max_epochs,
            max_iters=self.max_iters,
        )

    def in_iterations(self, scheduler: ParamScheduler, tick: int) -> int | None:
        """Give the iteration at which the clock of *scheduler* reaches *tick*; None if it cannot be told."""
        if scheduler.clock_unit == "iteration":
            return tick
        if tick == 0:
            return 0
        if scheduler.clock_unit == "epoch" and self.epoch_length is not None:
            return tick * self.epoch_length
        return None


@dataclass(frozen=True)
class Window:
    """Be the window of one schedule, in iterations.

    Attributes:
        index: The place of the schedule in its list.
        optimizer: The name of its optimizer; empty where there is one without a name.
        parameter: The hyper-parameter.
        label: What to call it: the class, and the window in its own ticks, which are iterations unless it says so.
        begin: The iteration at which it opens; None if that cannot be told.
        end: The iteration at which it closes; None if it stays open, or if that cannot be told.
        scheduler: The schedule.
    """

    index: int
    optimizer: str
    parameter: str
    label: str
    begin: int | None
    end: int | None
    scheduler: ParamScheduler

    @property
    def key(self) -> str:
        """Give what a trace calls the hyper-parameter."""
        return f"{self.optimizer}.{self.parameter}" if self.optimizer else self.parameter


def named_schedulers(
    schedulers: Sequence[ParamScheduler] | Mapping[str, Sequence[ParamScheduler]],
) -> Iterator[tuple[str, int, ParamScheduler]]:
    """Give each schedule with the name of its optimizer and its place in the list."""
    lists: Mapping[str, Sequence[Any]] = schedulers if isinstance(schedulers, Mapping) else {"": schedulers}
    for name, members in lists.items():
        for index, scheduler in enumerate(members):
            yield name, index, scheduler


def windows_of(
    schedulers: Sequence[ParamScheduler] | Mapping[str, Sequence[ParamScheduler]], lengths: Lengths
) -> list[Window]:
    """Give the window of each schedule; one whose `end` was not given ends with training."""
    found = []
    for name, index, scheduler in named_schedulers(schedulers):
        length = lengths.of_training(scheduler)
        forever = scheduler.end == FOREVER
        end = length if forever else scheduler.end
        unit = scheduler.clock_unit
        shown = "end" if forever else str(scheduler.end)
        ticks = "" if unit == "iteration" else f"{unit}s "
        found.append(
            Window(
                index=index,
                optimizer=name,
                parameter=scheduler.param_name,
                label=f"{type(scheduler).__name__} {ticks}{scheduler.begin}-{shown}",
                begin=lengths.in_iterations(scheduler, scheduler.begin),
                end=None if end is None else lengths.in_iterations(scheduler, end),
                scheduler=scheduler,
            )
        )
    return found
