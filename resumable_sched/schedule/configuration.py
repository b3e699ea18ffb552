"""Describe a schedule as plain JSON, and build one from such a description."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from operator import attrgetter
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from resumable_sched.schedule import comparison
from resumable_sched.schedule.conversion import FOREVER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from dataclasses import Field

    from resumable_sched.schedule.targets import HasParamGroups

__all__ = [
    "LENGTH_OF_TRAINING",
    "configuration_of",
    "register",
    "schedule_of",
    "take_configuration",
]

LENGTH_OF_TRAINING: Final = "length of training"
_NOT_CONFIGURATION: Final = frozenset({"optimizer", "by_epoch", "last_step", "verbose"})
_ONLY_IF_GIVEN: Final = frozenset({"groups"})
"""Fields that a configuration has only where they are not None."""
_PLAIN: Final = frozenset({NoneType, bool, int, str})
"""The types of values that are configuration as they are."""
_KNOWN: Final[dict[str, type[Any]]] = {}


class Configured(Protocol):
    """Be what is asked of a schedule, which is a dataclass; its module is built on this one."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def param_name(self) -> str:
        """Return the hyper-parameter."""

    @property
    def optimizer(self) -> HasParamGroups:
        """Return the optimizer."""

    @property
    def shares(self) -> Mapping[str, Any]:
        """Return the fields in which there are shares of training, as they were given."""


class Reconfigurable(Configured, Protocol):
    """Be what can take over another configuration."""

    def take_settings(self, other: Any) -> None:  # noqa: ANN401 - one of its own class
        """Take over the configuration of another one of the same class."""


def register(cls: type[Any]) -> None:
    """Remember a class, so that a saved configuration can name it."""
    hashable: Any = cls  # which a type is not for mypy
    _KNOWN[_type_name(hashable)] = cls


@cache
def _type_name(cls: type[Any]) -> str:
    if cls.__module__.startswith("resumable_sched."):
        return cls.__name__
    return f"{cls.__module__}:{cls.__qualname__}"


@cache
def _names(cls: type[Any]) -> tuple[str, ...]:
    """Return the names of the fields that are configuration."""
    return tuple(each.name for each in fields(cls) if each.name not in _NOT_CONFIGURATION)


@cache
def _reader(names: tuple[str, ...]) -> Callable[[object], tuple[Any, ...]]:
    """Return what reads all attributes of these names."""
    return attrgetter(*names)


def configuration_of(scheduler: Configured) -> dict[str, Any]:
    """Return the configuration as plain JSON, to be saved, compared and shown; shares of training stay shares."""
    cls: Any = type(scheduler)  # for mypy, a type is not hashable
    names = _names(cls)
    settings: dict[str, Any] = {**dict(zip(names, _reader(names)(scheduler), strict=True)), **scheduler.shares}
    for name in _ONLY_IF_GIVEN:
        if settings[name] is None:
            del settings[name]
    if settings["end"] is FOREVER:
        settings["end"] = LENGTH_OF_TRAINING
    return {"type": _type_name(cls)} | {
        name: value if type(value) in _PLAIN else comparison.plain_value(value, name)
        for name, value in settings.items()
    }


def schedule_of(optimizer: HasParamGroups, config: Mapping[str, Any], lines: Sequence[str] = ()) -> Any:  # noqa: ANN401
    """Build a schedule, a `ParamScheduler`, from its configuration, without letting it act on the optimizer.

    Args:
        optimizer: The optimizer.
        config: What :func:`configuration_of` gave.
        lines: The differences for whose sake it is done, for the error.

    Raises:
        ScheduleMismatchError: Its class is not known here, or no longer takes this configuration.
    """
    known: Any = _KNOWN.get(str(config.get("type")))
    if known is None:
        raise comparison.mismatch(
            lines, f"The saved schedule cannot be kept: there is no class {config.get('type')!r} here."
        )
    scheduler = object.__new__(known)
    if set(_names(known)) - _ONLY_IF_GIVEN != config.keys() - {"type"} - _ONLY_IF_GIVEN:
        raise comparison.mismatch(lines, f"The saved schedule cannot be kept: {known.__name__} has other fields now.")
    settings = {name: value for name, value in config.items() if name != "type"}
    if settings["end"] == LENGTH_OF_TRAINING:
        settings["end"] = FOREVER
    scheduler.__dict__.update(dict.fromkeys(_ONLY_IF_GIVEN), **settings)
    scheduler.__dict__.update(optimizer=optimizer, by_epoch=True, verbose=False, _last_step_given=-1, _restored=True)
    scheduler.prepare()
    return scheduler


def take_configuration(scheduler: Reconfigurable, config: Mapping[str, Any], lines: Sequence[str] = ()) -> None:
    """Replace the configuration of *scheduler* by a saved one of the same class.

    Raises:
        ScheduleMismatchError: It is of another class, or cannot be built.
    """
    restored = schedule_of(scheduler.optimizer, config, lines)
    if type(restored) is not type(scheduler) or restored.param_name != scheduler.param_name:
        raise comparison.mismatch(lines, "It cannot be kept, because the schedule is of another class or parameter.")
    scheduler.take_settings(restored)
