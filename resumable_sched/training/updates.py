"""Make one optimizer update of one batch or several."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import nullcontext
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, final

import torch

from resumable_sched.distributed.ranks import gather
from resumable_sched.schedule.arguments import check_positive, whole
from resumable_sched.training.batches import END, Batches
from resumable_sched.training.run import Update
from resumable_sched.training.validation import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from resumable_sched.distributed import Ranks

__all__ = ["NoUpdate", "Updater", "default_train_step"]

TOKENS = "tokens"


def default_train_step(model: torch.nn.Module, batch: object) -> object:
    """Call the model, which returns its loss."""
    return model(batch)


class _Part(NamedTuple):
    """Be what one batch gave."""

    loss: torch.Tensor
    outputs: dict[str, Any]
    samples: int
    tokens: int
    counted: bool


class NoUpdate(Enum):
    """Say why there is no update."""

    SKIPPED = "gradients were inf or nan"
    EPOCH_IS_OVER = "there are no more batches"


@final
class Updater:
    """Make optimizer updates: forward, backward and step, over *accumulate* batches each.

    Args:
        model: The model.
        optimizers: Each of them is stepped by each update.
        step: What gives the loss of a batch.
        accumulate: Batches of an update.
        scaler: For mixed precision.
        max_grad_norm: Gradients are clipped to it.
        ranks: The ranks that train together.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizers: Mapping[str, torch.optim.Optimizer],
        step: Callable[[torch.nn.Module, Any], Any],
        *,
        accumulate: int,
        scaler: torch.amp.GradScaler | None,
        max_grad_norm: float | None,
        ranks: Ranks,
    ) -> None:
        self._model = model
        self._optimizers = list(optimizers.values())
        self._step = step
        self._accumulate = accumulate
        self._scaler = scaler
        self._max_grad_norm = _norm(max_grad_norm)
        self._ranks = ranks

    def update(self, batches: Batches, before: Callable[[], None]) -> Update | NoUpdate:
        """Take the next batches and make an update of them.

        Args:
            batches: Where to take them from.
            before: Called when there is a batch, before anything is done with it.

        Returns:
            The update, or why there is none.
        """
        size = self._accumulate
        if batches.length is not None:
            size = min(size, batches.length - batches.taken)
        parts: list[_Part] = []
        for index in range(max(size, 1)):  # at the end of the epoch it is asked for one more, so as to end
            batch = batches.take()
            if batch is END:
                break
            if not parts:
                before()
                for optimizer in self._optimizers:
                    optimizer.zero_grad(set_to_none=True)
            # Without a length nobody knows which batch is the last, so gradients are exchanged after each one.
            last = batches.length is None or index == size - 1
            parts.append(self._backward(batch, size, exchange=last))
        if not parts:
            return NoUpdate.EPOCH_IS_OVER
        if len(parts) < size:
            self._enlarge_gradients(size / len(parts))
        if not self._optimize():
            return NoUpdate.SKIPPED
        samples, tokens = self._counts(parts)
        loss = torch.stack([part.loss for part in parts]).mean()
        return Update(loss, parts[-1].outputs, samples, tokens)

    def _backward(self, batch: object, size: int, *, exchange: bool) -> _Part:
        quiet = nullcontext if exchange else getattr(self._model, "no_sync", nullcontext)
        with quiet():
            part = _part(self._step(self._model, batch), batch)
            loss = part.loss / size if size > 1 else part.loss
            if self._scaler is not None:
                loss = self._scaler.scale(loss)
            loss.backward()  # type: ignore[no-untyped-call]
        return part._replace(loss=part.loss.detach())

    def _enlarge_gradients(self, factor: float) -> None:
        """Make the mean over fewer batches than expected of a sum that was divided by the expected number."""
        for parameter in self._parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)

    def _parameters(self) -> list[torch.Tensor]:
        return [
            parameter
            for optimizer in self._optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        ]

    def _optimize(self) -> bool:
        """Step the optimizers, and tell whether they did."""
        scaler = self._scaler
        if scaler is not None and self._max_grad_norm is not None:
            for optimizer in self._optimizers:
                scaler.unscale_(optimizer)
        if self._max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters(), self._max_grad_norm)
        if scaler is None:
            for optimizer in self._optimizers:
                optimizer.step()
            return True
        before = scaler.get_scale()
        for optimizer in self._optimizers:
            scaler.step(optimizer)
        scaler.update()
        # The scale falls exactly if inf or nan was found; this is the only public sign of it. At 0 it cannot fall.
        return scaler.get_scale() >= before > 0.0

    def _counts(self, parts: list[_Part]) -> tuple[int, int]:
        """Return samples and tokens of all ranks."""
        samples, tokens = sum(part.samples for part in parts), sum(part.tokens for part in parts)
        if self._ranks.world_size == 1:
            return samples, tokens
        if not parts[0].counted:
            return samples * self._ranks.world_size, tokens
        mine = json.dumps([samples, tokens]).encode()
        counts = [json.loads(reply) for reply in gather(self._ranks, lambda: mine)]
        return sum(each[0] for each in counts), sum(each[1] for each in counts)


def _part(result: object, batch: object) -> _Part:
    """Take apart what a step returned."""
    outputs: dict[str, Any] = dict(result) if isinstance(result, Mapping) else {"loss": result}
    loss = outputs.pop("loss", None)
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        shown = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, torch.Tensor) else repr(result)
        raise TypeError(
            f"`train_step` (or the model, where there is none) must return a loss, a tensor of one number, or a dict "
            f"with one under 'loss', but returned {shown} instead."
        )
    counted = SAMPLES in outputs or TOKENS in outputs
    samples = whole(SAMPLES, outputs.pop(SAMPLES), minimum=0) if SAMPLES in outputs else _batch_size(batch)
    tokens = whole(TOKENS, outputs.pop(TOKENS), minimum=0) if TOKENS in outputs else 0
    return _Part(loss.reshape(()), outputs, samples, tokens, counted)


def _batch_size(batch: object) -> int:
    """Return the length of the first tensor in *batch*; 0 where there is none.

    >>> _batch_size([torch.zeros(4, 2), torch.zeros(4)]), _batch_size({"x": torch.zeros(3)}), _batch_size("text")
    (4, 3, 0)
    """
    if isinstance(batch, torch.Tensor):
        return len(batch) if batch.ndim else 0
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, list | tuple) else ()
    return next((size for size in map(_batch_size, parts) if size), 0)


def _norm(given: float | None) -> float | None:
    """Check what gradients are clipped to; infinity only measures them."""
    if given is not None and given != math.inf:
        check_positive("max_grad_norm", given)
    return given
