"""`Runner`: the training loop, driven by hooks, that goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, final

import torch

from resumable_sched.checkpoint.loaders import check_torchdata
from resumable_sched.checkpoint.places import generators_of
from resumable_sched.distributed import RNGState, current_ranks
from resumable_sched.schedule import SchedulerGroup
from resumable_sched.schedule.arguments import whole
from resumable_sched.schedule.config import build_schedulers
from resumable_sched.schedule.layer import UNITS
from resumable_sched.schedule.lengths import Lengths
from resumable_sched.training.batches import Batches, start_workers
from resumable_sched.training.group_storage import named_in_checkpoint
from resumable_sched.training.hooks import CheckpointHook, Hook, PreemptionHook, arranged
from resumable_sched.training.run import Progress, Run
from resumable_sched.training.updates import NoUpdate, Updater, default_train_step
from resumable_sched.training.validation import Validation, default_val_step

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence

    from resumable_sched.checkpoint import Storage
    from resumable_sched.schedule.comparison import OnMismatch

__all__ = ["Runner"]


@final
class Runner(Run):
    """Train a model: updates, schedules, validations, checkpoints; started again, it goes on where it was.

    ::

        runner = Runner(
            model,
            optimizer,
            StatefulDataLoader(...),
            scheduler=[
                dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=50),
                dict(type="CosineAnnealingLR", convert_to_iter_based=True),
            ],
            max_epochs=12,
            checkpoint="s3://bucket/run",
            hooks=[ProgressHook()],
        )
        runner.train()

    The clock is the completed optimizer update: an update of several batches counts once, and one that a scaler skips
    does not count.

    Args:
        model: The model, wrapped in DDP where there are several ranks.
        optimizer: The optimizer, or several by name, each of which is stepped by each update.
        train_dataloader: What gives the batches of an epoch. Training that can stop in the middle of an epoch needs
            one with a state, such as torchdata's ``StatefulDataLoader``.
        scheduler: What `build_schedulers` takes (a config, a list, a dict of lists by optimizer, built schedules), or a
            `SchedulerGroup`, which is told how long epochs and training are, or None.
        max_epochs: Train so many epochs; or
        max_iters: so many updates.
        max_samples: Samples of the whole training, for schedules that count them; it ends as said above.
        max_tokens: The same of tokens.
        train_step: ``train_step(model, batch)`` gives the loss, or a dict with ``"loss"``; also ``"samples"`` and
            ``"tokens"`` of the batch, where schedules or you count them. By default it is ``model(batch)``. Samples are
            otherwise the length of the first tensor in the batch.
        val_dataloader: What gives the batches of a validation.
        val_step: ``val_step(model, batch)`` gives a dict of numbers; with ``"samples"`` among them, which is no metric,
            batches are weighted by it. By default it is ``model(batch)``.
        val_every: Validate after every so many epochs, and after the last one.
        val_by_epoch: False counts updates instead.
        checkpoint: Where checkpoints go, or a `CheckpointHook`. A folder or URL means one after each epoch and at the
            end. With a loader that has a state, SIGTERM and SIGUSR1 save, too, and end the process with exit code 75.
        accumulate: Batches of an update; there may be fewer for the last one of an epoch. Losses are averaged.
        scaler: A `torch.amp.GradScaler`; `train_step` does the autocast.
        max_grad_norm: Clip gradients to this norm.
        hooks: Who else is told of every event; see `Hook`.
        on_mismatch: What to do where the schedules are not those of the checkpoint: "error", which is the default;
            "keep" the saved ones; "adopt" the new ones. A `SchedulerGroup` says it itself.

    Raises:
        TypeError: An argument is of a wrong type.
        ValueError: Arguments do not fit each other, or a checkpoint could fall into the middle of an epoch without the
            loader being able to go on there.
        ConfigError: The schedules cannot be built.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer | Mapping[str, torch.optim.Optimizer],
        train_dataloader: Iterable[Any],
        *,
        scheduler: object = None,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        max_samples: int | None = None,
        max_tokens: int | None = None,
        train_step: Callable[[torch.nn.Module, Any], Any] | None = None,
        val_dataloader: Iterable[Any] | None = None,
        val_step: Callable[[torch.nn.Module, Any], Mapping[str, Any]] | None = None,
        val_every: int = 1,
        val_by_epoch: bool = True,
        checkpoint: str | os.PathLike[str] | Storage | CheckpointHook | None = None,
        accumulate: int = 1,
        scaler: torch.amp.GradScaler | None = None,
        max_grad_norm: float | None = None,
        hooks: Sequence[Hook] = (),
        on_mismatch: OnMismatch | None = None,
    ) -> None:
        if (max_epochs is None) == (max_iters is None):
            raise ValueError(
                f"One of `max_epochs` and `max_iters` must be given, and not both, but they are {max_epochs!r} and "
                f"{max_iters!r} instead."
            )
        super().__init__(
            None if max_epochs is None else whole("max_epochs", max_epochs, minimum=1),
            None if max_iters is None else whole("max_iters", max_iters, minimum=1),
        )
        _check_kinds(model, train_dataloader, val_dataloader, train_step=train_step, val_step=val_step)
        self.model = model
        self.optimizers = _optimizers(optimizer)
        accumulate = whole("accumulate", accumulate, minimum=1)
        self._loaders = (train_dataloader, val_dataloader)
        self._batches = Batches(train_dataloader)
        length = self._batches.length
        self.epoch_length = None if length is None else -(-length // accumulate)
        self._validation = _validation(val_dataloader, val_step, every=val_every, by_epoch=val_by_epoch)
        saver = checkpoint if isinstance(checkpoint, CheckpointHook | None) else CheckpointHook(checkpoint)
        self.hooks: tuple[Hook, ...] = arranged(hooks, checkpoint=saver, preemptible=self._batches.stateful)
        self._before = sorted(self.hooks, key=lambda it: not isinstance(it, CheckpointHook | PreemptionHook))
        if not self._batches.stateful:
            self._require_whole_epochs(can_skip=scaler is not None)
        lengths: dict[str, int | None] = {
            "epoch_length": self.epoch_length,
            "max_epochs": self._max_epochs,
            "max_iters": self._max_iters,
            "max_samples": max_samples,
            "max_tokens": max_tokens,
        }
        self.group = self._group(optimizer, scheduler, lengths, on_mismatch)
        self._require_metrics()
        self.ranks = current_ranks()
        self._updater = Updater(
            model,
            self.optimizers,
            default_train_step if train_step is None else train_step,
            accumulate=accumulate,
            scaler=scaler,
            max_grad_norm=max_grad_norm,
            ranks=self.ranks,
        )
        self.progress = Progress(self._batches, accumulate)
        self.state = self._state(train_dataloader, val_dataloader, scaler)

    # ------------------------------------------------------------------ building
    def _group(
        self, optimizer: object, scheduler: object, lengths: dict[str, Any], on_mismatch: OnMismatch | None
    ) -> SchedulerGroup:
        """Build the schedules, or take those that are built."""
        if isinstance(scheduler, SchedulerGroup):
            self._require_fit(scheduler, lengths, on_mismatch)
            scheduler.fill_lengths(**lengths)
            return scheduler
        policy = "error" if on_mismatch is None else on_mismatch
        owners: Any = self.optimizers if isinstance(optimizer, Mapping) else optimizer
        schedulers: Any = build_schedulers(owners, scheduler, **lengths)
        return SchedulerGroup(owners, schedulers, **lengths, on_mismatch=policy)

    def _require_fit(self, group: SchedulerGroup, lengths: Mapping[str, Any], on_mismatch: object) -> None:
        """Refuse a group that is for another training than this one."""
        mine, theirs = ({id(each) for each in owner.values()} for owner in (self.optimizers, group.optimizers))
        if mine != theirs:
            raise ValueError(f"`scheduler` must be a group on `optimizer`, but {group!r} is on another one.")
        if group.cadence:
            raise ValueError(
                f"`scheduler` must have no `cadence`, but has {group.cadence} instead: each update of a Runner "
                "steps every optimizer. Write the training loop yourself."
            )
        if on_mismatch is not None:
            raise ValueError(
                f"`on_mismatch` must be given to the SchedulerGroup where `scheduler` is one, but is {on_mismatch!r}."
            )
        known = Lengths(**lengths)
        compared = {"of an epoch in iterations": (known.epoch_length, group.lengths.epoch_length)}
        for unit in () if group.extension else UNITS:
            compared[f"of training in {unit}s"] = (known.of_training(unit), group.training_length(unit))
        for what, (here, there) in compared.items():
            if None not in (here, there) and here != there:
                raise ValueError(
                    f"The length {what} must be {here} for the group `scheduler`, as it is here, but is {there} "
                    "instead. Build the group with the same lengths, or without."
                )

    def _require_whole_epochs(self, *, can_skip: bool) -> None:
        """Refuse what would save in the middle of an epoch with a loader that cannot go on there."""
        for hook in self.hooks:
            reason = ""
            if isinstance(hook, PreemptionHook):
                reason = "PreemptionHook stops there"
            elif isinstance(hook, CheckpointHook) and not hook.by_epoch:
                reason = "CheckpointHook(by_epoch=False) saves there"
            elif isinstance(hook, CheckpointHook) and self._max_iters is not None:
                length = self.epoch_length
                if can_skip or length is None or self._max_iters % length:
                    reason = f"training ends after {self._max_iters} updates (`max_iters`), which may be there"
            if reason:
                raise ValueError(
                    "`train_dataloader` must have state_dict and load_state_dict to go on in the middle of an epoch, "
                    f"and {reason}, but it is a plain loader instead. Use torchdata's StatefulDataLoader, or save by "
                    "epoch and train for `max_epochs`."
                )

    def _require_metrics(self) -> None:
        """Refuse a schedule that waits for metrics that never come."""
        if self._validation is not None:
            return
        own = any(not type(hook).__module__.startswith("resumable_sched.") for hook in self.hooks)
        for scheduler in self.group.schedulers:
            if scheduler.need_val_args and not own:  # a hook of the user's may call group.observe
                raise ValueError(f"`val_dataloader` must be given for {scheduler!r}, but is None instead.")

    def _state(self, train: object, val: object, scaler: object) -> dict[str, Any]:
        """Name all that a checkpoint holds."""
        generators = {f"train_{name}": each for name, each in generators_of(train).items()}
        generators |= {f"val_{name}": each for name, each in generators_of(val).items()}
        state: dict[str, Any] = {
            "model": self.model,
            **named_in_checkpoint(self.optimizers),
            "schedule": self.group,
            "progress": self.progress,
            "loader": self._batches,
            "rng": RNGState(**generators),
        }
        if scaler is not None:
            state["scaler"] = scaler
        for hook in self.hooks:
            more: Mapping[str, Any] = hook.state if isinstance(hook, CheckpointHook) else {}
            if all(callable(getattr(hook, name, None)) for name in ("state_dict", "load_state_dict")):
                more = {f"hook {type(hook).__name__}": hook}
            for name in more:
                if name in state:
                    raise ValueError(f"A name in the checkpoint must be given once, but {name!r} is there twice.")
            state |= more
        return state

    # ------------------------------------------------------------------ training
    def train(self) -> None:
        """Train until the end, from where the checkpoint is if there is one.

        Raises:
            SystemExit: With code 75, after the state was saved, where the job was told to stop.
            RuntimeError: The loader gives no batches, or not as many as it says, or no update of an epoch took place.
        """
        if not self.model.training:
            self.model.train()
        for loader, stateful in ((self._loaders[0], self._batches.stateful), (self._loaders[1], False)):
            if not stateful:
                start_workers(loader)
        with ExitStack() as self.resources:
            for hook in self._before:
                hook.before_train(self)
            self._validate_if_due()
            while not self._is_over():
                self._train_epoch()
            for hook in self.hooks:
                hook.after_train(self)

    def _is_over(self) -> bool:
        if self.max_epochs is not None:
            return self.epoch >= self.max_epochs
        assert self.max_iters is not None
        # An epoch whose batches are all used ends, too, and is validated.
        return self.iteration >= self.max_iters and self._batches.taken != self._batches.length

    def _train_epoch(self) -> None:
        self._batches.begin(self.epoch)
        for hook in self._before:
            hook.before_train_epoch(self)
        while not self._is_over():
            outcome = self._updater.update(self._batches, self._before_iter)
            if outcome is NoUpdate.EPOCH_IS_OVER:
                self._end_epoch()
                return
            if outcome is NoUpdate.SKIPPED:
                self.progress.skipped_updates += 1
                continue
            self.progress.validation_due = self._is_validation_due(by_epoch=False)
            for hook in self.hooks:
                hook.after_train_iter(self, outcome)
            self._validate_if_due()

    def _before_iter(self) -> None:
        for hook in self._before:
            hook.before_train_iter(self)

    def _end_epoch(self) -> None:
        if self.group.iteration_in_epoch == 0:
            taken = self._batches.taken
            reason = f"{taken} batches gave inf or nan gradients, so that all were skipped" if taken else "it is empty"
            raise RuntimeError(f"`train_dataloader` must give at least one update in an epoch, but {reason}.")
        self._batches.finish()
        self.progress.validation_due = self._is_validation_due(by_epoch=True)
        for hook in self.hooks:
            hook.after_train_epoch(self)
        self._validate_if_due()

    def _is_validation_due(self, *, by_epoch: bool) -> bool:
        """Return whether a validation follows the epoch, or update, that is about to be counted."""
        if self._validation is None or self._validation.by_epoch is not by_epoch:
            return False
        count, last = (self.epoch + 1, self.max_epochs) if by_epoch else (self.iteration + 1, self.max_iters)
        return count % self._validation.every == 0 or count == last

    def _validate_if_due(self) -> None:
        if not self.progress.validation_due:
            return
        if self._validation is not None:
            self.progress.metrics = self._validation.run(self.model, self.ranks)
            self.progress.measured_at = (self.iteration, self.epoch)
        self.progress.validation_due = False
        if self._validation is not None:
            for hook in self.hooks:
                hook.after_val(self, self.metrics)


def _check_kinds(model: object, *loaders: object, **steps: object) -> None:
    """Refuse what is no model, no loader or no function.

    Raises:
        TypeError: Something is not.
        ValueError: A loader is of a torchdata that is too old.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"`model` must be a torch module, but is {model!r} instead.")
    for name, loader in zip(("train_dataloader", "val_dataloader"), loaders, strict=True):
        if not hasattr(loader, "__iter__") and not (loader is None and name == "val_dataloader"):
            raise TypeError(f"`{name}` must give batches, as a DataLoader does, but is {loader!r} instead.")
        check_torchdata(f"`{name}`", loader)
    for name, step in steps.items():
        if step is not None and not callable(step):
            raise TypeError(f"`{name}` must be a function of the model and a batch, but is {step!r} instead.")


def _optimizers(given: object) -> dict[str, torch.optim.Optimizer]:
    named: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {"optimizer": given}
    if not named or not all(isinstance(each, torch.optim.Optimizer) for each in named.values()):
        raise TypeError(f"`optimizer` must be a torch Optimizer, or a dict of them by name, but is {given!r} instead.")
    return named


def _validation(
    loader: Iterable[Any] | None,
    step: Callable[[torch.nn.Module, Any], Mapping[str, Any]] | None,
    *,
    every: int,
    by_epoch: bool,
) -> Validation | None:
    every = whole("val_every", every, minimum=1)
    if loader is not None:
        return Validation(loader, default_val_step if step is None else step, every, by_epoch)
    if step is not None:
        raise ValueError("`val_dataloader` must be given where there is a `val_step`, but is None instead.")
    return None
