"""Continue where torch's own schedulers were saved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, Final

import torch

from resumable_sched import schedule
from resumable_sched.errors import StateFormatError
from resumable_sched.integrations.recovered import Plateau, base_lines, field_lines, recover, settle
from resumable_sched.integrations.torch_run import TorchParamScheduler
from resumable_sched.integrations.torch_translation import recognise, translate

if TYPE_CHECKING:
    from resumable_sched.integrations.recovered import Policy, Recovered
    from resumable_sched.integrations.torch_translation import Planned
    from resumable_sched.schedule import ParamScheduler, SchedulerGroup
    from resumable_sched.schedule.layer import Unit

__all__ = ["import_torch_state"]

_PASSING: Final = frozenset({"_step_count", "_get_lr_called_within_step", "_is_initial", "verbose"})
"""What a state holds that is neither configuration nor position: a resumed run has another step count."""


def import_torch_state(
    group: SchedulerGroup,
    states: Any,  # noqa: ANN401 - a state dict, a list of them, or a dict of these by optimizer
    *,
    optimizer_state: Any = None,  # noqa: ANN401
    iteration: int | None = None,
    epoch: int | None = None,
    on_mismatch: Policy = "error",
) -> None:
    """Bring *group* to where torch's schedulers were when they were saved.

    The group has the schedules that :func:`~resumable_sched.integrations.torch_schedulers.from_torch` gives, or the
    same ones written by hand, in the order of *states*. The position is each state's ``last_epoch``: epochs or
    iterations, as the schedule counts. Load files with ``torch.load(path, weights_only=True)``.

    Args:
        group: The group; its optimizers are written.
        states: What ``scheduler.state_dict()`` gave; for several schedulers a list, for several optimizers a dict of
            such by name.
        optimizer_state: What ``optimizer.state_dict()`` gave at the same time (by name for several). Needed only where
            the values depend on the way that led there and several schedulers were at work.
        iteration: Completed updates, where the states do not tell and an `epoch_length` does not either.
        epoch: The same of epochs.
        on_mismatch: What to do about a schedule or an initial value that differs: "error", or "adopt" the group's own
            at the saved position, or at *iteration* and *epoch*.

    Raises:
        StateFormatError: It is no state of a torch scheduler.
        ScheduleMismatchError: The schedules differ, or the states are not of one checkpoint.
        ValueError: The position or a value is not known; the message says which argument tells it.
    """
    recovered = recover(group, states, _take)
    settle(group, recovered, optimizer_state=optimizer_state, iteration=iteration, epoch=epoch, on_mismatch=on_mismatch)


def _check(state: Any) -> None:  # noqa: ANN401 - that is the question
    if isinstance(state, Mapping) and ("last_epoch" in state or "_schedulers" in state):
        return
    hint = " It is this package's own: use group.load_state_dict." if _is_own(state) else ""
    raise StateFormatError(f"`states` must hold state dicts of torch schedulers, but holds {_shortened(state)}.{hint}")


def _is_own(state: Any) -> bool:  # noqa: ANN401
    return isinstance(state, Mapping) and state.get("kind") in ("SchedulerGroup", "ParamScheduler")


def _shortened(state: Any) -> str:  # noqa: ANN401
    return f"a dict with {', '.join(map(repr, list(state)[:5]))}" if isinstance(state, Mapping) else repr(state)


def _take(
    group: SchedulerGroup,
    state: Mapping[str, Any],
    name: str,
    ours: list[ParamScheduler],
    recovered: Recovered,
) -> None:
    """Compare *state* with the first of *ours*, take those off, and note the position."""
    _check(state)
    kind, ticks = recognise(state), _ticks(state)
    unit = _unit(group, ours)
    if kind == "ReduceLROnPlateau":
        best = float(state["best"])
        seen = int(state["last_epoch"])
        plateau = Plateau(
            best if math.isfinite(best) else None, int(state["num_bad_epochs"]), int(state["cooldown_counter"]), seen
        )
        recovered.plateaus.setdefault(name, []).append(plateau)
        recovered.weak_ticks.append(("epoch", seen))
    elif unit is not None:
        recovered.ticks += [(unit, tick) for tick in ticks]
    if "_last_lr" in state:
        recovered.values.setdefault((name, "lr"), []).append([float(each) for each in state["_last_lr"]])
    if ours and isinstance(ours[0], TorchParamScheduler):
        run = ours[0].scheduler
        recovered.lines += _differences(str(run), state, run.state_at(max(ticks)))
        while ours and isinstance(ours[0], TorchParamScheduler) and ours[0].scheduler is run:
            del ours[0]
        return
    try:
        planned = translate(kind, state)
    except KeyError as error:
        raise StateFormatError(
            f"`states` must hold complete state dicts, but one of a {kind} lacks {error}."
        ) from error
    if planned is None:
        recovered.lines.append(f"{kind or 'A class of its own'} has no formula here; build the group with from_torch.")
        return
    if ours:
        recovered.lines += base_lines(ours[0], "base_lrs", _base(state))
    for each in planned:
        recovered.lines += _compare(group, each, ours.pop(0) if ours else None)


def _compare(group: SchedulerGroup, planned: Planned, ours: ParamScheduler | None) -> list[str]:
    families = ("Lambda", "Multiplicative") if planned.family == "Lambda" else (planned.family,)
    kinds = tuple(getattr(schedule, f"{family}ParamScheduler") for family in families)
    label = planned.class_name
    if not isinstance(ours, kinds) or ours.param_name != planned.param_name:
        now = "absent" if ours is None else f"{type(ours).__name__} (`{ours.param_name}`)"
        return [f"There was a {label} when the state was saved, but it is {now} now."]
    return field_lines(group, ours, label, {"begin": 0, **planned.arguments})


def _unit(group: SchedulerGroup, ours: Sequence[ParamScheduler]) -> Unit | None:
    """Return what the state's position counts: what the schedule counts that it belongs to; None if that is unclear."""
    if ours:
        return ours[0].clock_unit
    units = {each.clock_unit for each in group.schedulers}
    return units.pop() if len(units) == 1 else None


def _ticks(state: Mapping[str, Any]) -> list[int]:
    """Return the position; torch's ChainedScheduler has none of its own."""
    if "last_epoch" in state:
        return [int(state["last_epoch"])]
    return [tick for each in state["_schedulers"] for tick in _ticks(each)]


def _base(state: Mapping[str, Any]) -> Sequence[Any]:
    """Return the initial learning rates; torch's SequentialLR has none of its own."""
    if "base_lrs" in state:
        found: Sequence[Any] = state["base_lrs"]
        return found
    return next((base for each in state.get("_schedulers", ()) if (base := _base(each))), ())


def _differences(label: str, saved: Any, now: Any) -> list[str]:  # noqa: ANN401 - whatever a state dict holds
    """Say where two states differ that should be equal; what only one of them has is of another version."""
    if isinstance(saved, Mapping) and isinstance(now, Mapping):
        both = [key for key in saved if key in now and key not in _PASSING]
        return [line for key in both for line in _differences(f"{label}.{key}", saved[key], now[key])]
    if isinstance(saved, list | tuple) and isinstance(now, list | tuple):
        if len(saved) == len(now):
            pairs = enumerate(zip(saved, now, strict=True))
            return [line for index, pair in pairs for line in _differences(f"{label}[{index}]", *pair)]
    elif isinstance(saved, Real | torch.Tensor) and isinstance(now, Real | torch.Tensor):
        if math.isclose(float(saved), float(now), rel_tol=1e-9, abs_tol=1e-300):
            return []
    elif callable(saved) or callable(now) or saved == now:
        return []
    return [f"{label} was {saved!r} when the state was saved, but is {now!r} at that position now."]
