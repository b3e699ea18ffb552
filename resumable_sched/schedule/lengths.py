"""Know how long epochs and training are, as far as anybody said."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from resumable_sched.schedule.arguments import whole

if TYPE_CHECKING:
    from typing_extensions import Self

    from resumable_sched.schedule.layer import Unit

__all__ = ["Lengths"]


class Lengths(NamedTuple):
    """Say how long epochs and training are, as far as it is known.

    Attributes:
        epoch_length: Iterations of an epoch.
        max_epochs: Epochs of the training.
        max_iters: Iterations of the training.
        max_samples: Samples of the training.
        max_tokens: Tokens of the training.
        surplus: Iterations that the epochs done so far had beyond `epoch_length` each, or fewer if it is negative: they
            were of another length then, and training has as many more.
    """

    epoch_length: int | None = None
    max_epochs: int | None = None
    max_iters: int | None = None
    max_samples: int | None = None
    max_tokens: int | None = None
    surplus: int = 0

    @classmethod
    def checked(cls, **lengths: object) -> Self:
        """Check arguments of these names.

        Raises:
            TypeError: One is not a whole number.
            ValueError: One is not positive.
        """
        return cls(**{name: whole(name, value, minimum=1) for name, value in lengths.items() if value is not None})

    def of_training(self, unit: Unit, every: int = 1) -> int | None:
        """Return how long training lasts in ticks of a clock; None if it does not follow from what is known.

        Args:
            unit: The clock.
            every: Every how many iterations the optimizer is updated whose updates are counted.

        >>> Lengths(epoch_length=100, max_epochs=12).of_training("iteration")
        1200
        >>> Lengths(epoch_length=100, max_iters=950).of_training("epoch")
        10
        """
        if unit == "sample":
            return self.max_samples
        if unit == "token":
            return self.max_tokens
        if unit == "iteration":
            known = self.max_iters
            if known is None and self.max_epochs is not None and self.epoch_length is not None:
                known = self.max_epochs * self.epoch_length + self.surplus
            return None if known is None else max(known // every, 1)
        if self.max_epochs is None and self.max_iters is not None and self.epoch_length is not None:
            return -(-(self.max_iters - self.surplus) // self.epoch_length)
        return self.max_epochs

    def from_here(self, iteration: int, epoch: int, iteration_in_epoch: int) -> Lengths:
        """Return the same where epochs are `epoch_length` long from the present position on, and were not before.

        >>> Lengths(epoch_length=10, max_epochs=6).from_here(iteration=20, epoch=1, iteration_in_epoch=0)[-1]
        10
        """
        if self.epoch_length is None:
            return self
        return self._replace(surplus=iteration - iteration_in_epoch - epoch * self.epoch_length)

    def as_dict(self) -> dict[str, int | None]:
        """Return by name what a program says of lengths."""
        return {name: value for name, value in self._asdict().items() if name != "surplus"}
