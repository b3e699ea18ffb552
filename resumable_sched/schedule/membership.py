"""Find which optimizer each schedule of a group acts on, and refuse lists that do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch.optim.lr_scheduler import LRScheduler

from resumable_sched.schedule.ledger import ledgers_of
from resumable_sched.schedule.scheduler import ParamScheduler

if TYPE_CHECKING:
    from resumable_sched.schedule.targets import HasParamGroups

__all__ = ["assigned", "check_arguments", "check_new"]


def check_arguments(optimizers: Mapping[str, Any], cadence: object, agree: object) -> None:
    """Check what a group is given beside its schedules.

    Raises:
        TypeError: An argument is of a wrong type.
    """
    for name, each in optimizers.items():
        if not isinstance(getattr(each, "param_groups", None), list):
            raise TypeError(f"`optimizers` must hold optimizers, but {name!r} is {each!r} instead.")
    if cadence is not None and not isinstance(cadence, Mapping):
        raise TypeError(f"`cadence` must be a dict such as {{'generator': 5}}, but is {cadence!r} instead.")
    if agree is not None and not callable(agree):
        raise TypeError(f"`agree` must be a function of the metrics, but is {agree!r} instead.")


def assigned(
    optimizers: Mapping[str, HasParamGroups],
    schedulers: Sequence[ParamScheduler] | Mapping[str, Sequence[ParamScheduler]],
) -> list[tuple[str, ParamScheduler]]:
    """Return the schedules in list order, each with the name of its optimizer.

    Raises:
        TypeError: *schedulers* holds something else.
        ValueError: A schedule is missing in the list, is there twice, or belongs to another optimizer.
    """
    named = {id(optimizer): name for name, optimizer in optimizers.items()}
    if len(named) != len(optimizers):
        raise ValueError(f"`optimizers` must hold each optimizer once, but the names are {list(optimizers)}.")
    found: list[tuple[str, ParamScheduler]] = []
    seen: set[int] = set()
    lists = list(schedulers.items()) if isinstance(schedulers, Mapping) else [(None, schedulers)]
    for expected, members in lists:
        if not isinstance(members, Sequence):
            raise TypeError(f"`schedulers` must be a list of schedules, or a dict of such, but is {members!r} instead.")
        for scheduler in members:
            if not isinstance(scheduler, ParamScheduler):
                hint = (
                    " Turn it into schedules with resumable_sched.integrations.torch_schedulers.from_torch."
                    if isinstance(scheduler, LRScheduler)
                    else ""
                )
                raise TypeError(f"`schedulers` must hold schedules, but holds {scheduler!r} instead.{hint}")
            name = named.get(id(scheduler.optimizer))
            if name is None or expected not in (None, name):
                owner = "an optimizer of the group" if expected is None else f"the optimizer {expected!r}"
                raise ValueError(f"`schedulers` must act on {owner}, but {scheduler!r} acts on another one.")
            layer = id(scheduler.layer)
            if layer in seen:
                raise ValueError(f"`schedulers` must hold each schedule once, but {scheduler!r} is there twice.")
            seen.add(layer)
            found.append((name, scheduler))
    _check_complete(optimizers, seen)
    return found


def _check_complete(optimizers: Mapping[str, HasParamGroups], known: set[int]) -> None:
    """Refuse a list that lacks a schedule that acts on one of the optimizers; *known* are the layers of the others."""
    for optimizer in optimizers.values():
        for ledger in ledgers_of(optimizer).values():
            for layer in ledger.composition.layers:
                if id(layer) not in known:
                    raise ValueError(
                        f"`schedulers` must hold every schedule of its optimizers, but {layer.schedule!r} is missing. "
                        "Build a new optimizer where an old schedule shall not act any more."
                    )


def check_new(schedulers: Sequence[tuple[str, ParamScheduler]]) -> None:
    """Refuse a schedule that has been stepped.

    Raises:
        ValueError: There is one.
    """
    for _, scheduler in schedulers:
        if scheduler.layer.clock.tick != 0:
            raise ValueError(
                f"`schedulers` must be new, but {type(scheduler).__name__} is at tick "
                f"{scheduler.layer.clock.tick} instead. Build it again, and set the position with load_state_dict."
            )
