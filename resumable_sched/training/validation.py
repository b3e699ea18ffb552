"""Average what a validation measures, over its batches and over the ranks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from resumable_sched.distributed.ranks import gather

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from resumable_sched.distributed import Ranks

__all__ = ["SAMPLES", "Validation", "default_val_step"]

SAMPLES = "samples"
"""The entry of what a step returns that says how many samples it has seen."""


def default_val_step(model: torch.nn.Module, batch: object) -> Mapping[str, Any]:
    """Call the model; what it returns is the loss, or a dict of numbers."""
    result: Any = model(batch)
    return {"loss": result} if isinstance(result, torch.Tensor) else result


class Validation(NamedTuple):
    """Say what a validation is, and when it is due.

    Attributes:
        loader: Its batches.
        step: What measures one of them.
        every: It is due after so many epochs.
        by_epoch: False counts updates instead.
    """

    loader: Iterable[Any]
    step: Callable[[torch.nn.Module, Any], Mapping[str, Any]]
    every: int
    by_epoch: bool

    def run(self, model: torch.nn.Module, ranks: Ranks) -> dict[str, float]:
        """Measure every batch, and give the averages over all ranks; the same on each of them.

        Raises:
            TypeError: The step returns something else than numbers by name.
            ValueError: There is nothing to average, or batches or ranks have other names.
        """
        modes = {module: module.training for module in model.modules()}
        model.eval()
        try:
            with torch.no_grad():
                parts = gather(ranks, lambda: json.dumps(self._sums(model)).encode())
        finally:
            for module, mode in modes.items():  # not model.train(): somebody may have frozen a BatchNorm
                module.training = mode
        return _average([json.loads(part) for part in parts])

    def _sums(self, model: torch.nn.Module) -> dict[str, Any]:
        """Return the weighted sums of this rank, and the weight."""
        sums: dict[str, float] = {}
        weight = 0.0
        for index, batch in enumerate(self.loader):
            numbers = _numbers(self.step(model, batch))
            samples = numbers.pop(SAMPLES, 1.0)
            if index and numbers.keys() != sums.keys():
                raise ValueError(
                    f"`val_step` must return the same names for each batch, but returns {sorted(numbers)} for batch "
                    f"{index} instead of {sorted(sums)}."
                )
            weight += samples
            for name, value in numbers.items():
                sums[name] = sums.get(name, 0.0) + value * samples
        return {"sums": sums, "weight": weight}


def _numbers(result: object) -> dict[str, float]:
    if not isinstance(result, Mapping):
        raise TypeError(f"`val_step` must return a dict of numbers, but returns {result!r} instead.")
    found: dict[str, float] = {}
    for name, value in result.items():
        try:
            found[str(name)] = float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"`val_step` must return numbers, but {name!r} is {value!r} instead.") from error
    return found


def _average(parts: list[dict[str, Any]]) -> dict[str, float]:
    filled = [part for part in parts if part["weight"]]
    if not filled:
        raise ValueError("`val_dataloader` must give at least one batch, but gives none.")
    names = list(filled[0]["sums"])
    for part in filled:
        if part["sums"].keys() != set(names):
            raise ValueError(
                f"`val_step` must return the same names on each rank, but returns {sorted(part['sums'])} instead of "
                f"{sorted(names)}."
            )
    weight = sum(part["weight"] for part in filled)
    return {name: sum(part["sums"][name] for part in filled) / weight for name in names}
