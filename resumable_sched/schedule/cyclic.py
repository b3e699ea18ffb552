"""Write the schedules that repeat, as torch and timm have them, for any hyper-parameter.

Names, order and defaults are those of the peer that each class names, also where they say "lr": they mean whatever
parameter is scheduled. *t* is the tick since ``begin``.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from resumable_sched.schedule import curves, shapes
from resumable_sched.schedule.arguments import check_choice, check_flag, check_number, check_positive, whole
from resumable_sched.schedule.curves import Affine, power
from resumable_sched.schedule.importable import ImportedFunction, function_argument
from resumable_sched.schedule.per_group import check_values, group_of, spread, value_of
from resumable_sched.schedule.scheduler import DURATION, FUNCTION, RATE, ParamScheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "CosineAnnealingWarmRestartsParamScheduler",
    "CyclicParamScheduler",
    "PolyRestartParamScheduler",
    "TanhParamScheduler",
]


@dataclass(frozen=True, eq=False)
class CyclicParamScheduler(ParamScheduler):
    """Go from *base_lr* to *max_lr* and back in straight lines, again and again.

    ``base_lr + (max_lr - base_lr) * height * scale`` with a height from 0 to 1 and, by *mode*, a scale of 1
    ("triangular"), ``0.5 ** (cycle - 1)`` ("triangular2") or ``gamma ** t`` ("exp_range"). The values are absolute;
    *base_lr* takes the place of the base for the schedules after this one in the list, as in the peer.

    Arguments and values are those of ``torch.optim.lr_scheduler.CyclicLR``. Its momentum, which moves against the
    learning rate, is a schedule of its own here: ``CyclicMomentum(optimizer, max_momentum, base_momentum, ...)``.
    Source: Cyclical learning rates (Smith, 2015), https://arxiv.org/abs/1506.01186.

    Args:
        base_lr: The value at the start of each cycle, or a list of one for each param group.
        max_lr: The value at its peak where the scale is 1, or such a list. It may be less than *base_lr*.
        step_size_up: Ticks from the start to the peak.
        step_size_down: Ticks from the peak to the next start; None means as many.
        mode: "triangular", "triangular2" or "exp_range"; of no effect if *scale_fn* is given.
        gamma: Factor of each tick for "exp_range".
        scale_fn: A function that can be imported, or its path ``"module:name"``, that gives the scale.
        scale_mode: What *scale_fn* gets: the number of the "cycle", from 1, or of the tick ("iterations"), from 0.
    """

    base_lr: float | Sequence[float]
    max_lr: float | Sequence[float]
    step_size_up: int = field(default=2000, metadata=DURATION)
    step_size_down: int | None = field(default=None, metadata=DURATION)
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular"
    gamma: float = field(default=1.0, metadata=RATE)
    scale_fn: Callable[[int], float] | str | None = field(default=None, metadata=FUNCTION)
    scale_mode: Literal["cycle", "iterations"] = "cycle"

    rebases_only_as_first: ClassVar[bool] = True  # torch sets the lr of an optimizer whose scheduler is the first

    def validate(self) -> None:
        """Check the values, the lengths and the names of the modes."""
        for name in ("base_lr", "max_lr"):
            self._set(name, check_values(name, getattr(self, name), len(self.optimizer.param_groups)))
        self._set("step_size_up", whole("step_size_up", self.step_size_up, minimum=1))
        if self.step_size_down is not None:
            self._set("step_size_down", whole("step_size_down", self.step_size_down, minimum=1))
        check_choice("mode", self.mode, ("triangular", "triangular2", "exp_range"))
        check_choice("scale_mode", self.scale_mode, ("cycle", "iterations"))
        check_number("gamma", self.gamma)
        if self.scale_fn is not None:
            self._set("scale_fn", function_argument("scale_fn", self.scale_fn, restored=self.is_restored))

    def split_base(self, base: Sequence[float]) -> tuple[list[float], list[float]]:
        """Return bases that tell the groups apart where a value is a list, and *base_lr* for later schedules."""
        own = spread("max_lr", self.max_lr, spread("base_lr", self.base_lr, base))
        return own, [value_of(self.base_lr, group) for group in range(len(base))]

    def at(self, t: int, base: float) -> Affine:
        """Set the value of the cycle at *t*."""
        down = self.step_size_up if self.step_size_down is None else self.step_size_down
        cycle, height = shapes.triangle(t, self.step_size_up, down)
        low, high = (value_of(each, group_of(base)) for each in (self.base_lr, self.max_lr))
        return Affine(0.0, low + (high - low) * height * self._scale(t, cycle))

    def increment(self, t: int, base: float) -> Affine:
        """Set the value of the cycle at *t*, whatever was there."""
        return self.at(t, base)

    def _scale(self, t: int, cycle: int) -> float:
        if isinstance(self.scale_fn, ImportedFunction):
            return self.scale_fn(cycle if self.scale_mode == "cycle" else t)
        if self.mode == "triangular":
            return 1.0
        return math.ldexp(1.0, 1 - cycle) if self.mode == "triangular2" else power(self.gamma, t)


@dataclass(frozen=True, eq=False)
class CosineAnnealingWarmRestartsParamScheduler(ParamScheduler):
    """Anneal along a cosine over *T_0* ticks, start again, and let each cosine be *T_mult* times as long as the last.

    In cycle ``i`` (from 0), *u* ticks after its start and *T* ticks long:
    ``eta_min + (base * cycle_decay ** i - eta_min) * (1 + cos(pi * (u / T) ** k_decay)) / 2``.
    The first three arguments and their values are those of ``torch.optim.lr_scheduler.CosineAnnealingWarmRestarts``,
    `cycle_decay`, `cycle_limit` and `k_decay` those of timm's ``CosineLRScheduler``. Source: SGDR (Loshchilov and
    Hutter, 2017), https://arxiv.org/abs/1608.03983.

    Args:
        T_0: Ticks of the first cycle.
        T_mult: Length of each cycle over that of the one before, at least 1.
        eta_min: The floor, as a value.
        eta_min_ratio: The floor, as a share of the value that comes in, instead of *eta_min*.
        cycle_decay: Peak of each cycle over that of the one before.
        cycle_limit: Number of cycles, after which the floor is held; None means no end.
        k_decay: 1 is a cosine; the greater, the later the fall.
        skip: Ticks of the curve that are left out at its beginning (timm's warm-up hides as many, unless it is a
            prefix).
        absolute: Anneal from the base, and not from the value that comes in: whatever other schedules did is
            overwritten, as in torch.
    """

    T_0: float = field(metadata=DURATION)
    T_mult: float = 1
    eta_min: float = 0.0
    eta_min_ratio: float | None = field(default=None, kw_only=True)
    cycle_decay: float = field(default=1.0, kw_only=True)
    cycle_limit: int | None = field(default=None, kw_only=True)
    k_decay: float = field(default=1.0, kw_only=True)
    skip: int = field(default=0, kw_only=True, metadata=DURATION)
    absolute: bool = field(default=False, kw_only=True)

    def validate(self) -> None:
        """Check lengths, floor and cycles."""
        _check_floor("eta_min", self.eta_min, self.eta_min_ratio)
        _check_cycles(self, "T_0", "T_mult")
        check_positive("k_decay", self.k_decay)
        check_flag("absolute", self.absolute)

    @property
    def multiplicative(self) -> bool:
        """Return whether the floor is 0 or a ratio, of the value that comes in."""
        return not (self.eta_min or self.absolute)

    def at(self, t: int, base: float) -> Affine:
        """Keep a share of the distance from the peak of the cycle to the floor."""
        place = shapes.cycle(t + self.skip, self.T_0, self.T_mult)
        found = _in_cycle(self, place, self.eta_min, self.eta_min_ratio, shapes.cosine_share, self.k_decay)
        return Affine(0.0, found(base)) if self.absolute else found

    def maps(self, ticks: Sequence[int], base: float) -> tuple[Sequence[float], Sequence[float]]:
        """Do at each of *ticks* what `at` does; a single cycle in a few calls."""
        length = self.T_0
        single = self.cycle_limit == 1 and self.k_decay == 1 and not (self.skip or self.absolute)
        if not single or not isinstance(length, int):
            return super().maps(ticks, base)
        inside = ticks[: bisect_left(ticks, length)]
        shares = curves.cosines(inside, length)
        return _maps(shares, len(ticks), self.eta_min, self.eta_min_ratio)


@dataclass(frozen=True, eq=False)
class TanhParamScheduler(ParamScheduler):
    """Anneal along a hyperbolic tangent over *t_initial* ticks, once or in several cycles, then hold the floor.

    In cycle ``i`` (from 0), *u* ticks after its start and *T* ticks long:
    ``lr_min + (base * cycle_decay ** i - lr_min) * (1 - tanh(lb * (1 - u / T) + ub * u / T)) / 2``.
    Arguments and values are those of timm's ``TanhLRScheduler``; its warm-up is a schedule of its own here. Source:
    Hyperbolic-tangent decay (Hsueh, Li and Wu, 2018), https://arxiv.org/abs/1806.01593.

    Args:
        t_initial: Ticks of the first cycle.
        lb: Where the tangent starts, less than *ub*.
        ub: Where it ends.
        lr_min: The floor, as a value.
        cycle_mul: Length of each cycle over that of the one before, at least 1.
        cycle_decay: Peak of each cycle over that of the one before.
        cycle_limit: Number of cycles, after which the floor is held; None means no end.
        lr_min_ratio: The floor, as a share of the value that comes in, instead of *lr_min*.
        skip: Ticks of the curve that are left out at its beginning.
    """

    t_initial: float = field(metadata=DURATION)
    lb: float = -7.0
    ub: float = 3.0
    lr_min: float = 0.0
    cycle_mul: float = 1.0
    cycle_decay: float = 1.0
    cycle_limit: int | None = 1
    lr_min_ratio: float | None = field(default=None, kw_only=True)
    skip: int = field(default=0, kw_only=True, metadata=DURATION)

    def validate(self) -> None:
        """Check lengths, floor, cycles and the two ends."""
        _check_floor("lr_min", self.lr_min, self.lr_min_ratio)
        _check_cycles(self, "t_initial", "cycle_mul")
        check_number("lb", self.lb)
        check_number("ub", self.ub)
        if self.lb >= self.ub:
            raise ValueError(f"`lb` must be less than `ub`, {self.ub!r}, but is {self.lb!r} instead.")

    @property
    def multiplicative(self) -> bool:
        """Return whether the floor is 0 or a ratio."""
        return not self.lr_min

    def at(self, t: int, base: float) -> Affine:  # noqa: ARG002
        """Keep a share of the distance from the peak of the cycle to the floor."""
        place = shapes.cycle(t + self.skip, self.t_initial, self.cycle_mul)
        return _in_cycle(self, place, self.lr_min, self.lr_min_ratio, shapes.tanh_share, self.lb, self.ub)


@dataclass(frozen=True, eq=False)
class PolyRestartParamScheduler(ParamScheduler):
    """Anneal along a power over *t_initial* ticks, once or in several cycles, then hold the floor.

    In cycle ``i`` (from 0), *u* ticks after its start and *T* ticks long:
    ``lr_min + (base * cycle_decay ** i - lr_min) * (1 - (u / T) ** k_decay) ** power``.
    Arguments and values are those of timm's ``PolyLRScheduler``; its warm-up is a schedule of its own here. Source of
    k-decay: Zhang and Li, 2020, https://arxiv.org/abs/2004.05909.

    Args:
        t_initial: Ticks of the first cycle.
        power: 1 is a straight line.
        lr_min: The floor, as a value.
        cycle_mul: Length of each cycle over that of the one before, at least 1.
        cycle_decay: Peak of each cycle over that of the one before.
        cycle_limit: Number of cycles, after which the floor is held; None means no end.
        k_decay: The greater, the later the fall.
        lr_min_ratio: The floor, as a share of the value that comes in, instead of *lr_min*.
        skip: Ticks of the curve that are left out at its beginning.
    """

    t_initial: float = field(metadata=DURATION)
    power: float = 0.5
    lr_min: float = 0.0
    cycle_mul: float = 1.0
    cycle_decay: float = 1.0
    cycle_limit: int | None = 1
    k_decay: float = 1.0
    lr_min_ratio: float | None = field(default=None, kw_only=True)
    skip: int = field(default=0, kw_only=True, metadata=DURATION)

    def validate(self) -> None:
        """Check lengths, floor, cycles and powers."""
        _check_floor("lr_min", self.lr_min, self.lr_min_ratio)
        _check_cycles(self, "t_initial", "cycle_mul")
        check_positive("power", self.power)
        check_positive("k_decay", self.k_decay)

    @property
    def multiplicative(self) -> bool:
        """Return whether the floor is 0 or a ratio."""
        return not self.lr_min

    def at(self, t: int, base: float) -> Affine:  # noqa: ARG002
        """Keep a share of the distance from the peak of the cycle to the floor."""
        place = shapes.cycle(t + self.skip, self.t_initial, self.cycle_mul)
        return _in_cycle(self, place, self.lr_min, self.lr_min_ratio, shapes.polynomial_share, self.power, self.k_decay)

    def maps(self, ticks: Sequence[int], base: float) -> tuple[Sequence[float], Sequence[float]]:
        """Do at each of *ticks* what `at` does; a single cycle in a few calls."""
        length = self.t_initial
        if self.cycle_limit != 1 or self.k_decay != 1 or self.skip or not isinstance(length, int):
            return super().maps(ticks, base)
        inside = ticks[: bisect_left(ticks, length)]
        shares = shapes.polynomial_shares(inside, length, self.power)
        return _maps(shares, len(ticks), self.lr_min, self.lr_min_ratio)


def _check_floor(name: str, value: float, ratio: float | None) -> None:
    """Check that the floor *name* is a number, and 0 where ``<name>_ratio`` is given instead.

    Raises:
        ValueError: Both are given, or one is not finite.
    """
    check_number(name, value)
    if ratio is not None:
        check_number(f"{name}_ratio", ratio)
        if value:
            raise ValueError(
                f"`{name}` must not be given together with `{name}_ratio`, but they are {value!r} and {ratio!r} "
                "instead."
            )


def _check_cycles(schedule: Any, length: str, growth: str) -> None:  # noqa: ANN401 - three classes with these fields
    """Check the fields that say how cycles follow each other, and make whole lengths integers, which sum exactly."""
    check_positive(length, getattr(schedule, length))
    check_number(growth, getattr(schedule, growth), 1.0)
    for name in (length, growth):
        value = getattr(schedule, name)
        if float(value).is_integer():
            schedule.__dict__[name] = int(value)
    check_number("cycle_decay", schedule.cycle_decay, 0.0)
    if schedule.cycle_limit is not None:
        schedule.__dict__["cycle_limit"] = whole("cycle_limit", schedule.cycle_limit, minimum=1)
    schedule.__dict__["skip"] = whole("skip", schedule.skip, minimum=0)


def _in_cycle(
    schedule: Any,  # noqa: ANN401 - as above
    place: tuple[int, float, float],
    floor: float,
    ratio: float | None,
    curve: Callable[..., float],
    *bend: float,
) -> Affine:
    """Return the map that keeps a share of the distance from the peak of the cycle to the floor.

    Args:
        schedule: Says how many cycles there are, and how high each begins.
        place: The number of the cycle, the ticks since it began, and how many it has.
        floor: The floor, as a value; or
        ratio: as a share of the value that comes in.
        curve: The share, from the ticks since the cycle began, its length, and
        bend: what else the curve takes.
    """
    index, local, length = place
    over = schedule.cycle_limit is not None and index >= schedule.cycle_limit
    share = 0.0 if over else curve(local, length, *bend)
    peak = power(schedule.cycle_decay, index) if share else 0.0  # nobody asks where nothing is left
    return shapes.cycle_floor(share, peak, floor, ratio)


def _maps(shares: list[float], count: int, floor: float, ratio: float | None) -> tuple[list[float], list[float]]:
    """Return the maps of a single cycle for its *shares*, and for the rest of *count* ticks that of the floor."""
    shares += [0.0] * (count - len(shares))
    if ratio is not None:
        above = 1.0 - ratio
        return [ratio + above * share if share else ratio for share in shares], [0.0] * count
    return shares, [floor * (1.0 - share) for share in shares] if floor else [0.0] * count
