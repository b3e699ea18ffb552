"""Own the schedules of a group, the position, and what is written: the part of a `SchedulerGroup` that moves."""

from __future__ import annotations

import logging
import math
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from resumable_sched.schedule import resumption
from resumable_sched.schedule.ahead import LONGEST, SHORTEST, RunAhead
from resumable_sched.schedule.arguments import whole
from resumable_sched.schedule.comparison import mismatch
from resumable_sched.schedule.configuration import take_configuration
from resumable_sched.schedule.divergence import first_difference
from resumable_sched.schedule.forecast import Forecast
from resumable_sched.schedule.lengths import Lengths
from resumable_sched.schedule.ownership import check_chain, take_over
from resumable_sched.schedule.plateau import ReduceOnPlateauParamScheduler
from resumable_sched.schedule.reports import Reports, is_quiet
from resumable_sched.schedule.state import VERSION, ExtensionState, GroupState, LengthsState, plain
from resumable_sched.schedule.timeline import ParameterKey, Timeline
from resumable_sched.schedule.turns import Turn, restore_turns, standing, turn_states, with_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from resumable_sched.schedule.amendments import Amendment
    from resumable_sched.schedule.comparison import OnMismatch
    from resumable_sched.schedule.layer import Unit
    from resumable_sched.schedule.ledger import Ledger
    from resumable_sched.schedule.scheduler import ParamScheduler
    from resumable_sched.schedule.targets import HasParamGroups

__all__ = ["Driver"]

logger = logging.getLogger("resumable_sched")


class Driver:
    """Move schedules on optimizers, and write their values.

    Args:
        optimizers: The optimizers by name.
        schedulers: The schedules, each with the name of its optimizer.
        lengths: How long training is.
        cadence: For an optimizer that is not updated in every iteration, every how many it is.

    Attributes:
        optimizers: The optimizers by name.
        schedulers: The schedules in list order, each with the name of its optimizer.
        built: How long training was to be when it was started.
        lengths: How long training is.
        epoch_limit: After how many iterations an epoch must end.
        cadence: For an optimizer that is not updated in every iteration, every how many it is.
        timeline: The position and all compositions.
        ledgers: Who writes.
        ahead: The values of the next iterations, if they are computed already.
        turns: What held before something else than the position has moved values.
        known_from: The iteration from which on the past follows from the schedules.
        units: What the schedules count.

    Raises:
        ValueError: A schedule begins after the training has ended, or schedules overlap that count samples and cannot
            be computed.
    """

    def __init__(
        self,
        optimizers: Mapping[str, HasParamGroups],
        schedulers: Sequence[tuple[str, ParamScheduler]],
        lengths: Lengths,
        cadence: Mapping[str, int],
    ) -> None:
        self.optimizers = optimizers
        self.schedulers = list(schedulers)
        self.built = self.lengths = lengths
        self.epoch_limit = _limit(lengths)
        self.cadence = cadence
        self.timeline = Timeline(cadence=cadence)
        self.ledgers: dict[ParameterKey, Ledger] = {}
        self.units: set[Unit] = set()
        self._loaded: GroupState | None = None  # what the lengths follow from, until they are changed
        self.turns: list[Turn] = []
        self.known_from = 0
        self.ahead: RunAhead | None = None
        self._stride = SHORTEST
        self._pause = self._paused = 0
        self._reports = Reports()
        self.check_names("cadence", cadence)
        for name, scheduler in self.schedulers:
            scheduler.check_training_length(self.length_for(scheduler, name))
        self._take_over()
        if all(lengths.of_training(unit) is not None for unit in self.units):
            self.report()  # else as soon as training begins, because somebody may still say lengths

    def keyed(self) -> list[tuple[ParameterKey, ParamScheduler]]:
        """Return the schedules in list order, each with its hyper-parameter."""
        return [((name, scheduler.param_name), scheduler) for name, scheduler in self.schedulers]

    def length_for(self, scheduler: ParamScheduler, optimizer: str) -> int | None:
        """Return how long training lasts on the clock of *scheduler*."""
        return self.lengths.of_training(scheduler.clock_unit, self.cadence.get(optimizer, 1))

    def check_names(self, argument: str, names: Iterable[str]) -> None:
        """Check that *names* are those of optimizers.

        Raises:
            ValueError: One is not.
        """
        for name in names:
            if name not in self.optimizers:
                known = ", ".join(map(repr, self.optimizers))
                raise ValueError(f"`{argument}` must name optimizers of the group ({known}), but has {name!r}.")

    # ------------------------------------------------------------------ moving
    def step_slowly(self, samples: int, tokens: int, optimizers: Sequence[str] | None) -> None:
        """Do all that a step may have to, and then compute the next ones ahead; see `SchedulerGroup.step`."""
        counters = self.timeline.counters
        if counters.iteration_in_epoch >= self.epoch_limit:
            raise RuntimeError(
                f"`step_epoch` must be called after {self.lengths.epoch_length} iterations (`epoch_length`), but epoch "
                f"{counters.epoch} goes on after iteration {counters.iteration} instead."
            )
        self._reports.forgotten_epochs(counters, self.lengths, self.units)
        self.report()
        for name, count in (("samples", samples), ("tokens", tokens)):
            if not count and name[:-1] in self.units:
                raise ValueError(f"`{name}` must be given to `step` where schedules count {name}, but is 0 instead.")
        absent = None
        if optimizers is not None:
            if isinstance(optimizers, str) or not hasattr(optimizers, "__iter__"):
                raise TypeError(f"`optimizers` must be a list of names, but is {optimizers!r} instead.")
            self.check_names("optimizers", optimizers)
            absent = self.optimizers.keys() - set(optimizers)
        self.check()
        self.end_run()
        self.write(self.timeline.finish_iteration(samples, tokens, absent))
        if self._paused:
            self._paused -= 1
            return
        verbose = any(scheduler.verbose for _, scheduler in self.schedulers)
        if RunAhead.possible(self.timeline, self.ledgers) and not verbose:
            self._run_ahead((samples, tokens))

    def observe(
        self, metrics: Mapping[str, Any], agree: Callable[[dict[str, float]], Mapping[str, float]] | None
    ) -> None:
        """Give metrics to the plateau schedules whose windows are open; see `SchedulerGroup.observe`."""
        self.check()
        found = [
            (key, scheduler)
            for key, scheduler in self.keyed()
            if isinstance(scheduler, ReduceOnPlateauParamScheduler) and scheduler.layer.in_window
        ]
        known: Mapping[str, float] = {scheduler.monitor: scheduler.metric(metrics) for _, scheduler in found}
        if agree is not None and known:
            agreed = agree(dict(known))
            for name in known.keys() - agreed.keys():
                raise KeyError(f"`agree` must give every metric, but leaves out {name!r}.")
            known = agreed
        before = self.standing()
        for key, scheduler in found:
            scheduler.observe(self.timeline.compositions[key], scheduler.layer, known)
        self.remember(before)
        self.write([key for key, _ in found])

    def _run_ahead(self, counts: tuple[int, int]) -> None:
        """Compute the next iterations, if they can be: a user's schedule may have no value where no training comes."""
        try:
            self.ahead = RunAhead(self.timeline, self.ledgers, self._stride, counts)
        except Exception:  # noqa: BLE001 - raised again by the step that gets there, if one does
            self._stride = max(self._stride // 2, 1)

    def report(self) -> None:
        """Say once what is probably not what was meant."""
        self._reports.findings(self.schedulers, self.lengths, self.cadence)

    def forecast(
        self,
        epoch_length: int | None = None,
        samples_per_iteration: int | None = None,
        tokens_per_iteration: int | None = None,
    ) -> Forecast:
        """Assume how training goes on, from the present position; see `SchedulerGroup.trace`.

        Raises:
            ValueError: Nobody says how long an epoch is or how large an update, and schedules count those.
        """
        assumed = {
            "epoch_length": self.lengths.epoch_length if epoch_length is None else epoch_length,
            "samples_per_iteration": samples_per_iteration,
            "tokens_per_iteration": tokens_per_iteration,
        }
        for (name, size), unit in zip(assumed.items(), ("epoch", "sample", "token"), strict=True):
            if size is not None:
                assumed[name] = whole(name, size, minimum=1 if unit == "epoch" else 0)
            elif unit in self.units:
                raise ValueError(f"`{name}` must be given where schedules count {unit}s, but is None instead.")
        self.catch_up()
        return Forecast(self.timeline.counters, self.cadence, *assumed.values())

    def end_run(self) -> None:
        """Stop running ahead; the next time go further if nothing has interrupted, and less far if something has."""
        ahead, self.ahead = self.ahead, None
        if ahead is not None:
            complete = ahead.position == ahead.planned
            if ahead.position:
                self._pause = 0
            else:  # nothing of it was used: try again later, and later still if that is of no use either
                self._pause = self._paused = min(max(2 * self._pause, 1), 64)
            self._stride = min(self._stride * 2, LONGEST) if complete else max(ahead.position, 1)
            ahead.release()

    def catch_up(self) -> None:
        """Let clocks, counters and ledgers know what has run ahead of them."""
        if self.ahead is not None:
            self.ahead.rest()

    def check(self) -> None:
        """See what has happened to the optimizers, before anything moves on; see `Ledger.check`.

        Raises:
            RuntimeError: Another group has taken over, or what `Ledger.check` raises.
        """
        self.check_ownership()
        self.catch_up()
        iteration = self.timeline.counters.iteration
        changed = [ledger.check(iteration) for ledger in self.ledgers.values()]
        if any(changed) and self.ahead is not None:
            self.ahead.drop()  # what it has computed is not what the schedules give any more
            self.ahead = None

    def check_ownership(self) -> None:
        """Raise if another group has taken over.

        Raises:
            RuntimeError: That is so.
        """
        for ledger in self.ledgers.values():
            if ledger.driver is not self:
                raise RuntimeError(
                    "This SchedulerGroup does not drive its schedules any more: another group has taken over."
                )

    def write(self, keys: Sequence[ParameterKey]) -> None:
        """Write the values of hyper-parameters, and tell of them where a schedule is verbose."""
        for key in keys:
            values = self.ledgers[key].write()
            for own, scheduler in self.keyed():
                if own == key and scheduler.verbose:
                    for group, value in enumerate(values):
                        scheduler.print_value(is_verbose=True, group=group, value=value)

    # ------------------------------------------------------------------ changing
    def add_param_group(self, optimizer: str, param_group: dict[str, Any]) -> None:
        """Add a param group to *optimizer* and schedule it; see `SchedulerGroup.add_param_group`."""
        self.check()
        self.end_run()
        owner: Any = self.optimizers[optimizer]
        owner.add_param_group(param_group)
        ledgers = [ledger for key, ledger in self.ledgers.items() if key[0] == optimizer]
        try:
            for ledger in ledgers:
                ledger.check_growth()
        except (KeyError, TypeError, ValueError):
            owner.param_groups.pop()
            raise
        for ledger in ledgers:
            ledger.check_groups()

    def amend(self, key: ParameterKey, made: Sequence[Amendment]) -> None:
        """Put amendments into force.

        Raises:
            ValueError: The values cannot be written; nothing has changed.
        """
        self.end_run()
        composition, ledger = self.timeline.compositions[key], self.ledgers[key]
        before = composition.amendments
        composition.amendments = [*before, *made]
        try:
            ledger.write()
        except ValueError:
            composition.amendments = before
            ledger.write()
            raise

    # ------------------------------------------------------------------ what the past was
    def standing(self) -> Turn:
        """Return what holds now beside the position."""
        return standing(self.timeline.counters.iteration, self.lengths, [each for _, each in self.schedulers])

    def remember(self, before: Turn) -> None:
        """Note what held until now, if it does not hold any more."""
        self.turns = with_turn(self.turns, before, self.standing())

    # ------------------------------------------------------------------ lengths of training
    def change_lengths(self, lengths: Lengths) -> None:
        """Take up other lengths of training at the present position.

        Raises:
            ValueError: A schedule does not fit; nothing has changed.
        """
        old, before = self.lengths, self.standing()
        try:
            self._set_lengths(lengths)
        except ValueError:
            self._set_lengths(old)
            raise
        self.remember(before)
        for key, scheduler in self.keyed():
            composition, layer = self.timeline.compositions[key], scheduler.layer
            opened = resumption.saved_opening(composition, layer)
            resumption.place_clock(self.timeline, key, composition, layer, opened)
        for key, composition in self.timeline.compositions.items():
            composition.settle(composition.scheduled())
            self.ledgers[key].write()

    def extend(self, given: Mapping[str, int]) -> None:
        """Make training longer or shorter; see `SchedulerGroup.extend`."""
        self.change_lengths(self.lengths._replace(**given))
        self._loaded = None

    def fill_lengths(self, said: Lengths) -> None:
        """Take up the lengths that are not known; see `SchedulerGroup.fill_lengths`."""
        known = {name: length for name, length in self.built.as_dict().items() if length is not None}
        built = said._replace(**known)
        if built != self.built:
            if self._loaded is not None:
                lengths = resumption.lengths_after(self._loaded, built)
            else:
                present = {name: length for name, length in self.lengths.as_dict().items() if length is not None}
                lengths = said._replace(**present, surplus=self.lengths.surplus)
            turns = self.turns
            self.change_lengths(lengths)
            self.built, self.turns = built, turns  # as if it had been so from the beginning
            if self._loaded is not None:
                self._restore_turns(self._loaded)
        self.report()

    def _set_lengths(self, lengths: Lengths) -> None:
        self.lengths, self.epoch_limit = lengths, _limit(lengths)
        for name, scheduler in self.schedulers:
            length = self.length_for(scheduler, name)
            scheduler.check_training_length(length)
            scheduler.fit_training(length)
        for key, composition in self.timeline.compositions.items():
            check_chain(key[1], composition)

    # ------------------------------------------------------------------ state
    def state(self) -> GroupState:
        """Return what is saved."""
        compositions, extension = self.timeline.compositions, None
        if self.lengths is not self.built and self.lengths.as_dict() != self.built.as_dict():
            built, now = (LengthsState(**each._asdict()) for each in (self.built, self.lengths))
            extension = ExtensionState(built=built, now=now)
        return GroupState(
            version=VERSION,
            kind="SchedulerGroup",
            position=resumption.position_of(self.timeline.counters),
            parameters=[
                resumption.parameter_state(key, composition, self.optimizers[key[0]])
                for key, composition in compositions.items()
            ],
            schedulers=[
                resumption.schedule_state(key[0], scheduler, compositions[key]) for key, scheduler in self.keyed()
            ],
            extension=extension,
            lengths=LengthsState(**self.lengths._asdict()),
            cadence=dict(self.cadence),
            turns=turn_states(self.turns),
            known_from=self.known_from,
        )

    def plan(self, saved: GroupState, policy: OnMismatch) -> resumption.Plan:
        """Say what loading *saved* will do; see `resumption.plan`."""
        self.check_ownership()
        for ledger in self.ledgers.values():
            ledger.check_groups()
        self.check_names("state", saved.position.updates)
        plan = resumption.plan(
            saved,
            self.optimizers,
            self.schedulers,
            self.ledgers,
            cadence=self.cadence,
            training_length=self.length_for,
            policy=policy,
            first_difference=self._first_difference,
        )
        self._check_lengths(plan)
        return plan

    def _check_lengths(self, plan: resumption.Plan) -> None:
        """Refuse a load after which training would have a length that the schedules do not fit.

        Raises:
            ScheduleMismatchError: That is so.
        """
        present, lengths = self.lengths, resumption.lengths_after(plan.saved, self.built)
        done = plan.saved.position.iteration_in_epoch
        if lengths.epoch_length is not None and done > lengths.epoch_length:
            raise mismatch(
                [],
                f"`epoch_length` must be at least {done}, which the epoch has already, but is {lengths.epoch_length}.",
            )
        if lengths == present or plan.configurations:
            return  # saved schedules do fit what was saved with them
        try:
            if plan.replacements is None:
                self._set_lengths(lengths)
        except ValueError as error:
            text = f"They do not fit into a training of the length that was saved: {error}"
            raise mismatch([], text) from error
        finally:
            self._set_lengths(present)

    def _first_difference(self, saved: GroupState) -> str:
        return first_difference(
            saved,
            self.optimizers,
            self.schedulers,
            self.ledgers,
            lengths=self.lengths,
            training_length=self.length_for,
            cadence=self.cadence,
        )

    def load(self, plan: resumption.Plan) -> None:
        """Do what *plan* says, and continue there."""
        self.end_run()
        self.cadence = plan.cadence
        if plan.replacements is not None:
            self.schedulers = list(plan.replacements)
            self._take_over()
        self.timeline.cadence = plan.cadence
        for scheduler, config in plan.configurations:
            take_configuration(scheduler, config)
        self.timeline.counters = resumption.counters_of(plan.saved.position)
        lengths = resumption.lengths_after(plan.saved, self.built)
        if lengths != self.lengths or plan.configurations:
            self._set_lengths(lengths)
        for (key, scheduler), memory in zip(self.keyed(), plan.memories, strict=True):
            composition = self.timeline.compositions[key]
            opened = None if memory is None else memory.opened
            resumption.place_clock(self.timeline, key, composition, scheduler.layer, opened)
            resumption.restore_metrics(composition, scheduler.layer, memory)
        self._loaded = plan.saved
        if plan.adopted:
            self.turns, self.known_from = [], plan.saved.position.iteration
        else:
            self._restore_turns(plan.saved)
        moved = [text for key in self.timeline.compositions if (text := self._restore_values(key, plan))]
        if moved and not is_quiet():
            logger.warning(
                "Loading what was saved at iteration %d moves %s%s.",
                self.timeline.counters.iteration,
                ", ".join(moved),
                resumption.changed_lengths(plan.saved, self.lengths),
            )

    def _restore_turns(self, saved: GroupState) -> None:
        self.turns, self.known_from = restore_turns(saved.turns), saved.known_from
        if saved.lengths is None:
            self.known_from = saved.position.iteration  # it does not tell what the past was
        else:
            self.remember(self.standing()._replace(lengths=Lengths(**plain(saved.lengths))))

    def _restore_values(self, key: ParameterKey, plan: resumption.Plan) -> str:
        """Take up the values of a hyper-parameter, write them, and say what is not as it was; empty if all is."""
        composition, parameter = self.timeline.compositions[key], plan.parameters.get(key)
        if parameter is None:
            composition.amendments = []
            composition.chain = None  # it was not scheduled then: a chain starts from the closed form
            composition.settle(composition.scheduled())
            self.ledgers[key].adopt_groups()
            return ""
        composition.amendments = parameter.amendments
        if plan.configurations or composition.base != parameter.base:
            composition.rebase(parameter.base)
        composition.settle(parameter.path)
        written = self.ledgers[key].adopt_groups()
        if written == parameter.shown or _close(written, parameter.shown):
            return ""
        return f"`{key[1]}` of `{key[0]}` from {parameter.shown} to {written}"

    # ------------------------------------------------------------------ owning
    def _take_over(self) -> None:
        """Become the owner of what the schedules act on, put everything to the beginning, and write."""
        self.ahead = None
        self.units = {scheduler.clock_unit for _, scheduler in self.schedulers}
        self.ledgers = take_over(self, self.optimizers, self.keyed(), self.length_for)
        compositions = {key: ledger.composition for key, ledger in self.ledgers.items()}
        self.timeline = Timeline(compositions=compositions, cadence=self.cadence)


def _close(some: Sequence[float], others: Sequence[float]) -> bool:
    """Return whether two lists of values are the same, but for what another machine's libraries round otherwise."""
    return len(some) == len(others) and all(map(partial(math.isclose, rel_tol=1e-12), some, others))


def _limit(lengths: Lengths) -> int:
    return sys.maxsize if lengths.epoch_length is None else lengths.epoch_length
