"""What happens around the updates of a training: each hook is told of every event, in a fixed order."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, Protocol, final

from resumable_sched.checkpoint import CheckpointManager
from resumable_sched.distributed import EXIT_PREEMPTED, PreemptionGuard
from resumable_sched.schedule.arguments import whole

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from resumable_sched.checkpoint import Retention, Storage
    from resumable_sched.training.run import Run, Update

__all__ = ["CheckpointHook", "FactWriter", "Hook", "ParamSchedulerHook", "PreemptionHook", "TraceHook", "arranged"]


class Hook:
    """Do nothing at each event; a subclass does something at some of them.

    The events, in the order in which they come::

        before_train                   once, when the checkpoint has been restored
          before_train_epoch           also where a training goes on in the middle of an epoch
            before_train_iter          before each update
            after_train_iter           after each completed update; not after one that a scaler has skipped
          after_train_epoch
          after_val                    after a validation, which follows an update or an epoch
        after_train                    once, unless an error or a signal has ended the training

    At ``after_...`` events the hooks are told in this order: `ParamSchedulerHook`, so that the position is the new
    one; then those in ``Runner(hooks=)``, in the order of the list; then `CheckpointHook`, so that it saves what they
    did; `PreemptionHook` last. At ``before_...`` events `CheckpointHook` and `PreemptionHook` come first.

    A hook with ``state_dict`` and ``load_state_dict`` is saved and restored with the rest.
    """

    def before_train(self, runner: Run) -> None:
        """Begin; the position is where the training starts from."""

    def before_train_epoch(self, runner: Run) -> None:
        """Begin an epoch, or go on in the middle of one."""

    def before_train_iter(self, runner: Run) -> None:
        """Begin an update; the optimizers have the values that it will use."""

    def after_train_iter(self, runner: Run, update: Update) -> None:
        """End a completed optimizer update."""

    def after_train_epoch(self, runner: Run) -> None:
        """End an epoch; its validation, if there is one, comes after this."""

    def after_val(self, runner: Run, metrics: Mapping[str, float]) -> None:
        """End a validation; the metrics are the same on all ranks."""

    def after_train(self, runner: Run) -> None:
        """End the training."""


class ParamSchedulerHook(Hook):
    """Move the schedules: after each completed update, each epoch and each validation. It is always there."""

    def after_train_iter(self, runner: Run, update: Update) -> None:
        """Count the update."""
        runner.group.step(samples=update.samples, tokens=update.tokens)

    def after_train_epoch(self, runner: Run) -> None:
        """Count the epoch."""
        runner.group.step_epoch()

    def after_val(self, runner: Run, metrics: Mapping[str, float]) -> None:
        """Let the plateau schedules look at the metrics."""
        runner.group.observe(metrics)


class CheckpointHook(Hook):
    """Restore when training starts, save while it goes on and when it ends.

    Where a validation is due, the checkpoint is taken after it and holds its metrics, for `Retention.keep_best`.

    Args:
        url: A folder, or any URL that fsspec knows. One URL is for one run.
        every: Save after every so many epochs.
        by_epoch: False counts updates instead.
        retention: Which checkpoints to keep; None keeps all.
        storage_options: What the fsspec file system takes.
        asynchronous: Write in the background.
        state: What else to save, by name, such as ``{"ema": ema}``.

    Raises:
        ValueError: *every* is not positive.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | Storage,
        every: int = 1,
        *,
        by_epoch: bool = True,
        retention: Retention | None = None,
        storage_options: Mapping[str, Any] | None = None,
        asynchronous: bool = True,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self.url = url
        self.every = whole("every", every, minimum=1)
        self.by_epoch = by_epoch
        self.state = dict(state or {})
        self._retention = retention
        self._storage_options = storage_options
        self._asynchronous = asynchronous
        self._manager: CheckpointManager | None = None
        self._saved: object = None
        self._waits_for_validation = False

    @property
    def manager(self) -> CheckpointManager:
        """Return the manager that saves.

        Raises:
            RuntimeError: The training has not started yet.
        """
        if self._manager is None:
            raise RuntimeError("`manager` is there once training has started; look with CheckpointManager before that.")
        return self._manager

    def before_train(self, runner: Run) -> None:
        """Restore the newest checkpoint that verifies, if there is one."""
        manager = CheckpointManager(
            self.url,
            runner.state,
            retention=self._retention,
            storage_options=self._storage_options,
            asynchronous=self._asynchronous,
        )
        self._manager = runner.resources.enter_context(manager)
        restored = manager.restore()
        self._saved = None if restored is None else runner.position
        between = runner.group.iteration_in_epoch == 0
        self._waits_for_validation = runner.validation_due and between is self.by_epoch and self._due(runner)

    def _due(self, runner: Run) -> bool:
        return (runner.epoch if self.by_epoch else runner.iteration) % self.every == 0

    def save(self, runner: Run, *, block: bool = False) -> None:
        """Save now, unless this very position is saved already.

        Args:
            runner: The training.
            block: Return only when the checkpoint is committed.
        """
        if self._saved != runner.position:
            self.manager.save(runner.iteration, runner.metrics_here, block=block)
            self._saved = runner.position
        elif block:
            self.manager.wait()

    def after_train_iter(self, runner: Run, update: Update) -> None:
        """Save if it is time."""
        del update
        if not self.by_epoch:
            self._save_if_due(runner)

    def after_train_epoch(self, runner: Run) -> None:
        """Save if it is time."""
        if self.by_epoch:
            self._save_if_due(runner)

    def _save_if_due(self, runner: Run) -> None:
        if self._due(runner):
            self._waits_for_validation = runner.validation_due
            if not self._waits_for_validation:
                self.save(runner)

    def after_val(self, runner: Run, metrics: Mapping[str, float]) -> None:
        """Save if it was time before the validation."""
        del metrics
        if self._waits_for_validation:
            self._waits_for_validation = False
            self.save(runner)

    def after_train(self, runner: Run) -> None:
        """Save the end."""
        self.save(runner, block=True)


class PreemptionHook(Hook):
    """Save and end with exit code 75 when the job is told to stop; all ranks do at the same update.

    It looks after each update, each epoch and each validation. A `Runner` with a checkpoint has one, where it can save
    in the middle of an epoch and runs in the main thread.

    Args:
        signals: What counts as being told to stop.
    """

    def __init__(self, signals: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGUSR1)) -> None:
        self._signals = signals
        self._guard: PreemptionGuard | None = None

    def before_train(self, runner: Run) -> None:
        """Begin to listen."""
        self._guard = runner.resources.enter_context(PreemptionGuard(self._signals, ranks=runner.ranks.fork()))

    def after_train_iter(self, runner: Run, update: Update) -> None:
        """Stop if all ranks have agreed to."""
        del update
        self._stop_if_told(runner)

    def after_train_epoch(self, runner: Run) -> None:
        """Stop before the validation, which comes first when the job is started again."""
        self._stop_if_told(runner)

    def after_val(self, runner: Run, metrics: Mapping[str, float]) -> None:
        """Stop after the validation."""
        del metrics
        self._stop_if_told(runner)

    def _stop_if_told(self, runner: Run) -> None:
        assert self._guard is not None
        if self._guard.should_stop():
            for hook in runner.hooks:
                if isinstance(hook, CheckpointHook):
                    hook.save(runner, block=True)
            raise SystemExit(EXIT_PREEMPTED)


class FactWriter(Protocol):
    """Write down facts; a `resumable_sched.testing.Recorder` does."""

    def record(self, iteration: int, **facts: Any) -> None:  # noqa: ANN401 - anything that JSON can hold
        """Write down the facts of an update."""

    def record_end(self, **facts: Any) -> None:  # noqa: ANN401 - as above
        """Write down the facts of the end."""


@final
class TraceHook(Hook):
    """Record each update exactly: its loss, the values that it used, and what else is asked for.

    ::

        TraceHook(testing.Recorder(f"recording/rank-{rank}.jsonl"))

    Args:
        recorder: Who writes it down.
        facts: What else to record of each update, from the runner: names and what JSON can hold.
    """

    def __init__(self, recorder: FactWriter, facts: Callable[[Run], Mapping[str, Any]] | None = None) -> None:
        self._recorder = recorder
        self._facts = facts
        self._values: dict[str, Any] = {}

    def before_train_iter(self, runner: Run) -> None:
        """Note the values that the update will use."""
        self._values = runner.group.values()

    def after_train_iter(self, runner: Run, update: Update) -> None:
        """Write the update down."""
        more = {} if self._facts is None else self._facts(runner)
        self._recorder.record(runner.iteration, loss=update.loss.item(), values=self._values, **more)

    def after_train(self, runner: Run) -> None:
        """Write the end down."""
        self._recorder.record_end(iteration=runner.iteration, epoch=runner.epoch, metrics=runner.metrics)


def arranged(hooks: Sequence[Hook], *, checkpoint: CheckpointHook | None, preemptible: bool) -> tuple[Hook, ...]:
    """Return all hooks of a training in the order of the ``after_...`` events.

    Args:
        hooks: Those of the user.
        checkpoint: The one that saves, if it is not among them.
        preemptible: Whether to stop at a signal although no hook says so.

    Raises:
        TypeError: One is no hook.
        ValueError: There are two of a kind of which there can be one.
    """
    if not isinstance(hooks, (list, tuple)):
        raise TypeError(f"`hooks` must be a list of hooks, but is {hooks!r} instead.")
    given = [*hooks, checkpoint] if checkpoint is not None else list(hooks)
    for hook in given:
        if not isinstance(hook, Hook):
            raise TypeError(f"`hooks` must be a list of hooks, but holds {hook!r} instead. Derive it from Hook.")
    kinds = (ParamSchedulerHook, CheckpointHook, PreemptionHook)
    steppers, savers, stoppers = ([hook for hook in given if isinstance(hook, kind)] for kind in kinds)
    for kind, found in zip(kinds, (steppers, savers, stoppers), strict=True):
        if len(found) > 1:
            raise ValueError(
                f"`hooks` must hold one {kind.__name__} at most, but there are {len(found)} with `checkpoint`."
            )
    if stoppers and not savers:
        raise ValueError("`checkpoint` must be given where there is a PreemptionHook, but is None instead.")
    if savers and preemptible and not stoppers and threading.current_thread() is threading.main_thread():
        stoppers = [PreemptionHook()]
    others = [hook for hook in given if not isinstance(hook, kinds)]
    return (*(steppers or [ParamSchedulerHook()]), *others, *savers, *stoppers)
