"""Put the windows of schedules on one axis, that of iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resumable_sched.schedule.lengths import Lengths
    from resumable_sched.schedule.scheduler import ParamScheduler

__all__ = ["Sizes", "Window", "named_schedulers", "windows_of"]


@dataclass(frozen=True)
class Sizes:
    """Say what an iteration is of every clock, as far as it is known.

    Attributes:
        epoch_length: Iterations of an epoch.
        samples: Samples of an update.
        tokens: Tokens of an update.
        cadence: For an optimizer that is not updated in every iteration, every how many it is.
        surplus: Iterations that the epochs so far had beyond `epoch_length`; see `Lengths`.
    """

    epoch_length: int | None = None
    samples: int | None = None
    tokens: int | None = None
    cadence: Mapping[str, int] | None = None
    surplus: int = 0

    def iteration_of(self, scheduler: ParamScheduler, optimizer: str, tick: int) -> int | None:
        """Return the iteration with which the clock of *scheduler* reaches *tick*; None if it cannot be told."""
        if tick == 0:
            return 0
        match scheduler.clock_unit:
            case "iteration":
                return tick * (self.cadence or {}).get(optimizer, 1)
            case "epoch":
                return None if self.epoch_length is None else tick * self.epoch_length + self.surplus
            case "sample":
                return None if not self.samples else -(-tick // self.samples)
            case "token":
                return None if not self.tokens else -(-tick // self.tokens)


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
        length: The ticks of training on the schedule's clock; None if nobody knows.
        scheduler: The schedule.
    """

    index: int
    optimizer: str
    parameter: str
    label: str
    begin: int | None
    end: int | None
    length: int | None
    scheduler: ParamScheduler

    @property
    def key(self) -> str:
        """Return what a trace calls the hyper-parameter."""
        return f"{self.optimizer}.{self.parameter}" if self.optimizer else self.parameter


def named_schedulers(
    schedulers: Sequence[ParamScheduler] | Mapping[str, Sequence[ParamScheduler]],
) -> Iterator[tuple[str, int, ParamScheduler]]:
    """Return each schedule with the name of its optimizer and its place in the list."""
    lists: Mapping[str, Sequence[Any]] = schedulers if isinstance(schedulers, Mapping) else {"": schedulers}
    for name, members in lists.items():
        for index, scheduler in enumerate(members):
            yield name, index, scheduler


def windows_of(
    schedulers: Sequence[ParamScheduler] | Mapping[str, Sequence[ParamScheduler]],
    lengths: Lengths,
    sizes: Sizes | None = None,
) -> list[Window]:
    """Return the window of each schedule; one whose `end` was not given ends with training."""
    sizes = Sizes(lengths.epoch_length) if sizes is None else sizes
    found = []
    for name, index, scheduler in named_schedulers(schedulers):
        every = (sizes.cadence or {}).get(name, 1)
        length = lengths.of_training(scheduler.clock_unit, every)
        forever = scheduler.open_ended
        end = length if forever else scheduler.end
        unit = scheduler.clock_unit
        shown = "end" if forever else str(scheduler.end)
        ticks = "" if unit == "iteration" else f"{unit}s "
        some = "" if scheduler.groups is None else f" of {_chosen(scheduler)}"
        found.append(
            Window(
                index=index,
                optimizer=name,
                parameter=scheduler.param_name,
                label=f"{type(scheduler).__name__} {ticks}{scheduler.begin}-{shown}{some}",
                begin=sizes.iteration_of(scheduler, name, scheduler.begin),
                end=None if end is None else sizes.iteration_of(scheduler, name, end),
                length=length,
                scheduler=scheduler,
            )
        )
    return found


def _chosen(scheduler: ParamScheduler) -> str:
    """Say in a word or two which param groups a schedule acts on."""
    groups = scheduler.groups
    if isinstance(groups, tuple):
        return ", ".join(str(each) if isinstance(each, str) else f"group {each}" for each in groups)
    return str(groups)
