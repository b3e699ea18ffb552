"""Write each schedule once, for any hyper-parameter; `lr` and `momentum` pin the name.

Names, arguments, order and defaults are those of MMEngine 0.10.7 (``mmengine.optim.scheduler``), which took most of
them from ``torch.optim.lr_scheduler``. What every schedule takes (``begin``, ``end``, ``by_epoch`` ...) is documented
at `ParamScheduler`. *t* is the tick since ``begin``; *span* is ``end - begin - 1``, the tick at which a window of
that length arrives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from resumable_sched.schedule import curves
from resumable_sched.schedule.arguments import check_choice, check_flag, check_number, sequence, whole
from resumable_sched.schedule.curves import IDENTITY, Affine, towards
from resumable_sched.schedule.per_group import check_count, check_values, value_of
from resumable_sched.schedule.scheduler import DURATION, RATE, ParamScheduler

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ConstantParamScheduler",
    "CosineAnnealingParamScheduler",
    "CosineRestartParamScheduler",
    "ExponentialParamScheduler",
    "LinearParamScheduler",
    "MultiStepParamScheduler",
    "OneCycleParamScheduler",
    "PolyParamScheduler",
    "StepParamScheduler",
]


@dataclass(frozen=True, eq=False)
class StepParamScheduler(ParamScheduler):
    """Multiply by *gamma* every *step_size* ticks: ``base * gamma ** (t // step_size)``.

    Args:
        step_size: Ticks between two falls.
        gamma: Factor of each fall.
    """

    step_size: int = field(metadata=DURATION)
    gamma: float = 0.1

    def validate(self) -> None:
        """Check that *step_size* is positive and *gamma* a number."""
        self._set("step_size", whole("step_size", self.step_size, minimum=1))
        check_number("gamma", self.gamma)

    @property
    def multiplicative(self) -> bool:
        """Tell that the schedule only multiplies."""
        return True

    def at(self, t: int, base: float) -> Affine:  # noqa: ARG002
        """Multiply by ``gamma ** (t // step_size)``."""
        return Affine(curves.staircase(t, self.step_size, self.gamma))

    def increment(self, t: int, base: float) -> Affine:  # noqa: ARG002
        """Multiply by *gamma* at each multiple of *step_size* but 0."""
        return Affine(self.gamma) if t > 0 and t % self.step_size == 0 else IDENTITY


@dataclass(frozen=True, eq=False)
class MultiStepParamScheduler(ParamScheduler):
    """Multiply by *gamma* at each of *milestones*: ``base * gamma ** (number of milestones up to t)``.

    Args:
        milestones: Ticks since `begin`; one that occurs twice counts twice.
        gamma: Factor of each fall.
    """

    milestones: Sequence[int] = field(metadata=DURATION)
    gamma: float = 0.1

    def validate(self) -> None:
        """Check that *milestones* are ticks and *gamma* is a number."""
        given = sequence("milestones", self.milestones)
        self._set("milestones", tuple(sorted(whole("milestones", each, minimum=0) for each in given)))
        check_number("gamma", self.gamma)

    @property
    def multiplicative(self) -> bool:
        """Tell that the schedule only multiplies."""
        return True

    def at(self, t: int, base: float) -> Affine:  # noqa: ARG002
        """Multiply by *gamma* for each milestone up to *t*."""
        return Affine(curves.multi_step(t, self.milestones, self.gamma))

    def increment(self, t: int, base: float) -> Affine:  # noqa: ARG002
        """Multiply by *gamma* for each milestone at *t*."""
        return Affine(curves.power(self.gamma, self.milestones.count(t)))


@dataclass(frozen=True, eq=False)
class ConstantParamScheduler(ParamScheduler):
    """Multiply by *factor* until the last tick of the window, and by 1 from there on.

    Args:
        factor: Between 0 and 1.
    """

    factor: float = 1.0 / 3

    def validate(self) -> None:
        """Check that *factor* is between 0 and 1."""
        check_number("factor", self.factor, 0.0, 1.0)

    @property
    def multiplicative(self) -> bool:
        """Tell that the schedule only multiplies."""
        return True

    def at(self, t: int, base: float) -> Affine:  # noqa: ARG002
        """Multiply by *factor* before *span*."""
        return Affine(curves.constant(t, self.span, self.factor))


@dataclass(frozen=True, eq=False)
class ExponentialParamScheduler(ParamScheduler):
    """Multiply by *gamma* every tick: ``base * gamma ** t``.

    Args:
        gamma: Factor of each tick.
    """

    gamma: float = field(metadata=RATE)

    def validate(self) -> None:
        """Check that *gamma* is a number."""
        check_number("gamma", self.gamma)

    @property
    def multiplicative(self) -> bool:
        """Tell that the schedule only multiplies."""
        return True

    def at(self, t: int, base: float) -> Affine:  # noqa: ARG002
        """Multiply by ``gamma ** t``."""
        return Affine(curves.exponential(t, self.gamma))

    def increment(self, t: int, base: float) -> Affine:  # noqa: ARG002
        """Multiply by *gamma* each tick."""
        return Affine(self.gamma) if t > 0 else IDENTITY


@dataclass(frozen=True, eq=False)
class CosineAnnealingParamScheduler(ParamScheduler):
    """Anneal along a cosine: ``floor + (base - floor) * (1 + cos(pi * t / T_max)) / 2``.

    After *T_max* ticks it rises again, to *base* at ``2 * T_max``. Source: SGDR (Loshchilov and Hutter, 2017),
    https://arxiv.org/abs/1608.03983, without its restarts.

    Args:
        T_max: Ticks from the top to the floor. None means the length of the window.
        eta_min: The floor, as a value; 0 if neither it nor the ratio is given.
        eta_min_ratio: The floor, as a share of the base.
    """

    T_max: int | None = field(default=None, metadata=DURATION)
    eta_min: float | None = None
    eta_min_ratio: float | None = field(default=None, kw_only=True)

    def validate(self) -> None:
        """Check that *T_max* is positive, and that at most one floor is given."""
        if self.T_max is not None:
            self._set("T_max", whole("T_max", self.T_max, minimum=1))
        elif self._window_is_given():
            self._set("T_max", self.end - self.begin)
        if self.eta_min is None and self.eta_min_ratio is None:
            self._set("eta_min", 0.0)
        _check_floor(self.eta_min, self.eta_min_ratio)

    @property
    def _period(self) -> int:
        return self.span + 1 if self.T_max is None else self.T_max

    @property
    def multiplicative(self) -> bool:
        """Return whether the floor is 0 and is not passed inside the window."""
        return not (self.eta_min or self.eta_min_ratio) and self.span <= self._period

    def same_for_every_base(self, last: int) -> bool:
        """Return whether the floor is a value and is not passed before."""
        return not self.eta_min_ratio and last <= self._period

    def at(self, t: int, base: float) -> Affine:
        """Keep a share of the distance to the floor; beyond *T_max*, where no distance is left, of that of the base."""
        floor, period = _floor(self.eta_min, self.eta_min_ratio, base), self._period
        remaining = curves.cosine(t, period)
        return towards(floor, remaining) if t <= period else Affine(0.0, floor + (base - floor) * remaining)

    def maps(self, ticks: Sequence[int], base: float) -> tuple[Sequence[float], Sequence[float]]:
        """Keep a share of the distance to the floor at each of *ticks*, none of which is beyond *T_max*."""
        floor, period = _floor(self.eta_min, self.eta_min_ratio, base), self._period
        if ticks and ticks[-1] > period:
            return super().maps(ticks, base)
        shares = curves.cosines(ticks, period)
        return shares, [floor * (1.0 - share) for share in shares] if floor else [0.0] * len(shares)

    def increment(self, t: int, base: float) -> Affine:
        """Scale the distance to the floor; add the first rise after a tick at which it was 0."""
        if t == 0:
            return IDENTITY
        floor, period = _floor(self.eta_min, self.eta_min_ratio, base), self._period
        if (t - 1 - period) % (2 * period) == 0:
            return Affine(1.0, (base - floor) * (1.0 - math.cos(math.pi / period)) / 2.0)
        return towards(floor, curves.cosine_ratio(t, period))

    def increments(self, ticks: range, base: float) -> tuple[Sequence[float], Sequence[float]]:
        """Scale the distance to the floor at each of *ticks*, where it is 0 before none of them."""
        floor, period = _floor(self.eta_min, self.eta_min_ratio, base), self._period
        since_zero = (ticks.start - 1 - period) % (2 * period)
        if ticks.start == 0 or since_zero == 0 or since_zero + len(ticks) > 2 * period:
            return super().increments(ticks, base)
        shares = curves.cosines(range(ticks.start - 1, ticks.stop), period)
        ratios = [now / before for before, now in pairwise(shares)]
        return ratios, [floor * (1.0 - ratio) for ratio in ratios]


@dataclass(frozen=True, eq=False)
class LinearParamScheduler(ParamScheduler):
    """Multiply by a factor that goes from *start_factor* to *end_factor* in a straight line over the window.

    ``start_factor + (end_factor - start_factor) * t / span``; a window of one tick keeps *start_factor*.

    Args:
        start_factor: Factor at `begin`, between 0 and 1.
        end_factor: Factor at the last tick of the window, between 0 and 1.
    """

    start_factor: float = 1.0 / 3
    end_factor: float = 1.0

    def validate(self) -> None:
        """Check that both factors are between 0 and 1."""
        check_number("start_factor", self.start_factor, 0.0, 1.0)
        check_number("end_factor", self.end_factor, 0.0, 1.0)

    @property
    def multiplicative(self) -> bool:
        """Tell that the schedule only multiplies."""
        return True

    def at(self, t: int, base: float) -> Affine:  # noqa: ARG002
        """Multiply by the factor at *t*."""
        return Affine(curves.linear(t, self.span, self.start_factor, self.end_factor))

    def maps(self, ticks: Sequence[int], base: float) -> tuple[list[float], list[float]]:  # noqa: ARG002
        """Multiply by the factor at each of *ticks*."""
        return curves.linears(ticks, self.span, self.start_factor, self.end_factor), [0.0] * len(ticks)


@dataclass(frozen=True, eq=False)
class PolyParamScheduler(ParamScheduler):
    """Anneal to *eta_min* along ``(1 - t / span) ** power``; a window of one tick changes nothing.

    Args:
        eta_min: The floor.
        power: 1 is a straight line.
    """

    eta_min: float = 0
    power: float = 1.0

    def validate(self) -> None:
        """Check that *power* is not negative."""
        check_number("eta_min", self.eta_min)
        check_number("power", self.power, 0.0)

    @property
    def multiplicative(self) -> bool:
        """Return whether the floor is 0."""
        return self.eta_min == 0

    def same_for_every_base(self, last: int) -> bool:  # noqa: ARG002
        """Tell that the floor is a value."""
        return True

    def at(self, t: int, base: float) -> Affine:  # noqa: ARG002
        """Keep a share of the distance to the floor."""
        return towards(self.eta_min, curves.polynomial(t, self.span, self.power))

    def increment(self, t: int, base: float) -> Affine:  # noqa: ARG002
        """Scale the distance to the floor."""
        return IDENTITY if t == 0 else towards(self.eta_min, curves.polynomial_ratio(t, self.span, self.power))


@dataclass(frozen=True, eq=False)
class OneCycleParamScheduler(ParamScheduler):
    """Rise to *eta_max* and fall far below the start, over *total_steps* ticks; stay there afterwards.

    The values are absolute: ``eta_max / div_factor`` first, *eta_max* at tick ``pct_start * total_steps - 1``, and
    ``eta_max / div_factor / final_div_factor`` at the end. The first of them takes the place of the base for the
    schedules after this one in the list, as in the peers. Source: Super-Convergence (Smith and Topin, 2018),
    https://arxiv.org/abs/1708.07120.

    Args:
        eta_max: The peak, or a list of one for each param group.
        total_steps: Ticks of the whole cycle. None means the length of the window.
        pct_start: Share of the cycle that rises.
        anneal_strategy: "cos" or "linear".
        div_factor: Peak over first value.
        final_div_factor: First value over last value.
        three_phase: Fall back to the first value as slowly as it rose, then on to the last one.
    """

    eta_max: float | Sequence[float] = 0
    total_steps: int | None = field(default=None, metadata=DURATION)
    pct_start: float = 0.3
    anneal_strategy: Literal["cos", "linear"] = "cos"
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False

    def validate(self) -> None:
        """Check the peaks, the length and the shares."""
        self._set("eta_max", check_values("eta_max", self.eta_max, len(self.optimizer.param_groups)))
        if self.total_steps is not None:
            self._set("total_steps", whole("total_steps", self.total_steps, minimum=1))
        elif self._window_is_given():
            self._set("total_steps", self.end - self.begin)
        if not isinstance(self.pct_start, float) or not 0.0 <= self.pct_start <= 1.0:
            raise ValueError(f"`pct_start` must be a float between 0 and 1, but is {self.pct_start!r} instead.")
        check_flag("three_phase", self.three_phase)
        check_choice("anneal_strategy", self.anneal_strategy, ("cos", "linear"))
        for name in ("div_factor", "final_div_factor"):
            check_number(name, getattr(self, name))
            if getattr(self, name) == 0:
                raise ValueError(f"`{name}` must not be 0, but is {getattr(self, name)!r} instead.")

    def split_base(self, base: Sequence[float]) -> tuple[list[float], list[float]]:
        """Return the peaks as the own base, and the first values as that of later schedules."""
        check_count("eta_max", self.eta_max, len(base))
        peaks = [float(value_of(self.eta_max, group)) for group in range(len(base))]
        return peaks, [peak / self.div_factor for peak in peaks]

    def at(self, t: int, base: float) -> Affine:
        """Set the value of the cycle at *t*; *base* is the peak."""
        return Affine(
            0.0,
            curves.one_cycle(
                t,
                self.span + 1 if self.total_steps is None else self.total_steps,
                base,
                pct_start=self.pct_start,
                anneal=self.anneal_strategy,
                div_factor=self.div_factor,
                final_div_factor=self.final_div_factor,
                three_phase=self.three_phase,
            ),
        )

    def increment(self, t: int, base: float) -> Affine:
        """Set the value of the cycle at *t*, whatever was there."""
        return self.at(t, base)


@dataclass(frozen=True, eq=False)
class CosineRestartParamScheduler(ParamScheduler):
    """Anneal along a cosine in each of *periods*, each from ``base * restart_weight``, then hold the last value.

    ``floor + (base * weight - floor) * (1 + cos(pi * t / period)) / 2`` with *t* from the start of the period.
    Source: SGDR (Loshchilov and Hutter, 2017), https://arxiv.org/abs/1608.03983.

    Args:
        periods: Ticks of each cosine.
        restart_weights: Share of the base from which each of them starts.
        eta_min: The floor, as a value. Either it or the ratio must be given.
        eta_min_ratio: The floor, as a share of the base.
    """

    periods: Sequence[int] = field(metadata=DURATION)
    restart_weights: Sequence[float] = (1,)
    eta_min: float | None = None
    eta_min_ratio: float | None = None

    def validate(self) -> None:
        """Check that there is a weight for each period, and one floor."""
        periods = tuple(whole("periods", each, minimum=1) for each in sequence("periods", self.periods))
        weights = sequence("restart_weights", self.restart_weights)
        for each in weights:
            check_number("restart_weights", each)
        if not periods or len(periods) != len(weights):
            raise ValueError(
                f"`restart_weights` must have a weight for each of {len(periods)} periods (and there must be one), "
                f"but is {self.restart_weights!r} instead."
            )
        self._set("periods", periods)
        self._set("restart_weights", weights)
        _check_floor(self.eta_min, self.eta_min_ratio)

    def at(self, t: int, base: float) -> Affine:
        """Set the value of the cosine at *t*."""
        index, local = curves.restart_position(t, self.periods)
        floor = _floor(self.eta_min, self.eta_min_ratio, base)
        top = base * self.restart_weights[index]
        return Affine(0.0, floor + (top - floor) * curves.cosine(local, self.periods[index]))

    def increment(self, t: int, base: float) -> Affine:
        """Set the value where a period starts, scale the distance to the floor inside it, then do nothing."""
        if t >= sum(self.periods):
            return IDENTITY
        index, local = curves.restart_position(t, self.periods)
        if local == 0:
            return Affine(0.0, base * self.restart_weights[index])
        return towards(_floor(self.eta_min, self.eta_min_ratio, base), curves.cosine_ratio(local, self.periods[index]))


def _check_floor(value: float | None, ratio: float | None) -> None:
    if (value is None) == (ratio is None):
        raise ValueError(
            f"`eta_min` or `eta_min_ratio` must be given, and not both, but they are {value!r} and {ratio!r} instead."
        )
    check_number("eta_min" if ratio is None else "eta_min_ratio", value if ratio is None else ratio)


def _floor(value: float | None, ratio: float | None, base: float) -> float:
    """Return the floor as a value."""
    if value is not None:
        return value
    return 0.0 if ratio is None else base * ratio
