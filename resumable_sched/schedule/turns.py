"""Remember what has moved values beside the position, a metric or another length of training: the past can be drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from resumable_sched.schedule.lengths import Lengths
from resumable_sched.schedule.state import LengthsState, TurnState, decode_floats, encode_floats, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resumable_sched.schedule.scheduler import ParamScheduler

__all__ = ["Turn", "restore_turns", "standing", "turn_states", "with_turn"]


class Turn(NamedTuple):
    """Say what held until an iteration.

    Attributes:
        until: Completed updates of the group when it changed.
        lengths: How long training was to be.
        scales: For each schedule in list order, what a plateau had reached for each param group; None for the others.
    """

    until: int
    lengths: Lengths
    scales: list[list[float] | None]


def standing(iteration: int, lengths: Lengths, schedulers: Sequence[ParamScheduler]) -> Turn:
    """Return what holds now."""
    folds = [scheduler.layer.clock.fold for scheduler in schedulers]
    return Turn(iteration, lengths, [None if fold is None else list(fold.scales) for fold in folds])


def with_turn(turns: Sequence[Turn], before: Turn, now: Turn) -> list[Turn]:
    """Return *turns* and *before*, if it is not what holds now; what changed twice at one place has changed once."""
    changed = before[1:] != now[1:]
    known = bool(turns) and turns[-1].until >= before.until
    return [*turns, before] if changed and before.until and not known else list(turns)


def turn_states(turns: Sequence[Turn]) -> list[TurnState]:
    """Return what is saved of *turns*."""
    return [
        TurnState(
            until=each.until,
            lengths=LengthsState(**each.lengths._asdict()),
            scales=[None if scales is None else encode_floats(scales) for scales in each.scales],
        )
        for each in turns
    ]


def restore_turns(states: Sequence[TurnState]) -> list[Turn]:
    """Undo :func:`turn_states`."""
    return [
        Turn(
            each.until,
            Lengths(**plain(each.lengths)),
            [None if scales is None else decode_floats(scales) for scales in each.scales],
        )
        for each in states
    ]
