"""Keep one owner for each hyper-parameter of each optimizer, and write its values there.

The ledger is the only place that writes into an optimizer. What it reads there is the base, once, and whether
somebody else has written since. It lives outside the optimizer, in a dict with weak keys, because a copy of an
optimizer drops foreign attributes; and it refers to the optimizer weakly, so that it does not outlive it.

A number that is not ours is somebody's intent: it is not undone, and becomes an amendment of the schedules.
"""

from __future__ import annotations

import logging
import math
import operator
import weakref
from typing import TYPE_CHECKING, Any, Final

import torch

from resumable_sched.errors import ForeignWriterError
from resumable_sched.schedule.composition import Composition
from resumable_sched.schedule.targets import Key, plain_floats, resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resumable_sched.schedule.layer import Layer
    from resumable_sched.schedule.targets import HasParamGroups

__all__ = ["Ledger", "ledger_of", "ledgers_of", "saved_base_holds"]

_MOST_IN_A_ROW: Final = 3
"""Foreign changes in consecutive steps that are taken for somebody's intent; more are another scheduler."""

logger = logging.getLogger("resumable_sched")

_LEDGERS: weakref.WeakKeyDictionary[Any, dict[str, Ledger]] = weakref.WeakKeyDictionary()


def ledgers_of(optimizer: HasParamGroups) -> dict[str, Ledger]:
    """Return the ledgers of *optimizer* by the name of their hyper-parameter; empty if it has no schedules."""
    return dict(_LEDGERS.get(optimizer, {}))


def ledger_of(optimizer: HasParamGroups, name: str) -> Ledger:
    """Return the ledger of one hyper-parameter, made now if it is the first time.

    Raises:
        TypeError: *optimizer* has no param groups, or cannot be referred to weakly.
        ValueError: It has no momentum, and *name* asks for it.
        KeyError: It has no hyper-parameter *name*.
    """
    try:
        known = _LEDGERS.setdefault(optimizer, {})
    except TypeError as error:
        raise TypeError(
            "`optimizer` must be an Optimizer or another hashable object with `param_groups`, but is "
            f"{optimizer!r} instead."
        ) from error
    if name not in known:
        ledger = Ledger(optimizer, name)
        if not known:
            _listen(optimizer)
        known[name] = ledger
    return known[name]


def _listen(optimizer: HasParamGroups) -> None:
    """Write our values again whenever the optimizer has loaded a state."""
    inner = getattr(optimizer, "optimizer", optimizer)  # MMEngine's OptimWrapper delegates to the optimizer inside
    register = getattr(inner, "register_load_state_dict_post_hook", None)
    if register is None:
        return
    reference = weakref.ref(optimizer)

    def write_again(_: object) -> None:
        live = reference()
        if live is not None:
            for ledger in ledgers_of(live).values():
                ledger.adopt_groups()

    register(write_again)


class Ledger:
    """Own one hyper-parameter of one optimizer.

    Args:
        optimizer: Where to write.
        name: The hyper-parameter.

    Attributes:
        name: The hyper-parameter.
        composition: The schedules that act on it.
        owner: The group that drives them; a dead or empty reference while they are driven one by one.
    """

    def __init__(self, optimizer: HasParamGroups, name: str) -> None:
        self._optimizer = weakref.ref(optimizer)
        self.name = name
        self.target = resolve(optimizer, name)
        self._key = f"initial_{name}"
        self._groups: list[dict[str, Any]] = []
        self.composition = Composition((), [])
        self.owner: weakref.ref[Any] | None = None
        self._openings = 0
        self._written: list[float] = []
        self._stamps: list[object] = []
        self._last_foreign = -2
        self._foreign_in_a_row = 0

    def _initials(self, groups: Sequence[dict[str, Any]]) -> list[float]:
        """Return the value that the user gave each of *groups*: what is recorded, else the present one."""
        recorded = [group.get(self._key) for group in groups]
        read = self.target.read
        return [read(group) if value is None else float(value) for group, value in zip(groups, recorded, strict=True)]

    def begin(self) -> None:
        """Take what the optimizer has now for the base, while nothing acts on it."""
        self._groups = list(self.optimizer.param_groups)
        self.composition = Composition((), self._initials(self._groups))

    @property
    def optimizer(self) -> HasParamGroups:
        """Return the optimizer.

        Raises:
            ReferenceError: It is gone.
        """
        optimizer = self._optimizer()
        if optimizer is None:
            raise ReferenceError(f"The optimizer whose `{self.name}` was scheduled no longer exists.")
        return optimizer

    @property
    def driver(self) -> object | None:
        """Return the group that drives the schedules, if there is one."""
        return None if self.owner is None else self.owner()

    def next_opening(self, _: object = None) -> tuple[int, int, int]:
        """Number the openings of schedules that are stepped one by one, in the order in which they happen."""
        known = [layer.clock.opened[0] for layer in self.composition.layers if layer.clock.opened is not None]
        self._openings = max([self._openings, *known]) + 1
        return (self._openings, 0, 0)

    def note_opening(self, number: int) -> None:
        """Remember that opening *number* was used, by a state that was loaded."""
        self._openings = max(self._openings, number)

    def register(self, layer: Layer) -> None:
        """Let the schedule of *layer* act on the hyper-parameter, after all that are here already.

        Raises:
            ValueError: A group drives the schedules of this optimizer, or the schedule does not fit.
        """
        if self.driver is not None:
            raise ValueError(
                f"`schedulers` of a SchedulerGroup must be built before it, but {layer.schedule!r} comes later and "
                f"would act on the same `{self.name}`."
            )
        if self.composition.layers:
            self.check()  # what was changed since the last one was built is meant
        else:
            self.begin()
        if layer.clock.tick >= layer.schedule.begin and layer.clock.opened is None:
            layer.clock.opened = self.next_opening()
        chain = self.composition.chain
        try:
            self.composition.add(layer)
            self.write()
        except Exception:  # such as one that the map of a user's schedule raises
            self.composition.discard(layer, chain)
            raise
        self.record_base()

    def check(self, iteration: int | None = None) -> bool:
        """See what has happened to the optimizer since the last write, before the schedules move on.

        A number that somebody else has written becomes an amendment. Param groups that were added are scheduled from
        now on. Where the optimizer was loaded, our values are written again.

        Args:
            iteration: Completed updates of the group; by default, the ticks of the schedule that has come furthest.

        Returns:
            Whether the values are others now than the schedules gave before.

        Raises:
            ForeignWriterError: Somebody else writes at every step, or has written what is no finite number.
            TypeError: Somebody else has written what is no number at all.
            RuntimeError: Param groups were removed.
            ValueError: A schedule has a list of values, one for each param group, and none for one that was added.
        """
        groups = list(self.optimizer.param_groups)
        known = len(self._groups)
        if len(groups) < known or not all(map(operator.is_, groups, self._groups)):
            self.adopt_groups()
            return False
        stamps = self.target.stamps(groups)
        if stamps == self._stamps:
            return False
        found = []
        for index, (group, value) in enumerate(zip(self._groups, self._written, strict=True)):
            observed, written = self._observed(index, group), self.target.rounded(group, value)
            if observed != written and not (math.isnan(observed) and math.isnan(written)):
                found.append((index, value, observed))
        self._take_groups(groups)
        if found:
            self._amend(found, self._furthest_tick() if iteration is None else iteration)
        self.record_base()
        self.write()
        return bool(found)

    def _observed(self, index: int, group: dict[str, Any]) -> float:
        try:
            return self.target.read(group)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise TypeError(
                f"`{self.name}` of param group {index} must be a number, but other code has put something else there: "
                f"{type(error).__name__}: {error}."
            ) from error

    def _furthest_tick(self) -> int:
        return max((layer.clock.tick for layer in self.composition.layers), default=0)

    def _amend(self, found: Sequence[tuple[int, float, float]], iteration: int) -> None:
        """Let what others have written act from now on: param group, the value before, and theirs, of each."""
        group, expected, observed = found[0]
        if iteration != self._last_foreign:
            follows = iteration == self._last_foreign + 1
            self._foreign_in_a_row = self._foreign_in_a_row + 1 if follows else 1
            self._last_foreign = iteration
        if self._foreign_in_a_row > _MOST_IN_A_ROW:
            raise ForeignWriterError(self.name, group, expected, observed, self._foreign_in_a_row)
        for index, before, now in found:
            if not math.isfinite(now):
                raise ForeignWriterError(self.name, index, before, now)
        for index, before, now in found:
            amendment = self.composition.note_foreign(iteration, index, before, now)
            logger.warning(
                "`%s` of param group %d was set to %r by other code at iteration %d, where its schedule gives %r. From "
                "now on the schedule is amended: %s.",
                self.name,
                index,
                now,
                iteration,
                before,
                amendment.label,
            )

    def adopt_groups(self) -> list[float]:
        """Take the param groups of an optimizer that was just loaded, or has more of them, for ours, and write there.

        Returns:
            What was written into each.

        Raises:
            RuntimeError: Param groups were removed.
            ValueError: A schedule has a list of values, one for each param group, and none for one that was added.
        """
        self._take_groups(list(self.optimizer.param_groups))
        self.record_base()
        return self.write()

    def _take_groups(self, groups: list[dict[str, Any]]) -> None:
        known = len(self._groups)
        if len(groups) < known:
            raise RuntimeError(
                f"`{self.name}` is scheduled for {known} param groups, but the optimizer has {len(groups)} now. Build "
                "new schedulers for an optimizer from which param groups were removed."
            )
        if len(groups) > known:
            self.composition.grow(self._initials(groups[known:]))
            logger.info("%d param groups were added, and their `%s` is scheduled.", len(groups) - known, self.name)
        self._groups = groups

    def record_base(self) -> None:
        """Write the base under ``initial_<name>``, where torch and MMEngine look for it."""
        for group, base in zip(self._groups, self.composition.base, strict=True):
            group[self._key] = base

    def write(self) -> list[float]:
        """Write the present values into the optimizer, and give them."""
        values = self.composition.values()
        if isinstance(self.target, Key) and plain_floats([group[self.name] for group in self._groups]):
            for group, value in zip(self._groups, values, strict=True):
                group[self.name] = value
            self.note_written(values)
            return list(values)
        filled: dict[int, float] = {}
        for index, (group, value) in enumerate(zip(self._groups, values, strict=True)):
            tensor = group.get(self.name)
            if isinstance(tensor, torch.Tensor) and filled.setdefault(id(tensor), value) != value:
                raise ValueError(
                    f"`{self.name}` must be a tensor of its own in every param group whose values differ, but "
                    f"param group {index} shares one with another group."
                )
            self.target.write(group, value)
        self._written = values
        self._stamps = self.target.stamps(self._groups)
        return list(values)

    def note_written(self, values: Sequence[float]) -> None:
        """Remember that *values*, plain numbers all, were written by the group that drives the schedules."""
        self._written = list(values)
        self._stamps = list(values)

    def shows(self, value: float, group: int) -> float:
        """Return what param group *group* would show if *value* were written there."""
        return self.target.rounded(self._groups[group], value)

    def check_growth(self) -> None:
        """Raise what scheduling the param groups that were added would raise, and change nothing."""
        added = self.optimizer.param_groups[len(self._groups) :]
        self.composition.check_growth(self._initials(added))

    def check_groups(self) -> None:
        """See whether the optimizer has the param groups that are scheduled, and schedule those that were added.

        Raises:
            RuntimeError: Some were removed.
            ValueError: A schedule has a list of values, one for each param group, and none for one that was added.
        """
        if len(self.optimizer.param_groups) != len(self._groups):
            self.adopt_groups()


def saved_base_holds(ledger: Ledger, saved: Sequence[float], current: Sequence[float]) -> list[bool]:
    """Return for each param group whether the saved base holds although ours is another.

    That is so where ours is the value that the optimizer had when it was saved: it was loaded first, and what loaded
    it dropped the key ``initial_<name>`` (as torch.distributed.checkpoint does).
    """
    ours = ledger.composition.base
    if ours == list(saved):
        return [True] * len(ours)
    return [
        base in (before, value, ledger.shows(value, index))
        for index, (base, before, value) in enumerate(zip(ours, saved, current, strict=True))
    ]
