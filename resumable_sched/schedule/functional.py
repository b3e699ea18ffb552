"""Write the schedules that are made of a user's function, for any hyper-parameter.

The function has to be one that can be imported: its path is what the configuration holds, what is saved and compared.
It must be pure, a value for each tick whatever was asked before; what is inside it is not compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from resumable_sched.schedule.arguments import check_flag
from resumable_sched.schedule.curves import IDENTITY, Affine
from resumable_sched.schedule.importable import ImportedFunction, Product, function_argument
from resumable_sched.schedule.per_group import check_count, group_of, spread, value_of
from resumable_sched.schedule.scheduler import FUNCTION, ParamScheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["LambdaParamScheduler", "MultiplicativeParamScheduler"]


@dataclass(frozen=True, eq=False)
class LambdaParamScheduler(ParamScheduler):
    """Multiply by what a function gives for the tick: ``base * lr_lambda(t)``.

    As ``torch.optim.lr_scheduler.LambdaLR``.

    Args:
        lr_lambda: A pure function of the tick since `begin` that can be imported, or its path ``"module:name"``; or a
            list of one for each param group.
        absolute: Scale the base, and not the value that comes in: whatever other schedules did is overwritten, as in
            torch.
    """

    lr_lambda: Callable[[int], float] | str | Sequence[Callable[[int], float] | str] = field(metadata=FUNCTION)
    absolute: bool = field(default=False, kw_only=True)

    def validate(self) -> None:
        """Check that each function can be imported."""
        self._set("lr_lambda", _functions(self, self.lr_lambda, ImportedFunction))
        check_flag("absolute", self.absolute)

    @property
    def multiplicative(self) -> bool:
        """Return whether all groups have one function, which scales the value that comes in."""
        return not (self.absolute or isinstance(self.lr_lambda, tuple))

    def split_base(self, base: Sequence[float]) -> tuple[list[float], list[float]]:
        """Return bases that tell the groups apart where each has a function of its own."""
        return spread("lr_lambda", self.lr_lambda, base), list(base)

    def at(self, t: int, base: float) -> Affine:
        """Multiply by the function's value at *t*."""
        factor = value_of(self.lr_lambda, group_of(base))(t)
        return Affine(0.0, base * factor) if self.absolute else Affine(factor)


@dataclass(frozen=True, eq=False)
class MultiplicativeParamScheduler(ParamScheduler):
    """Multiply by what a function gives for each tick so far: ``base * lr_lambda(1) * ... * lr_lambda(t)``.

    As ``torch.optim.lr_scheduler.MultiplicativeLR``. A value far away costs a call for each tick on the way there,
    once.

    Args:
        lr_lambda: A pure function of the tick since `begin` (from 1) that can be imported, or its path
            ``"module:name"``; or a list of one for each param group.
    """

    lr_lambda: Callable[[int], float] | str | Sequence[Callable[[int], float] | str] = field(metadata=FUNCTION)

    def validate(self) -> None:
        """Check that each function can be imported."""
        self._set("lr_lambda", _functions(self, self.lr_lambda, Product))

    @property
    def multiplicative(self) -> bool:
        """Return whether all groups have one function."""
        return not isinstance(self.lr_lambda, tuple)

    def split_base(self, base: Sequence[float]) -> tuple[list[float], list[float]]:
        """Return bases that tell the groups apart where each has a function of its own."""
        return spread("lr_lambda", self.lr_lambda, base), list(base)

    def at(self, t: int, base: float) -> Affine:
        """Multiply by the function's values from 1 to *t*."""
        return Affine(value_of(self.lr_lambda, group_of(base))(t))

    def increment(self, t: int, base: float) -> Affine:
        """Multiply by the function's value at *t*."""
        return IDENTITY if t == 0 else Affine(float(value_of(self.lr_lambda, group_of(base)).function(t)))


def _functions(schedule: ParamScheduler, given: Any, kind: type[ImportedFunction]) -> Any:  # noqa: ANN401 - one or many
    if isinstance(given, list | tuple):
        functions = tuple(function_argument("lr_lambda", each, kind, restored=schedule.is_restored) for each in given)
        check_count("lr_lambda", functions, len(schedule.optimizer.param_groups))
        return functions
    return function_argument("lr_lambda", given, kind, restored=schedule.is_restored)
