"""Write the schedule that is several schedules in turn, each from the base: torch's ``SequentialLR``.

Windows of a list multiply: what a schedule did is still there when the next one begins. Where it is not to be there,
the schedules are the parts of one.
"""

from __future__ import annotations

import inspect
from bisect import bisect_right
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from resumable_sched.schedule.arguments import sequence, whole
from resumable_sched.schedule.config.registry import find_scheduler, suggestion
from resumable_sched.schedule.configuration import LENGTH_OF_TRAINING, schedule_of
from resumable_sched.schedule.conversion import by_iteration
from resumable_sched.schedule.curves import IDENTITY, Affine
from resumable_sched.schedule.per_group import GroupValue
from resumable_sched.schedule.plateau import ReduceOnPlateauParamScheduler
from resumable_sched.schedule.scheduler import DURATION, ParamScheduler

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resumable_sched.schedule.targets import HasParamGroups

__all__ = ["SequentialParamScheduler"]

_OUTER = frozenset({"optimizer", "param_name", "begin", "by_epoch", "unit", "groups", "last_step", "verbose"})
"""What the schedule of which it is a part says for a part."""


class Part(dict[str, Any]):
    """Be the configuration of one part, and carry the schedule that was built from it.

    Args:
        config: What is saved and compared.
        schedule: A schedule that acts on no optimizer.
    """

    __slots__ = ("schedule",)

    def __init__(self, config: Mapping[str, Any], schedule: ParamScheduler) -> None:
        super().__init__(config)
        self.schedule = schedule

    def __reduce__(self) -> tuple[Any, ...]:  # a schedule without an optimizer cannot be copied by itself
        return _revive, (dict(self), type(self.schedule), dict(self.schedule.__dict__))


def _revive(config: dict[str, Any], cls: type[ParamScheduler], settings: dict[str, Any]) -> Part:
    schedule = object.__new__(cls)
    schedule.__dict__.update(settings)
    return Part(config, schedule)


class PartBase(GroupValue):
    """Be the base of one param group, and know the one that each part works with."""

    parts: tuple[float, ...]


def _by_iteration(parts: Sequence[Mapping[str, Any]], epoch_length: int) -> list[dict[str, Any]]:
    """Convert the arguments of each of *parts* as those of a schedule of its own."""
    converted = []
    for part in parts:
        kinds = {each.name: each.metadata.get("convert") for each in fields(find_scheduler(part.get("type")))}
        converted.append(by_iteration(part, kinds, epoch_length))
    return converted


@dataclass(frozen=True, eq=False)
class SequentialParamScheduler(ParamScheduler):
    """Let one schedule after the other act, each as if it were alone: what was before stops acting.

    In a list of schedules with windows that follow each other each goes on from where the last one ended; here each
    starts from the value that comes in. Arguments and values are those of ``torch.optim.lr_scheduler.SequentialLR``,
    but that parts are descriptions and not schedules, which would act by themselves::

        SequentialLR(optimizer, [dict(type="ExponentialLR", gamma=0.9), dict(type="StepLR", step_size=30)], [10])

    Args:
        schedulers: The parts: for each its class, or the name of that, as ``type``, and its arguments. `begin` and the
            clock are not among them. A part that is given no `end` is as long as its turn.
        milestones: Ticks since `begin` at which the next part takes its turn, one less than there are parts.
    """

    schedulers: Sequence[Mapping[str, Any]] = field(metadata={"convert": _by_iteration})
    milestones: Sequence[int] = field(metadata=DURATION)

    def validate(self) -> None:
        """Check the milestones, and build the parts."""
        given = sequence("schedulers", self.schedulers)
        milestones = tuple(whole("milestones", each, minimum=0) for each in sequence("milestones", self.milestones))
        if not given or len(milestones) != len(given) - 1 or any(late < early for early, late in pairwise(milestones)):
            raise ValueError(
                f"`milestones` must be ticks that do not decrease, one less than the {len(given)} `schedulers` (of "
                f"which there must be one), but is {self.milestones!r} instead."
            )
        self._set("milestones", milestones)
        self._set("schedulers", tuple(self._part(index, each) for index, each in enumerate(given)))

    @property
    def multiplicative(self) -> bool:
        """Return whether every part only multiplies, whatever its base."""
        turns = range(len(self.schedulers))
        return all(self._turn(index).multiplicative for index in turns)

    def split_base(self, base: Sequence[float]) -> tuple[list[float], list[float]]:
        """Return bases that know those of the parts; a part does not change the base of anything after it."""
        parts = [self._turn(index).split_base(base)[0] for index in range(len(self.schedulers))]
        own: list[float] = []
        for group, value in enumerate(base):
            each = PartBase(value, group)
            each.parts = tuple(part[group] for part in parts)
            own.append(each)
        return own, list(base)

    def at(self, t: int, base: float) -> Affine:
        """Do what the part whose turn it is does."""
        index, local = self._locate(t)
        part = self._turn(index)
        return part.at(min(local, part.span), self._base(index, base))

    def increment(self, t: int, base: float) -> Affine:
        """Do what the part does in a chain; at a milestone, undo the one before and begin the next."""
        index, local = self._locate(t)
        if local == 0:
            return super().increment(t, base)
        part = self._turn(index)
        return part.increment(local, self._base(index, base)) if local <= part.span else IDENTITY

    def _locate(self, t: int) -> tuple[int, int]:
        """Find the part whose turn it is at *t*, and the ticks since it began."""
        index = bisect_right(self.milestones, t)
        return index, t - (self.milestones[index - 1] if index else 0)

    def _turn(self, index: int) -> ParamScheduler:
        """Return the schedule of a part, which knows how long its turn is."""
        part = self.schedulers[index]
        schedule = part.schedule  # type: ignore[attr-defined]  # validate() made it a Part
        if schedule.open_ended:
            start = self.milestones[index - 1] if index else 0
            stop = self.milestones[index] if index < len(self.milestones) else self.span + 1
            schedule.__dict__["_training_length"] = max(stop - start, 1)
        known: ParamScheduler = schedule
        return known

    def _base(self, index: int, base: float) -> float:
        if isinstance(base, PartBase):
            return base.parts[index]
        return self._turn(index).split_base([base])[0][0]

    def _part(self, index: int, config: Any) -> Part:  # noqa: ANN401 - whatever the user gave
        """Build what *config* describes, without letting it act on the optimizer.

        Raises:
            TypeError: It is no dict with a `type`.
            ValueError: It has an argument that it cannot have, or cannot be a part.
        """
        if isinstance(config, Part):
            return config
        where = f"schedulers[{index}]"
        if not isinstance(config, dict) or "type" not in config:
            raise TypeError(f"`{where}` must be a dict with a `type` and arguments, but is {config!r} instead.")
        restored = _restored(self, config) if self.is_restored else None
        cls = find_scheduler(config["type"]) if restored is None else type(restored)
        if issubclass(cls, ReduceOnPlateauParamScheduler):
            raise ValueError(  # noqa: TRY004 - the value is wrong, not its type
                f"`{where}` must not follow a metric, but is {cls.__name__} instead: what it did has no end."
            )
        arguments = {name: value for name, value in config.items() if name != "type"}
        names = [each.name for each in fields(cls) if each.name not in _OUTER]
        for unknown in [name for name in arguments if name not in names]:
            more = suggestion(unknown, names)
            raise ValueError(f"`{where}` must have arguments of {cls.__name__} only, but has {unknown!r}.{more}")
        schedule = _built(cls, self, arguments, where) if restored is None else restored
        whole_config = schedule.configuration()
        if schedule.has_shares:
            raise ValueError(f"`{where}` must have durations in ticks, and none that are shares of training.")
        kept = {name: value for name, value in whole_config.items() if name in ("type", *names)}
        if schedule.open_ended:
            del kept["end"]
        schedule.__dict__["optimizer"] = None  # nothing that the ledger holds may keep an optimizer alive
        return Part(kept, schedule)


def _restored(outer: SequentialParamScheduler, config: Mapping[str, Any]) -> ParamScheduler:
    """Build a part from a saved state, which may name only what this program knows."""
    rest = {"param_name": outer.param_name, "begin": 0, "end": LENGTH_OF_TRAINING, "unit": outer.clock_unit}
    part: ParamScheduler = schedule_of(outer.optimizer, {**rest, **config})
    return part


def _built(
    cls: type[ParamScheduler], outer: SequentialParamScheduler, arguments: dict[str, Any], where: str
) -> ParamScheduler:
    """Build a schedule that acts on nothing."""
    optimizer: HasParamGroups = outer.optimizer
    signature = inspect.signature(cls)
    named = {"param_name": outer.param_name} if "param_name" in signature.parameters else {}
    try:
        bound = signature.bind(optimizer, **named, **arguments, unit=outer.clock_unit)
    except TypeError as error:
        raise TypeError(f"`{where}`: {cls.__name__}: {error}.") from error
    bound.apply_defaults()
    schedule = object.__new__(cls)
    schedule.__dict__.update(bound.arguments, _last_step_given=-1, _restored=outer.is_restored)
    if not named:
        schedule.__dict__["param_name"] = next(each.default for each in fields(cls) if each.name == "param_name")
    if schedule.param_name != outer.param_name:
        raise ValueError(
            f"`{where}` must act on `{outer.param_name}`, but is {cls.__name__} instead, which acts on "
            f"`{schedule.param_name}`."
        )
    schedule.__dict__.pop("last_step", None)
    try:
        schedule.prepare()
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"`{where}`: {cls.__name__}: {error}") from error
    return schedule
