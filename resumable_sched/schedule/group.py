"""Drive all schedules of a training run from one position, and save and load them as one state."""

from __future__ import annotations

import hashlib
import json
import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from resumable_sched.schedule import comparison, resumption
from resumable_sched.schedule.ahead import LONGEST, SHORTEST, RunAhead
from resumable_sched.schedule.arguments import whole
from resumable_sched.schedule.composition import Composition
from resumable_sched.schedule.ledger import Ledger, ledger_of, ledgers_of
from resumable_sched.schedule.plateau import ReduceOnPlateauParamScheduler
from resumable_sched.schedule.scheduler import ParamScheduler
from resumable_sched.schedule.state import (
    VERSION,
    GroupState,
    ParameterState,
    Position,
    ScheduleState,
    encode_float,
    encode_floats,
    parse,
    plain,
    plateau_state,
)
from resumable_sched.schedule.timeline import Counters, ParameterKey, Timeline, training_length
from resumable_sched.schedule.trace import Trace, look_ahead

if TYPE_CHECKING:
    from resumable_sched.schedule.composition import Unit
    from resumable_sched.schedule.targets import HasParamGroups

__all__ = ["SchedulerGroup"]

ONLY = "optimizer"
"""The name of an optimizer that was given without one."""


class SchedulerGroup:
    """Drive a list of schedules, on one optimizer or on several, from one explicit position.

    The training loop says what has happened; it is the only thing that moves a clock::

        group = SchedulerGroup(optimizer, [LinearLR(optimizer, end=500, by_epoch=False), StepLR(optimizer, 30)])
        for epoch in range(epochs):
            for batch in loader:
                ...
                optimizer.step()
                group.step()
            group.step_epoch()

    The schedules must be new, must belong to the optimizers, and there must be no others on these: a group owns what
    it drives, and a schedule that it drives can no longer be stepped by itself.

    Args:
        optimizers: An optimizer, or a dict of them by name.
        schedulers: The schedules in list order, or a dict of lists by the name of the optimizer.
        epoch_length: Iterations of an epoch. Where it is known, a `step` beyond it without `step_epoch` is an error.
        max_epochs: Epochs of the training; a schedule whose `end` was not given ends there.
        max_iters: Iterations of the training; the same for schedules by iteration.
        on_mismatch: What `load_state_dict` does about a changed configuration: "error", "keep" or "adopt".

    Raises:
        TypeError: *schedulers* holds something else.
        ValueError: A schedule is missing in the list, is there twice, has been stepped, belongs to another optimizer,
            or begins after the training has ended.
    """

    def __init__(
        self,
        optimizers: HasParamGroups | Mapping[str, HasParamGroups],
        schedulers: Sequence[ParamScheduler] | Mapping[str, Sequence[ParamScheduler]],
        *,
        epoch_length: int | None = None,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        on_mismatch: comparison.OnMismatch = "error",
    ) -> None:
        self._several = isinstance(optimizers, Mapping)
        self._optimizers: dict[str, HasParamGroups] = (
            dict(optimizers) if isinstance(optimizers, Mapping) else {ONLY: optimizers}
        )
        self._epoch_length = None if epoch_length is None else whole("epoch_length", epoch_length, minimum=1)
        self._max_epochs = None if max_epochs is None else whole("max_epochs", max_epochs, minimum=1)
        self._max_iters = None if max_iters is None else whole("max_iters", max_iters, minimum=1)
        self._epoch_limit: float = math.inf if self._epoch_length is None else self._epoch_length
        self._ahead: RunAhead | None = None
        self._stride = SHORTEST
        self._on_mismatch = comparison.check_policy(on_mismatch)
        self._schedulers = self._assign(schedulers)
        for _, scheduler in self._schedulers:
            if scheduler.layer.clock.tick != 0:
                raise ValueError(
                    f"`schedulers` must be new, but {type(scheduler).__name__} is at tick "
                    f"{scheduler.layer.clock.tick} instead. Build it again, and set the position with load_state_dict."
                )
            scheduler.check_training_length(self.training_length(scheduler.clock_unit))
        self._take_over()

    # ------------------------------------------------------------------ what training says
    def step(self, samples: int = 0, tokens: int = 0) -> None:
        """Count a completed optimizer update; moves the schedules by iteration, and none by epoch.

        Args:
            samples: Samples that the update has seen.
            tokens: Tokens that it has seen.

        Raises:
            RuntimeError: The epoch has its `epoch_length` iterations already, or another group has taken over.
            ValueError: A count is negative.
        """
        if samples.__class__ is not int or samples < 0:
            samples = whole("samples", samples, minimum=0)
        if tokens.__class__ is not int or tokens < 0:
            tokens = whole("tokens", tokens, minimum=0)
        counters, ahead = self._timeline.counters, self._ahead
        if ahead is not None and counters.iteration_in_epoch < self._epoch_limit and ahead.step():
            counters.iteration += 1
            counters.iteration_in_epoch += 1
            if samples:
                counters.samples += samples
            if tokens:
                counters.tokens += tokens
        else:
            self._step_slowly(samples, tokens)

    def _step_slowly(self, samples: int, tokens: int) -> None:
        """Do all that a step may have to, and then compute the next ones ahead."""
        if self.iteration_in_epoch >= self._epoch_limit:
            raise RuntimeError(
                f"`step_epoch` must be called after {self._epoch_length} iterations (`epoch_length`), but epoch "
                f"{self.epoch} goes on after iteration {self.iteration} instead."
            )
        self._check_optimizers()
        self._end_run()
        self._write(self._timeline.finish_iteration(samples, tokens))
        if RunAhead.possible(self._ledgers) and not any(scheduler.verbose for scheduler in self.schedulers):
            counters, compositions = self._timeline.counters, self._timeline.compositions
            self._ahead = RunAhead(compositions, self._ledgers, counters, self._stride)

    def _end_run(self) -> None:
        """Stop running ahead; the next time go further if nothing has interrupted, and less far if something has."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            complete = ahead.position == ahead.planned
            self._stride = min(self._stride * 2, LONGEST) if complete else max(ahead.position, 1)
            ahead.release()

    def step_epoch(self) -> None:
        """Count a completed epoch; moves the schedules by epoch.

        Raises:
            RuntimeError: Another group has taken over.
        """
        self._check_optimizers()
        self._write(self._timeline.finish_epoch())

    def observe(self, metrics: Mapping[str, Any]) -> None:
        """Give the metrics of a validation to the plateau schedules whose windows are open.

        Args:
            metrics: Names and numbers.

        Raises:
            TypeError: *metrics* is no dict.
            KeyError: A metric that a plateau schedule monitors is missing; no schedule has seen any then.
            RuntimeError: Another group has taken over.
        """
        if not isinstance(metrics, Mapping):
            raise TypeError(f"`metrics` must be a dict of names and numbers, but is {metrics!r} instead.")
        self._check_optimizers()
        found = [
            (key, scheduler)
            for key, scheduler in self._keyed()
            if isinstance(scheduler, ReduceOnPlateauParamScheduler) and scheduler.layer.in_window
        ]
        for _, scheduler in found:
            scheduler.metric(metrics)
        for key, scheduler in found:
            scheduler.observe(self._timeline.compositions[key], scheduler.layer, metrics)
        self._write([key for key, _ in found])

    # ------------------------------------------------------------------ what it knows
    @property
    def iteration(self) -> int:
        """Give the completed optimizer updates."""
        return self._timeline.counters.iteration

    @property
    def epoch(self) -> int:
        """Give the completed epochs."""
        return self._timeline.counters.epoch

    @property
    def iteration_in_epoch(self) -> int:
        """Give the updates since the last epoch ended."""
        return self._timeline.counters.iteration_in_epoch

    @property
    def samples(self) -> int:
        """Give the samples seen."""
        return self._timeline.counters.samples

    @property
    def tokens(self) -> int:
        """Give the tokens seen."""
        return self._timeline.counters.tokens

    @property
    def optimizers(self) -> dict[str, HasParamGroups]:
        """Give the optimizers by name; the name is "optimizer" where none was given."""
        return dict(self._optimizers)

    @property
    def schedulers(self) -> tuple[ParamScheduler, ...]:
        """Give the schedules in list order."""
        return tuple(scheduler for _, scheduler in self._schedulers)

    def values(self) -> dict[str, Any]:
        """Give the present value of each param group: ``{"lr": [...], "momentum": [...]}``.

        Where the optimizers were given by name, a dict of these by name.
        """
        if self._ahead is not None and self._ahead.running:
            return self._arranged(self._ahead.values())
        return self._arranged({key: composition.values() for key, composition in self._timeline.compositions.items()})

    def trace(
        self, iterations: int | range, epoch_length: int | None = None, *, samples_per_iteration: int | None = None
    ) -> Trace:
        """Give the values that updates to come will use, exactly as training will use them; changes nothing.

        A plateau schedule keeps what it has reached: nobody knows its metrics yet.

        Args:
            iterations: How many updates from here on; or which, as a range of completed updates before each of them,
                such as ``range(0, 10**9, 10**5)``.
            epoch_length: Iterations of an epoch; the group's own by default.
            samples_per_iteration: Samples of an update, to have them counted too.

        Raises:
            ValueError: There are schedules by epoch, and nobody says how long an epoch is; or the range falls, or
                begins before the present iteration.
        """
        if isinstance(iterations, range):
            rows = iterations
            if rows.step < 1 or (rows and rows[0] < self.iteration):
                raise ValueError(
                    f"`iterations` must rise from the present iteration {self.iteration} on, but is {rows!r} instead."
                )
        else:
            rows = range(self.iteration, self.iteration + whole("iterations", iterations, minimum=0))
        length = self._epoch_length if epoch_length is None else whole("epoch_length", epoch_length, minimum=1)
        if samples_per_iteration is not None:
            samples_per_iteration = whole("samples_per_iteration", samples_per_iteration, minimum=0)
        if length is None and any(scheduler.by_epoch for scheduler in self.schedulers):
            raise ValueError("`epoch_length` must be given where schedules count epochs, but is None instead.")
        names = {key: ".".join(key) if self._several else key[1] for key in self._timeline.compositions}
        return look_ahead(self._timeline, rows, length, samples_per_iteration, names)

    def summary(self) -> dict[str, Any]:
        """Give position, fingerprint of the configuration and present values as plain JSON, for listings."""
        config = [[name, scheduler.configuration()] for name, scheduler in self._schedulers]
        base = [[*key, encode_floats(each.base)] for key, each in self._timeline.compositions.items()]
        text = json.dumps([config, base], sort_keys=True)
        values = {
            key: [encode_float(value) for value in composition.values()]
            for key, composition in self._timeline.compositions.items()
        }
        return {
            "position": asdict(self._timeline.counters),
            "fingerprint": hashlib.sha256(text.encode()).hexdigest()[:16],
            "values": self._arranged(values),
        }

    def training_length(self, unit: Unit) -> int | None:
        """Give how long training lasts in ticks of a clock; None if nobody said."""
        lengths = {"epoch_length": self._epoch_length, "max_epochs": self._max_epochs, "max_iters": self._max_iters}
        return training_length(unit, **lengths)

    def __repr__(self) -> str:
        schedulers = ", ".join(map(repr, self.schedulers))
        return f"SchedulerGroup([{schedulers}], iteration={self.iteration}, epoch={self.epoch})"

    # ------------------------------------------------------------------ state
    def state_dict(self) -> dict[str, Any]:
        """Give the position, what cannot be computed from it, and the configuration to compare with; plain JSON.

        Raises:
            RuntimeError: Another group has taken over.
        """
        self._check_optimizers()
        return plain(
            GroupState(
                version=VERSION,
                kind="SchedulerGroup",
                position=Position(**asdict(self._timeline.counters)),
                parameters=[
                    ParameterState(
                        optimizer=optimizer,
                        name=name,
                        base=encode_floats(composition.base),
                        values=encode_floats(composition.values()),
                    )
                    for (optimizer, name), composition in self._timeline.compositions.items()
                ],
                schedulers=[
                    ScheduleState(
                        optimizer=key[0],
                        config=scheduler.configuration(),
                        opened=resumption.saved_opening(self._timeline.compositions[key], scheduler.layer),
                        plateau=plateau_state(scheduler.layer.clock),
                    )
                    for key, scheduler in self._keyed()
                ],
            )
        )

    def load_state_dict(self, state: Mapping[str, Any], on_mismatch: comparison.OnMismatch | None = None) -> None:
        """Continue where *state* was saved, and write the values into the optimizers.

        Args:
            state: What :meth:`state_dict` gave, also through JSON.
            on_mismatch: What to do where the saved configuration or an initial value differs from this one: "error";
                "keep" the saved schedules; "adopt" these at the saved position. By default, what the group was built
                with.

        Raises:
            StateFormatError: *state* is of another kind or version, or damaged.
            ScheduleMismatchError: Something differs that *on_mismatch* does not allow.
        """
        plan = self._plan(state, on_mismatch)
        self._end_run()
        if plan.replacements is not None:
            self._schedulers = list(plan.replacements)
            self._take_over()
        for scheduler, config in plan.configurations:
            scheduler.take_configuration(config)
        saved = plan.saved
        timeline = self._timeline
        timeline.counters = Counters(**plain(saved.position))
        for (key, scheduler), memory in zip(self._keyed(), plan.memories, strict=True):
            resumption.set_clock(timeline, timeline.compositions[key], scheduler.layer, memory)
        for key, composition in timeline.compositions.items():
            parameter = plan.parameters.get(key)
            if parameter is None:
                composition.chain = None  # it was not scheduled then: a chain starts from the closed form
                composition.settle(composition.values())
            else:
                composition.rebase(parameter.base)
                composition.settle(parameter.values)
            self._ledgers[key].adopt_groups()

    def check_state_dict(self, state: Mapping[str, Any], on_mismatch: comparison.OnMismatch | None = None) -> None:
        """Raise what :meth:`load_state_dict` would raise, and change nothing.

        Raises:
            StateFormatError: *state* is of another kind or version, or damaged.
            ScheduleMismatchError: Something differs that *on_mismatch* does not allow.
        """
        self._plan(state, on_mismatch)

    def _plan(self, state: Mapping[str, Any], on_mismatch: str | None) -> resumption.Plan:
        policy = self._on_mismatch if on_mismatch is None else comparison.check_policy(on_mismatch)
        saved = parse(state, GroupState, "SchedulerGroup")
        self._check_ownership()
        for ledger in self._ledgers.values():
            ledger.check_groups()
        return resumption.plan(
            saved,
            self._optimizers,
            self._schedulers,
            self._ledgers,
            training_length=self.training_length,
            policy=policy,
        )

    # ------------------------------------------------------------------ copies
    def __getstate__(self) -> dict[str, Any]:
        left_out = ("_timeline", "_ledgers", "_ahead")
        kept = {name: value for name, value in self.__dict__.items() if name not in left_out}
        return {"settings": kept, "state": self.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state["settings"])
        self._ahead = None
        self._take_over()
        self.load_state_dict(state["state"], "keep")

    # ------------------------------------------------------------------ inside
    def _assign(
        self, schedulers: Sequence[ParamScheduler] | Mapping[str, Sequence[ParamScheduler]]
    ) -> list[tuple[str, ParamScheduler]]:
        """Find the name of the optimizer of each schedule."""
        named = {id(optimizer): name for name, optimizer in self._optimizers.items()}
        if len(named) != len(self._optimizers):
            raise ValueError(f"`optimizers` must hold each optimizer once, but the names are {list(self._optimizers)}.")
        found: list[tuple[str, ParamScheduler]] = []
        lists = list(schedulers.items()) if isinstance(schedulers, Mapping) else [(None, schedulers)]
        for expected, members in lists:
            if not isinstance(members, Sequence):
                raise TypeError(
                    f"`schedulers` must be a list of schedules, or a dict of such, but is {members!r} instead."
                )
            for scheduler in members:
                if not isinstance(scheduler, ParamScheduler):
                    raise TypeError(f"`schedulers` must hold schedules, but holds {scheduler!r} instead.")
                name = named.get(id(scheduler.optimizer))
                if name is None or expected not in (None, name):
                    owner = "an optimizer of the group" if expected is None else f"the optimizer {expected!r}"
                    raise ValueError(f"`schedulers` must act on {owner}, but {scheduler!r} acts on another one.")
                if any(scheduler is other for _, other in found):
                    raise ValueError(f"`schedulers` must hold each schedule once, but {scheduler!r} is there twice.")
                found.append((name, scheduler))
        self._check_complete([scheduler for _, scheduler in found])
        return found

    def _check_complete(self, schedulers: Sequence[ParamScheduler]) -> None:
        """Refuse a list that lacks a schedule that acts on one of the optimizers."""
        known = {id(scheduler.layer) for scheduler in schedulers}
        for optimizer in self._optimizers.values():
            for ledger in ledgers_of(optimizer).values():
                for layer in ledger.composition.layers:
                    if id(layer) not in known:
                        raise ValueError(
                            f"`schedulers` must hold every schedule of its optimizers, but {layer.schedule!r} is "
                            "missing. Build a new optimizer where an old schedule shall not act any more."
                        )

    def _keyed(self) -> list[tuple[ParameterKey, ParamScheduler]]:
        return [((name, scheduler.param_name), scheduler) for name, scheduler in self._schedulers]

    def _take_over(self) -> None:
        """Become the owner of what the schedules act on, put everything to the beginning, and write."""
        self._timeline = Timeline()
        self._ahead = None
        ledgers = {key: ledger_of(self._optimizers[key[0]], key[1]) for key, _ in self._keyed()}
        idle = [
            ledger
            for optimizer in self._optimizers.values()
            for ledger in ledgers_of(optimizer).values()
            if all(ledger is not owned for owned in ledgers.values())
        ]
        for ledger in ledgers.values():
            ledger.composition.release()  # whoever drove these schedules stops doing so
        for key, scheduler in self._keyed():
            scheduler.restart(ledgers[key], self.training_length(scheduler.clock_unit))
        self._ledgers: dict[ParameterKey, Ledger] = ledgers
        for key, ledger in ledgers.items():
            layers = [scheduler.layer for own, scheduler in self._keyed() if own == key]
            for layer in layers:
                layer.clock.opened = (0, 0, 0) if layer.schedule.begin == 0 else None
            ledger.composition = Composition(layers, ledger.composition.base)
            ledger.owner = weakref.ref(self)
            self._timeline.compositions[key] = ledger.composition
            ledger.adopt_groups()
        for ledger in idle:  # what only a schedule that was replaced had moved goes back to its base
            if ledger.composition.layers:
                ledger.composition = Composition((), ledger.composition.base)
                ledger.adopt_groups()

    def _check_ownership(self) -> None:
        for ledger in self._ledgers.values():
            if ledger.driver is not self:
                raise RuntimeError(
                    "This SchedulerGroup does not drive its schedules any more: another group has taken over."
                )

    def _check_optimizers(self) -> None:
        self._check_ownership()
        if self._ahead is not None:
            self._ahead.rest()
        for ledger in self._ledgers.values():
            ledger.check()

    def _write(self, keys: Sequence[ParameterKey]) -> None:
        for key in keys:
            values = self._ledgers[key].write()
            for own, scheduler in self._keyed():
                if own == key and scheduler.verbose:
                    for group, value in enumerate(values):
                        scheduler.print_value(is_verbose=True, group=group, value=value)

    def _arranged(self, values: Mapping[ParameterKey, list[Any]]) -> dict[str, Any]:
        """Key by parameter, and by optimizer first where these were given by name."""
        if not self._several:
            return {name: each for (_, name), each in values.items()}
        arranged: dict[str, Any] = {optimizer: {} for optimizer in self._optimizers}
        for (optimizer, name), each in values.items():
            arranged[optimizer][name] = each
        return arranged
