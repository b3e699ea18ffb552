"""Know schedules by name: those of this package, and those that users register."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from typing import TYPE_CHECKING, Final, TypeVar, overload

from resumable_sched.schedule.scheduler import ParamScheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["find_scheduler", "register_scheduler", "scheduler_names", "suggestion"]

_REGISTERED: Final[dict[str, type[ParamScheduler]]] = {}
_CALLED_ELSEWHERE: Final[Mapping[str, str]] = {
    "ChainedScheduler": "the list of its schedules",
    "ConcatScheduler": "the list of its schedules, with begin= and end=",
    "CosineAnnealingWarmRestarts": "CosineAnnealingWarmRestartsLR",
    "CosineLRScheduler": "CosineAnnealingLR or CosineAnnealingWarmRestartsLR",
    "MultiStepLRScheduler": "MultiStepLR",
    "NoamLR": "InverseSqrtLR",
    "ParamGroupScheduler": "the list of its schedules, with groups=",
    "PlateauLRScheduler": "ReduceOnPlateauLR",
    "PolyLRScheduler": "PolyRestartLR",
    "PolynomialLR": "PolyLR",
    "ReduceLROnPlateau": "ReduceOnPlateauLR",
    "StepLRScheduler": "StepLR",
    "TanhLRScheduler": "TanhLR",
    "WSDLRScheduler": "WarmupStableDecayLR",
}
"""What peers' classes are called here."""
_PEER: Final = "mmengine."
_SCOPES: Final = frozenset(
    f"mm{name}"
    for name in (
        *("action", "agic", "cls", "cv", "det", "det3d", "edit", "ocr", "pose", "pretrain", "razor", "rotate", "seg"),
        *("selfsup", "track", "yolo"),
    )
)
"""Registries that build what they do not know by MMEngine's: `mmdet.LinearLR` is its `LinearLR`."""
_PACKAGE: Final = __name__.partition(".config.")[0] + "."  # what integrations add is made of objects, not of a config

_Scheduler = TypeVar("_Scheduler", bound=ParamScheduler)


@overload
def register_scheduler(scheduler: type[_Scheduler], /) -> type[_Scheduler]: ...


@overload
def register_scheduler(
    *, name: str | None = None, replace: bool = False
) -> Callable[[type[_Scheduler]], type[_Scheduler]]: ...


def register_scheduler(
    scheduler: type[_Scheduler] | None = None, /, *, name: str | None = None, replace: bool = False
) -> type[_Scheduler] | Callable[[type[_Scheduler]], type[_Scheduler]]:
    """Let configs name a schedule of your own; a decorator for its class, with or without arguments.

    ::

        @register_scheduler
        @dataclass(frozen=True, eq=False)
        class HalveLR(ParamScheduler):
            ...

        build_schedulers(optimizer, dict(type="HalveLR"))

    Args:
        scheduler: The class.
        name: Its name in configs; the name of the class by default.
        replace: Take the place of another class of that name, as when a notebook cell is run again.

    Raises:
        TypeError: It is no class of schedules.
        ValueError: There is another schedule of that name.
    """
    if scheduler is not None:
        return _register(scheduler, None, replace=False)
    return lambda each: _register(each, name, replace=replace)


def _register(scheduler: type[_Scheduler], name: str | None, *, replace: bool) -> type[_Scheduler]:
    if not (inspect.isclass(scheduler) and issubclass(scheduler, ParamScheduler)):
        raise TypeError(
            f"`register_scheduler` must be given a subclass of ParamScheduler, but got {scheduler!r} instead."
        )
    own = scheduler.__name__ if name is None else name
    other = _builtin().get(own) or (None if replace else _REGISTERED.get(own))
    if other is not None and other is not scheduler:
        remedy = "" if own in _builtin() else ", or replace=True to take its place"
        raise ValueError(
            f"`name` must be new, but {own!r} is {other.__module__}.{other.__qualname__} already. Pass another name: "
            f"@register_scheduler(name=...){remedy}."
        )
    _REGISTERED[own] = scheduler
    return scheduler


def scheduler_names() -> list[str]:
    """Return all names that a config can use, sorted."""
    return sorted({*_builtin(), *_REGISTERED})


def find_scheduler(kind: object) -> type[ParamScheduler]:
    """Find the class that *kind* means: a class, a name, or where to import it from (``"package.module:Class"``).

    MMEngine's classes, by their names, import paths or themselves, mean ours of the same name.

    Raises:
        ValueError: There is none, or it is no schedule.
    """
    if inspect.isclass(kind):
        return _checked(kind)
    if not isinstance(kind, str):
        raise ValueError(f"`type` must be the name of a schedule or a class, but is {kind!r} instead.")  # noqa: TRY004
    for known in (_REGISTERED, _builtin()):
        if kind in known:
            return known[kind]
    scope, _, name = kind.replace(":", ".").rpartition(".")
    if (scope in _SCOPES or f"{scope}.".startswith(_PEER)) and name in _builtin():
        return _builtin()[name]
    if ":" in kind or "." in kind:
        return _checked(_imported(kind))
    raise ValueError(
        f"`type` must be the name of a schedule, but is {kind!r} instead.{_equivalent(kind)} A "
        "schedule of your own is known after @register_scheduler, once its module is imported, or as "
        "'package.module:Class'."
    )


def _equivalent(kind: str) -> str:
    """Return a sentence with what a name of a peer's is called here, or what it may have been meant to be."""
    if kind in _CALLED_ELSEWHERE:
        return f" Use {_CALLED_ELSEWHERE[kind]}; docs/migration.md has its arguments."
    return suggestion(kind, scheduler_names())


def suggestion(name: str, known: list[str]) -> str:
    """Return a sentence with the names in *known* that *name* may have been meant to be; empty if there are none.

    >>> suggestion("LinerLR", ["LinearLR", "StepLR"])
    ' Did you mean LinearLR?'
    >>> suggestion("gammma", ["milestones"])
    ''
    """
    folded = {each.lower(): each for each in reversed(known)}
    near = difflib.get_close_matches(name.lower(), list(folded), n=3, cutoff=0.7)
    close = [folded[each] for each in ([name.lower()] if name.lower() in folded else near)]
    return f" Did you mean {' or '.join(close)}?" if close else ""


def _builtin() -> dict[str, type[ParamScheduler]]:
    """Return the schedules of this package by name; families that are added to it are found by themselves."""
    return {
        each.__name__: each
        for each in _descendants(ParamScheduler)  # type: ignore[type-abstract]  # the root of the tree
        if each.__module__.startswith(_PACKAGE) and not inspect.isabstract(each) and not each.__name__.startswith("_")
    }


def _descendants(cls: type[ParamScheduler]) -> Iterator[type[ParamScheduler]]:
    for each in cls.__subclasses__():
        yield each
        yield from _descendants(each)


def _imported(path: str) -> object:
    """Import what *path* names from an installed module."""
    module, _, name = path.partition(":") if ":" in path else path.rpartition(".")
    try:
        found: object = importlib.import_module(module)
        for each in name.split("."):
            found = getattr(found, each)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        close = suggestion(re.split(r"[.:]", path)[-1], scheduler_names())
        raise ValueError(f"`type` must be importable, but {path!r} is not: {error}.{close}") from error
    return found


def _checked(kind: object) -> type[ParamScheduler]:
    if inspect.isclass(kind) and issubclass(kind, ParamScheduler) and not inspect.isabstract(kind):
        return kind
    module, name = getattr(kind, "__module__", "?"), getattr(kind, "__qualname__", repr(kind))
    if module.startswith(_PEER) and name in _builtin():
        return _builtin()[name]
    remedy = f" Use the name {name!r}: this package has a schedule like it." if name in _builtin() else ""
    raise ValueError(f"`type` must be a subclass of ParamScheduler, but is {module}.{name} instead.{remedy}")
