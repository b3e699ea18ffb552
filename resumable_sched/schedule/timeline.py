"""Move all compositions of a group through iterations and epochs; pure, so that a look ahead is the same code."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resumable_sched.schedule.clock import Opening
    from resumable_sched.schedule.composition import Composition, Layer, Unit

__all__ = ["Counters", "ParameterKey", "Timeline", "opening", "training_length"]

ParameterKey = tuple[str, str]
"""The names of an optimizer and of one of its hyper-parameters."""


@dataclass(slots=True)
class Counters:
    """Count how far training has come.

    Attributes:
        iteration: Completed optimizer updates.
        epoch: Completed epochs.
        iteration_in_epoch: Updates since the last epoch ended.
        samples: Samples seen, if the loop says.
        tokens: Tokens seen, if the loop says.
    """

    iteration: int = 0
    epoch: int = 0
    iteration_in_epoch: int = 0
    samples: int = 0
    tokens: int = 0

    def ticks(self, unit: Unit) -> int:
        """Give the ticks of a clock."""
        return self.epoch if unit == "epoch" else self.iteration


def opening(composition: Composition, layer: Layer, iteration: int) -> Opening:
    """Say when the window of *layer* opens, so that openings sort in time order; *iteration* is the present one.

    With one clock the tick tells. With both, a window of the epoch clock opened at some iteration, after those that
    the same iteration opened on the iteration clock; what is open from the start comes first, in list order.
    """
    begin = layer.schedule.begin
    if layer.schedule.clock_unit == "iteration" or begin == 0 or not composition.mixed:
        return (begin, 0, 0)
    return (iteration, 1, begin)


def training_length(
    unit: Unit, *, epoch_length: int | None, max_epochs: int | None, max_iters: int | None
) -> int | None:
    """Give how long training lasts in ticks of a clock; None if it does not follow from what is known.

    >>> training_length("iteration", epoch_length=100, max_epochs=12, max_iters=None)
    1200
    >>> training_length("epoch", epoch_length=100, max_epochs=None, max_iters=950)
    10
    """
    if unit == "iteration":
        if max_iters is None and max_epochs is not None and epoch_length is not None:
            return max_epochs * epoch_length
        return max_iters
    if max_epochs is None and max_iters is not None and epoch_length is not None:
        return -(-max_iters // epoch_length)
    return max_epochs


@dataclass(slots=True)
class Timeline:
    """Hold the position and every composition.

    Attributes:
        counters: The position.
        compositions: One for each hyper-parameter.
    """

    counters: Counters = field(default_factory=Counters)
    compositions: dict[ParameterKey, Composition] = field(default_factory=dict)

    def finish_iteration(self, samples: int = 0, tokens: int = 0) -> list[ParameterKey]:
        """Count a completed optimizer update, and give the hyper-parameters that an iteration clock moves."""
        counters = self.counters
        counters.iteration += 1
        counters.iteration_in_epoch += 1
        counters.samples += samples
        counters.tokens += tokens
        return self._tick("iteration")

    def finish_epoch(self) -> list[ParameterKey]:
        """Count a completed epoch, and give the hyper-parameters that an epoch clock moves."""
        self.counters.epoch += 1
        self.counters.iteration_in_epoch = 0
        return self._tick("epoch")

    def copy(self) -> Timeline:
        """Give an independent copy, to look ahead with."""
        twins = {key: composition.copy() for key, composition in self.compositions.items()}
        return Timeline(replace(self.counters), twins)

    def _tick(self, unit: Unit) -> list[ParameterKey]:
        iteration, touched = self.counters.iteration, []
        for key, composition in self.compositions.items():
            moved = [layer for layer in composition.layers if layer.schedule.clock_unit == unit]
            if not moved:
                continue
            touched.append(key)
            # bound now: the composition calls back before the loop goes on
            composition.tick(moved, lambda layer, own=composition: opening(own, layer, iteration))  # type: ignore[misc]
        return touched
