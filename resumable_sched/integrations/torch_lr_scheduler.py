"""Show a group to whoever expects torch's ``LRScheduler``: Lightning, transformers, Accelerate, your own loop."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from resumable_sched.errors import StateFormatError
from resumable_sched.schedule.arguments import check_choice, whole
from resumable_sched.schedule.group import SchedulerGroup
from resumable_sched.schedule.plateau import ReduceOnPlateauParamScheduler

__all__ = ["GroupLRScheduler", "Interval", "as_torch_lr_scheduler", "require_counted_epoch"]

Interval = Literal["iteration", "epoch", "validation"]

PATIENCE: Final = 100
"""Calls of `step` without any update at all, ever, after which the optimizer is taken for one that nobody steps. A
gradient scaler that starts too high skips some twenty updates."""


def require_counted_epoch(group: SchedulerGroup, updates: int) -> None:
    """Check that *group*, whose schedules may count epochs, has counted the one that a framework has ended.

    Raises:
        RuntimeError: It has not: its `epoch_length` is another.
    """
    if group.iteration_in_epoch and any(each.by_epoch for each in group.schedulers):
        raise RuntimeError(
            f"`epoch_length` of the group must be the number of updates of the Trainer's epoch, but after {updates} "
            f"updates the epoch has ended and the group is {group.iteration_in_epoch} into one."
        )


class GroupLRScheduler(LRScheduler):
    """Be an ``LRScheduler`` that drives a `SchedulerGroup`; :func:`as_torch_lr_scheduler` makes it.

    It has no state of its own and writes nothing: position and values are the group's. torch's own constructor, which
    sets ``initial_lr``, takes a step and wraps ``optimizer.step``, is not called.

    Attributes:
        group: The group.
        optimizer: The optimizer that frameworks are shown.
        interval: What a call of `step` counts.
    """

    group: SchedulerGroup
    optimizer: Optimizer
    interval: Interval

    def __init__(  # a framework that asks for super().__init__ would get torch's first step
        self,
        group: SchedulerGroup,
        optimizer: Optimizer,
        interval: Interval,
        *,
        counts: Literal["updates", "calls"],
        count_epochs: bool,
        samples: int,
        tokens: int,
    ) -> None:
        self.group = group
        self.optimizer = optimizer
        self.interval = interval
        self._counts_updates = interval == "iteration" and counts == "updates"
        self._counts_epochs = count_epochs and interval == "iteration"
        self._samples = samples
        self._tokens = tokens
        self._step_count = 1  # Accelerate adds to it
        self._updated = False
        self._waited = 0
        self._watch()

    # ------------------------------------------------------------------ what frameworks call
    def step(self, epoch: Any = None, *, metrics: Any = None) -> None:  # noqa: ANN401 - what the frameworks give
        """Count what the interval says.

        "iteration": an optimizer update, if one was completed since the last call; with `count_epochs` the epoch too,
        when it has its iterations. "epoch": an epoch. "validation": nothing; the metrics go to the plateau schedules.

        Args:
            epoch: Torch's name of the first argument. Only "validation" takes it: it is the metrics.
            metrics: The same by name: a dict of names and numbers, or the number that is monitored.

        Raises:
            ValueError: There is an argument that the interval does not take, or none where it takes one.
            RuntimeError: No update has ever been seen, or no iteration was counted in an epoch.
        """
        given = epoch if metrics is None else metrics
        if self.interval == "validation":
            self._observe(given)
            return
        if given is not None:
            raise ValueError(
                f'`step` must have no argument where the interval is "{self.interval}", but has {given!r} instead. '
                "The position is set by load_state_dict; metrics need "
                'as_torch_lr_scheduler(group, interval="validation").'
            )
        if self.interval == "epoch":
            self._count_epoch()
        elif not self._counts_updates or self._take_update():
            group = self.group
            group.step(self._samples, self._tokens)
            self._step_count += 1
            if self._epoch_is_over():
                group.step_epoch()

    def get_last_lr(self) -> list[float | torch.Tensor]:
        """Return the present learning rate of each param group; a copy where it is a tensor."""
        return [_copied(group["lr"]) for group in self.optimizer.param_groups]

    def get_lr(self) -> list[float | torch.Tensor]:
        """Return the same as :meth:`get_last_lr`; a group looks ahead with `trace`."""
        return self.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the group; plain JSON, which ``torch.load(weights_only=True)`` reads."""
        return self.group.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where *state_dict* was saved, and write the values into the optimizers.

        Raises:
            StateFormatError: It is not the state of a group.
            ScheduleMismatchError: It is that of another schedule.
        """
        if isinstance(state_dict, Mapping) and "version" not in state_dict and "last_epoch" in state_dict:
            raise StateFormatError(
                "`state_dict` must be that of a SchedulerGroup, but one of torch's own schedulers gave it. Bring it "
                "over with resumable_sched.integrations.torch_states.import_torch_state(group, state_dict)."
            )
        self.group.load_state_dict(state_dict)
        self._updated = False
        if self._epoch_is_over():
            self.group.step_epoch()  # saved by a loop that counts its epochs later

    # ------------------------------------------------------------------ what frameworks read
    @property
    def last_epoch(self) -> int:
        """Return the position: iterations where they are counted, else epochs."""
        return self.group.iteration if self.interval == "iteration" else self.group.epoch

    @last_epoch.setter
    def last_epoch(self, value: int) -> None:
        raise AttributeError(
            f"`last_epoch` must not be set, but was set to {value!r}: the position is the group's. Use "
            "load_state_dict; and let a SchedulerGroup compose schedules where torch has SequentialLR."
        )

    @property
    def base_lrs(self) -> list[float | torch.Tensor]:  # type: ignore[override]  # only the group sets it
        """Return the initial learning rate of each param group."""
        return [_copied(group.get("initial_lr", group["lr"])) for group in self.optimizer.param_groups]

    @property
    def _last_lr(self) -> list[float | torch.Tensor]:  # type: ignore[override]
        return self.get_last_lr()

    def __repr__(self) -> str:
        return f"as_torch_lr_scheduler({self.group!r}, interval={self.interval!r})"

    # ------------------------------------------------------------------ inside
    def _watch(self) -> None:
        """Notice each completed update; a copy does so on its copy of the optimizer."""
        if not self._counts_updates:
            return
        reference = weakref.ref(self)

        def completed(optimizer: Optimizer, *_: object) -> None:
            live = reference()
            # A fused optimizer is called even if its scaler has found inf, and skips the update by itself.
            found = getattr(optimizer, "found_inf", None)
            if live is not None and not (found is not None and bool(found)):
                live._updated = True  # noqa: SLF001 - our own

        handle = self.optimizer.register_step_post_hook(completed)
        weakref.finalize(self, handle.remove)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._watch()

    def _take_update(self) -> bool:
        """Return whether there was an update that has not been counted.

        Raises:
            RuntimeError: None was ever seen.
        """
        if self._updated:
            self._updated, self._waited = False, -1
            return True
        if self._waited >= 0:
            self._waited += 1
            if self._waited > PATIENCE:
                raise RuntimeError(
                    f"`{type(self.optimizer).__name__}.step` must be called before `step` of the schedule, but was "
                    f"never called in {PATIENCE} steps. Where another object makes the updates (a DeepSpeed engine), "
                    'say as_torch_lr_scheduler(group, counts="calls").'
                )
        return False

    def _epoch_is_over(self) -> bool:
        """Return whether an epoch is to be counted now; the group is asked, because training can be made longer."""
        length = self.group.lengths.epoch_length if self._counts_epochs else None
        return length is not None and self.group.iteration_in_epoch >= length

    def _count_epoch(self) -> None:
        by_iteration = [each for each in self.group.schedulers if not each.by_epoch]
        if by_iteration and self.group.iteration_in_epoch == 0:
            raise RuntimeError(
                f"`step` must have been called for each iteration of epoch {self.group.epoch}, because "
                f"{by_iteration[0]!r} counts them, "
                'but never was. Give the framework a second one with interval="iteration" and '
                "count_epochs=False, or that one alone, with the group's `epoch_length`."
            )
        self.group.step_epoch()

    def _observe(self, metrics: Any) -> None:  # noqa: ANN401 - a number of any kind
        if metrics is None:
            raise ValueError('`step` must get the metrics where the interval is "validation", but got nothing.')
        if isinstance(metrics, Mapping):
            self.group.observe(metrics)
            return
        names = {each.monitor for each in _plateaus(self.group)}
        if len(names) != 1:
            raise ValueError(
                f"`step` must get a dict of metrics where several are monitored ({', '.join(sorted(names))}), but got "
                f"{metrics!r} instead."
            )
        self.group.observe({names.pop(): metrics})


def as_torch_lr_scheduler(
    group: SchedulerGroup,
    *,
    interval: Interval = "iteration",
    count_epochs: bool = True,
    counts: Literal["updates", "calls"] = "updates",
    optimizer: str | None = None,
    samples_per_iteration: int = 0,
    tokens_per_iteration: int = 0,
) -> GroupLRScheduler:
    """Return an ``LRScheduler`` that drives *group*, for a framework or a loop that wants one.

    Its state is the group's, whichever framework saves it. Several of one group, with different intervals, are one
    position: a framework that steps by iteration, by epoch and after a validation is given one for each.

    Args:
        group: The group.
        interval: What a call of `step` is: an "iteration" (Lightning's "step"), an "epoch", or a "validation", whose
            `step` takes the metric.
        count_epochs: With "iteration": count an epoch as soon as it has the group's `epoch_length` iterations.
        counts: With "iteration": count each completed update of the optimizer once, however often `step` is called
            (Accelerate calls it once per process, and loops that accumulate gradients or skip an update of a gradient
            scaler may call it too often); or count "calls", where somebody else makes the updates.
        optimizer: The name of the optimizer to show, where the group has several; its updates are the iterations.
        samples_per_iteration: Samples of an update, to be counted with it.
        tokens_per_iteration: Tokens of an update.

    Raises:
        TypeError: *group* is no group, or its optimizer is none of torch's.
        ValueError: An argument is not known, or the group has schedules by epoch and nobody would count epochs.
    """
    if not isinstance(group, SchedulerGroup):
        raise TypeError(f"`group` must be a SchedulerGroup, but is {group!r} instead.")
    check_choice("interval", interval, get_args(Interval))
    check_choice("counts", counts, ("updates", "calls"))
    shown = _shown(group, optimizer)
    if interval == "iteration" and count_epochs and group.lengths.epoch_length is None:
        by_epoch = [each for each in group.schedulers if each.by_epoch]
        if by_epoch:
            raise ValueError(
                f"`epoch_length` of the group must be given, because {by_epoch[0]!r} counts epochs, but is None "
                'instead. Pass count_epochs=False where you or a second one with interval="epoch" count them.'
            )
    if interval == "validation" and not _plateaus(group):
        raise ValueError('`group` must have a plateau schedule where the interval is "validation", but has none.')
    return GroupLRScheduler(
        group,
        shown,
        interval,
        counts=counts,
        count_epochs=count_epochs,
        samples=whole("samples_per_iteration", samples_per_iteration, minimum=0),
        tokens=whole("tokens_per_iteration", tokens_per_iteration, minimum=0),
    )


def _shown(group: SchedulerGroup, name: str | None) -> Optimizer:
    """Find the optimizer to show."""
    optimizers = group.optimizers
    if name is None and len(optimizers) == 1:
        (name,) = optimizers
    if name not in optimizers:
        raise ValueError(f"`optimizer` must be one of {', '.join(map(repr, optimizers))}, but is {name!r} instead.")
    found = optimizers[name]
    if not isinstance(found, Optimizer):
        raise TypeError(f"`group` must act on a torch optimizer, but acts on {type(found).__name__} instead.")
    return found


def _plateaus(group: SchedulerGroup) -> list[ReduceOnPlateauParamScheduler]:
    return [each for each in group.schedulers if isinstance(each, ReduceOnPlateauParamScheduler)]


def _copied(value: Any) -> Any:  # noqa: ANN401 - a number or a tensor
    return value.clone() if isinstance(value, torch.Tensor) else value
