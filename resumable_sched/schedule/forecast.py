"""Say where every clock will be at iterations to come, if training goes on as it is assumed to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from resumable_sched.schedule.timeline import opening

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resumable_sched.schedule.clock import Opening
    from resumable_sched.schedule.composition import Composition
    from resumable_sched.schedule.layer import Unit
    from resumable_sched.schedule.timeline import Counters

__all__ = ["Forecast"]


@dataclass(frozen=True)
class Forecast:
    """Assume that epochs are equally long, and updates equally large.

    Attributes:
        counters: Where training is.
        cadence: For an optimizer that is not updated in every iteration, every how many it is.
        epoch_length: Iterations of an epoch; None if no epoch ends.
        samples: Samples of an update; None if nobody says.
        tokens: Tokens of an update; None if nobody says.
    """

    counters: Counters
    cadence: Mapping[str, int]
    epoch_length: int | None = None
    samples: int | None = None
    tokens: int | None = None

    def ticks(self, unit: Unit, optimizer: str, iterations: range) -> Sequence[int]:
        """Return the ticks of a clock once *iterations* are done, none of which is over yet.

        Args:
            unit: The clock.
            optimizer: Whose updates are counted, by iteration.
            iterations: Rising, from the present one on.
        """
        now = self.counters.iteration
        if unit == "epoch":
            if self.epoch_length is None:
                return [self.counters.epoch] * len(iterations)
            length, start = self.epoch_length, now - self.counters.iteration_in_epoch
            return [self.counters.epoch + (iteration - start) // length for iteration in iterations]
        if unit == "iteration":
            every = self.cadence.get(optimizer, 1)
            first = self.counters.ticks(unit, optimizer) - now // every
            if every > 1:
                return [first + iteration // every for iteration in iterations]
            return range(first + iterations.start, first + iterations.stop, iterations.step)
        size = (self.samples if unit == "sample" else self.tokens) or 0
        first = self.counters.ticks(unit, optimizer) + (iterations.start - now) * size
        if size:
            return range(first, first + len(iterations) * iterations.step * size, iterations.step * size)
        return [first] * len(iterations)

    def openings(self, composition: Composition, optimizer: str) -> dict[int, Opening]:
        """Say when the windows of *composition* open that are not open yet, by index; not those that never will."""
        found: dict[int, Opening] = {}
        for index, layer in enumerate(composition.layers):
            if layer.clock.opened is not None:
                continue
            iteration = self._reaches(layer.schedule.clock_unit, layer.schedule.begin)
            if iteration is not None:
                found[index] = opening(composition, layer, self._own(optimizer, iteration))
        return found

    def _own(self, optimizer: str, iteration: int) -> int:
        """Return the updates of *optimizer* once *iteration* is done."""
        return self.ticks("iteration", optimizer, range(iteration, iteration + 1))[0]

    def _reaches(self, unit: Unit, tick: int) -> int | None:
        """Return the iteration with which a clock reaches *tick*; None if it never does."""
        counters = self.counters
        if unit == "iteration":
            return counters.iteration  # its own ticks tell
        if unit == "epoch":
            if self.epoch_length is None:
                return None
            left = (tick - counters.epoch) * self.epoch_length - counters.iteration_in_epoch
            return counters.iteration + left
        size = self.samples if unit == "sample" else self.tokens
        present = counters.samples if unit == "sample" else counters.tokens
        return counters.iteration - (present - tick) // size if size else None
