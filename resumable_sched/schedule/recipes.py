"""Build warm-up and what follows it in one call: a list of schedules for people who come from transformers.

Each function takes what the ``get_*_schedule`` in its docstring takes, and gives the same learning rates. Ticks are
iterations, as there, unless *by_epoch* is True. The lists are to be given to a `SchedulerGroup`; every schedule in
them only multiplies, so that values are a closed form of the position. After `training_steps` the last value holds
(only a cosine of several waves goes on to its next turn).

    >>> import torch
    >>> from resumable_sched import SchedulerGroup
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    >>> group = SchedulerGroup(optimizer, warmup_linear(optimizer, 2, 6))
    >>> group.trace(8).values["lr"]
    [[0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from resumable_sched.schedule.arguments import check_number, check_positive, whole
from resumable_sched.schedule.lr import (
    ConstantLR,
    CosineAnnealingWarmRestartsLR,
    InverseSqrtLR,
    LinearLR,
    PiecewiseLR,
    PolyRestartLR,
    WarmupStableDecayLR,
)

if TYPE_CHECKING:
    from resumable_sched.schedule.scheduler import ParamScheduler
    from resumable_sched.schedule.targets import HasParamGroups

__all__ = [
    "warmup_constant",
    "warmup_cosine",
    "warmup_cosine_from_first_step",
    "warmup_cosine_restarts",
    "warmup_inverse_sqrt",
    "warmup_linear",
    "warmup_polynomial",
    "warmup_stable_decay",
]


def warmup_constant(optimizer: HasParamGroups, warmup_steps: int, *, by_epoch: bool = False) -> list[ParamScheduler]:
    """Rise in a line from 0 to the base over *warmup_steps*, then stay: ``get_constant_schedule_with_warmup``.

    With 0 *warmup_steps* it is ``get_constant_schedule``.
    """
    rise = _rise(optimizer, whole("warmup_steps", warmup_steps, minimum=0), by_epoch=by_epoch)
    return rise or [ConstantLR(optimizer, factor=1.0, by_epoch=by_epoch)]


def warmup_linear(
    optimizer: HasParamGroups, warmup_steps: int, training_steps: int, *, by_epoch: bool = False
) -> list[ParamScheduler]:
    """Rise from 0 over *warmup_steps*, fall to 0 at *training_steps*, in lines: ``get_linear_schedule_with_warmup``.

    Raises:
        ValueError: *training_steps* is not more than *warmup_steps*.
    """
    _check(warmup_steps, training_steps)
    return [
        *_rise(optimizer, warmup_steps, by_epoch=by_epoch),
        PolyRestartLR(
            optimizer, t_initial=training_steps - warmup_steps, power=1.0, begin=warmup_steps, by_epoch=by_epoch
        ),
    ]


def warmup_cosine(
    optimizer: HasParamGroups,
    warmup_steps: int,
    training_steps: int,
    num_cycles: float = 0.5,
    *,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    by_epoch: bool = False,
) -> list[ParamScheduler]:
    """Rise in a line from 0 over *warmup_steps*, then fall along a cosine: ``get_cosine_schedule_with_warmup``.

    With a floor it is ``get_cosine_with_min_lr_schedule_with_warmup``.

    Args:
        optimizer: As for every schedule.
        warmup_steps: Ticks of the rise, or 0.
        training_steps: Ticks of rise and fall.
        num_cycles: Waves of the cosine; the default is half a wave, a single fall.
        min_lr: The floor of a group that has the optimizer's default learning rate; that of the others is in
            proportion to theirs, as in the peer.
        min_lr_rate: The floor as a share of the base, instead of *min_lr*.
        by_epoch: Count epochs and not iterations.

    Raises:
        ValueError: *training_steps* is not more than *warmup_steps*, or both floors are given.
    """
    _check(warmup_steps, training_steps)
    check_positive("num_cycles", num_cycles)
    floor = _floor_rate(optimizer, min_lr, min_lr_rate)
    rise = _rise(optimizer, warmup_steps, by_epoch=by_epoch)
    window: dict[str, Any] = {"begin": warmup_steps, "by_epoch": by_epoch}
    length = training_steps - warmup_steps
    if num_cycles == 0.5:  # noqa: PLR2004 - half a wave
        fall = CosineAnnealingWarmRestartsLR(
            optimizer, T_0=length, eta_min_ratio=floor or None, cycle_limit=1, **window
        )
        return [*rise, fall]
    return [*rise, _waves(optimizer, length, num_cycles, floor, window)]


def warmup_cosine_from_first_step(
    optimizer: HasParamGroups,
    warmup_steps: int,
    training_steps: int,
    num_cycles: float = 0.5,
    *,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    warmup_lr_rate: float | None = None,
    by_epoch: bool = False,
) -> list[ParamScheduler]:
    """Rise to the base at the last tick of the warm-up: ``get_cosine_with_min_lr_schedule_with_warmup_lr_rate``.

    The peer counts from 1 here: the first update has ``1 / warmup_steps`` of the base and not 0, the last one has the
    floor.

    Args:
        optimizer: As for every schedule.
        warmup_steps: Ticks of the rise, or 0: then the first update is a tick below the base already.
        training_steps: Ticks of rise and fall.
        num_cycles: Waves of the cosine; the default is half a wave, a single fall.
        min_lr: As for `warmup_cosine`.
        min_lr_rate: As for `warmup_cosine`.
        warmup_lr_rate: Share of the base at the first tick; None means ``1 / warmup_steps``.
        by_epoch: Count epochs and not iterations.

    Raises:
        ValueError: *training_steps* is not more than *warmup_steps*, or not exactly one floor is given.
    """
    _check(warmup_steps, training_steps)
    check_positive("num_cycles", num_cycles)
    if min_lr is None and min_lr_rate is None:
        raise ValueError("`min_lr` or `min_lr_rate` must be given, but both are None instead.")
    floor = _floor_rate(optimizer, min_lr, min_lr_rate)
    first = 1.0 / max(warmup_steps, 1) if warmup_lr_rate is None else warmup_lr_rate
    begin = max(warmup_steps - 1, 0)
    window: dict[str, Any] = {"begin": begin, "end": training_steps, "by_epoch": by_epoch}
    rise: list[ParamScheduler] = []
    if warmup_steps == 1:
        rise = [ConstantLR(optimizer, factor=first, end=2, by_epoch=by_epoch)]  # the first update, and no rise
    elif warmup_steps:
        rise = [LinearLR(optimizer, start_factor=first, end=warmup_steps, by_epoch=by_epoch)]
    length = training_steps - warmup_steps
    return [*rise, _waves(optimizer, length, num_cycles, floor, window, start=warmup_steps - 1 - begin)]


def warmup_cosine_restarts(
    optimizer: HasParamGroups, warmup_steps: int, training_steps: int, num_cycles: int = 1, *, by_epoch: bool = False
) -> list[ParamScheduler]:
    """Rise from 0, then fall along *num_cycles* cosines: ``get_cosine_with_hard_restarts_schedule_with_warmup``.

    Raises:
        ValueError: *training_steps* is not more than *warmup_steps*, or *num_cycles* is not positive.
    """
    _check(warmup_steps, training_steps)
    cycles = whole("num_cycles", num_cycles, minimum=1)
    return [
        *_rise(optimizer, warmup_steps, by_epoch=by_epoch),
        CosineAnnealingWarmRestartsLR(
            optimizer,
            T_0=(training_steps - warmup_steps) / cycles,
            cycle_limit=cycles,
            begin=warmup_steps,
            by_epoch=by_epoch,
        ),
    ]


def warmup_polynomial(
    optimizer: HasParamGroups,
    warmup_steps: int,
    training_steps: int,
    lr_end: float = 1e-7,
    power: float = 1.0,
    *,
    by_epoch: bool = False,
) -> list[ParamScheduler]:
    """Rise from 0, then fall along a power to *lr_end*: ``get_polynomial_decay_schedule_with_warmup``.

    As in the peer *lr_end* is that of a group with the optimizer's default learning rate; for the others it is in
    proportion to theirs.

    Raises:
        ValueError: *training_steps* is not more than *warmup_steps*, or *lr_end* not less than the learning rate.
    """
    _check(warmup_steps, training_steps)
    check_number("lr_end", lr_end)
    rate = _floor_rate(optimizer, lr_end, None)
    if rate >= 1.0:
        raise ValueError(f"`lr_end` must be less than the learning rate of the optimizer, but is {lr_end!r} instead.")
    return [
        *_rise(optimizer, warmup_steps, by_epoch=by_epoch),
        PolyRestartLR(
            optimizer,
            t_initial=training_steps - warmup_steps,
            power=power,
            lr_min_ratio=rate,
            begin=warmup_steps,
            by_epoch=by_epoch,
        ),
    ]


def warmup_inverse_sqrt(
    optimizer: HasParamGroups, warmup_steps: int, timescale: float | None = None, *, by_epoch: bool = False
) -> list[ParamScheduler]:
    """Rise in a line from 0, then fall with the root of time: ``get_inverse_sqrt_schedule``.

    *timescale* is *warmup_steps* if it is not given, or 10,000 where that is 0.
    """
    scale = timescale if timescale is not None or warmup_steps else 10_000
    return [InverseSqrtLR(optimizer, num_warmup_steps=warmup_steps, timescale=scale, by_epoch=by_epoch)]


def warmup_stable_decay(
    optimizer: HasParamGroups,
    warmup_steps: int,
    decay_steps: int,
    training_steps: int | None = None,
    stable_steps: int | None = None,
    *,
    warmup_type: Literal["linear", "cosine", "1-sqrt"] = "linear",
    decay_type: Literal["linear", "cosine", "1-sqrt", "exponential"] = "cosine",
    min_lr_ratio: float = 0.0,
    num_cycles: float = 0.5,
    by_epoch: bool = False,
) -> list[ParamScheduler]:
    """Rise, stay, fall: ``get_wsd_schedule``, whose arguments `WarmupStableDecayLR` takes by their own names."""
    return [
        WarmupStableDecayLR(
            optimizer,
            num_warmup_steps=warmup_steps,
            num_decay_steps=decay_steps,
            num_training_steps=training_steps,
            num_stable_steps=stable_steps,
            warmup_type=warmup_type,
            decay_type=decay_type,
            min_lr_ratio=min_lr_ratio,
            num_cycles=num_cycles,
            by_epoch=by_epoch,
        )
    ]


def _rise(optimizer: HasParamGroups, steps: int, *, by_epoch: bool) -> list[ParamScheduler]:
    """Rise from 0 at tick 0 to 1 at tick *steps*, which both this window and the next one have."""
    return [LinearLR(optimizer, start_factor=0.0, end=steps + 1, by_epoch=by_epoch)] if steps else []


def _waves(
    optimizer: HasParamGroups, length: int, cycles: float, floor: float, window: dict[str, Any], *, start: int = 0
) -> ParamScheduler:
    """Oscillate between 1 at tick *start* and *floor*, in half waves between points."""
    half = length / (2.0 * cycles)
    points = [(start + half * index, floor if index % 2 else 1.0) for index in range(int(2.0 * cycles) + 2)]
    return PiecewiseLR(optimizer, points, interpolation="cosine", relative=True, **window)


def _check(warmup_steps: int, training_steps: int) -> None:
    whole("warmup_steps", warmup_steps, minimum=0)
    whole("training_steps", training_steps, minimum=1)
    if training_steps <= warmup_steps:
        raise ValueError(
            f"`training_steps` must be more than `warmup_steps`, {warmup_steps}, but is {training_steps} instead."
        )


def _floor_rate(optimizer: HasParamGroups, value: float | None, rate: float | None) -> float:
    """Return the floor as a share of the base, as the peer does: of the optimizer's default learning rate."""
    if value is not None and rate is not None:
        raise ValueError(
            f"`min_lr` must not be given together with `min_lr_rate`, but they are {value!r} and {rate!r} instead."
        )
    if value is None:
        check_number("min_lr_rate", 0.0 if rate is None else rate)
        return rate or 0.0
    check_number("min_lr", value)
    defaults: dict[str, Any] = getattr(optimizer, "defaults", {})
    first = optimizer.param_groups[0]
    return value / float(defaults["lr"] if "lr" in defaults else first.get("initial_lr", first["lr"]))
