"""Make the changes that a user asks of running schedules: amendments of their values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resumable_sched.schedule.amendments import Amendment
from resumable_sched.schedule.arguments import check_number, whole
from resumable_sched.schedule.selection import chosen, group_choice

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from resumable_sched.schedule.ledger import Ledger
    from resumable_sched.schedule.selection import GroupChoice
    from resumable_sched.schedule.timeline import Counters, ParameterKey

__all__ = ["amendments_for", "extended", "the_parameter"]


def the_parameter(keys: Iterable[ParameterKey], name: str, optimizer: str | None) -> ParameterKey:
    """Find the scheduled hyper-parameter *name*, of *optimizer* where several have one.

    Raises:
        KeyError: There is none.
        ValueError: There are several, and *optimizer* is None; or *optimizer* has no schedules.
    """
    known = list(keys)
    names = list(dict.fromkeys(key[0] for key in known))
    if optimizer is not None and optimizer not in names:
        raise ValueError(f"`optimizer` must be one that is scheduled ({names}), but is {optimizer!r} instead.")
    found = [key for key in known if key[1] == name and optimizer in (None, key[0])]
    if not found:
        shown = ", ".join(f"{key[1]!r} of {key[0]!r}" for key in known) or "nothing"
        raise KeyError(f"`name` must be a scheduled hyper-parameter ({shown}), but is {name!r} instead.")
    if len(found) > 1:
        shown = ", ".join(repr(key[0]) for key in found)
        raise ValueError(f"`optimizer` must be given where several schedule {name!r} ({shown}), but is None instead.")
    return found[0]


def extended(asked: Mapping[str, int | None], counters: Counters) -> dict[str, int]:
    """Return which lengths of training change, by name.

    Args:
        asked: By name, in the order of epochs, iterations, samples and tokens; None where one stays.
        counters: How far training has come.

    Raises:
        ValueError: None is given, one is not positive, or training has gone further already.
    """
    given = {name: whole(name, length, minimum=1) for name, length in asked.items() if length is not None}
    if not given:
        raise ValueError(f"One of {', '.join(f'`{name}`' for name in asked)} must be given.")
    done = dict(zip(asked, (counters.epoch, counters.iteration, counters.samples, counters.tokens), strict=True))
    for name, length in given.items():
        if length < done[name]:
            raise ValueError(f"`{name}` must be at least {done[name]}, which is done, but is {length} instead.")
    return given


def amendments_for(
    ledger: Ledger,
    iteration: int,
    *,
    scale: float | None,
    value: float | None,
    reset: bool,
    groups: GroupChoice,
    reason: str,
) -> list[Amendment]:
    """Return what an amendment is for each of the param groups that it is of.

    Raises:
        TypeError: A number is none.
        ValueError: Not exactly one of *scale*, *value* and *reset* is given, a number is not finite, or there is no
            such param group.
    """
    given = [name for name, it in (("scale", scale is not None), ("value", value is not None), ("reset", reset)) if it]
    if len(given) != 1:
        shown = f"{' and '.join(f'`{name}`' for name in given)} are" if given else "none of them is"
        raise ValueError(f"One of `scale`, `value` and `reset` must be given, but {shown}.")
    number = scale if value is None else value
    if number is not None:
        check_number(given[0], number)
    if not isinstance(reason, str):
        raise TypeError(f"`reason` must be a string, but is {reason!r} instead.")
    acts_on = chosen("groups", group_choice("groups", groups, restored=False), ledger.optimizer.param_groups)
    places = [group for group in range(len(ledger.composition.base)) if acts_on is None or acts_on[group]]
    if scale is not None:
        return [Amendment(iteration, group, "scale", scale=float(scale), reason=reason) for group in places]
    if value is not None:
        return [Amendment(iteration, group, "value", scale=0.0, offset=float(value), reason=reason) for group in places]
    return [Amendment(iteration, group, "reset", reason=reason) for group in places]
