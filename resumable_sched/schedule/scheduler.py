"""Define what a schedule is: frozen configuration, a window, and one clock."""

from __future__ import annotations

import inspect
import logging
import weakref
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast, final

from resumable_sched.schedule import comparison, lone
from resumable_sched.schedule.arguments import check_choice, whole
from resumable_sched.schedule.clock import Clock
from resumable_sched.schedule.configuration import configuration_of, register, schedule_of, take_configuration
from resumable_sched.schedule.conversion import DURATION, FOREVER, FUNCTION, POINTS, RATE, by_iteration
from resumable_sched.schedule.curves import Affine
from resumable_sched.schedule.layer import UNITS, Layer, Unit
from resumable_sched.schedule.ledger import Ledger, ledger_of
from resumable_sched.schedule.selection import GroupChoice, chosen, group_choice
from resumable_sched.schedule.shares import has_share, resolve_shares
from resumable_sched.schedule.state import SchedulerState, parse, plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

    from resumable_sched.schedule.targets import HasParamGroups

__all__ = ["DURATION", "FOREVER", "FUNCTION", "POINTS", "RATE", "ParamScheduler"]

_TIMES: Final = frozenset({DURATION["convert"], POINTS["convert"]})
"""What the metadata of fields say that may be shares of training."""
_NOT_OF_TWIN: Final = frozenset({"optimizer", "_ledger", "_layer"})
_UNKNOWN_LENGTH: Final[Mapping[Unit, int]] = {"epoch": FOREVER, "iteration": FOREVER, "sample": 10**18, "token": 10**18}
"""How long training is taken to be until somebody says."""

logger = logging.getLogger("resumable_sched")


class _LastStep:
    """Be the argument `last_step` when it is set, and the local tick when it is read."""

    def __get__(self, scheduler: ParamScheduler | None, owner: type[ParamScheduler] | None = None) -> int:
        if scheduler is None:
            return -1  # where dataclasses look for the default
        return scheduler._local_step()  # noqa: SLF001

    def __set__(self, scheduler: ParamScheduler, value: int) -> None:
        scheduler.__dict__["_last_step_given"] = value


@dataclass(frozen=True, eq=False)
class ParamScheduler(ABC):
    """Schedule one hyper-parameter of an optimizer.

    A schedule is a description that does not change, and a clock. Inside its window ``[begin, end)`` it maps the
    value that the schedules before it give, ``v -> scale * v + offset``; before the window it does nothing, after it
    the last map is held. All schedules of one hyper-parameter are composed, whether they are stepped one by one (as
    in MMEngine) or by a `SchedulerGroup`.

    A subclass says :meth:`at`, and nothing else is needed. Its own parameters are dataclass fields that JSON can hold::

        @dataclass(frozen=True, eq=False)
        class HalveParamScheduler(ParamScheduler):
            every: int = field(default=10, metadata=DURATION)

            def at(self, t: int, base: float) -> Affine:
                return Affine(0.5 ** (t // self.every))

    (``from resumable_sched.schedule import DURATION, Affine, ParamScheduler``.)

    Args:
        optimizer: A torch optimizer, an MMEngine ``OptimWrapper``, or anything with ``param_groups``.
        param_name: The key of the hyper-parameter in the param groups; "momentum" is also found in ``betas[0]``.
        begin: Tick at which the window opens. This and all durations may be shares of training, such as "10%"
            (for a type checker: ``share(0.1)``).
        end: Tick at which it closes. The default is the length of training.
        by_epoch: Count epochs; otherwise iterations.
        unit: What a tick is: "epoch", "iteration", "sample" or "token"; where it is given it wins over `by_epoch`.
        groups: The param groups that it acts on: a place or a name (the key "name" of a group), a list of these, or a
            function of the group that can be imported, or its path ``"module:name"``. The default is all.
        last_step: The last tick inside the window that is done already; a position without a state. -1 is the
            beginning.
        verbose: Log each value at level INFO to the logger "resumable_sched".

    Raises:
        TypeError: An argument is of a wrong type.
        ValueError: An argument is out of its range.
        KeyError: The param groups have no `param_name`, or no ``initial_<param_name>`` although `last_step` is given.
    """

    optimizer: HasParamGroups = field(repr=False)
    param_name: str
    _: KW_ONLY
    begin: int = field(default=0, metadata=DURATION)
    end: int = field(default=FOREVER, metadata=DURATION)
    by_epoch: bool = True
    unit: Unit | None = field(default=None, repr=False)
    groups: GroupChoice = field(default=None, repr=False)
    last_step: _LastStep = _LastStep()
    verbose: bool = field(default=False, repr=False)

    rebases_only_as_first: ClassVar[bool] = False
    """Whether the base that `split_base` gives for later schedules holds only where this is the first in the list."""

    per_rank: ClassVar[bool] = False
    """Whether each rank has a state of its own; a checkpoint asks. All ranks must have the same."""

    need_val_args: ClassVar[bool] = False
    """Whether `step` takes the metrics of a validation; MMEngine's hook asks."""

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401 - passed on
        super().__init_subclass__(**kwargs)
        register(cls)

    @final
    def __post_init__(self) -> None:
        if not isinstance(getattr(self.optimizer, "param_groups", None), list):
            raise TypeError(
                "`optimizer` should be an Optimizer, or another object with a list of `param_groups`, but is "
                f"{self.optimizer!r} instead."
            )
        self.prepare()
        step = whole("last_step", self.__dict__["_last_step_given"], minimum=-1)
        clock = self._new_clock()
        if step >= 0:
            key = f"initial_{self.param_name}"
            for index, group in enumerate(self.optimizer.param_groups):
                if key not in group:
                    raise KeyError(
                        f"param '{key}' is not specified in param_groups[{index}] when resuming an optimizer: "
                        f"`last_step` must be -1 where the optimizer was never scheduled, but is {step} instead."
                    )
            clock.tick = self.begin + step + 1
            clock.guessed = True
        self._register(clock)

    # ------------------------------------------------------------------ what a subclass says
    @abstractmethod
    def at(self, t: int, base: float) -> Affine:
        """Give the map of the incoming value at local tick *t*; pure: it reads fields and arguments only.

        Args:
            t: Ticks since `begin`, from 0 to :attr:`span`. It may jump.
            base: The initial value of the param group.
        """

    def maps(self, ticks: Sequence[int], base: float) -> tuple[Sequence[float], Sequence[float]]:
        """Give the scales and the offsets of :meth:`at` at many local ticks, to the last bit.

        A family may do the same arithmetic in fewer calls; a preview of a million iterations is made of this.

        Args:
            ticks: Local ticks, each from 0 to :attr:`span`.
            base: The initial value of the param group.
        """
        found = [self.at(t, base) for t in ticks]
        return [each.scale for each in found], [each.offset for each in found]

    @property
    def multiplicative(self) -> bool:
        """Tell whether :meth:`at` has offset 0 throughout and its factor depends on *t* alone, not on *base*.

        False is always right. True lets the schedule overlap others in closed form.
        """
        return False

    def increment(self, t: int, base: float) -> Affine:
        """Give the map from the value at local tick ``t - 1`` to that at *t*, for a chain.

        A chain is where schedules overlap that are not multiplicative. This is the quotient of the two maps; where
        nothing of the value before is left to scale, the value starts again from *base*.
        """
        now = self.at(t, base)
        if t == 0:
            return now
        before = self.at(t - 1, base)
        if before.scale == 0.0:
            return Affine(0.0, now(base))
        ratio = now.scale / before.scale
        return Affine(ratio, now.offset - ratio * before.offset)

    def validate(self) -> None:  # noqa: B027 - a family without parameters has nothing to check
        """Check the fields of the family, and normalise their types (a list becomes a tuple).

        Raises:
            TypeError: A field is of a wrong type.
            ValueError: A field is out of its range.
        """

    def split_base(self, base: Sequence[float]) -> tuple[list[float], list[float]]:
        """Give the base that :meth:`at` receives, and the one for later schedules; one-cycle changes them."""
        return list(base), list(base)

    # ------------------------------------------------------------------ windows
    @final
    @property
    def clock_unit(self) -> Unit:
        """Give what a tick is."""
        return cast("Unit", self.unit)

    @final
    @property
    def open_ended(self) -> bool:
        """Tell whether `end` was not given, so that the window closes when training ends."""
        return self.end is FOREVER

    @final
    @property
    def span(self) -> int:
        """Give the ticks from the first to the last one of the window, ``end - begin - 1``."""
        return (self._length if self.open_ended else self.end) - self.begin - 1

    @final
    @property
    def _length(self) -> int:
        """Give the ticks of training, or what they are taken to be."""
        return self.__dict__.get("_training_length") or _UNKNOWN_LENGTH[self.clock_unit]

    @final
    @property
    def is_restored(self) -> bool:
        """Tell whether the schedule is built from a saved configuration, and not by the program."""
        return bool(self.__dict__.get("_restored"))

    @final
    @property
    def has_shares(self) -> bool:
        """Tell whether a duration was given as a share of training."""
        return bool(self.__dict__["_given"])

    @final
    def given(self, name: str) -> Any:  # noqa: ANN401 - whatever the field is
        """Give a field as it was given: a share of training is still one, and what follows from one is not there."""
        return self.__dict__["_given"].get(name, getattr(self, name))

    @final
    def selection(self) -> list[bool] | None:
        """Tell for each param group whether the schedule acts on it; None if on all.

        Raises:
            ValueError: `groups` does not fit the optimizer's.
        """
        return chosen("groups", self.groups, self.optimizer.param_groups)

    # ------------------------------------------------------------------ MMEngine's interface
    @final
    @property
    def base_values(self) -> list[float]:
        """Give the initial value of each param group, as the schedules after this one see it."""
        return self._ledger.composition.base_after(self.layer)

    @final
    def get_last_value(self) -> list[float]:
        """Give the present value of each param group."""
        return self._ledger.composition.values()

    def step(self) -> None:
        """Move the clock by one tick and write the values; for a schedule that no `SchedulerGroup` drives.

        Raises:
            RuntimeError: A group drives it, or param groups were added after it was built.
        """
        ledger = self._lone_ledger("step")
        if self.clock_unit not in ("epoch", "iteration"):
            raise RuntimeError(
                f"A schedule that counts {self.clock_unit}s must be driven by a SchedulerGroup, which is told how many "
                f"an update has seen, but {type(self).__name__} is stepped by itself."
            )
        if self.has_shares and "_training_length" not in self.__dict__:
            raise RuntimeError(
                f"The length of training must be known where durations are shares of it, but nobody told "
                f"{type(self).__name__}. Give it to a SchedulerGroup with max_iters= or max_epochs=."
            )
        ledger.check()
        ledger.composition.tick([self.layer], ledger.next_opening)
        values = ledger.write()
        if self.layer.in_window:
            for group, value in enumerate(values):
                self.print_value(self.verbose, group, value)

    def print_value(self, is_verbose: bool, group: int, value: float) -> None:
        """Log *value* of param group *group* if *is_verbose*."""
        if is_verbose:
            logger.info("Adjusting `%s` of group %d to %.4e.", self.param_name, group, value)

    @final
    @classmethod
    def build_iter_from_epoch(
        cls,
        optimizer: HasParamGroups,
        *args: Any,  # noqa: ANN401 - the class's own
        epoch_length: int | None = None,
        **config: Any,  # noqa: ANN401
    ) -> Self:
        """Build a schedule by iterations from arguments by epochs, so that both curves meet at the epoch boundaries.

        Durations are multiplied by *epoch_length*, a fraction of an epoch being rounded to the nearest iteration; a
        factor for each tick (``ExponentialLR.gamma``) becomes its *epoch_length*-th root.

        Args:
            optimizer: As for the class.
            *args: As for the class.
            epoch_length: Iterations of an epoch.
            **config: As for the class; `by_epoch` can only be True.

        Raises:
            ValueError: *epoch_length* is not positive, or the arguments are not by epochs.
        """
        if not config.pop("by_epoch", True) or config.pop("unit", None) not in (None, "epoch"):
            raise ValueError("`by_epoch` must be True where iterations are built from epochs, but is False instead.")
        bound = inspect.signature(cls).bind(optimizer, *args, **config).arguments
        kinds = {each.name: each.metadata.get("convert") for each in fields(cls)}
        return cls(**by_iteration(bound, kinds, epoch_length), by_epoch=False)

    # ------------------------------------------------------------------ state
    @final
    def state_dict(self) -> dict[str, Any]:
        """Give the position, what cannot be computed from it, and the configuration to compare with; plain JSON.

        Raises:
            RuntimeError: A group drives the schedule; save the group.
        """
        ledger = self._lone_ledger("state_dict")
        ledger.check()
        return plain(lone.save(ledger, self.layer, self.configuration()))

    @final
    def load_state_dict(self, state: Mapping[str, Any], on_mismatch: comparison.OnMismatch = "error") -> None:
        """Continue where *state* was saved, and write the values into the optimizer.

        Args:
            state: What :meth:`state_dict` gave, also through JSON.
            on_mismatch: What to do where the saved configuration or base differs from this one: "error"; "keep" the
                saved one; "adopt" this one at the saved position.

        Raises:
            StateFormatError: *state* is of another kind or version, or damaged.
            ScheduleMismatchError: The configuration differs and *on_mismatch* is "error", or it cannot be kept.
            RuntimeError: A group drives the schedule; load the group.
        """
        saved, plan = self._plan(state, on_mismatch)
        if on_mismatch == "keep" and plan.differs:
            take_configuration(self, saved.config, plan.lines)
        lone.restore(self._ledger, self.layer, saved, plan)

    @final
    def check_state_dict(self, state: Mapping[str, Any], on_mismatch: comparison.OnMismatch = "error") -> None:
        """Raise what :meth:`load_state_dict` would raise, and change nothing.

        Raises:
            StateFormatError: *state* is of another kind or version, or damaged.
            ScheduleMismatchError: The configuration differs and *on_mismatch* is "error", or it cannot be kept.
            RuntimeError: A group drives the schedule; load the group.
        """
        saved, plan = self._plan(state, on_mismatch)
        if on_mismatch == "keep" and plan.differs:
            schedule_of(self.optimizer, saved.config, plan.lines)

    def _plan(self, state: Mapping[str, Any], on_mismatch: str) -> tuple[SchedulerState, lone.Plan]:
        policy = comparison.check_policy(on_mismatch)
        ledger = self._lone_ledger("load_state_dict")
        name = type(self).__name__
        saved = parse(state, SchedulerState, name)
        return saved, lone.compare(ledger, self.layer, saved, self.configuration(), name=name, policy=policy)

    @final
    def configuration(self) -> dict[str, Any]:
        """Give the configuration as plain JSON, to be saved, compared and shown."""
        return configuration_of(self)

    # ------------------------------------------------------------------ copies
    def __getstate__(self) -> dict[str, Any]:
        if self._ledger.driver is None:
            self._ledger.check()
        composition, clock = self._ledger.composition, self.layer.clock.copy()
        order = composition.opened_layers()
        if clock.opened is not None:
            clock.opened = (order.index(self.layer) + 1, 0, 0)
        settings = {name: value for name, value in self.__dict__.items() if name not in ("_ledger", "_layer")}
        return {
            "settings": settings,
            "clock": clock,
            "values": composition.scheduled(),
            "base": composition.base,
            "amendments": composition.amendments,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state["settings"])
        self._register(state["clock"])
        composition = self._ledger.composition
        if self.layer.clock.opened is not None:
            self._ledger.note_opening(self.layer.clock.opened[0])
        composition.rebase(state["base"])
        composition.amendments = list(state["amendments"])
        composition.settle(state["values"])
        self._ledger.adopt_groups()

    # ------------------------------------------------------------------ inside
    @final
    def prepare(self) -> None:
        """Check and normalise all configuration; touches nothing else."""
        if self.unit is not None:
            check_choice("unit", self.unit, UNITS)
        if not isinstance(self.by_epoch, bool | int):
            raise TypeError(f"`by_epoch` must be True or False, but is {self.by_epoch!r} instead.")
        self._set("unit", ("epoch" if self.by_epoch else "iteration") if self.unit is None else self.unit)
        self._set("by_epoch", self.unit == "epoch")
        if self.unit in ("epoch", "iteration") and self.end == FOREVER:  # MMEngine's INF, written by hand
            self._set("end", FOREVER)
        self._set("groups", group_choice("groups", self.groups, restored=self.is_restored))
        times = {each.name: getattr(self, each.name) for each in fields(self) if each.metadata.get("convert") in _TIMES}
        self.__dict__["_given"] = times if any(map(has_share, times.values())) else {}
        self._fit()
        self.configuration()

    @final
    def _fit(self) -> None:
        """Check and normalise what may depend on the length of training."""
        for name, value in self.__dict__["_given"].items():
            self._set(name, resolve_shares(name, value, self._length))
        self._set("begin", whole("begin", self.begin, minimum=0))
        if not self.open_ended:
            self._set("end", whole("end", self.end))
        if self.end <= self.begin:
            raise ValueError(
                f"`end` must be greater than `begin` (end should be larger than begin), but is {self.end} instead, "
                f"and `begin` is {self.begin}."
            )
        self.validate()

    @final
    def _window_is_given(self) -> bool:
        """Tell whether the length of the window is known at build, and not the length of training."""
        return not self.open_ended

    def _new_clock(self) -> Clock:
        return Clock()

    @final
    def _register(self, clock: Clock) -> None:
        """Let the schedule act on its hyper-parameter."""
        layer = self._new_layer(clock)
        ledger = ledger_of(self.optimizer, self.param_name)
        ledger.register(layer)
        self._attach(ledger, layer)

    @final
    def _new_layer(self, clock: Clock) -> Layer:
        """Make what the ledger holds: a twin that refers to the optimizer weakly, so as not to keep it alive."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.__dict__["optimizer"] = weakref.proxy(self.optimizer)
        return Layer(twin, clock)

    @final
    def _attach(self, ledger: Ledger, layer: Layer) -> None:
        self.__dict__.update(_ledger=ledger, _layer=layer)

    @final
    @property
    def layer(self) -> Layer:
        """Give what the ledger holds of this schedule: a twin of its configuration, and its clock."""
        return cast("Layer", self.__dict__["_layer"])

    @final
    @property
    def _ledger(self) -> Ledger:
        return cast("Ledger", self.__dict__["_ledger"])

    @final
    def _lone_ledger(self, verb: str) -> Ledger:
        if self._ledger.driver is not None:
            raise RuntimeError(f"{type(self).__name__} is driven by a SchedulerGroup; call `{verb}` of the group.")
        return self._ledger

    @final
    def _local_step(self) -> int:
        layer = cast("Layer | None", self.__dict__.get("_layer"))
        if layer is None:
            return -1
        fold = layer.clock.fold
        return fold.seen - 1 if fold is not None else max(layer.local_tick, -1)

    @final
    def _set(self, name: str, value: object) -> None:
        """Set a field while the schedule is being built."""
        self.__dict__[name] = value

    @final
    def check_training_length(self, ticks: int | None) -> None:
        """Raise where training, *ticks* long, is too short for the window, or where it must be known and is not.

        Raises:
            ValueError: That is so.
        """
        if ticks is None and self.has_shares:
            name = {"epoch": "max_epochs", "iteration": "max_iters"}.get(self.clock_unit, f"max_{self.clock_unit}s")
            raise ValueError(
                f"`{name}` must be given where durations are shares of training, as those of {self!r} are, but nobody "
                "says how long it is."
            )
        if ticks is not None and self.open_ended and ticks <= self.begin and not self.has_shares:
            raise ValueError(
                f"`begin` of {type(self).__name__} must be less than the length of training, {ticks} "
                f"{self.clock_unit}s, but is {self.begin} instead."
            )

    @final
    def restart(self, ledger: Ledger, training_length: int | None) -> None:
        """Go back to the beginning, as a member of a group.

        Args:
            ledger: The ledger of the hyper-parameter.
            training_length: What stands for an `end` that was not given; if None, what it was built with.
        """
        layer = self.__dict__.get("_layer") or self._new_layer(self._new_clock())
        self._attach(ledger, layer)
        self.fit_training(training_length)
        fresh = self._new_clock()
        layer.clock.tick, layer.clock.opened, layer.clock.fold, layer.clock.guessed = 0, None, fresh.fold, False

    @final
    def fit_training(self, length: int | None) -> None:
        """Take training to be *length* ticks long; None leaves it as it is.

        Raises:
            ValueError: The schedule does not fit into so short a training.
        """
        if length is not None:
            self.__dict__["_training_length"] = length
        if self.has_shares:
            try:
                self._fit()
            except ValueError as error:
                text = f"{error} This follows from shares of a training of {length} {self.clock_unit}s."
                raise ValueError(text) from error
        self._tell_twin()

    @final
    def take_settings(self, other: ParamScheduler) -> None:
        """Take over the configuration of *other*, a schedule of the same class on the same hyper-parameter."""
        for each in fields(self):
            if each.name not in ("optimizer", "last_step", "verbose"):
                self._set(each.name, getattr(other, each.name))
        self.__dict__["_given"] = other.__dict__["_given"]
        self.fit_training(None)

    @final
    def _tell_twin(self) -> None:
        layer = self.__dict__.get("_layer")
        if layer is not None:
            settings = {name: value for name, value in self.__dict__.items() if name not in _NOT_OF_TWIN}
            layer.schedule.__dict__.update(settings)


for _field in fields(ParamScheduler):
    if _field.name == "last_step":
        _field.type = "int"  # what help() and inspect.signature show of every subclass; the descriptor is our affair
