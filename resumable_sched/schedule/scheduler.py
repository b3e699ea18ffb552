"""Define what a schedule is: a description that does not change, and one clock."""

from __future__ import annotations

import inspect
import logging
import weakref
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Final, final

from resumable_sched.schedule import comparison, lone
from resumable_sched.schedule.arguments import whole
from resumable_sched.schedule.clock import Clock
from resumable_sched.schedule.configuration import register, schedule_of, take_configuration
from resumable_sched.schedule.conversion import DURATION, FOREVER, FUNCTION, POINTS, RATE, by_iteration
from resumable_sched.schedule.description import Description
from resumable_sched.schedule.layer import Layer
from resumable_sched.schedule.ledger import Ledger, ledger_of
from resumable_sched.schedule.state import LoneState, parse, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

    from resumable_sched.schedule.targets import HasParamGroups

__all__ = ["DURATION", "FOREVER", "FUNCTION", "POINTS", "RATE", "ParamScheduler"]

_OF_LEDGER: Final = frozenset({"_ledger", "_layer"})
_NOT_OF_TWIN: Final = _OF_LEDGER | {"optimizer"}

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
class ParamScheduler(Description):
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

    _: KW_ONLY
    last_step: _LastStep = _LastStep()
    verbose: bool = field(default=False, repr=False)

    per_rank: ClassVar[bool] = False
    """Whether each rank has a state of its own; a checkpoint asks. All ranks must have the same."""

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

    # ------------------------------------------------------------------ MMEngine's interface
    @final
    @property
    def base_values(self) -> list[float]:
        """Return the initial value of each param group, as the schedules after this one see it."""
        return self._ledger.composition.base_after(self.layer)

    @final
    def get_last_value(self) -> list[float]:
        """Return the present value of each param group."""
        return self._ledger.composition.values()

    def step(self) -> None:
        """Move the clock by one tick and write the values; for a schedule that no `SchedulerGroup` drives.

        Raises:
            RuntimeError: A group drives it or must, because it counts samples or tokens, or has shares of a training
                whose length nobody told; or param groups were removed.
            ForeignWriterError: Other code sets the value at every step, or has set it to no finite number.
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

        Durations are multiplied by *epoch_length*, and what is left of an iteration is dropped, as in MMEngine; a
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
        """Return the position, what cannot be computed from it, and the configuration to compare with; plain JSON.

        Raises:
            RuntimeError: A group drives the schedule; save the group.
        """
        ledger = self._lone_ledger("state_dict")
        ledger.check()
        return plain(lone.save(ledger, self.layer, self.known_configuration()))

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

    def _plan(self, state: Mapping[str, Any], on_mismatch: str) -> tuple[LoneState, lone.Plan]:
        policy = comparison.check_policy(on_mismatch)
        ledger = self._lone_ledger("load_state_dict")
        name = type(self).__name__
        saved = parse(state, LoneState, name)
        return saved, lone.compare(ledger, self.layer, saved, self.known_configuration(), name=name, policy=policy)

    # ------------------------------------------------------------------ copies
    def __getstate__(self) -> dict[str, Any]:
        if self._ledger.driver is None:
            self._ledger.check()
        composition, clock = self._ledger.composition, self.layer.clock.copy()
        order = composition.opened_layers()
        if clock.opened is not None:
            clock.opened = (order.index(self.layer) + 1, 0, 0)
        settings = {name: value for name, value in self.__dict__.items() if name not in _OF_LEDGER}
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
        """Return what the ledger holds of this schedule: a twin of its configuration, and its clock."""
        layer: Layer = self.__dict__["_layer"]
        return layer

    @final
    @property
    def _ledger(self) -> Ledger:
        ledger: Ledger = self.__dict__["_ledger"]
        return ledger

    @final
    def _lone_ledger(self, verb: str) -> Ledger:
        if self._ledger.driver is not None:
            raise RuntimeError(f"{type(self).__name__} is driven by a SchedulerGroup; call `{verb}` of the group.")
        return self._ledger

    @final
    def _local_step(self) -> int:
        layer: Layer | None = self.__dict__.get("_layer")
        if layer is None:
            return -1
        fold = layer.clock.fold
        return fold.seen - 1 if fold is not None else max(layer.local_tick, -1)

    @final
    def restart(self, ledger: Ledger, training_length: int | None) -> bool:
        """Go back to the beginning, as a member of a group.

        Args:
            ledger: The ledger of the hyper-parameter.
            training_length: What stands for an `end` that was not given; if None, what it was built with.

        Returns:
            Whether it changes anything: it has moved, or gives other values than before.
        """
        layer: Layer = self.__dict__.get("_layer") or self._new_layer(self._new_clock())
        self._attach(ledger, layer)
        clock, fresh, span = layer.clock, self._new_clock(), self.span
        moved = clock.tick != 0 or clock.guessed or clock.fold != fresh.fold
        self.fit_training(training_length)
        clock.tick, clock.guessed, clock.fold = 0, False, fresh.fold
        clock.opened = (0, 0, 0) if self.begin == 0 else None
        return moved or self.has_shares or self.span != span

    @final
    def fit_training(self, length: int | None) -> None:
        """Take training to be *length* ticks long; None leaves it as it is.

        Raises:
            ValueError: The schedule does not fit into so short a training.
        """
        if length is None and not self.has_shares:
            return
        if length is not None:
            self.__dict__["_training_length"] = length
        if self.has_shares:
            try:
                self._fit()
            except ValueError as error:
                text = f"{error} This follows from shares of a training of {length} {self.clock_unit}s."
                raise ValueError(text) from error
            self.known_configuration()
        self._tell_twin()

    @final
    def take_settings(self, other: ParamScheduler) -> None:
        """Take over the configuration of *other*, a schedule of the same class on the same hyper-parameter."""
        for each in fields(self):
            if each.name not in ("optimizer", "last_step", "verbose"):
                self._set(each.name, getattr(other, each.name))
        self.__dict__["_shares"] = other.shares
        self.fit_training(None)
        self.known_configuration()
        self._tell_twin()

    @final
    def _tell_twin(self) -> None:
        layer = self.__dict__.get("_layer")
        if layer is not None:
            settings = {name: value for name, value in self.__dict__.items() if name not in _NOT_OF_TWIN}
            layer.schedule.__dict__.update(settings)


for _field in fields(ParamScheduler):
    if _field.name == "last_step":
        _field.type = "int"  # what help() and inspect.signature show of every subclass; the descriptor is our affair
