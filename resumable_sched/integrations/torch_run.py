"""Run a torch scheduler beside training, on a stand-in optimizer, so that its value is a function of the tick."""

from __future__ import annotations

import copy
import inspect
import json
import warnings
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from resumable_sched.errors import ScheduleMismatchError
from resumable_sched.schedule import Affine, ParamScheduler
from resumable_sched.schedule.comparison import plain_value
from resumable_sched.schedule.importable import function_argument
from resumable_sched.schedule.per_group import GroupValue, group_of
from resumable_sched.schedule.scheduler import FUNCTION
from resumable_sched.schedule.targets import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TorchParamScheduler", "TorchRun", "plain_attributes"]

_MOVING: Final = frozenset(
    {
        "optimizer",
        "last_epoch",
        "_step_count",
        "_last_lr",
        "base_lrs",
        "_is_initial",
        "_get_lr_called_within_step",
        "verbose",
    }
)
"""Attributes of a torch scheduler that are its position, or the optimizer's, and not its configuration."""


class _StandIn(Optimizer):
    """Be an optimizer with the param groups of another, and nothing in them to update."""

    _opt_called = True  # torch's schedulers look whether the optimizer was stepped first

    def __init__(self, optimizer: Optimizer) -> None:
        groups = []
        for group in optimizer.param_groups:
            kept = {key: copy.deepcopy(value) for key, value in group.items() if key not in ("params", "param_names")}
            groups.append({"params": [torch.nn.Parameter(torch.zeros(()))], **kept})
        super().__init__(groups, dict(optimizer.defaults))

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ANN401
        """Do nothing."""

    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]  # noqa: SLF001 - or they wrap it, and it cannot be copied


class TorchRun(str):  # noqa: SLOT000 - it holds much, and is referred to weakly
    """Be the import path ``"module:class"`` of a torch scheduler, and know its values at every tick.

    A private copy of the scheduler is stepped as far as somebody has asked, and its values are kept: a value costs a
    step for each tick on the way there, once in a process.

    Attributes:
        names: The hyper-parameters that it sets.
        attributes: Its configuration and its first values, as plain JSON.
    """

    names: tuple[str, ...]
    attributes: dict[str, Any]
    _start: LRScheduler
    _live: LRScheduler
    _values: list[list[array[float]]]

    def __new__(cls, scheduler: LRScheduler, names: Sequence[str]) -> TorchRun:  # noqa: D102, PYI034 - nobody derives
        kind = type(scheduler)
        self = super().__new__(cls, f"{kind.__module__}:{kind.__qualname__}")
        self.names = tuple(names)
        self._start = _private(scheduler)
        self._live = _private(self._start)
        self._values = [[] for _ in self.names]
        self._note()
        first = {name: [each[0] for each in series] for name, series in zip(names, self._values, strict=True)}
        self.attributes = {**plain_attributes(scheduler), "values at 0": plain_value(first, "values")}
        _RUNS[self.key] = self
        return self

    def __deepcopy__(self, memo: object) -> TorchRun:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return TorchRun, (self._start, self.names)

    @property
    def groups(self) -> int:
        """Return for how many param groups it has values."""
        return len(self._values[0])

    @property
    def key(self) -> str:
        """Return all of the configuration as one string."""
        return _key(self, self.attributes)

    def value(self, name: str, group: int, tick: int) -> float:
        """Return the value of the hyper-parameter *name* of param group *group* at *tick*.

        Raises:
            RuntimeError: The scheduler moves another hyper-parameter too, or cannot be stepped so far.
        """
        series = self._values[self.names.index(name)][group]
        if tick >= len(series):
            self._advance(tick + 1 - len(series))
        return series[tick]

    def state_at(self, tick: int) -> dict[str, Any]:
        """Return the state dict of the scheduler at *tick*; costs a step for each tick."""
        twin = _private(self._start)
        with warnings.catch_warnings():
            _silence_torch()
            for _ in range(tick):
                twin.step()
        return twin.state_dict()

    def _advance(self, ticks: int) -> None:
        with warnings.catch_warnings():
            _silence_torch()
            for _ in range(ticks):
                before = _others(self._live.optimizer, self.names)
                try:
                    self._live.step()
                except Exception as error:
                    last = len(self._values[0][0]) - 1
                    self._rewind()
                    raise RuntimeError(
                        f"`end` of {self} must be {last + 1} or less, because it cannot be stepped beyond tick {last}: "
                        f"{error} Pass it to from_torch; the last value is held from there on."
                    ) from error
                moved = sorted(_others(self._live.optimizer, self.names) - before)
                if moved:
                    self._rewind()
                    raise RuntimeError(
                        f"`param_names` of {self} must name every hyper-parameter that it moves, but it moves "
                        f"`{moved[0][1]}` and the names are {list(self.names)} instead."
                    )
                self._note()

    def _rewind(self) -> None:
        """Begin again: a step that failed may have been half done."""
        self._live = _private(self._start)
        self._values = [[] for _ in self.names]
        self._note()

    def _note(self) -> None:
        optimizer = self._live.optimizer
        for name, series in zip(self.names, self._values, strict=True):
            target = resolve(optimizer, name)
            series.extend(array("d") for _ in optimizer.param_groups[len(series) :])
            for values, group in zip(series, optimizer.param_groups, strict=True):
                values.append(target.read(group))


_RUNS: Final[WeakValueDictionary[str, TorchRun]] = WeakValueDictionary()
"""The runs that this program has built, by configuration. A saved state can choose among them; it builds no others."""


@dataclass(frozen=True, eq=False)
class TorchParamScheduler(ParamScheduler):
    """Set the values of a torch scheduler that has no closed form here.

    The values are absolute and a function of the tick: a private copy of the scheduler is run from its start (see
    `TorchRun`), so that only the position is state. That costs a step of the copy for each tick, and after a resume
    all of them at once. :func:`~resumable_sched.integrations.torch_schedulers.from_torch` builds it.

    Args:
        scheduler: A torch scheduler that has not been stepped.
        attributes: Its configuration; follows from it, and is there to be saved and compared.
    """

    scheduler: Any = field(metadata=FUNCTION)
    attributes: dict[str, Any] | None = field(default=None, kw_only=True, repr=False)

    def validate(self) -> None:
        """Take a copy of the scheduler.

        Raises:
            TypeError: It is none of torch's, or needs metrics, or has an attribute that cannot be compared.
            ScheduleMismatchError: It comes from a saved state, and this program has built no such scheduler.
        """
        run = self.scheduler
        if self.is_restored:
            run = _RUNS.get(_key(str(self.scheduler), self.attributes))
            if run is None:
                raise ScheduleMismatchError(
                    f"The saved schedule cannot be kept: this program has not built the {self.scheduler} that it is. A "
                    "saved state does not import code; build it, and convert it with from_torch.",
                    [],
                )
        elif isinstance(run, LRScheduler):
            run = TorchRun(run, (self.param_name,))
        elif not isinstance(run, TorchRun):
            raise TypeError(f"`scheduler` must be a scheduler of torch's, but is {run!r} instead.")
        self._set("scheduler", run)
        self._set("attributes", run.attributes)

    def split_base(self, base: Sequence[float]) -> tuple[list[float], list[float]]:
        """Return bases that tell the groups apart.

        Raises:
            ValueError: There are param groups that the scheduler does not know.
        """
        known = self.scheduler.groups
        if len(base) > known:
            raise ValueError(
                f"`scheduler` must set a value for each of {len(base)} param groups, but {self.scheduler} was built "
                f"for {known}. Add param groups before it is built, or use schedules of this package."
            )
        return [GroupValue(value, group) for group, value in enumerate(base)], list(base)

    def at(self, t: int, base: float) -> Affine:
        """Set the value that the scheduler sets at *t*."""
        run: TorchRun = self.scheduler
        return Affine(0.0, run.value(self.param_name, group_of(base), t))

    def increment(self, t: int, base: float) -> Affine:
        """Set the value, whatever was there."""
        return self.at(t, base)


def plain_attributes(owner: Any, attributes: Mapping[str, Any] | None = None) -> dict[str, Any]:  # noqa: ANN401
    """Return the configuration of a torch scheduler as plain JSON: its attributes, less the position.

    Args:
        owner: The scheduler.
        attributes: What to take for its attributes, such as its state dict.

    Raises:
        TypeError: An attribute cannot be compared.
        ValueError: It is a function that cannot be imported.
    """
    found = vars(owner) if attributes is None else attributes
    return {name: _plain(value, name, (owner,)) for name, value in sorted(found.items()) if name not in _MOVING}


def _plain(value: Any, name: str, owners: tuple[Any, ...]) -> Any:  # noqa: ANN401, PLR0911 - one line for each kind
    if any(value is owner for owner in owners):
        return "itself"
    if isinstance(value, torch.Tensor):
        return plain_value(value.tolist(), name)
    if isinstance(value, Mapping):
        return {str(key): _plain(each, name, owners) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, name, owners) for each in (value if isinstance(value, list | tuple) else sorted(value))]
    if isinstance(value, partial):
        given = {"function": value.func, "args": value.args, "keywords": value.keywords}
        return {key: _plain(each, name, owners) for key, each in given.items()}
    if inspect.ismethod(value):
        return {"method": value.__name__, "of": _plain(value.__self__, name, owners)}
    if inspect.isroutine(value) or inspect.isclass(value):
        return str(function_argument(name, value, restored=False))
    if isinstance(value, Optimizer):
        return "optimizer"
    if hasattr(value, "__dict__") and not isinstance(value, str | int | float):
        kind = type(value)
        inside = {key: each for key, each in vars(value).items() if key not in _MOVING}
        parts = {key: _plain(each, f"{name}.{key}", (*owners, value)) for key, each in inside.items()}
        return {"type": f"{kind.__module__}:{kind.__qualname__}", **parts}
    return plain_value(value, name)


def _private(scheduler: LRScheduler) -> LRScheduler:
    """Copy *scheduler*, with a stand-in for its optimizer."""
    return copy.deepcopy(scheduler, {id(scheduler.optimizer): _StandIn(scheduler.optimizer)})


def _others(optimizer: Optimizer, names: Sequence[str]) -> set[tuple[int, str, Any]]:
    """Return the numbers in the param groups that nobody has named."""
    named = {*names, *(("betas",) if "momentum" in names else ())}
    return {
        (index, key, tuple(value) if isinstance(value, list) else value)
        for index, group in enumerate(optimizer.param_groups)
        for key, value in group.items()
        if key not in named and isinstance(value, int | float | tuple | list) and key != "params"
    }


def _silence_torch() -> None:
    """Let torch's SequentialLR use the argument that torch itself has deprecated."""
    warnings.filterwarnings("ignore", r"The epoch parameter in `scheduler\.step\(\)`", UserWarning)


def _key(path: str, attributes: Mapping[str, Any] | None) -> str:
    return json.dumps([str(path), attributes], sort_keys=True)
