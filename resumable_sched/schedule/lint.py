"""Find what in a list of schedules is probably not what was meant; it is reported, and never refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from resumable_sched.schedule import curves
from resumable_sched.schedule.families import CosineAnnealingParamScheduler
from resumable_sched.schedule.lengths import Lengths
from resumable_sched.schedule.plateau import ReduceOnPlateauParamScheduler
from resumable_sched.schedule.scheduler import DURATION
from resumable_sched.schedule.selection import disjoint
from resumable_sched.schedule.windows import Sizes, Window, windows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from resumable_sched.schedule.scheduler import ParamScheduler

__all__ = ["Finding", "Kind", "lint"]

Kind = Literal[
    "never-opens",
    "never-reached",
    "cut-short",
    "misses-floor",
    "rises-again",
    "gap",
    "overlap",
    "unknown-length",
    "default",
    "epoch-clock",
    "metric",
]


@dataclass(frozen=True)
class Finding:
    """Say one thing about schedules that may be worth knowing.

    Attributes:
        kind: What sort of thing it is.
        level: "warning" if it is probably a mistake, "note" if it is probably meant.
        message: What there is, in one or two sentences.
        parameter: The hyper-parameter; the name of the optimizer comes first where the schedules were given by name.
        schedulers: The places in the list of the schedules that it is about.
    """

    kind: Kind
    level: Literal["warning", "note"]
    message: str
    parameter: str
    schedulers: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.level}: {self.parameter}: {self.message}"


def lint(
    schedulers: Sequence[ParamScheduler] | Mapping[str, Sequence[ParamScheduler]],
    *,
    epoch_length: int | None = None,
    max_epochs: int | None = None,
    max_iters: int | None = None,
    max_samples: int | None = None,
    max_tokens: int | None = None,
    sizes: Sizes | None = None,
) -> list[Finding]:
    """Find windows that never open, milestones that are never reached, floors that are missed, gaps and overlaps.

    Args:
        schedulers: The schedules in list order, or a dict of lists by the name of the optimizer.
        epoch_length: Iterations of an epoch.
        max_epochs: Epochs of the training.
        max_iters: Iterations of the training.
        max_samples: Samples of the training.
        max_tokens: Tokens of the training.
        sizes: What an iteration is of every clock; by default, what *epoch_length* says.

    Returns:
        What was found: first about each schedule in list order, then about those that act on the same hyper-parameter.
    """
    lengths = Lengths(epoch_length, max_epochs, max_iters, max_samples, max_tokens)
    sizes = Sizes(epoch_length) if sizes is None else sizes
    windows = windows_of(schedulers, lengths, sizes)
    found = [finding for window in windows for finding in _alone(window)]
    counting = [it for it in windows if it.scheduler.clock_unit == "epoch" and not it.scheduler.need_val_args]
    if counting and epoch_length is None:
        first = counting[0]
        text = (
            f"{type(first.scheduler).__name__}: counts epochs, and nobody says how long one is: a loop that forgets "
            "`step_epoch` is not noticed."
        )
        found.append(Finding("epoch-clock", "note", text, first.key, (first.index,)))
    keys = list(dict.fromkeys(window.key for window in windows))
    opening = [window for window in windows if not _never_opens(window)]
    for key in keys:
        if members := [window for window in opening if window.key == key]:
            found += _together(members, sizes)
    return found


def _alone(window: Window) -> Iterator[Finding]:
    """Look at one schedule."""
    scheduler, length = window.scheduler, window.length
    name, unit = type(scheduler).__name__, scheduler.clock_unit

    def finding(kind: Kind, level: Literal["warning", "note"], message: str) -> Finding:
        return Finding(kind, level, f"{name}: {message}", window.key, (window.index,))

    if isinstance(scheduler, ReduceOnPlateauParamScheduler):
        yield finding("metric", "note", "follows a metric, which nobody knows before training.")
    if _never_opens(window):
        text = f"begins at {unit} {scheduler.begin}, but training has {_count(length or 0, unit)}: it never acts."
        yield finding("never-opens", "warning", text)
        return
    if scheduler.open_ended:
        if length is None:
            text = f"`end` is not given, and nobody says how many {unit}s training has."
            yield finding("unknown-length", "warning" if _depends_on_length(scheduler) else "note", text)
        else:
            text = f"`end` is not given: it is the end of training, after {_count(length, unit)}."
            yield finding("default", "note", text)
    elif length is not None and scheduler.end > length + 1:  # a curve that arrives with the last update is whole
        text = f"its window goes to {unit} {scheduler.end}, but training has {_count(length, unit)}: it is cut short."
        yield finding("cut-short", "warning", text)
    last = _last_tick(scheduler, length)
    if last is None:
        return
    yield from (finding(*each) for each in _durations(scheduler, last))
    if isinstance(scheduler, CosineAnnealingParamScheduler):
        yield from (finding(*each) for each in _cosine(scheduler, last))


def _depends_on_length(scheduler: ParamScheduler) -> bool:
    """Return whether a schedule has other values where training is longer, at its beginning or later."""
    for ticks in (10**3, 10**5, 10**7):
        maps = []
        for span in (ticks, 2 * ticks):
            twin = object.__new__(type(scheduler))
            twin.__dict__.update(scheduler.__dict__, _training_length=scheduler.begin + span)
            try:
                maps.append([twin.at(tick, 1.0) for tick in (0, 1, ticks - 2)])
            except Exception:  # noqa: BLE001 - too short, or a schedule of the user's own that raises when it is stepped
                break
        else:
            return maps[0] != maps[1]
    return False


def _never_opens(window: Window) -> bool:
    return window.length is not None and window.scheduler.begin >= window.length


def _last_tick(scheduler: ParamScheduler, length: int | None) -> int | None:
    """Return the last tick since `begin` whose value an update uses."""
    ends = [end for end in (None if scheduler.open_ended else scheduler.end, length) if end is not None]
    return min(ends) - 1 - scheduler.begin if ends else None


def _durations(scheduler: ParamScheduler, last: int) -> Iterator[tuple[Kind, Literal["warning", "note"], str]]:
    """Look at everything that counts ticks: what comes after the last tick is never reached."""
    unit = scheduler.clock_unit
    for each in fields(scheduler):
        value = getattr(scheduler, each.name)
        if each.metadata.get("convert") != DURATION["convert"] or each.name in ("begin", "end", "T_max"):
            continue
        if each.name == "milestones":
            late = [str(tick) for tick in value if tick > last]
            if late:
                text = f"`milestones` {', '.join(late)}: never reached, because the last tick is {last}."
                yield "never-reached", "warning", text
        elif isinstance(value, tuple):
            if sum(value) > last + 1:
                text = f"`{each.name}` add up to {_count(sum(value), unit)}, but only {last + 1} are used."
                yield "cut-short", "warning", text
        elif isinstance(value, int) and value > last + 1:
            text = f"`{each.name}` is {_count(value, unit)}, but only {last + 1} are used."
            yield "cut-short", "warning", text


def _cosine(
    scheduler: CosineAnnealingParamScheduler, last: int
) -> Iterator[tuple[Kind, Literal["warning", "note"], str]]:
    period = last + 1 if scheduler.T_max is None else scheduler.T_max
    if last > period:
        text = f"rises again after tick {period} (`T_max`), because the last tick is {last}."
        yield "rises-again", "warning", text
    elif last < period:
        share = curves.cosine(last, period)
        by = "one tick" if period - last == 1 else f"{period - last} ticks"
        text = (
            f"misses its floor by {by}: the last tick is {last} and `T_max` is {period}, so that {_percent(share)} of "
            f"the way remains."
        )
        yield "misses-floor", "note" if period - last == 1 else "warning", text


def _together(windows: Sequence[Window], sizes: Sizes) -> Iterator[Finding]:
    """Look at the schedules of one hyper-parameter."""
    placed = [_Placed(window, window.begin, _end(window)) for window in windows if window.begin is not None]
    mixed = len({window.scheduler.clock_unit for window in windows}) > 1
    if mixed and any(sizes.iteration_of(it.scheduler, it.optimizer, 1) is None for it in windows):
        units = " and ".join(sorted({f"{window.scheduler.clock_unit}s" for window in windows}))
        text = f"its schedules count {units}, and nobody says how many make an iteration: overlaps are unknown."
        yield Finding("unknown-length", "note", text, windows[0].key, tuple(window.index for window in windows))
        return
    if not mixed and len(placed) < len(windows):  # one clock: its own ticks will do
        placed = [_Placed(window, window.scheduler.begin, window.scheduler.end) for window in windows]
    unit = "iteration" if mixed or placed[0].begin == placed[0].window.begin else placed[0].window.scheduler.clock_unit
    if all(window.scheduler.groups is None for window in windows):  # else each param group has gaps of its own
        yield from _gaps(placed, unit)
    yield from _overlaps(placed, unit)


@dataclass(frozen=True)
class _Placed:
    window: Window
    begin: int
    end: float


def _end(window: Window) -> float:
    return math.inf if window.end is None else window.end


def _gaps(placed: Sequence[_Placed], unit: str) -> Iterator[Finding]:
    ordered = sorted(placed, key=lambda each: each.begin)
    if ordered and ordered[0].begin > 0:
        text = f"before {unit} {ordered[0].begin} no window is open: the value is the optimizer's own."
        yield Finding("gap", "note", text, ordered[0].window.key, (ordered[0].window.index,))
    for position, (before, after) in enumerate(pairwise(ordered)):
        covered = max(each.end for each in ordered[: position + 1])
        if covered < after.begin:
            text = f"from {unit} {covered:.0f} to {after.begin} no window is open: the value holds."
            pair = (before.window.index, after.window.index)
            yield Finding("gap", "note", text, after.window.key, pair)


def _overlaps(placed: Sequence[_Placed], unit: str) -> Iterator[Finding]:
    for index, second in enumerate(placed):
        for first in placed[:index]:
            begin, end = max(first.begin, second.begin), min(first.end, second.end)
            if begin >= end or disjoint(*(each.window.scheduler.selection() for each in (first, second))):
                continue
            simple = first.window.scheduler.multiplicative and second.window.scheduler.multiplicative
            names = [type(each.window.scheduler).__name__ for each in (first, second)]
            until = f"to {end:.0f}" if end < math.inf else "on"
            text = f"{names[0]} and {names[1]} overlap from {unit} {begin} {until}: " + (
                "their factors are multiplied."
                if simple
                else "each changes what the other has left, so that the value depends on the way there."
            )
            pair = (first.window.index, second.window.index)
            yield Finding("overlap", "note" if simple else "warning", text, second.window.key, pair)


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _percent(share: float) -> str:
    """Write a share for people.

    >>> _percent(0.017), _percent(3.9e-6)
    ('1.7 %', '0.00039 %')
    """
    return f"{100 * share:.2g} %" if share > 1e-9 else "next to nothing"  # noqa: PLR2004 - below what a float32 shows
