"""Define what is saved of schedules, and check what is loaded, field by field.

Everything is what plain ``json`` can hold. A float that JSON has no word for is stored as the string ``"inf"``,
``"-inf"`` or ``"nan"``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec

from resumable_sched.errors import StateFormatError
from resumable_sched.schedule.amendments import Amendment, Kind
from resumable_sched.schedule.clock import Clock, MetricFold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resumable_sched.schedule.composition import Composition

__all__ = [
    "VERSION",
    "AmendmentState",
    "ExtensionState",
    "GroupState",
    "LengthsState",
    "LoneState",
    "MemberState",
    "ParameterState",
    "PlateauState",
    "Position",
    "TurnState",
    "amendment_states",
    "chain_state",
    "decode_floats",
    "encode_float",
    "encode_floats",
    "parse",
    "path",
    "plain",
    "plateau_state",
    "restore_amendments",
    "restore_fold",
]

VERSION = 1
Count = Annotated[int, msgspec.Meta(ge=0)]
Number = float | Literal["inf", "-inf", "nan"]
StateT = TypeVar("StateT", bound=msgspec.Struct)


class _Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Refuse unknown fields."""


class PlateauState(_Strict):
    """What a plateau schedule has made of the metrics so far; see `MetricFold`."""

    scales: list[Number]
    best: Number | None
    bad: Count
    cooldown: Count
    seen: Count
    pending: bool


class AmendmentState(_Strict, omit_defaults=True):
    """One change beside the schedules; see `Amendment`."""

    iteration: Count
    group: Count
    kind: Kind
    scale: Number = 1.0
    offset: Number = 0.0
    expected: Number | None = None
    observed: Number | None = None
    reason: str = ""


class LoneState(_Strict, omit_defaults=True):
    """The state of one schedule that is stepped by itself, and of the hyper-parameter that it acts on.

    Attributes:
        version: Of the format.
        kind: What it is a state of.
        tick: Ticks of its clock since training began.
        opened: The number of its opening, counted over all on its hyper-parameter; None before it.
        plateau: What it has made of metrics; None where it takes none.
        base: What the user gave, for each param group.
        values: What the optimizer shows, for each param group.
        config: The configuration, to be compared.
        chain: What the schedules alone have made of the values, where that depends on the path and is amended.
        amendments: What was changed beside the schedules.
    """

    version: int
    kind: Literal["ParamScheduler"]
    tick: Count
    opened: Count | None
    plateau: PlateauState | None
    base: list[Number]
    values: list[Number]
    config: dict[str, Any]
    chain: list[Number] | None = None
    amendments: list[AmendmentState] = []


class Position(_Strict, omit_defaults=True):
    """How far training has come; see `Counters`."""

    iteration: Count
    epoch: Count
    iteration_in_epoch: Count
    samples: Count
    tokens: Count
    updates: dict[str, Count] = {}


class ParameterState(_Strict, omit_defaults=True):
    """One hyper-parameter of one optimizer.

    Attributes:
        optimizer: The name of the optimizer.
        name: The hyper-parameter.
        base: What the user gave, for each param group.
        values: What the optimizer shows, for each param group.
        chain: What the schedules alone have made of the values, where that depends on the path and is amended.
        amendments: What was changed beside the schedules.
        groups: The name of each param group, where one has a name.
    """

    optimizer: str
    name: str
    base: list[Number]
    values: list[Number]
    chain: list[Number] | None = None
    amendments: list[AmendmentState] = []
    groups: list[str | None] | None = None


class LengthsState(_Strict, omit_defaults=True):
    """How long training lasts; see `Lengths`."""

    epoch_length: int | None = None
    max_epochs: int | None = None
    max_iters: int | None = None
    max_samples: int | None = None
    max_tokens: int | None = None
    surplus: int = 0


class ExtensionState(_Strict):
    """How long training was to be when the program started it (`built`), and how long it was made since (`now`)."""

    built: LengthsState
    now: LengthsState


class TurnState(_Strict, omit_defaults=True):
    """What held until an iteration; see `Turn`."""

    until: Count
    lengths: LengthsState = msgspec.field(default_factory=LengthsState)
    scales: list[list[Number] | None] = []


class MemberState(_Strict):
    """One schedule of a group: its configuration, and what the position does not tell.

    Attributes:
        optimizer: The name of its optimizer.
        config: The configuration, to be compared.
        opened: The iteration at which its window opened, where the configuration does not tell it.
        plateau: What it has made of metrics; None where it takes none.
    """

    optimizer: str
    config: dict[str, Any]
    opened: Count | None
    plateau: PlateauState | None


class GroupState(_Strict, omit_defaults=True):
    """The state of a group.

    Attributes:
        version: Of the format.
        kind: What it is a state of.
        position: How far training has come.
        parameters: The hyper-parameters that are scheduled.
        schedulers: The schedules, in list order.
        extension: Where `SchedulerGroup.extend` was called, the lengths of training before and after.
        lengths: How long training lasts, as far as it is known; None in states that do not tell.
        cadence: For an optimizer that is not updated in every iteration, every how many it is; None as above.
        turns: What held before a metric or another length of training has moved values, for pictures of the past.
        known_from: The iteration from which on the past follows from all this: another schedule was adopted there.
    """

    version: int
    kind: Literal["SchedulerGroup"]
    position: Position
    parameters: list[ParameterState]
    schedulers: list[MemberState]
    extension: ExtensionState | None = None
    lengths: LengthsState | None = None
    cadence: dict[str, Annotated[int, msgspec.Meta(ge=1)]] | None = None
    turns: list[TurnState] = []
    known_from: Count = 0


def parse(state: Mapping[str, Any], kind: type[StateT], name: str) -> StateT:
    """Check *state* and give it as *kind*.

    Raises:
        StateFormatError: It is of another kind, of a newer version, or a field is missing, unknown or of another type.
    """
    if not isinstance(state, dict):
        raise StateFormatError(
            f"`state` must be a dict that {name}.state_dict() gave, but is a {type(state).__name__} instead."
        )
    if "version" not in state:
        raise StateFormatError(
            f"`version` of the state must be {VERSION}, but is missing, and there are these keys: "
            f"{', '.join(map(str, state)) or 'none'}. {name}.state_dict() did not give it."
        )
    if state["version"] != VERSION:
        raise StateFormatError(
            f"`version` of the state must be {VERSION}, but is {state['version']!r} instead. "
            "Another version of this package wrote it."
        )
    try:
        return msgspec.convert(state, type=kind, strict=True)
    except msgspec.ValidationError as error:
        raise StateFormatError(f"`state` of {name} is not what its state_dict() gives: {error}.") from error


def plain(state: msgspec.Struct) -> dict[str, Any]:
    """Return *state* as dicts, lists, strings and numbers."""
    built: dict[str, Any] = msgspec.to_builtins(state)
    return built


def encode_float(value: float) -> Number:
    """Return *value* as something that JSON can hold.

    >>> encode_float(0.1), encode_float(float("-inf"))
    (0.1, '-inf')
    """
    if math.isfinite(value):
        return float(value)
    if math.isnan(value):
        return "nan"
    return "inf" if value > 0 else "-inf"


def encode_floats(values: Sequence[float]) -> list[Number]:
    """Return *values* as something that JSON can hold."""
    if all(map(math.isfinite, values)):
        return [*map(float, values)]
    return [encode_float(value) for value in values]


def decode_floats(values: Sequence[Number]) -> list[float]:
    """Undo :func:`encode_floats`.

    >>> decode_floats([1, "inf"])
    [1.0, inf]
    """
    return [*map(float, values)]


def amendment_states(amendments: Sequence[Amendment]) -> list[AmendmentState]:
    """Return what is saved of *amendments*."""
    return [
        AmendmentState(
            iteration=each.iteration,
            group=each.group,
            kind=each.kind,
            scale=encode_float(each.scale),
            offset=encode_float(each.offset),
            expected=None if each.expected is None else encode_float(each.expected),
            observed=None if each.observed is None else encode_float(each.observed),
            reason=each.reason,
        )
        for each in amendments
    ]


def restore_amendments(states: Sequence[AmendmentState], groups: int) -> list[Amendment]:
    """Undo :func:`amendment_states`, for *groups* param groups.

    Raises:
        StateFormatError: One is of a param group that there is not.
    """
    for state in states:
        if state.group >= groups:
            raise StateFormatError(
                f"`amendments` of the state must be of {groups} param groups, but one is of group {state.group}."
            )
    return [
        Amendment(
            iteration=state.iteration,
            group=state.group,
            kind=state.kind,
            scale=float(state.scale),
            offset=float(state.offset),
            expected=None if state.expected is None else float(state.expected),
            observed=None if state.observed is None else float(state.observed),
            reason=state.reason,
        )
        for state in states
    ]


def chain_state(composition: Composition) -> list[Number] | None:
    """Return what is saved of a chain beside the values: where these are amended, what the schedules alone made."""
    chain = composition.chain
    return encode_floats(chain) if chain is not None and composition.amendments else None


def path(state: ParameterState | LoneState) -> list[float]:
    """Return from where a chain goes on."""
    return decode_floats(state.values if state.chain is None else state.chain)


def plateau_state(clock: Clock) -> PlateauState | None:
    """Return what is saved of the metrics that a schedule has seen."""
    fold = clock.fold
    if fold is None:
        return None
    return PlateauState(
        scales=encode_floats(fold.scales),
        best=None if fold.best is None else encode_float(fold.best),
        bad=fold.bad,
        cooldown=fold.cooldown,
        seen=fold.seen,
        pending=fold.pending,
    )


def restore_fold(state: PlateauState) -> MetricFold:
    """Undo :func:`plateau_state`."""
    return MetricFold(
        scales=decode_floats(state.scales),
        best=None if state.best is None else float(state.best),
        bad=state.bad,
        cooldown=state.cooldown,
        seen=state.seen,
        pending=state.pending,
    )
