"""Write the schedule that a metric drives: a fold over metrics, so that a resumed run continues exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from resumable_sched.schedule.arguments import check_choice, check_number, whole
from resumable_sched.schedule.clock import Clock, MetricFold
from resumable_sched.schedule.curves import IDENTITY, Affine
from resumable_sched.schedule.scheduler import ParamScheduler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resumable_sched.schedule.composition import Composition
    from resumable_sched.schedule.layer import Layer

__all__ = ["ReduceOnPlateauParamScheduler", "is_better"]


def is_better(metric: float, best: float | None, *, rule: str, threshold: float, threshold_rule: str) -> bool:
    """Return whether *metric* improves on *best* by more than *threshold*; the first number always does, nan never.

    >>> is_better(0.9, 1.0, rule="less", threshold=0.05, threshold_rule="rel")
    True
    >>> is_better(0.96, 1.0, rule="less", threshold=0.05, threshold_rule="rel")
    False
    >>> is_better(1.2, 1.0, rule="greater", threshold=0.1, threshold_rule="abs")
    True
    >>> is_better(5.0, None, rule="less", threshold=0.0, threshold_rule="abs")
    True
    """
    if best is None:
        return metric == metric  # noqa: PLR0124 - only nan differs from itself
    margin = abs(threshold) if threshold_rule == "abs" else 0.0
    factor = threshold if threshold_rule == "rel" else 0.0
    if rule == "less":
        return metric < best * (1.0 - factor) - margin
    return metric > best * (1.0 + factor) + margin


@dataclass(frozen=True, eq=False)
class ReduceOnPlateauParamScheduler(ParamScheduler):
    """Multiply by *factor* when a metric has not improved for more than *patience* validations.

    ``v -> max(v * factor, min_value)``, where that changes the value by more than *eps*. It counts epochs for its
    window, and acts when it is given metrics. As in torch's ``ReduceLROnPlateau``, with MMEngine's names.

    Args:
        monitor: Name of the metric.
        rule: "less" if a smaller metric is better, or "greater".
        factor: Less than 1.
        patience: Validations without improvement that are tolerated.
        threshold: Improvement that counts.
        threshold_rule: "rel" if *threshold* is a share of the best metric, or "abs".
        cooldown: Validations after a reduction that are ignored.
        min_value: Lower bound, or a list of one for each param group.
        eps: Smallest reduction that is made.
    """

    monitor: str = "loss"
    rule: Literal["less", "greater"] = "less"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_rule: Literal["rel", "abs"] = "rel"
    cooldown: int = 0
    min_value: float | Sequence[float] = 0.0
    eps: float = 1e-8

    need_val_args: ClassVar[bool] = True

    def validate(self) -> None:
        """Check all parameters."""
        if not self.by_epoch:
            raise ValueError(f"`by_epoch` of {type(self).__name__} must be True, but is False instead.")
        if not isinstance(self.monitor, str):
            raise TypeError(f"`monitor` must be the name of a metric, but is {self.monitor!r} instead.")
        check_choice("rule", self.rule, ("less", "greater"))
        check_choice("threshold_rule", self.threshold_rule, ("rel", "abs"))
        check_number("factor", self.factor)
        if self.factor >= 1.0:
            raise ValueError(f"`factor` must be less than 1, but is {self.factor!r} instead.")
        for name in ("patience", "cooldown"):
            self._set(name, whole(name, getattr(self, name), minimum=0))
        check_number("threshold", self.threshold, 0.0)
        check_number("eps", self.eps, 0.0)
        if isinstance(self.min_value, list | tuple):
            self._set("min_value", tuple(self.min_value))
            for each in self.min_value:
                check_number("min_value", each)
            self._bounds(len(self.optimizer.param_groups))
        else:
            check_number("min_value", self.min_value)

    def split_base(self, base: Sequence[float]) -> tuple[list[float], list[float]]:
        """Change no base, and refuse param groups for which there is no lower bound."""
        self._bounds(len(base))
        return super().split_base(base)

    def _bounds(self, count: int) -> list[float]:
        """Return the lower bound of each of *count* param groups."""
        if isinstance(self.min_value, int | float):
            return [self.min_value] * count
        bounds = list(self.min_value)
        if getattr(self.optimizer, "base_param_settings", None) is not None:
            bounds.append(bounds[-1])  # MMEngine's OptimWrapper shows one more group, which has no parameters
        if len(bounds) != count:
            raise ValueError(
                f"`min_value` must have a value for each of {count} param groups, but is {self.min_value!r} instead."
            )
        return bounds

    @property
    def multiplicative(self) -> bool:
        """Tell that the schedule only multiplies."""
        return True

    def at(self, t: int, base: float) -> Affine:  # noqa: ARG002
        """Do nothing: without a metric a plateau schedule changes nothing."""
        return IDENTITY

    def step(self, metrics: Mapping[str, Any] | None = None) -> None:
        """Count an epoch, or look at the *metrics* of a validation.

        Args:
            metrics: Names and numbers, one of them :attr:`monitor`; a tensor of one element is a number. None counts
                an epoch.

        Raises:
            TypeError: *metrics* is no dict.
            KeyError: It does not hold the monitored metric.
            RuntimeError: A group drives the schedule; see ``SchedulerGroup.observe``.
        """
        if metrics is None:
            super().step()
            return
        ledger = self._lone_ledger("observe")
        ledger.check()
        self.observe(ledger.composition, self.layer, metrics)
        for group, value in enumerate(ledger.write()):
            self.print_value(self.verbose, group, value)

    def metric(self, metrics: Mapping[str, Any]) -> float:
        """Find the monitored metric.

        Raises:
            TypeError: *metrics* is no dict.
            KeyError: It does not hold the metric.
        """
        if not isinstance(metrics, Mapping):
            raise TypeError(f"`metrics` must be a dict of names and numbers, but is {metrics!r} instead.")
        if self.monitor not in metrics:
            known = ", ".join(map(repr, metrics)) or "nothing"
            raise KeyError(f"`metrics` must hold the monitored metric {self.monitor!r}, but holds {known} instead.")
        value = metrics[self.monitor]
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"The metric {self.monitor!r} must be a number, but is {value!r} instead.") from error

    def observe(self, composition: Composition, layer: Layer, metrics: Mapping[str, Any]) -> None:
        """Look at *metrics* and move the values of *composition* if they have not improved for too long.

        Raises:
            TypeError: *metrics* is no dict.
            KeyError: It does not hold the metric.
        """
        if not isinstance(metrics, Mapping):
            self.metric(metrics)
        fold = layer.clock.fold
        if fold is None or not layer.in_window:
            return
        metric = self.metric(metrics)
        fold.seen += 1
        fold.pending = False
        rule: dict[str, Any] = {"rule": self.rule, "threshold": self.threshold, "threshold_rule": self.threshold_rule}
        if is_better(metric, fold.best, **rule):
            fold.best = metric
            fold.bad = 0
        else:
            fold.bad += 1
        if fold.cooldown > 0:
            fold.cooldown -= 1
            fold.bad = 0
        if fold.bad <= self.patience:
            return
        values = composition.values()
        new: list[float | None] = []
        for group, (value, bound) in enumerate(zip(values, self._bounds(len(values)), strict=True)):
            reduced = max(value * self.factor, bound)
            acts = layer.acts_on is None or layer.acts_on[group]
            new.append(reduced if acts and value - reduced > self.eps else None)
        composition.rescale(layer, new)
        fold.cooldown = self.cooldown
        fold.bad = 0

    def _new_clock(self) -> Clock:
        return Clock(fold=MetricFold(scales=[1.0] * len(self.optimizer.param_groups)))
