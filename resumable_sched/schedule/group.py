"""Drive all schedules of a training run from one position, and save and load them as one state."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from resumable_sched.schedule import comparison, resumption
from resumable_sched.schedule.arguments import whole
from resumable_sched.schedule.changes import amendments_for, extended, the_parameter
from resumable_sched.schedule.driver import Driver
from resumable_sched.schedule.lengths import Lengths
from resumable_sched.schedule.membership import assigned, check_arguments, check_new
from resumable_sched.schedule.reports import quiet
from resumable_sched.schedule.selection import group_names
from resumable_sched.schedule.state import GroupState, encode_float, encode_floats, parse, plain
from resumable_sched.schedule.trace import Trace, look_ahead, rows_from

if TYPE_CHECKING:
    from collections.abc import Callable

    from resumable_sched.schedule.amendments import Amendment
    from resumable_sched.schedule.layer import Unit
    from resumable_sched.schedule.scheduler import ParamScheduler
    from resumable_sched.schedule.selection import GroupChoice
    from resumable_sched.schedule.targets import HasParamGroups
    from resumable_sched.schedule.timeline import ParameterKey
    from resumable_sched.schedule.turns import Turn

__all__ = ["ONLY", "SchedulerGroup"]

_NONE: Final = 0
"""What `step` has where nothing was given: being that very object, it need not be checked."""

ONLY: Final = "optimizer"
"""The name of an optimizer that was given without one."""

logger = logging.getLogger("resumable_sched")


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
        max_samples: Samples of the training; the same for schedules by sample.
        max_tokens: Tokens of the training; the same for schedules by token.
        cadence: For an optimizer that is not updated in every iteration, every how many it is, such as
            ``{"generator": 5}``. Its schedules by iteration count its own updates.
        agree: Makes one of the metrics of all ranks, such as `resumable_sched.distributed.mean_over_ranks`; for
            plateau schedules whose metrics the loop does not reduce over the ranks itself.
        on_mismatch: What `load_state_dict` does about a changed configuration: "error", "keep" or "adopt".

    Raises:
        TypeError: *schedulers* holds something else.
        ValueError: A schedule is missing in the list, is there twice, has been stepped, belongs to another optimizer,
            or begins after the training has ended; or schedules overlap that count samples and cannot be computed.
    """

    per_rank: ClassVar[bool] = False
    """Whether each rank has a state of its own; a checkpoint asks. All ranks must have the same."""

    def __init__(
        self,
        optimizers: HasParamGroups | Mapping[str, HasParamGroups],
        schedulers: Sequence[ParamScheduler] | Mapping[str, Sequence[ParamScheduler]],
        *,
        epoch_length: int | None = None,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        max_samples: int | None = None,
        max_tokens: int | None = None,
        cadence: Mapping[str, int] | None = None,
        agree: Callable[[dict[str, float]], Mapping[str, float]] | None = None,
        on_mismatch: comparison.OnMismatch = "error",
    ) -> None:
        self._named = isinstance(optimizers, Mapping)
        self._optimizers: dict[str, HasParamGroups] = (
            dict(optimizers) if isinstance(optimizers, Mapping) else {ONLY: optimizers}
        )
        lengths = Lengths.checked(
            epoch_length=epoch_length,
            max_epochs=max_epochs,
            max_iters=max_iters,
            max_samples=max_samples,
            max_tokens=max_tokens,
        )
        check_arguments(self._optimizers, cadence, agree)
        every = {name: whole("cadence", each, minimum=1) for name, each in (cadence or {}).items()}
        self._agree = agree
        self._on_mismatch = comparison.check_policy(on_mismatch)
        members = assigned(self._optimizers, schedulers)
        check_new(members)
        self._driver = Driver(self._optimizers, members, lengths, every)

    # ------------------------------------------------------------------ what training says
    def step(self, samples: int = 0, tokens: int = 0, *, optimizers: Sequence[str] | None = None) -> None:
        """Count a completed optimizer update; moves the schedules by iteration, sample and token, and none by epoch.

        Args:
            samples: Samples that the update has seen, on all ranks.
            tokens: Tokens that it has seen, on all ranks.
            optimizers: The names of those that were updated; by default all, or as `cadence` says.

        Raises:
            ForeignWriterError: Other code sets a scheduled value at every step.
            RuntimeError: The epoch has its `epoch_length` iterations already, or another group has taken over.
            ValueError: A count is negative, or 0 although schedules count it.
        """
        if samples is not _NONE and (samples.__class__ is not int or samples < 0):
            samples = whole("samples", samples, minimum=0)
        if tokens is not _NONE and (tokens.__class__ is not int or tokens < 0):
            tokens = whole("tokens", tokens, minimum=0)
        driver = self._driver
        counters, ahead = driver.timeline.counters, driver.ahead
        if (
            ahead is not None
            and optimizers is None
            and counters.iteration_in_epoch < driver.epoch_limit
            and (ahead.expects is None or ahead.expects == (samples, tokens))
            and ahead.step()
        ):
            counters.iteration += 1
            counters.iteration_in_epoch += 1
            if samples:
                counters.samples += samples
            if tokens:
                counters.tokens += tokens
        else:
            driver.step_slowly(samples, tokens, optimizers)

    def step_epoch(self) -> None:
        """Count a completed epoch; moves the schedules by epoch.

        Raises:
            ForeignWriterError: Other code sets a scheduled value again and again, or to no finite number.
            RuntimeError: Another group has taken over.
        """
        self._driver.check()
        self._driver.report()
        self._driver.write(self._driver.timeline.finish_epoch())

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
        self._driver.observe(metrics, self._agree)

    def add_param_group(self, param_group: dict[str, Any], optimizer: str | None = None) -> None:
        """Add a param group to an optimizer, and schedule it from the very next update on.

        Its values are those that it would have had from the beginning: its base is what *param_group* says, or the
        optimizer's default. But no metric so far has reduced it, and where floors overlap other schedules it begins as
        if they had not. (One that is added to the optimizer itself is scheduled from the next `step` on.)

        Args:
            param_group: What the optimizer's ``add_param_group`` takes.
            optimizer: The name of the optimizer, where there are several.

        Raises:
            ValueError: A schedule has a list of values, one for each param group, and none for this one.
        """
        if optimizer is None and len(self._optimizers) > 1:
            raise ValueError(f"`optimizer` must be one of {list(self._optimizers)}, but is None instead.")
        name = next(iter(self._optimizers)) if optimizer is None else optimizer
        self._driver.check_names("optimizer", [name])
        self._driver.add_param_group(name, param_group)

    def amend(
        self,
        name: str,
        *,
        scale: float | None = None,
        value: float | None = None,
        reset: bool = False,
        groups: GroupChoice = None,
        optimizer: str | None = None,
        reason: str = "",
    ) -> None:
        """Change the value of a hyper-parameter from now on, beside its schedules; part of state, trace and picture.

        ::

            group.amend("lr", scale=0.5, reason="loss spike")

        Args:
            name: The hyper-parameter.
            scale: Multiply what the schedules, and earlier amendments, give; or
            value: hold this value, whatever the schedules say; or
            reset: put all earlier amendments out of force.
            groups: The param groups, as for a schedule; all by default.
            optimizer: The name of the optimizer, where several schedule *name*.
            reason: Why, for logs and pictures.

        Raises:
            KeyError: It is not scheduled.
            ValueError: The arguments do not fit each other.
        """
        key = the_parameter(self._driver.timeline.compositions, name, optimizer)
        self._driver.check()
        made = amendments_for(
            self._driver.ledgers[key],
            self.iteration,
            scale=scale,
            value=value,
            reset=reset,
            groups=groups,
            reason=reason,
        )
        self._driver.amend(key, made)
        logger.info("`%s` is amended at iteration %d: %s.", name, self.iteration, made[0].label)

    def extend(
        self,
        *,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        max_samples: int | None = None,
        max_tokens: int | None = None,
    ) -> None:
        """Make training longer or shorter than it was to be.

        Windows whose `end` was not given, and shares of training, follow. The values are from now on those of a
        training that was to be so long from the beginning: where a window has changed that is open, or was, they may
        jump, which is logged. What the past has used is not changed. A chain goes on from where it is.

        Args:
            max_epochs: Epochs of the whole training.
            max_iters: Iterations of the whole training.
            max_samples: Samples of the whole training.
            max_tokens: Tokens of the whole training.

        Raises:
            ValueError: No length is given, training has gone further already, or a schedule does not fit into it.
        """
        asked = {"max_epochs": max_epochs, "max_iters": max_iters, "max_samples": max_samples, "max_tokens": max_tokens}
        given = extended(asked, self._driver.timeline.counters)
        self._driver.check()
        before = self.values()
        self._driver.end_run()
        self._driver.extend(given)
        logger.info("Training is to last %s now.", ", ".join(f"{name}={it}" for name, it in given.items()))
        if self.values() != before:
            logger.warning("The change of the length of training moves %r to %r.", before, self.values())

    def fill_lengths(
        self,
        *,
        epoch_length: int | None = None,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        max_samples: int | None = None,
        max_tokens: int | None = None,
    ) -> None:
        """Say how long epochs and training are, as if it had been said at build; what was said there stays.

        It is for whoever drives a group that somebody else has built, as a `Runner` does.

        Args:
            epoch_length: Iterations of an epoch.
            max_epochs: Epochs of the training.
            max_iters: Iterations of the training.
            max_samples: Samples of the training.
            max_tokens: Tokens of the training.

        Raises:
            ValueError: A length is not positive, or a schedule does not fit into it.
        """
        said = Lengths.checked(
            epoch_length=epoch_length,
            max_epochs=max_epochs,
            max_iters=max_iters,
            max_samples=max_samples,
            max_tokens=max_tokens,
        )
        self._driver.check()
        self._driver.end_run()
        self._driver.fill_lengths(said)

    # ------------------------------------------------------------------ what it knows
    @property
    def iteration(self) -> int:
        """Return the completed optimizer updates."""
        return self._driver.timeline.counters.iteration

    @property
    def epoch(self) -> int:
        """Return the completed epochs."""
        return self._driver.timeline.counters.epoch

    @property
    def iteration_in_epoch(self) -> int:
        """Return the updates since the last epoch ended."""
        return self._driver.timeline.counters.iteration_in_epoch

    @property
    def counts_epochs(self) -> bool:
        """Return whether `step_epoch` matters: an epoch was counted, or has a length, or a schedule counts epochs."""
        return self.epoch > 0 or self._driver.lengths.epoch_length is not None or "epoch" in self._driver.units

    @property
    def samples(self) -> int:
        """Return the samples seen."""
        return self._driver.timeline.counters.samples

    @property
    def tokens(self) -> int:
        """Return the tokens seen."""
        return self._driver.timeline.counters.tokens

    @property
    def amendments(self) -> dict[str, tuple[Amendment, ...]]:
        """Return what was changed beside the schedules, by what a trace calls the hyper-parameters."""
        named = {self._name(key): tuple(each.amendments) for key, each in self._driver.timeline.compositions.items()}
        return {name: made for name, made in named.items() if made}

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Return what held before a metric, or another length of training, has moved values; oldest first."""
        return tuple(self._driver.turns)

    @property
    def known_from(self) -> int:
        """Return the iteration from which on the past follows from the schedules: others were adopted there."""
        return self._driver.known_from

    @property
    def lengths(self) -> Lengths:
        """Return how long epochs and training are, as far as it is known."""
        return self._driver.lengths

    @property
    def extension(self) -> dict[str, int]:
        """Return the lengths of training that `extend` has set, by name; empty if it has not."""
        built, now = self._driver.built.as_dict(), self._driver.lengths.as_dict()
        return {name: length for name, length in now.items() if length is not None and length != built[name]}

    @property
    def cadence(self) -> dict[str, int]:
        """Return every how many iterations an optimizer is updated; only for those that are not in every one."""
        return dict(self._driver.cadence)

    @property
    def updates(self) -> dict[str, int]:
        """Return the completed updates of each optimizer; fewer than iterations where it has a cadence of its own."""
        self._driver.catch_up()
        return {name: self._driver.timeline.counters.ticks("iteration", name) for name in self._optimizers}

    @property
    def optimizers(self) -> dict[str, HasParamGroups]:
        """Return the optimizers by name; the name is "optimizer" where none was given."""
        return dict(self._optimizers)

    @property
    def by_name(self) -> bool:
        """Return whether the optimizers were given by name, as values and traces then are."""
        return self._named

    @property
    def schedulers(self) -> tuple[ParamScheduler, ...]:
        """Return the schedules in list order."""
        return tuple(scheduler for _, scheduler in self._driver.schedulers)

    def values(self) -> dict[str, Any]:
        """Return the present value of each param group: ``{"lr": [...], "momentum": [...]}``.

        Where the optimizers were given by name, a dict of these by name.
        """
        self._driver.check_ownership()
        if self._driver.ahead is not None and self._driver.ahead.running:
            return self._arranged(self._driver.ahead.values())
        return self._arranged(
            {key: composition.values() for key, composition in self._driver.timeline.compositions.items()}
        )

    def trace(
        self,
        iterations: int | range,
        epoch_length: int | None = None,
        *,
        samples_per_iteration: int | None = None,
        tokens_per_iteration: int | None = None,
    ) -> Trace:
        """Return the values that updates to come will use, exactly as training will use them; changes nothing.

        A plateau schedule keeps what it has reached: nobody knows its metrics yet.

        Args:
            iterations: How many updates from here on; or which, as a range of completed updates before each of them,
                such as ``range(0, 10**9, 10**5)``.
            epoch_length: Iterations of an epoch; the group's own by default.
            samples_per_iteration: Samples of an update, to have them counted too.
            tokens_per_iteration: Tokens of an update, to have them counted too.

        Raises:
            ValueError: There are schedules by epoch, sample or token, and nobody says how long an epoch is or how large
                an update; or the range falls, or begins before the present iteration.
        """
        driver = self._driver
        driver.check_ownership()
        rows = rows_from(self.iteration, iterations)
        forecast = driver.forecast(epoch_length, samples_per_iteration, tokens_per_iteration)
        names = {key: self._name(key) for key in driver.timeline.compositions}
        groups = {key: group_names(self._optimizers[key[0]].param_groups) for key in names}
        return look_ahead(driver.timeline, rows, forecast, names, groups)

    def _name(self, key: ParameterKey) -> str:
        """Return what a trace calls a hyper-parameter."""
        return ".".join(key) if self._named else key[1]

    def summary(self) -> dict[str, Any]:
        """Return position, fingerprint of the configuration and present values as plain JSON, for listings."""
        self._driver.check_ownership()
        self._driver.catch_up()
        config = [[name, scheduler.configuration()] for name, scheduler in self._driver.schedulers]
        base = [[*key, encode_floats(each.base)] for key, each in self._driver.timeline.compositions.items()]
        text = json.dumps([config, base], sort_keys=True)
        values = {
            key: [encode_float(value) for value in composition.values()]
            for key, composition in self._driver.timeline.compositions.items()
        }
        return {
            "position": self._driver.timeline.counters.as_dict(),
            "fingerprint": hashlib.sha256(text.encode()).hexdigest()[:16],
            "values": self._arranged(values),
        }

    def training_length(self, unit: Unit) -> int | None:
        """Return how long training lasts in ticks of a clock; None if nobody said."""
        return self._driver.lengths.of_training(unit)

    def __repr__(self) -> str:
        schedulers = ", ".join(map(repr, self.schedulers))
        return f"SchedulerGroup([{schedulers}], iteration={self.iteration}, epoch={self.epoch})"

    # ------------------------------------------------------------------ state
    def state_dict(self) -> dict[str, Any]:
        """Return the position, what cannot be computed from it, and the configuration to compare with; plain JSON.

        Raises:
            RuntimeError: Another group has taken over.
        """
        self._driver.check()
        return plain(self._driver.state())

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
        self._driver.load(self._plan(state, on_mismatch))

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
        return self._driver.plan(saved, policy)

    # ------------------------------------------------------------------ copies
    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name != "_driver"}
        driver = self._driver
        settings = (driver.schedulers, driver.built, driver.cadence)
        return {"settings": kept, "driver": settings, "state": self.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state["settings"])
        with quiet():
            self._driver = Driver(self._optimizers, *state["driver"])
        self.load_state_dict(state["state"], "keep")

    # ------------------------------------------------------------------ inside
    def _arranged(self, values: Mapping[ParameterKey, list[Any]]) -> dict[str, Any]:
        """Key by parameter, and by optimizer first where these were given by name."""
        if not self._named:
            return {name: each for (_, name), each in values.items()}
        arranged: dict[str, Any] = {optimizer: {} for optimizer in self._optimizers}
        for (optimizer, name), each in values.items():
            arranged[optimizer][name] = each
        return arranged
