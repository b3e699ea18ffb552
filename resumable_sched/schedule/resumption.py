"""Decide what loading the state of a group will do, before anything is changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from resumable_sched.errors import ScheduleMismatchError, StateFormatError
from resumable_sched.schedule import comparison
from resumable_sched.schedule.clock import MetricFold
from resumable_sched.schedule.ledger import saved_base
from resumable_sched.schedule.scheduler import ParamScheduler
from resumable_sched.schedule.state import decode_floats, restore_fold
from resumable_sched.schedule.targets import resolve
from resumable_sched.schedule.timeline import opening

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from resumable_sched.schedule.composition import Composition, Layer, Unit
    from resumable_sched.schedule.ledger import Ledger
    from resumable_sched.schedule.state import GroupState, ParameterState, ScheduleState
    from resumable_sched.schedule.targets import HasParamGroups
    from resumable_sched.schedule.timeline import ParameterKey, Timeline

__all__ = ["Parameter", "Plan", "plan", "saved_opening", "set_clock"]


class Parameter(NamedTuple):
    """Give the values of one hyper-parameter from the load on."""

    base: list[float]
    values: list[float]


@dataclass
class Plan:
    """Say what a load will do.

    Attributes:
        saved: The state.
        replacements: The schedules to drive from now on; None to drive the same ones.
        configurations: Schedules whose configuration becomes the saved one.
        memories: For each schedule, what was saved of it; None where it is another one.
        parameters: The values of what was scheduled then and is scheduled now.
    """

    saved: GroupState
    replacements: list[tuple[str, ParamScheduler]] | None
    configurations: list[tuple[ParamScheduler, dict[str, Any]]]
    memories: list[ScheduleState | None]
    parameters: dict[ParameterKey, Parameter]


def saved_opening(composition: Composition, layer: Layer) -> int | None:
    """Give the iteration at which the window of *layer* opened, where it cannot be computed from the configuration."""
    opened = layer.clock.opened
    if opened is None or opening(composition, layer, iteration=-1)[0] != -1:
        return None
    return opened[0]


def set_clock(timeline: Timeline, composition: Composition, layer: Layer, memory: ScheduleState | None) -> None:
    """Set the clock of *layer* to the position of *timeline*, with what was saved of it."""
    clock, counters = layer.clock, timeline.counters
    clock.tick = counters.ticks(layer.schedule.clock_unit)
    clock.guessed = False
    clock.opened = None
    if clock.tick >= layer.schedule.begin:
        known = None if memory is None else memory.opened
        clock.opened = opening(composition, layer, counters.iteration if known is None else known)
    if memory is not None and memory.plateau is not None:
        clock.fold = restore_fold(memory.plateau)
    elif clock.fold is not None:
        clock.fold = MetricFold(scales=[1.0] * len(composition.base))


def plan(
    saved: GroupState,
    optimizers: Mapping[str, HasParamGroups],
    schedulers: Sequence[tuple[str, ParamScheduler]],
    ledgers: Mapping[ParameterKey, Ledger],
    *,
    training_length: Callable[[Unit], int | None],
    policy: comparison.OnMismatch,
) -> Plan:
    """Compare *saved* with what is driven now, and say what to do; changes nothing.

    Raises:
        StateFormatError: *saved* is inconsistent in itself.
        ScheduleMismatchError: Something differs that *policy* does not allow.
    """
    when = f"iteration {saved.position.iteration} was saved"
    _check_consistency(saved)
    same, lines = _compare_schedules(saved, schedulers, when)
    structure = all(same) and len(saved.schedulers) == len(schedulers)
    changed = bool(lines)
    parameters: dict[ParameterKey, Parameter] = {}
    for each in saved.parameters:
        ledger = ledgers.get((each.optimizer, each.name))
        if ledger is not None:
            parameters[each.optimizer, each.name] = _compare_base(each, ledger, when, policy, lines)
    if lines and policy == "error":
        raise comparison.refuse(lines)
    replacements: list[tuple[str, ParamScheduler]] | None = None
    configurations: list[tuple[ParamScheduler, dict[str, Any]]] = []
    memories: list[ScheduleState | None] = list(saved.schedulers)
    if policy == "keep" and changed:
        kept = [_rebuild(each, optimizers, training_length, lines) for each in saved.schedulers]
        if structure:
            configurations = [
                (scheduler, each.config) for (_, scheduler), each in zip(schedulers, saved.schedulers, strict=True)
            ]
        else:
            replacements = kept
            parameters = {(each.optimizer, each.name): _kept(each, optimizers, lines) for each in saved.parameters}
    elif not structure:
        padded = [*saved.schedulers, *[None] * len(schedulers)]
        memories = [padded[index] if fits else None for index, fits in enumerate(same)]
    return Plan(saved, replacements, configurations, memories, parameters)


def _identity(optimizer: str, config: Mapping[str, Any]) -> tuple[str, object, object]:
    return optimizer, config.get("type"), config.get("param_name")


def _compare_schedules(
    saved: GroupState, schedulers: Sequence[tuple[str, ParamScheduler]], when: str
) -> tuple[list[bool], list[str]]:
    """Say for each schedule whether the saved one at its place is of the same class, and list all differences."""
    same, lines = [], []
    types = [type(scheduler).__name__ for _, scheduler in schedulers]
    for index, (name, scheduler) in enumerate(schedulers):
        config = scheduler.configuration()
        before = saved.schedulers[index] if index < len(saved.schedulers) else None
        same.append(before is not None and _identity(before.optimizer, before.config) == _identity(name, config))
        if before is not None and same[-1]:
            label = types[index] if types.count(types[index]) == 1 else f"schedulers[{index}] ({types[index]})"
            lines += comparison.differing_fields(label, before.config, config, when)
            if (before.plateau is None) != (scheduler.layer.clock.fold is None):
                raise StateFormatError(f"`plateau` of schedulers[{index}] in the state does not fit {types[index]}.")
        else:
            lines.append(f"schedulers[{index}] was {_describe(before)} when {when}, but is {_words(name, config)} now.")
    lines += [
        f"schedulers[{index}] was {_describe(saved.schedulers[index])} when {when}, but is absent now."
        for index in range(len(schedulers), len(saved.schedulers))
    ]
    return same, lines


def _describe(schedule: ScheduleState | None) -> str:
    return "absent" if schedule is None else _words(schedule.optimizer, schedule.config)


def _words(optimizer: str, config: Mapping[str, Any]) -> str:
    return f"{config.get('type')} (`{config.get('param_name')}` of `{optimizer}`)"


def _compare_base(
    saved: ParameterState, ledger: Ledger, when: str, policy: comparison.OnMismatch, lines: list[str]
) -> Parameter:
    """Add the differences of the initial values to *lines*, and give the values to go on with."""
    base, values = decode_floats(saved.base), decode_floats(saved.values)
    ours = ledger.composition.base
    if len(base) != len(ours):
        lines.append(
            f"{saved.optimizer}: `{saved.name}` had {len(base)} param groups when {when}, but has {len(ours)} now."
        )
        raise comparison.refuse(lines, "The number of param groups must be the same.")
    holds = saved_base(ledger, base, values)
    lines += [
        f"{saved.optimizer}: the initial `{saved.name}` of param group {index} was {base[index]!r} when {when}, but is "
        f"{new!r} now."
        for index, new in enumerate(ours)
        if not holds[index]
    ]
    if policy == "adopt":
        base = [old if fits else new for old, new, fits in zip(base, ours, holds, strict=True)]
    return Parameter(base, values)


def _rebuild(
    saved: ScheduleState,
    optimizers: Mapping[str, HasParamGroups],
    training_length: Callable[[Unit], int | None],
    lines: list[str],
) -> tuple[str, ParamScheduler]:
    """Build the saved schedule, without letting it act yet."""
    if saved.optimizer not in optimizers:
        raise comparison.refuse(lines, f"It cannot be kept: there is no optimizer {saved.optimizer!r} any more.")
    try:
        scheduler = ParamScheduler.from_configuration(optimizers[saved.optimizer], saved.config, lines)
        scheduler.check_training_length(training_length(scheduler.clock_unit))
        resolve(optimizers[saved.optimizer], scheduler.param_name)
    except (TypeError, KeyError, ValueError) as error:
        if isinstance(error, ScheduleMismatchError):
            raise
        raise comparison.refuse(lines, f"It cannot be kept: {error}") from error
    return saved.optimizer, scheduler


def _kept(saved: ParameterState, optimizers: Mapping[str, HasParamGroups], lines: list[str]) -> Parameter:
    count = len(optimizers[saved.optimizer].param_groups)
    if count != len(saved.base):
        raise comparison.refuse(lines, "The number of param groups must be the same.")
    return Parameter(decode_floats(saved.base), decode_floats(saved.values))


def _check_consistency(saved: GroupState) -> None:
    """Refuse a state whose parts contradict each other."""
    counts: dict[ParameterKey, int] = {}
    for index, each in enumerate(saved.parameters):
        count = len(each.base)
        if len(each.values) != count:
            raise StateFormatError(
                f"`parameters[{index}]` of the state must have a value for each of {count} param groups."
            )
        counts[each.optimizer, each.name] = count
    if len(counts) != len(saved.parameters):
        raise StateFormatError("`parameters` of the state must name each hyper-parameter once.")
    for index, schedule in enumerate(saved.schedulers):
        own = counts.get((schedule.optimizer, str(schedule.config.get("param_name"))))
        if own is None:
            raise StateFormatError(f"`schedulers[{index}]` of the state must act on one of its `parameters`.")
        if schedule.plateau is not None and len(schedule.plateau.scales) != own:
            raise StateFormatError(
                f"`schedulers[{index}].plateau.scales` of the state must have {own} values, but has "
                f"{len(schedule.plateau.scales)} instead."
            )
