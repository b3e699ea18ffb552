"""Decide what loading the state of a group will do, before anything is changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from resumable_sched.errors import ScheduleMismatchError, StateFormatError
from resumable_sched.schedule import comparison
from resumable_sched.schedule.clock import MetricFold
from resumable_sched.schedule.configuration import schedule_of
from resumable_sched.schedule.ledger import saved_base_holds
from resumable_sched.schedule.lengths import Lengths
from resumable_sched.schedule.selection import group_names
from resumable_sched.schedule.state import (
    MemberState,
    ParameterState,
    Position,
    amendment_states,
    chain_state,
    decode_floats,
    encode_floats,
    path,
    plain,
    plateau_state,
    restore_amendments,
    restore_fold,
)
from resumable_sched.schedule.targets import resolve
from resumable_sched.schedule.timeline import Counters, opening

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from resumable_sched.schedule.amendments import Amendment
    from resumable_sched.schedule.composition import Composition
    from resumable_sched.schedule.layer import Layer
    from resumable_sched.schedule.ledger import Ledger
    from resumable_sched.schedule.scheduler import ParamScheduler
    from resumable_sched.schedule.state import GroupState
    from resumable_sched.schedule.targets import HasParamGroups
    from resumable_sched.schedule.timeline import ParameterKey, Timeline

__all__ = [
    "Parameter",
    "Plan",
    "changed_lengths",
    "counters_of",
    "lengths_after",
    "parameter_state",
    "place_clock",
    "plan",
    "position_of",
    "restore_metrics",
    "saved_opening",
    "schedule_state",
]


_OTHER_GROUPS: Final = (
    "The number of param groups must be the same. Add those that came later to the optimizer before the state is "
    "loaded."
)


class Parameter(NamedTuple):
    """Return the values of one hyper-parameter from the load on.

    Attributes:
        base: What the user gave, for each param group.
        path: From where a chain goes on.
        amendments: What was changed beside the schedules.
        shown: What the optimizer has shown.
    """

    base: list[float]
    path: list[float]
    amendments: list[Amendment]
    shown: list[float]


@dataclass
class Plan:
    """Say what a load will do.

    Attributes:
        saved: The state.
        replacements: The schedules to drive from now on; None to drive the same ones.
        configurations: Schedules whose configuration becomes the saved one.
        memories: For each schedule, what was saved of it; None where it is another one.
        parameters: The values of what was scheduled then and is scheduled now.
        cadence: The cadence to go on with.
        adopted: Whether something is another than it was, and stays so.
    """

    saved: GroupState
    replacements: list[tuple[str, ParamScheduler]] | None
    configurations: list[tuple[ParamScheduler, dict[str, Any]]]
    memories: list[MemberState | None]
    parameters: dict[ParameterKey, Parameter]
    cadence: Mapping[str, int]
    adopted: bool


def position_of(counters: Counters) -> Position:
    """Return what is saved of a position."""
    return Position(**counters.as_dict())


def counters_of(position: Position) -> Counters:
    """Undo :func:`position_of`."""
    return Counters(
        iteration=position.iteration,
        epoch=position.epoch,
        iteration_in_epoch=position.iteration_in_epoch,
        samples=position.samples,
        tokens=position.tokens,
        updates=dict(position.updates),
    )


def parameter_state(key: ParameterKey, composition: Composition, optimizer: HasParamGroups) -> ParameterState:
    """Return what is saved of a hyper-parameter."""
    names = group_names(optimizer.param_groups)
    return ParameterState(
        optimizer=key[0],
        name=key[1],
        base=encode_floats(composition.base),
        values=encode_floats(composition.values()),
        chain=chain_state(composition),
        amendments=amendment_states(composition.amendments),
        groups=names if any(each is not None for each in names) else None,
    )


def schedule_state(optimizer: str, scheduler: ParamScheduler, composition: Composition) -> MemberState:
    """Return what is saved of a schedule."""
    return MemberState(
        optimizer=optimizer,
        config=scheduler.known_configuration(),
        opened=saved_opening(composition, scheduler.layer),
        plateau=plateau_state(scheduler.layer.clock),
    )


def saved_opening(composition: Composition, layer: Layer) -> int | None:
    """Return the iteration at which the window of *layer* opened, where the configuration does not tell."""
    opened = layer.clock.opened
    if opened is None or opening(composition, layer, iteration=-1)[0] != -1:
        return None
    return opened[0]


def place_clock(
    timeline: Timeline, key: ParameterKey, composition: Composition, layer: Layer, opened: int | None = None
) -> None:
    """Set the clock of *layer* to the position of *timeline*; its window opened at iteration *opened*, if it has."""
    clock, counters = layer.clock, timeline.counters
    clock.tick = counters.ticks(layer.schedule.clock_unit, key[0])
    clock.guessed = False
    clock.opened = None
    if clock.tick >= layer.schedule.begin:
        now = counters.ticks("iteration", key[0])
        clock.opened = opening(composition, layer, now if opened is None else opened)


def restore_metrics(composition: Composition, layer: Layer, memory: MemberState | None) -> None:
    """Set what a plateau schedule has seen to what was saved of it, or to nothing."""
    if memory is not None and memory.plateau is not None:
        layer.clock.fold = restore_fold(memory.plateau)
    elif layer.clock.fold is not None:
        layer.clock.fold = MetricFold(scales=[1.0] * len(composition.base))


def plan(
    saved: GroupState,
    optimizers: Mapping[str, HasParamGroups],
    schedulers: Sequence[tuple[str, ParamScheduler]],
    ledgers: Mapping[ParameterKey, Ledger],
    *,
    cadence: Mapping[str, int],
    training_length: Callable[[ParamScheduler, str], int | None],
    policy: comparison.OnMismatch,
    first_difference: Callable[[GroupState], str],
) -> Plan:
    """Compare *saved* with what is driven now, and say what to do; changes nothing.

    Args:
        saved: The state.
        optimizers: The optimizers by name.
        schedulers: The schedules with the names of their optimizers.
        ledgers: Who writes.
        cadence: For an optimizer that is not updated in every iteration, every how many it is.
        training_length: Says how long training is on the clock of a schedule.
        policy: What to do about differences.
        first_difference: Says in a sentence from where on the saved schedules give other values.

    Raises:
        StateFormatError: *saved* is inconsistent in itself.
        ScheduleMismatchError: Something differs that *policy* does not allow.
    """
    when = f"iteration {saved.position.iteration} was saved"
    _check_consistency(saved)
    same, lines = _compare_schedules(saved, schedulers, when)
    structure = all(same) and len(saved.schedulers) == len(schedulers)
    if saved.cadence is not None and _telling(saved.cadence) != _telling(cadence):
        lines.append(f"`cadence` was {saved.cadence} when {when}, but is {dict(cadence)} now.")
    changed = bool(lines)
    parameters: dict[ParameterKey, Parameter] = {}
    for each in saved.parameters:
        ledger = ledgers.get((each.optimizer, each.name))
        if ledger is not None:
            parameters[each.optimizer, each.name] = _compare_base(each, ledger, when, policy, lines)
    if lines and policy == "error":
        raise comparison.mismatch(lines, "\n".join(filter(None, [first_difference(saved), comparison.REMEDY])))
    replacements: list[tuple[str, ParamScheduler]] | None = None
    configurations: list[tuple[ParamScheduler, dict[str, Any]]] = []
    memories: list[MemberState | None] = list(saved.schedulers)
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
    if policy == "keep" and saved.cadence is not None:
        cadence = {name: every for name, every in saved.cadence.items() if name in optimizers}
    adopted = policy == "adopt" and bool(lines)
    return Plan(saved, replacements, configurations, memories, parameters, cadence, adopted)


def lengths_after(saved: GroupState, built: Lengths) -> Lengths:
    """Return how long training is after a load: an extension is state, unless the program says something new there.

    Where epochs were of another length before, training ends when as many epochs are done as it was to have.

    Args:
        saved: The state.
        built: What the program has said.
    """
    extension, lengths = saved.extension, built
    if extension is not None:
        said = built.as_dict()
        before, after = (Lengths(**plain(each)).as_dict() for each in (extension.built, extension.now))
        kept = {name for name in said if after[name] != before[name] and before[name] in (None, said[name])}
        lengths = built._replace(**{name: after[name] for name in kept})  # type: ignore[arg-type]  # no `surplus`
    if saved.lengths is None or saved.lengths.epoch_length is None:
        return lengths
    if saved.lengths.epoch_length == lengths.epoch_length:
        return lengths._replace(surplus=saved.lengths.surplus)
    at = saved.position
    return lengths.from_here(at.iteration, at.epoch, at.iteration_in_epoch)


def changed_lengths(saved: GroupState, now: Lengths) -> str:
    """Say which lengths of training are not the saved ones; empty if all are, or nobody knows."""
    if saved.lengths is None:
        return ""
    before = Lengths(**plain(saved.lengths)).as_dict()
    changes = [
        f"`{name}` was {before[name]} and is {length}"
        for name, length in now.as_dict().items()
        if length is not None and before[name] != length
    ]
    return f": {', '.join(changes)}" if changes else ""


def _telling(cadence: Mapping[str, int]) -> dict[str, int]:
    """Return what differs from an update in every iteration."""
    return {name: every for name, every in cadence.items() if every != 1}


def _identity(optimizer: str, config: Mapping[str, Any]) -> tuple[str, object, object]:
    return optimizer, config.get("type"), config.get("param_name")


def _compare_schedules(
    saved: GroupState, schedulers: Sequence[tuple[str, ParamScheduler]], when: str
) -> tuple[list[bool], list[str]]:
    """Say for each schedule whether the saved one at its place is of the same class, and list all differences."""
    same, lines = [], []
    types = [type(scheduler) for _, scheduler in schedulers]
    for index, (name, scheduler) in enumerate(schedulers):
        config, kind = scheduler.known_configuration(), types[index].__name__
        before = saved.schedulers[index] if index < len(saved.schedulers) else None
        same.append(before is not None and _identity(before.optimizer, before.config) == _identity(name, config))
        if before is not None and same[-1]:
            label = kind if types.count(types[index]) == 1 else f"schedulers[{index}] ({kind})"
            lines += comparison.differing_fields(label, before.config, config, when)
            if (before.plateau is None) != (scheduler.layer.clock.fold is None):
                raise StateFormatError(f"`plateau` of schedulers[{index}] in the state does not fit {kind}.")
        else:
            lines.append(f"schedulers[{index}] was {_describe(before)} when {when}, but is {_words(name, config)} now.")
    lines += [
        f"schedulers[{index}] was {_describe(saved.schedulers[index])} when {when}, but is absent now."
        for index in range(len(schedulers), len(saved.schedulers))
    ]
    return same, lines


def _describe(schedule: MemberState | None) -> str:
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
        raise comparison.mismatch(lines, _OTHER_GROUPS)
    names = group_names(ledger.optimizer.param_groups) if saved.groups is not None else []
    if saved.groups is not None and any(names):
        lines += [
            f"{saved.optimizer}: param group {index} was {before!r} when {when}, but is {now!r} now."
            for index, (before, now) in enumerate(zip(saved.groups, names, strict=True))
            if before != now
        ]
    if base != ours:
        holds = saved_base_holds(ledger, base, values)
        lines += [
            f"{saved.optimizer}: the initial `{saved.name}` of param group {index} was {base[index]!r} when {when}, "
            f"but is {new!r} now."
            for index, new in enumerate(ours)
            if not holds[index]
        ]
        if policy == "adopt":
            base = [old if fits else new for old, new, fits in zip(base, ours, holds, strict=True)]
    return Parameter(base, path(saved), restore_amendments(saved.amendments, len(base)), values)


def _rebuild(
    saved: MemberState,
    optimizers: Mapping[str, HasParamGroups],
    training_length: Callable[[ParamScheduler, str], int | None],
    lines: list[str],
) -> tuple[str, ParamScheduler]:
    """Build the saved schedule, without letting it act yet."""
    if saved.optimizer not in optimizers:
        raise comparison.mismatch(lines, f"It cannot be kept: there is no optimizer {saved.optimizer!r} any more.")
    try:
        scheduler: ParamScheduler = schedule_of(optimizers[saved.optimizer], saved.config, lines)
        scheduler.check_training_length(training_length(scheduler, saved.optimizer))
        resolve(optimizers[saved.optimizer], scheduler.param_name)
    except (TypeError, KeyError, ValueError) as error:
        if isinstance(error, ScheduleMismatchError):
            raise
        raise comparison.mismatch(lines, f"It cannot be kept: {error}") from error
    return saved.optimizer, scheduler


def _kept(saved: ParameterState, optimizers: Mapping[str, HasParamGroups], lines: list[str]) -> Parameter:
    count = len(optimizers[saved.optimizer].param_groups)
    if count != len(saved.base):
        raise comparison.mismatch(lines, _OTHER_GROUPS)
    amendments = restore_amendments(saved.amendments, count)
    return Parameter(decode_floats(saved.base), path(saved), amendments, decode_floats(saved.values))


def _check_consistency(saved: GroupState) -> None:
    """Refuse a state whose parts contradict each other."""
    counts: dict[ParameterKey, int] = {}
    for index, each in enumerate(saved.parameters):
        count = len(each.base)
        if any(len(of_each) != count for of_each in (each.values, each.chain, each.groups) if of_each is not None):
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
