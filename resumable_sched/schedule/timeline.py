"""Move all compositions of a group through iterations and epochs; pure, so that a look ahead is the same code."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from resumable_sched.schedule.clock import Opening
    from resumable_sched.schedule.composition import Composition
    from resumable_sched.schedule.layer import Layer, Unit

__all__ = ["Counters", "ParameterKey", "Timeline", "opening"]

ParameterKey = tuple[str, str]
"""The names of an optimizer and of one of its hyper-parameters."""

_TURN: Final[Mapping[Unit, int]] = {"iteration": 0, "sample": 1, "token": 2, "epoch": 3}
"""In which order the windows of different clocks open that an iteration opens."""


@dataclass(slots=True)
class Counters:
    """Count how far training has come.

    Attributes:
        iteration: Completed optimizer updates.
        epoch: Completed epochs.
        iteration_in_epoch: Updates since the last epoch ended.
        samples: Samples seen, if the loop says.
        tokens: Tokens seen, if the loop says.
        updates: The completed updates of each optimizer that has not taken part in all iterations.
    """

    iteration: int = 0
    epoch: int = 0
    iteration_in_epoch: int = 0
    samples: int = 0
    tokens: int = 0
    updates: dict[str, int] = field(default_factory=dict)

    def ticks(self, unit: Unit, optimizer: str) -> int:
        """Return the ticks of a clock; by iteration, those of *optimizer*."""
        match unit:
            case "iteration":
                return self.updates.get(optimizer, self.iteration)
            case "epoch":
                return self.epoch
            case "sample":
                return self.samples
            case "token":
                return self.tokens

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON; `updates` are there only where they tell something."""
        counted: dict[str, Any] = {
            "iteration": self.iteration,
            "epoch": self.epoch,
            "iteration_in_epoch": self.iteration_in_epoch,
            "samples": self.samples,
            "tokens": self.tokens,
        }
        return {**counted, "updates": dict(self.updates)} if self.updates else counted

    def copy(self) -> Counters:
        """Return an independent copy."""
        return replace(self, updates=dict(self.updates))


def opening(composition: Composition, layer: Layer, iteration: int) -> Opening:
    """Say when the window of *layer* opens, so that openings sort in time order; *iteration* is the optimizer's own.

    With one clock the tick tells. With several, a window of another clock opened at some iteration, after those that
    the same iteration opened on the iteration clock; what is open from the start comes first, in list order.
    """
    begin, unit = layer.schedule.begin, layer.schedule.clock_unit
    if unit == "iteration" or begin == 0 or not composition.mixed:
        return (begin, 0, 0)
    return (iteration, _TURN[unit], begin)


@dataclass(slots=True)
class Timeline:
    """Hold the position and every composition.

    Attributes:
        counters: The position.
        compositions: One for each hyper-parameter.
        cadence: For an optimizer that is not updated in every iteration, every how many it is.
    """

    counters: Counters = field(default_factory=Counters)
    compositions: dict[ParameterKey, Composition] = field(default_factory=dict)
    cadence: Mapping[str, int] = field(default_factory=dict)

    def left_out(self) -> set[str]:
        """Return the optimizers that do not take part in the iteration that comes next, by their cadence."""
        return {name for name, every in self.cadence.items() if (self.counters.iteration + 1) % every}

    def finish_iteration(
        self, samples: int = 0, tokens: int = 0, absent: Collection[str] | None = None
    ) -> list[ParameterKey]:
        """Count a completed optimizer update, and give the hyper-parameters that it moves.

        Args:
            samples: Samples that it has seen.
            tokens: Tokens that it has seen.
            absent: Optimizers that did not take part; by default, as their cadence says.
        """
        counters = self.counters
        left_out = self.left_out() if absent is None else set(absent)
        for name in left_out:
            counters.updates.setdefault(name, counters.iteration)
        counters.iteration += 1
        counters.iteration_in_epoch += 1
        counters.samples += samples
        counters.tokens += tokens
        for name in counters.updates.keys() - left_out:
            counters.updates[name] += 1
        touched = self._tick("iteration", 1, left_out)
        for unit, count in (("sample", samples), ("token", tokens)):
            if count:
                touched += [key for key in self._tick(unit, count) if key not in touched]  # type: ignore[arg-type]
        return touched

    def finish_epoch(self) -> list[ParameterKey]:
        """Count a completed epoch, and give the hyper-parameters that an epoch clock moves."""
        self.counters.epoch += 1
        self.counters.iteration_in_epoch = 0
        return self._tick("epoch", 1)

    def copy(self) -> Timeline:
        """Return an independent copy, to look ahead with."""
        twins = {key: composition.copy() for key, composition in self.compositions.items()}
        return Timeline(self.counters.copy(), twins, self.cadence)

    def _tick(self, unit: Unit, by: int, absent: Collection[str] = ()) -> list[ParameterKey]:
        touched = []
        for key, composition in self.compositions.items():
            moved = [layer for layer in composition.layers if layer.schedule.clock_unit == unit]
            if not moved or key[0] in absent:
                continue
            touched.append(key)
            iteration = self.counters.ticks("iteration", key[0])
            # bound now: the composition calls back before the loop goes on
            composition.tick(moved, lambda layer, at=iteration, own=composition: opening(own, layer, at), by)  # type: ignore[misc]
        return touched
