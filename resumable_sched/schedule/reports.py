"""Say once, in the log, what is probably not what was meant."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from resumable_sched.schedule.lint import lint
from resumable_sched.schedule.windows import Sizes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from resumable_sched.schedule.lengths import Lengths
    from resumable_sched.schedule.scheduler import ParamScheduler
    from resumable_sched.schedule.timeline import Counters

__all__ = ["Reports", "is_quiet", "quiet"]

logger = logging.getLogger("resumable_sched")

_QUIET: ContextVar[bool] = ContextVar("_QUIET", default=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Let groups that are built here say nothing, ever: they only serve to compute something, or are copies."""
    token = _QUIET.set(True)
    try:
        yield
    finally:
        _QUIET.reset(token)


def is_quiet() -> bool:
    """Return whether nothing is to be said here."""
    return _QUIET.get()


class Reports:
    """Remember what was said."""

    def __init__(self) -> None:
        self._findings = self._epochs = False

    def findings(
        self, schedulers: Sequence[tuple[str, ParamScheduler]], lengths: Lengths, cadence: Mapping[str, int]
    ) -> None:
        """Say what `lint` warns of.

        Args:
            schedulers: The schedules, each with the name of its optimizer.
            lengths: How long training is.
            cadence: For an optimizer that is not updated in every iteration, every how many it is.
        """
        told, self._findings = self._findings or _QUIET.get(), True
        if told:
            return
        members: dict[str, list[ParamScheduler]] = {}
        for name, scheduler in schedulers:
            members.setdefault(name, []).append(scheduler)
        sizes = Sizes(lengths.epoch_length, cadence=cadence, surplus=lengths.surplus)
        named: Any = members if len(members) > 1 or cadence else [each for _, each in schedulers]
        for finding in lint(named, **lengths.as_dict(), sizes=sizes):
            level = logging.WARNING if finding.level == "warning" else logging.DEBUG
            logger.log(level, "%s: %s", finding.parameter, finding.message)

    def forgotten_epochs(self, counters: Counters, lengths: Lengths, units: Collection[str]) -> None:
        """Say that a loop seems to forget `step_epoch`, where the length of training tells."""
        epochs, iterations = lengths.max_epochs, lengths.max_iters
        if self._epochs or counters.epoch or "epoch" not in units or epochs is None or iterations is None:
            return
        if counters.iteration * epochs > iterations:
            self._epochs = True
            logger.warning(
                "`step_epoch` must be called after each epoch, but was not in %d of %d iterations of a training of %d "
                "epochs: schedules by epoch do not move.",
                counters.iteration,
                iterations,
                epochs,
            )
