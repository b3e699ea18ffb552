"""Make schedules of this package out of torch's own schedulers, and of those that users derived from them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from torch.optim import lr_scheduler as peer
from torch.optim.lr_scheduler import LRScheduler

from resumable_sched import schedule
from resumable_sched.integrations.torch_run import TorchParamScheduler, TorchRun
from resumable_sched.integrations.torch_translation import translate
from resumable_sched.schedule.scheduler import FOREVER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch.optim import Optimizer

    from resumable_sched.integrations.torch_translation import Planned
    from resumable_sched.schedule import ParamScheduler

__all__ = ["from_torch"]


def from_torch(
    scheduler: LRScheduler,
    *,
    by_epoch: bool = True,
    monitor: str = "loss",
    param_names: Sequence[str] | None = None,
    end: int | None = None,
) -> list[ParamScheduler]:
    """Return the schedules that have the values of *scheduler*, for a `SchedulerGroup`; do not step it any more.

    Each of torch's classes becomes what ``docs/migration.md`` says, and its momentum a schedule of its own. What has no
    equivalent (a class of the user's, a ``SequentialLR`` whose parts do not simply follow each other, a function with
    arguments) is run beside training: see `TorchParamScheduler`.

    Args:
        scheduler: One that was just built, on the optimizer that the group shall drive. Its position, if it has one, is
            brought over by :func:`~resumable_sched.integrations.torch_states.import_torch_state`.
        by_epoch: Whether torch's `step` would have been called after each epoch, and not after each update.
        monitor: For ``ReduceLROnPlateau``: the name of the metric.
        param_names: What a class of the user's sets; by default "lr", and "momentum" if it has torch's
            `cycle_momentum`.
        end: For what is run beside training: the tick from which on it is not asked any more, and its last value holds.
            Needed where it raises an error beyond some tick. For torch's one-cycle it is known.

    Raises:
        TypeError: It is no scheduler of torch's, or a class of the user's whose `step` needs metrics.
        ValueError: It was stepped before, or has a function that cannot be imported.
    """
    if not isinstance(scheduler, LRScheduler):
        raise TypeError(f"`scheduler` must be a scheduler of torch's, but is {scheduler!r} instead.")
    if _position(scheduler) > 0:
        raise ValueError(
            f"`scheduler` must be new, but {type(scheduler).__name__} is at {_position(scheduler)} instead. Build it "
            "again, and set the position with import_torch_state(group, scheduler.state_dict())."
        )
    planned = None
    if param_names is None and end is None:
        planned = translate(_kind(scheduler), _attributes(scheduler), scheduler.optimizer.param_groups)
    if planned is None:
        return _run_beside(scheduler, by_epoch=by_epoch, param_names=param_names, end=end)
    return [_build(scheduler.optimizer, each, by_epoch=by_epoch, monitor=monitor) for each in planned]


def _position(scheduler: LRScheduler) -> int:
    parts = getattr(scheduler, "_schedulers", None)
    if type(scheduler) is peer.ChainedScheduler and parts:
        return max(map(_position, parts))
    return getattr(scheduler, "last_epoch", 0)


def _kind(scheduler: LRScheduler) -> str:
    """Return the name of the class if it is one of torch's, and not derived from one."""
    kind = type(scheduler)
    return kind.__name__ if getattr(peer, kind.__name__, None) is kind else ""


def _attributes(scheduler: LRScheduler) -> dict[str, Any]:
    """Return what a state dict would hold, with functions, and the classes of parts."""
    found = dict(vars(scheduler))
    if "_schedulers" in found:
        found["_schedulers"] = [(_kind(each), _attributes(each)) for each in found["_schedulers"]]
    return found


def _build(optimizer: Optimizer, planned: Planned, *, by_epoch: bool, monitor: str) -> ParamScheduler:
    kind: Callable[..., ParamScheduler] = getattr(schedule, planned.class_name)
    arguments = dict(planned.arguments)
    if planned.family == "ReduceOnPlateau":
        return kind(optimizer, monitor=monitor, **arguments)  # it has no other clock
    return kind(optimizer, by_epoch=by_epoch, **arguments)


def _run_beside(
    scheduler: LRScheduler, *, by_epoch: bool, param_names: Sequence[str] | None, end: int | None
) -> list[ParamScheduler]:
    needed = [
        each.name
        for each in inspect.signature(scheduler.step).parameters.values()
        if each.default is each.empty
        and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    ]
    if needed or isinstance(scheduler, peer.ReduceLROnPlateau):
        raise TypeError(
            f"`scheduler` must be a function of the position, but {type(scheduler).__name__}.step needs "
            f"`{(needed or ['metrics'])[0]}`, which nobody knows in advance. Use ReduceOnPlateauLR and group.observe."
        )
    names = tuple(param_names) if param_names is not None else ("lr", *(("momentum",) if _cycles(scheduler) else ()))
    run = TorchRun(scheduler, names)
    last = _last_tick(scheduler) if end is None else end - 1
    end = FOREVER if last is None else last + 1
    return [TorchParamScheduler(scheduler.optimizer, name, run, by_epoch=by_epoch, end=end) for name in names]


def _last_tick(scheduler: LRScheduler) -> int | None:
    """Return the tick beyond which torch's own refuse to be stepped; None if there is none."""
    if isinstance(scheduler, peer.OneCycleLR):
        return scheduler.total_steps
    parts: Sequence[LRScheduler] = getattr(scheduler, "_schedulers", ())
    if isinstance(scheduler, peer.SequentialLR):
        last = _last_tick(parts[-1])
        return None if last is None else last + (scheduler._milestones or [0])[-1]  # noqa: SLF001 - it has no other name
    return min((last for last in map(_last_tick, parts) if last is not None), default=None)


def _cycles(scheduler: Any) -> bool:  # noqa: ANN401 - whatever is among the parts
    """Return whether the scheduler or one of its parts moves the momentum, as torch's CyclicLR and OneCycleLR do."""
    return bool(getattr(scheduler, "cycle_momentum", False)) or any(map(_cycles, getattr(scheduler, "_schedulers", ())))
