"""Save and restore a schedule that is stepped by itself; it carries the state of its hyper-parameter too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from resumable_sched.errors import StateFormatError
from resumable_sched.schedule import comparison
from resumable_sched.schedule.divergence import first_difference_alone
from resumable_sched.schedule.ledger import saved_base_holds
from resumable_sched.schedule.state import (
    VERSION,
    LoneState,
    amendment_states,
    chain_state,
    decode_floats,
    encode_floats,
    path,
    plateau_state,
    restore_amendments,
    restore_fold,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resumable_sched.schedule.amendments import Amendment
    from resumable_sched.schedule.layer import Layer
    from resumable_sched.schedule.ledger import Ledger

__all__ = ["Plan", "compare", "restore", "save"]


class Plan(NamedTuple):
    """Say what a load will do.

    Attributes:
        lines: What differs between the saved schedule and this one.
        base: The initial value of each param group from then on.
        amendments: What was changed beside the schedules.
        differs: Whether the configuration differs, and not only the base.
    """

    lines: list[str]
    base: list[float]
    amendments: list[Amendment]
    differs: bool


def save(ledger: Ledger, layer: Layer, config: dict[str, Any]) -> LoneState:
    """Return the state of the schedule of *layer*."""
    composition, clock = ledger.composition, layer.clock
    return LoneState(
        version=VERSION,
        kind="ParamScheduler",
        tick=clock.tick,
        opened=None if clock.opened is None else clock.opened[0],
        plateau=plateau_state(clock),
        base=encode_floats(composition.base),
        values=encode_floats(composition.values()),
        config=config,
        chain=chain_state(composition),
        amendments=amendment_states(composition.amendments),
    )


def compare(
    ledger: Ledger,
    layer: Layer,
    saved: LoneState,
    config: Mapping[str, Any],
    *,
    name: str,
    policy: comparison.OnMismatch,
) -> Plan:
    """Compare *saved* with the schedule of *layer*; changes nothing.

    Raises:
        StateFormatError: *saved* is inconsistent in itself.
        ScheduleMismatchError: Something differs that *policy* does not allow.
    """
    base, values = decode_floats(saved.base), decode_floats(saved.values)
    ours = ledger.composition.base
    when = f"tick {saved.tick} was saved"
    lines = comparison.differing_fields(name, saved.config, config, when)
    differs = bool(lines)
    if len(values) != len(base) or len(path(saved)) != len(base):
        raise StateFormatError(f"`state` of {name} must have as many `values` as `base`, but is inconsistent.")
    if len(base) != len(ours):
        lines.append(f"{name}: `{ledger.name}` had {len(base)} param groups when {when}, but has {len(ours)} now.")
        raise comparison.mismatch(lines, "The number of param groups must be the same.")
    holds = saved_base_holds(ledger, base, values)
    lines += [
        f"{name}: the initial `{ledger.name}` of param group {index} was {base[index]!r} when {when}, but is "
        f"{new!r} now."
        for index, new in enumerate(ours)
        if not holds[index]
    ]
    if lines and policy == "error":
        schedule: Any = layer.schedule
        first = first_difference_alone(saved, schedule, ledger.optimizer, ours)
        raise comparison.mismatch(lines, "\n".join(filter(None, [first, comparison.REMEDY])))
    fold = layer.clock.fold
    if (saved.plateau is None) != (fold is None) or (
        saved.plateau is not None and len(saved.plateau.scales) != len(base)
    ):
        raise comparison.mismatch(
            lines, f"The metrics in the state do not fit {name}; build a schedule of the saved class."
        )
    if policy == "adopt":
        base = [old if same else new for old, new, same in zip(base, ours, holds, strict=True)]
    return Plan(lines, base, restore_amendments(saved.amendments, len(base)), differs)


def restore(ledger: Ledger, layer: Layer, saved: LoneState, plan: Plan) -> None:
    """Set clock and values as *saved* says, and write them."""
    clock, composition = layer.clock, ledger.composition
    clock.tick, clock.guessed = saved.tick, False
    clock.fold = None if saved.plateau is None else restore_fold(saved.plateau)
    clock.opened = None if saved.opened is None else (saved.opened, 0, 0)
    if clock.tick < layer.schedule.begin:
        clock.opened = None
    elif clock.opened is None:  # another configuration was adopted, and its window is open already
        clock.opened = ledger.next_opening()
    else:
        ledger.note_opening(clock.opened[0])
    composition.rebase(plan.base)
    composition.amendments = plan.amendments
    composition.settle(path(saved))
    ledger.adopt_groups()
