"""Write the schedules that go through phases or a table, for any hyper-parameter.

They are those of transformers, timm, fairseq2, Ignite, Composer and MMDetection. Names, order and defaults are those
of the peer that each class names. *t* is the tick since ``begin``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

from resumable_sched.schedule import shapes
from resumable_sched.schedule.arguments import check_choice, check_flag, check_number, check_positive, sequence, whole
from resumable_sched.schedule.curves import Affine
from resumable_sched.schedule.per_group import check_values, group_of, spread, value_of
from resumable_sched.schedule.scheduler import DURATION, POINTS, ParamScheduler

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "HalfLifeParamScheduler",
    "InverseSqrtParamScheduler",
    "PiecewiseParamScheduler",
    "QuadraticWarmupParamScheduler",
    "TriStageParamScheduler",
    "WarmupStableDecayParamScheduler",
]


@dataclass(frozen=True, eq=False)
class HalfLifeParamScheduler(ParamScheduler):
    """Fall by *gamma* in each *decay_period*, evenly: ``base * gamma ** (t / decay_period)``.

    As Composer's ``ExponentialScheduler``; with the default *gamma* the period is the half-life.

    Args:
        decay_period: Ticks of each fall.
        gamma: Factor of each fall, more than 0.
    """

    decay_period: float = field(metadata=DURATION)
    gamma: float = 0.5

    def validate(self) -> None:
        """Check that both are positive."""
        for name in ("decay_period", "gamma"):
            check_positive(name, getattr(self, name))

    @property
    def multiplicative(self) -> bool:
        """Tell that the schedule only multiplies."""
        return True

    def at(self, t: int, base: float) -> Affine:  # noqa: ARG002
        """Multiply by ``gamma ** (t / decay_period)``."""
        return Affine(shapes.half_life(t, self.decay_period, self.gamma))


@dataclass(frozen=True, eq=False)
class InverseSqrtParamScheduler(ParamScheduler):
    """Rise in a line from 0, then fall with the root of time.

    ``base * t / num_warmup_steps``, then ``base / sqrt(1 + (t - num_warmup_steps) / timescale)``. As transformers'
    ``get_inverse_sqrt_schedule``. With the default *timescale* the second is ``base * sqrt(num_warmup_steps / t)``:
    Noam's schedule, whose factor (fairseq2's ``NoamLR``: ``num_warmup_steps ** -0.5``) belongs into the base. Source:
    Attention is all you need (Vaswani et al., 2017), https://arxiv.org/abs/1706.03762.

    Args:
        num_warmup_steps: Ticks of the rise, or 0.
        timescale: Ticks after the rise until the value is ``base / sqrt(2)``. None means *num_warmup_steps*.
        eta_min: The least value after the rise (Megatron's ``min_lr``).
    """

    num_warmup_steps: int = field(metadata=DURATION)
    timescale: float | None = field(default=None, metadata=DURATION)
    eta_min: float = field(default=0.0, kw_only=True)

    def validate(self) -> None:
        """Check that there is a timescale, and that nothing is negative."""
        self._set("num_warmup_steps", whole("num_warmup_steps", self.num_warmup_steps, minimum=0))
        if self.timescale is None:
            self._set("timescale", self.num_warmup_steps)
            if not self.num_warmup_steps:
                raise ValueError(
                    "`timescale` must be given where `num_warmup_steps` is 0, but is None instead. The default of "
                    "transformers is 10000."
                )
        check_positive("timescale", self.timescale)
        check_number("eta_min", self.eta_min, 0.0)

    @property
    def multiplicative(self) -> bool:
        """Return whether there is no least value."""
        return self.eta_min == 0

    def at(self, t: int, base: float) -> Affine:
        """Multiply by the factor at *t*, or set the least value."""
        if t < self.num_warmup_steps:
            return Affine(t / self.num_warmup_steps)
        factor = shapes.inverse_sqrt(t - self.num_warmup_steps, self.timescale or 0.0)
        return Affine(0.0, self.eta_min) if self.eta_min and base * factor < self.eta_min else Affine(factor)


@dataclass(frozen=True, eq=False)
class WarmupStableDecayParamScheduler(ParamScheduler):
    """Rise from the floor, stay, and fall to the floor: WSD, the trapezoid.

    With a floor ``m = min_lr_ratio``: ``base * (m + (1 - m) * rise)`` over *num_warmup_steps* ticks; ``base * s``,
    where *s* is 1, or ``1 / sqrt(1 + u / stable_timescale)`` (at least *m*) *u* ticks after the rise; and over the
    last *num_decay_steps* ``base * (m + (s - m) * fall)``. The first eight arguments and their values are those of
    transformers' ``get_wsd_schedule``; `stable_type`, `stable_timescale` and `decay_ratio` are timm's
    ``WSDLRScheduler``. Source: MiniCPM (Hu et al., 2024), https://arxiv.org/abs/2404.06395; Beyond fixed training
    durations (Hägele et al., 2024), https://arxiv.org/abs/2405.18392; the root: Scaling vision transformers (Zhai et
    al., 2021), https://arxiv.org/abs/2106.04560.

    Args:
        num_warmup_steps: Ticks of the rise, or 0.
        num_decay_steps: Ticks of the fall, or 0.
        num_training_steps: Ticks of all three phases. None, where *num_stable_steps* is not given either, means the
            length of the window.
        num_stable_steps: Ticks between rise and fall, instead of *num_training_steps*.
        warmup_type: "linear", "cosine" or "1-sqrt".
        decay_type: "linear", "cosine", "1-sqrt" or "exponential".
        min_lr_ratio: The floor, as a share of the value that comes in.
        num_cycles: Waves of a decay along a cosine.
        stable_type: "constant" or "rsqrt".
        stable_timescale: Ticks until "rsqrt" has fallen to ``1 / sqrt(2)``. None means *num_warmup_steps*.
        decay_ratio: Bends "exponential": timm's is 0.1, Megatron's 0.5.
        eta_min: The floor, as a value, instead of *min_lr_ratio*.
    """

    num_warmup_steps: int = field(metadata=DURATION)
    num_decay_steps: int = field(metadata=DURATION)
    num_training_steps: int | None = field(default=None, metadata=DURATION)
    num_stable_steps: int | None = field(default=None, metadata=DURATION)
    warmup_type: Literal["linear", "cosine", "1-sqrt"] = "linear"
    decay_type: Literal["linear", "cosine", "1-sqrt", "exponential"] = "cosine"
    min_lr_ratio: float = 0.0
    num_cycles: float = 0.5
    stable_type: Literal["constant", "rsqrt"] = field(default="constant", kw_only=True)
    stable_timescale: float | None = field(default=None, kw_only=True, metadata=DURATION)
    decay_ratio: float = field(default=0.1, kw_only=True)
    eta_min: float | None = field(default=None, kw_only=True)

    def validate(self) -> None:
        """Check lengths, kinds and floor."""
        for name in ("num_warmup_steps", "num_decay_steps", "num_training_steps", "num_stable_steps"):
            if getattr(self, name) is not None or name in ("num_warmup_steps", "num_decay_steps"):
                self._set(name, whole(name, getattr(self, name), minimum=0))
        self._check_lengths()
        for name, kinds in (
            ("warmup_type", get_args(shapes.Rise)),
            ("decay_type", get_args(shapes.Decay)),
            ("stable_type", ("constant", "rsqrt")),
        ):
            check_choice(name, getattr(self, name), kinds)
        check_number("min_lr_ratio", self.min_lr_ratio)
        if self.eta_min is not None:
            check_number("eta_min", self.eta_min)
            if self.min_lr_ratio:
                raise ValueError(
                    f"`eta_min` must not be given together with `min_lr_ratio`, but they are {self.eta_min!r} and "
                    f"{self.min_lr_ratio!r} instead."
                )
        check_number("num_cycles", self.num_cycles)
        check_number("decay_ratio", self.decay_ratio, 0.0, 1.0)
        if self.decay_ratio in (0, 1):
            raise ValueError(f"`decay_ratio` must be between 0 and 1, but is {self.decay_ratio!r} instead.")
        if self.stable_timescale is not None:
            check_positive("stable_timescale", self.stable_timescale)
        elif self.stable_type == "rsqrt" and not self.num_warmup_steps:
            raise ValueError(
                '`stable_timescale` must be given where `stable_type` is "rsqrt" and `num_warmup_steps` is 0, but is '
                "None instead."
            )

    def _check_lengths(self) -> None:
        total, stable, both = (
            self.num_training_steps,
            self.num_stable_steps,
            self.num_warmup_steps + self.num_decay_steps,
        )
        if total is None and stable is None and self._window_is_given():
            total = self.end - self.begin
            self._set("num_training_steps", total)
        if total is not None and stable is not None and total != both + stable:
            raise ValueError(
                f"`num_training_steps` must be the sum of the three phases, {both + stable}, where all are given, but "
                f"is {total} instead."
            )
        if total is not None and total < both:
            raise ValueError(
                f"`num_training_steps` must be at least `num_warmup_steps` + `num_decay_steps`, {both}, but is {total} "
                "instead."
            )

    @property
    def multiplicative(self) -> bool:
        """Return whether the floor is 0 or a ratio."""
        return not self.eta_min

    def at(self, t: int, base: float) -> Affine:
        """Keep a share of the distance to the floor."""
        begin = self._decay_begin
        if t < self.num_warmup_steps:
            return self._towards(shapes.rise(t / self.num_warmup_steps, self.warmup_type), 1.0)
        stable = self._stable(t - self.num_warmup_steps, base)
        if t < begin:
            return Affine(stable) if stable is not None else self._towards(0.0, 1.0)
        if t >= begin + self.num_decay_steps or stable is None:
            return self._towards(0.0, 1.0)
        share = shapes.fall((t - begin) / self.num_decay_steps, self.decay_type, self.num_cycles, self.decay_ratio)
        return self._towards(share, stable)

    @property
    def _decay_begin(self) -> int:
        if self.num_stable_steps is not None:
            return self.num_warmup_steps + self.num_stable_steps
        total = self.span + 1 if self.num_training_steps is None else self.num_training_steps
        return total - self.num_decay_steps

    def _stable(self, t: int, base: float) -> float | None:
        """Return the factor before the decay; None where the floor is reached without it."""
        if self.stable_type == "constant":
            return 1.0
        factor = shapes.inverse_sqrt(t, self.stable_timescale or self.num_warmup_steps)
        below = base * factor < self.eta_min if self.eta_min is not None else factor < self.min_lr_ratio
        return None if below else factor

    def _towards(self, share: float, peak: float) -> Affine:
        ratio = None if self.eta_min is not None else self.min_lr_ratio
        return shapes.cycle_floor(share, peak, self.eta_min or 0.0, ratio)


@dataclass(frozen=True, eq=False)
class PiecewiseParamScheduler(ParamScheduler):
    """Go through a table of points ``(tick, value)``; before the first and after the last of them the value holds.

    With "linear" *interpolation* as Ignite's ``PiecewiseLinear``, whose *milestones_values* this takes. The values are
    absolute, or with *relative* shares of the value that comes in: then the schedule only multiplies.

    Args:
        milestones_values: Points with ticks since `begin` that do not decrease; two at one tick are a jump, and one
            before `begin` is where the piece starts that is under way there.
        interpolation: "linear"; "constant", the last point's value; or "cosine", half a wave between two points.
        relative: The values are factors.
    """

    milestones_values: Sequence[tuple[float, float]] = field(metadata=POINTS)
    interpolation: Literal["linear", "constant", "cosine"] = "linear"
    relative: bool = field(default=False, kw_only=True)

    def validate(self) -> None:
        """Check that there are points, in order."""
        points = tuple(_point(each) for each in sequence("milestones_values", self.milestones_values))
        if not points or any(late[0] < early[0] for early, late in pairwise(points)):
            raise ValueError(
                "`milestones_values` must be a list of at least one point whose ticks do not decrease, but is "
                f"{self.milestones_values!r} instead."
            )
        self._set("milestones_values", points)
        check_choice("interpolation", self.interpolation, get_args(shapes.Interpolation))
        check_flag("relative", self.relative)

    @property
    def multiplicative(self) -> bool:
        """Return whether the values are factors."""
        return self.relative

    def at(self, t: int, base: float) -> Affine:  # noqa: ARG002
        """Set the value at *t*, or multiply by it."""
        value = shapes.piecewise(t, self.milestones_values, self.interpolation)
        return Affine(value) if self.relative else Affine(0.0, value)


@dataclass(frozen=True, eq=False)
class QuadraticWarmupParamScheduler(ParamScheduler):
    """Warm up along a parabola: ``base * ((t + 1) / (end - begin)) ** 2``, and `base` from the last tick on.

    As MMDetection's ``QuadraticWarmupLR``, with which its YOLOX begins.
    """

    @property
    def multiplicative(self) -> bool:
        """Tell that the schedule only multiplies."""
        return True

    def at(self, t: int, base: float) -> Affine:  # noqa: ARG002
        """Multiply by ``((t + 1) / (end - begin)) ** 2``."""
        return Affine(shapes.quadratic_rise(t, self.span + 1))


@dataclass(frozen=True, eq=False)
class TriStageParamScheduler(ParamScheduler):
    """Rise in a line, hold, fall exponentially, hold: fairseq2's ``TriStageLR``.

    The stages are ``int(ratio * num_steps)`` ticks long. The factor goes from *start_lr_scale* to 1, stays, and goes
    as ``final_lr_scale ** (u / length)``, *u* ticks after the third stage began. Source: SpecAugment (Park et al.,
    2019), https://arxiv.org/abs/1904.08779.

    Args:
        num_steps: Ticks of all stages.
        stage_ratio: The share of each of the three stages; their sum is 1.
        start_lr_scale: The first factor, or a list of one for each param group.
        final_lr_scale: The last factor, more than 0, or such a list.
    """

    num_steps: int = field(metadata=DURATION)
    stage_ratio: Sequence[float]
    start_lr_scale: float | Sequence[float] = field(default=0.01, kw_only=True)
    final_lr_scale: float | Sequence[float] = field(default=0.01, kw_only=True)

    def validate(self) -> None:
        """Check that the shares make a whole, and the factors."""
        self._set("num_steps", whole("num_steps", self.num_steps, minimum=1))
        ratio = sequence("stage_ratio", self.stage_ratio)
        for each in ratio:
            check_number("stage_ratio", each, 0.0, 1.0)
        if len(ratio) != 3 or not math.isclose(sum(ratio), 1.0):  # noqa: PLR2004 - three stages
            raise ValueError(f"`stage_ratio` must be three shares whose sum is 1, but is {self.stage_ratio!r} instead.")
        self._set("stage_ratio", ratio)
        for name in ("start_lr_scale", "final_lr_scale"):
            self._set(name, check_values(name, getattr(self, name), len(self.optimizer.param_groups)))
        final = self.final_lr_scale
        for each in final if isinstance(final, tuple) else (final,):
            check_positive("final_lr_scale", each)

    @property
    def multiplicative(self) -> bool:
        """Return whether all groups have the same factors."""
        return not (isinstance(self.start_lr_scale, tuple) or isinstance(self.final_lr_scale, tuple))

    def split_base(self, base: Sequence[float]) -> tuple[list[float], list[float]]:
        """Return bases that tell the groups apart where a factor is a list."""
        own = spread("start_lr_scale", self.start_lr_scale, list(base))
        return spread("final_lr_scale", self.final_lr_scale, own), list(base)

    def at(self, t: int, base: float) -> Affine:
        """Multiply by the factor at *t*."""
        stages = [int(ratio * self.num_steps) for ratio in self.stage_ratio]
        start, final = (value_of(each, group_of(base)) for each in (self.start_lr_scale, self.final_lr_scale))
        return Affine(shapes.tri_stage(t, stages, start, final))


def _point(point: Any) -> tuple[float, float]:  # noqa: ANN401 - checked here
    pair = sequence("milestones_values", point)
    if len(pair) != 2:  # noqa: PLR2004 - a pair
        raise ValueError(f"`milestones_values` must be pairs (tick, value), but one is {point!r} instead.")
    check_number("milestones_values", pair[0])
    check_number("milestones_values", pair[1])
    return pair[0], pair[1]
