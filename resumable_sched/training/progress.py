"""Say on a terminal or in a log how far a training is."""

from __future__ import annotations

import datetime as dt
import sys
import time
from typing import TYPE_CHECKING, Final, TextIO, final

from resumable_sched.schedule.arguments import whole
from resumable_sched.training.hooks import Hook

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resumable_sched.training.run import Run, Update

__all__ = ["ProgressHook"]

_REDRAW_SECONDS: Final = 0.1


@final
class ProgressHook(Hook):
    """Show iteration, epoch, loss, learning rate, speed and time left, on rank 0.

    On a terminal it is one line that is drawn again and again; elsewhere a line after every so many updates. Each
    validation has a line of its own. The loss is rank 0's, and the learning rate is the one that the update has used,
    of the first param group.

    Args:
        every: Updates from one line to the next, where the output is no terminal.
        stream: Where to write; None is ``sys.stderr``.
        clock: What tells the time, in seconds.
    """

    def __init__(
        self, every: int = 10, stream: TextIO | None = None, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._every = whole("every", every, minimum=1)
        self._stream = stream
        self._clock = clock
        self._started_at = self._drawn_at = 0.0
        self._first = 0
        self._lr = 0.0
        self._width = 0

    def before_train(self, runner: Run) -> None:
        """Say where the training starts from, if not at the beginning."""
        self._started_at = self._clock()
        self._drawn_at = self._started_at - _REDRAW_SECONDS
        self._first = runner.iteration
        if runner.iteration:
            self._line(runner, f"goes on after iteration {runner.iteration}, epoch {runner.epoch}")

    def before_train_iter(self, runner: Run) -> None:
        """Note the learning rate that the update will use."""
        if self._shows(runner, runner.iteration + 1):
            self._lr = float(next(iter(runner.optimizers.values())).param_groups[0].get("lr", float("nan")))

    def _shows(self, runner: Run, iteration: int) -> bool:
        if runner.ranks.rank != 0:
            return False
        return iteration % self._every == 0 or iteration == runner.total_iterations or self._out.isatty()

    @property
    def _out(self) -> TextIO:
        return sys.stderr if self._stream is None else self._stream

    def after_train_iter(self, runner: Run, update: Update) -> None:
        """Show the update."""
        if not self._shows(runner, runner.iteration):
            return
        now, total = self._clock(), runner.total_iterations
        terminal = self._out.isatty()
        if terminal and now - self._drawn_at < _REDRAW_SECONDS and runner.iteration != total:
            return
        self._drawn_at = now
        speed = (runner.iteration - self._first) / max(now - self._started_at, 1e-9)
        of_epochs = "" if runner.max_epochs is None else f"/{runner.max_epochs}"
        in_epoch = runner.epoch + 1
        parts = [
            f"iteration {runner.iteration}" + ("" if total is None else f"/{total}"),
            f"epoch {in_epoch}{of_epochs}",
            f"loss {update.loss.item():.4g}",
            f"lr {self._lr:.3g}",
            f"{speed:.3g} iterations/s",
        ]
        if total is not None:
            left = dt.timedelta(seconds=round(max(total - runner.iteration, 0) / speed)) if speed else "?"
            parts.append(f"{left} left")
        if terminal:
            self._draw(", ".join(parts))
        else:
            self._line(runner, ", ".join(parts))

    def after_val(self, runner: Run, metrics: Mapping[str, float]) -> None:
        """Show the metrics."""
        values = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self._line(runner, f"validation after iteration {runner.iteration}, epoch {runner.epoch}: {values}")

    def after_train(self, runner: Run) -> None:
        """Leave the last line as it is."""
        if self._width and runner.ranks.rank == 0:
            self._out.write("\n")
            self._width = 0

    def _draw(self, text: str) -> None:
        self._out.write(f"\r{text.ljust(self._width)}")
        self._out.flush()
        self._width = len(text)

    def _line(self, runner: Run, text: str) -> None:
        if runner.ranks.rank == 0:
            if self._width:
                self._draw("")
                self._out.write("\r")
                self._width = 0
            self._out.write(f"{text}\n")
            self._out.flush()
