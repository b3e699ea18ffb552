"""Turn configs into schedules; what is wrong in one is said with its place, before anything acts on an optimizer."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, overload

from resumable_sched.errors import ConfigError
from resumable_sched.schedule.config.located import Config, Path, path_text
from resumable_sched.schedule.config.registry import find_scheduler, suggestion
from resumable_sched.schedule.layer import UNITS
from resumable_sched.schedule.lengths import Lengths
from resumable_sched.schedule.scheduler import ParamScheduler
from resumable_sched.schedule.shares import has_share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resumable_sched.schedule.targets import HasParamGroups

__all__ = ["DEFAULT_KEY", "StandIn", "build_schedulers"]

DEFAULT_KEY: Final = "param_scheduler"
"""What a config that comes from no file is called in errors: MMEngine's key."""

_CONVERT: Final = "convert_to_iter_based"
_NOT_ARGUMENTS: Final = frozenset({"type", "_scope_", _CONVERT})
_REFUSED: Final = (ValueError, TypeError, KeyError, OverflowError)


class StandIn:
    """Be an optimizer that has hyper-parameters and no parameters.

    Args:
        groups: The hyper-parameters of each param group.
        defaults: Where `momentum` or `betas` are looked up; the first group by default.
        base_param_settings: What MMEngine's ``OptimWrapper`` has in this attribute.
    """

    def __init__(
        self,
        groups: Sequence[Mapping[str, Any]],
        defaults: Mapping[str, Any] | None = None,
        base_param_settings: object = None,
    ) -> None:
        self.param_groups: list[dict[str, Any]] = [dict(each) for each in groups]
        self.defaults = dict(self.param_groups[0] if defaults is None else defaults)
        self.base_param_settings = base_param_settings

    @classmethod
    def of(cls, optimizer: HasParamGroups) -> StandIn:
        """Copy the hyper-parameters of *optimizer*."""
        groups = [
            {key: copy.deepcopy(value) for key, value in group.items() if key != "params"}
            for group in optimizer.param_groups
        ]
        defaults = getattr(optimizer, "defaults", None)
        return cls(groups, defaults, getattr(optimizer, "base_param_settings", None))


class _Entry(NamedTuple):
    """Be one schedule of a config: the name of its optimizer, its place, and what is there."""

    optimizer: str
    path: Path
    content: Any


@overload
def build_schedulers(
    optimizers: Mapping[str, HasParamGroups],
    config: object,
    *,
    epoch_length: int | None = None,
    max_epochs: int | None = None,
    max_iters: int | None = None,
    max_samples: int | None = None,
    max_tokens: int | None = None,
) -> dict[str, list[ParamScheduler]]: ...


@overload
def build_schedulers(
    optimizers: HasParamGroups,
    config: object,
    *,
    epoch_length: int | None = None,
    max_epochs: int | None = None,
    max_iters: int | None = None,
    max_samples: int | None = None,
    max_tokens: int | None = None,
) -> list[ParamScheduler]: ...


def build_schedulers(
    optimizers: HasParamGroups | Mapping[str, HasParamGroups],
    config: object,
    *,
    epoch_length: int | None = None,
    max_epochs: int | None = None,
    max_iters: int | None = None,
    max_samples: int | None = None,
    max_tokens: int | None = None,
) -> list[ParamScheduler] | dict[str, list[ParamScheduler]]:
    """Build schedules from a config, as MMEngine's Runner does.

    ::

        build_schedulers(optimizer, dict(type="MultiStepLR", milestones=[8, 11]))
        build_schedulers(optimizer, load_config("config.py"), epoch_length=len(loader), max_epochs=12)

    If anything in the config is wrong, no schedule acts on the optimizers.

    Args:
        optimizers: An optimizer, or a dict of them by name.
        config: ``dict(type=..., ...)``, a list of these, or a dict of lists by the name of the optimizer; or what
            `load_config` gave. Without names it is used for each of several optimizers. `type` is a name, a class, or
            ``"package.module:Class"``; with ``convert_to_iter_based=True`` the schedule is built by
            `ParamScheduler.build_iter_from_epoch`. Schedules that are built already are passed on. None is an empty
            list.
        epoch_length: Iterations of an epoch.
        max_epochs: Epochs of the training; where a schedule's `end` is not given, it ends there.
        max_iters: Iterations of the training; the same for schedules by iteration.
        max_samples: Samples of the training; the same for schedules by sample.
        max_tokens: Tokens of the training; the same for schedules by token.

    Returns:
        The schedules in the order of the config; a dict of lists by name if *optimizers* is a dict.

    Raises:
        ConfigError: Something in *config* is wrong; it says what and where.
    """
    lengths = Lengths.checked(
        epoch_length=epoch_length,
        max_epochs=max_epochs,
        max_iters=max_iters,
        max_samples=max_samples,
        max_tokens=max_tokens,
    )
    several = isinstance(optimizers, Mapping)
    named: dict[str, HasParamGroups] = dict(optimizers) if isinstance(optimizers, Mapping) else {"": optimizers}
    source = config if isinstance(config, Config) else None
    entries = list(_entries(source.schedulers if source else config, list(named) if several else None, source))
    stand_ins = {name: StandIn.of(optimizer) for name, optimizer in named.items()}
    plans = []
    for entry in entries:
        with _Place(source, entry):
            plans.append(_plan(entry, named[entry.optimizer], stand_ins[entry.optimizer], lengths))
    built: dict[str, list[ParamScheduler]] = {name: [] for name in named}
    for entry, plan in zip(entries, plans, strict=True):
        with _Place(source, entry):
            ready = entry.content if plan is None else _construct(named[entry.optimizer], plan, lengths)
            built[entry.optimizer].append(ready)
    return built if several else built[""]


class _Plan(NamedTuple):
    """Be a class with the arguments that it takes."""

    cls: type[ParamScheduler]
    arguments: dict[str, Any]


def _entries(config: Any, names: list[str] | None, source: Config | None) -> Iterator[_Entry]:  # noqa: ANN401
    """Return each schedule of *config* with the optimizer that it is for, in order."""
    if hasattr(config, DEFAULT_KEY) or (isinstance(config, Mapping) and DEFAULT_KEY in config):
        raise _error(source, (), f"must be what a config has under `{DEFAULT_KEY}`, but is the whole config instead.")
    if isinstance(config, Mapping) and "type" not in config and names is not None:
        for unknown in [each for each in config if each not in names]:
            reason = f"must be the name of an optimizer ({', '.join(names)}), but is {unknown!r} instead."
            raise _error(source, (unknown,), reason + suggestion(str(unknown), names))
        for missing in [each for each in names if each not in config]:
            raise _error(
                source, (), f"must have schedules for the optimizer {missing!r} too, but has none. Give it [] for none."
            )
        for name in names:
            for path, each in _listed(config[name], (name,), source):
                yield _Entry(name, path, each)
        return
    for name in [""] if names is None else names:
        for path, each in _listed(config, (), source):
            yield _Entry(name, path, each)


def _listed(config: Any, path: Path, source: Config | None) -> Iterator[tuple[Path, Any]]:  # noqa: ANN401
    if isinstance(config, Mapping | ParamScheduler):
        yield path, config
    elif isinstance(config, Sequence) and not isinstance(config, str):
        yield from (((*path, index), each) for index, each in enumerate(config))
    elif config is not None:
        raise _error(
            source,
            path,
            f"must be dict(type=..., ...), a list of these, or a dict of lists by the name of the optimizer, but is "
            f"{config!r} instead.",
        )


def _plan(entry: _Entry, optimizer: HasParamGroups, stand_in: StandIn, lengths: Lengths) -> _Plan | None:
    """Find class and arguments, and try them; None for a schedule that is built already."""
    config = entry.content
    if isinstance(config, ParamScheduler):
        if config.optimizer is not optimizer:
            raise _WrongError((), f"must act on its optimizer, but {config!r} acts on another one.")
        return None
    if not isinstance(config, Mapping):
        raise _WrongError((), f"must be dict(type=..., ...) or a schedule, but is {config!r} instead.")
    if "type" not in config:
        keys = ", ".join(map(repr, config)) or "nothing"
        raise _WrongError((), f"must have a `type`, the name of a schedule such as 'LinearLR', but has {keys} only.")
    try:
        cls = find_scheduler(config["type"])
    except ValueError as error:
        raise _WrongError(("type",), str(error)) from error
    arguments = {str(key): value for key, value in config.items() if key not in _NOT_ARGUMENTS}
    converted = config.get(_CONVERT, False)
    if not isinstance(converted, bool):
        raise _WrongError((_CONVERT,), f"`{_CONVERT}` must be True or False, but is {converted!r} instead.")
    epoch_length = arguments.pop("epoch_length", lengths.epoch_length) if converted else None
    _check_names(cls, arguments)
    if not converted:
        _construct(stand_in, _Plan(cls, arguments), lengths)
        return _Plan(cls, arguments)
    if epoch_length is None:
        raise _WrongError(
            (_CONVERT,),
            f"`{_CONVERT}` needs the length of an epoch, but `epoch_length` is None. Pass epoch_length=len(loader).",
        )
    _check_durations(cls, arguments)
    trial = cls.build_iter_from_epoch(stand_in, epoch_length=epoch_length, **arguments)
    taken = {
        each.name: trial.shares.get(each.name, getattr(trial, each.name))
        for each in dataclasses.fields(cls)
        if each.init and each.name not in ("optimizer", "last_step")
    }
    if "last_step" in arguments:
        taken["last_step"] = arguments["last_step"]
    return _Plan(cls, taken)


def _construct(optimizer: HasParamGroups, plan: _Plan, lengths: Lengths) -> ParamScheduler:
    """Build a schedule that knows how long training is.

    The length has to be there before the schedule acts, and is no argument: an `end` that was not given stays so, and
    training longer is no other configuration.
    """
    unit, by_epoch = (plan.arguments.get(name, getattr(plan.cls, name)) for name in ("unit", "by_epoch"))
    unit = unit or ("epoch" if by_epoch else "iteration")
    length = lengths.of_training(unit) if unit in UNITS else None
    scheduler = plan.cls.__new__(plan.cls)
    if length is not None:
        scheduler.__dict__["_training_length"] = length
    scheduler.__init__(optimizer, **plan.arguments)  # type: ignore[misc]
    if length is not None:
        scheduler.check_training_length(length)
    return scheduler


def _check_names(cls: type[ParamScheduler], arguments: Mapping[str, Any]) -> None:
    known = dict(inspect.signature(cls).parameters)
    del known["optimizer"]
    for name in arguments:
        if name not in known:
            names = list(known)
            raise _WrongError(
                (name,),
                f"{cls.__name__} takes no argument {name!r}.{suggestion(name, names)} It takes {', '.join(names)}.",
            )
    missing = [
        name
        for name, each in known.items()
        if each.default is inspect.Parameter.empty and name not in arguments and each.kind is not each.VAR_KEYWORD
    ]
    if missing:
        raise _WrongError((), f"{cls.__name__} needs {' and '.join(f'`{each}`' for each in missing)} too.")


def _check_durations(cls: type[ParamScheduler], arguments: Mapping[str, Any]) -> None:
    """Check that what is multiplied by the length of an epoch are numbers."""
    for each in dataclasses.fields(cls):
        value = arguments.get(each.name)
        if each.metadata.get("convert") not in ("duration", "rate") or value is None:
            continue
        for number in value if isinstance(value, list | tuple) else [value]:
            if not has_share(number) and (isinstance(number, bool) or not isinstance(number, int | float)):
                text = f'`{each.name}` must be a number of epochs or a share such as "10%", but is {number!r} instead.'
                raise _WrongError((each.name,), text)


class _WrongError(Exception):
    """Carry what is wrong in one schedule, and where in it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(reason)
        self.path = path


class _Place:
    """Turn what is wrong with *entry* into an error that says where it is."""

    def __init__(self, source: Config | None, entry: _Entry) -> None:
        self._source, self._entry = source, entry

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, _WrongError):
            raise _error(self._source, (*self._entry.path, *error.path), str(error)) from error.__cause__
        if isinstance(error, _REFUSED) and isinstance(self._entry.content, Mapping):
            text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
            raise _error(self._source, (*self._entry.path, *_named_in(text, self._entry.content)), text) from error


def _named_in(text: str, content: Mapping[str, Any]) -> Path:
    """Return the argument that an error is about, also in a part: ``schedulers[1]``, and in it ``gamma``."""
    named: list[str] = [each for each in re.findall(r"`(\w+)`", text) if each in content]
    part = re.search(r"`(\w+)\[(\d+)\]`", text)
    if part is None or part[1] not in content:
        return tuple(named[:1])
    name, index = part[1], int(part[2])
    try:
        inner = content[name][index]
    except (LookupError, TypeError):
        return (name,)
    deeper = re.findall(r"[`'](\w+)[`']", text) if isinstance(inner, Mapping) else []
    return (name, index, *[each for each in deeper if each in inner][:1])


def _error(source: Config | None, path: Path, reason: str) -> ConfigError:
    return ConfigError(reason, path=path_text(DEFAULT_KEY, path)) if source is None else source.error(path, reason)
