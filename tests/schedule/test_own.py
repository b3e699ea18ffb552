"""Schedules that users write: what their author left out is an error that says so, or makes no difference."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from resumable_sched import CosineAnnealingLR, LinearLR, ParamScheduler, ReduceOnPlateauLR, SchedulerGroup, StepLR
from resumable_sched.schedule import DURATION, Affine

ParameterMap = Any


def sgd() -> torch.optim.SGD:
    """Build an optimizer with two learning rates."""
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 3.0)])


def schedule_that_gives(found: Any) -> type[ParamScheduler]:
    """Define a schedule whose map is what *found* makes of the tick."""

    class Own(ParamScheduler):
        def at(self, t: int, base: float) -> Affine:
            del base
            given: Affine = found(t)
            return given

    return Own


@pytest.mark.parametrize(
    "found",
    [
        lambda t: Affine(0.7**t, 0.1),
        lambda t: (0.7**t, 0.1),
        lambda t: Affine(np.float64(0.7) ** t, np.float64(0.1)),
        lambda t: Affine(torch.tensor(0.7, dtype=torch.float64) ** t, torch.tensor(0.1, dtype=torch.float64)),  # type: ignore[arg-type]
    ],
)
def test_a_map_of_any_numbers_is_one_of_floats(found: ParameterMap) -> None:
    """The optimizer, the trace and the state have plain floats, the same as from `Affine` itself."""
    group = SchedulerGroup(optimizer := sgd(), [schedule_that_gives(found)(optimizer, "lr", by_epoch=False)])
    trace = group.trace(30)
    for _ in range(29):
        group.step()

    lrs = [each["lr"] for each in optimizer.param_groups]
    assert [type(lr) for lr in lrs] == [float, float]
    assert lrs == [0.7**29 * base + 0.1 for base in (1.0, 3.0)] == [each[-1] for each in trace.values["lr"]]
    assert json.loads(json.dumps(group.state_dict())) == group.state_dict()


def test_a_map_in_single_precision_is_not_rounded_any_further() -> None:
    """A factor of numpy's float32 is a number; what it is multiplied by keeps its precision."""
    own = schedule_that_gives(lambda t: Affine(np.float32(0.1) if t else 1.0))
    group = SchedulerGroup(optimizer := sgd(), [own(optimizer, "lr", by_epoch=False)])
    group.step()
    group.step()

    assert optimizer.param_groups[1]["lr"] == float(np.float32(0.1)) * 3.0


@pytest.mark.parametrize("given", [0.5, None, (1.0,), "ab", Affine("x", 0.0)])  # type: ignore[arg-type]
@pytest.mark.parametrize("floor", [None, 0.0, 0.5])
@pytest.mark.parametrize("there", [False, True])
def test_what_is_no_map_is_refused_when_the_schedule_is_built(
    given: object, floor: float | None, *, there: bool
) -> None:
    """The error says what `at` has to give, what it gave, and where; optimizer and other schedules are as they were."""

    def build(optimizer: torch.optim.SGD) -> list[ParamScheduler]:
        schedule: Any = CosineAnnealingLR if floor is not None else StepLR
        arguments = {"T_max": 10, "eta_min": floor} if floor is not None else {"step_size": 4}
        return [schedule(optimizer, by_epoch=False, **arguments)]

    optimizer = sgd()
    others = build(optimizer) if there else []
    before = [dict(group) for group in optimizer.param_groups]

    with pytest.raises(TypeError, match=r"`at` of Own must give an Affine, such as .*, but gave .* at local tick 0"):
        schedule_that_gives(lambda _: given)(optimizer, "lr", by_epoch=False)

    assert optimizer.param_groups == before
    group = SchedulerGroup(optimizer, others or build(optimizer))
    undisturbed = SchedulerGroup(other := sgd(), build(other))
    assert group.trace(20).values == undisturbed.trace(20).values


def test_a_map_that_ends_with_the_training_may_have_no_value_beyond() -> None:
    """The values of later iterations, which are computed ahead, are missed when they are reached, and not before."""
    table = [1.0 / (1 + t) for t in range(100)]
    group = SchedulerGroup(
        optimizer := sgd(), [schedule_that_gives(lambda t: Affine(table[t]))(optimizer, "lr", by_epoch=False)]
    )
    values = []
    for _ in range(99):
        group.step()
        values.append(optimizer.param_groups[0]["lr"])

    assert values == table[1:]
    with pytest.raises(IndexError):
        group.step()


def test_what_is_no_field_is_refused() -> None:
    """It would neither be saved nor compared; a constant of the class, or what is derived of fields, may be there."""

    class Undecorated(ParamScheduler):
        rate: float = 0.5

        def at(self, t: int, base: float) -> Affine:
            del base
            return Affine(self.rate**t)

    class Counting(ParamScheduler):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.calls = 0
            super().__init__(*args, **kwargs)

        def at(self, t: int, base: float) -> Affine:
            del t, base
            return Affine()

    @dataclass(frozen=True, eq=False)
    class Right(ParamScheduler):
        rate: float = 0.5
        every: int = field(default=2, metadata=DURATION)
        floor: ClassVar[float] = 0.25

        def validate(self) -> None:
            self._set("_table", (1.0, self.rate, self.floor))

        def at(self, t: int, base: float) -> Affine:
            del base
            return Affine(self.__dict__["_table"][min(t // self.every, 2)])

    with pytest.raises(TypeError, match=r"`rate` of Undecorated must be a field.*@dataclass\(frozen=True, eq=False\)"):
        Undecorated(sgd(), "lr")
    with pytest.raises(TypeError, match="`calls` of Counting must be a field"):
        Counting(sgd(), "lr")
    group = SchedulerGroup(optimizer := sgd(), [Right(optimizer, "lr", by_epoch=False, every=1)])
    assert [row[0] for row in zip(*group.trace(4).values["lr"], strict=True)] == [1.0, 0.5, 0.25, 0.25]


def test_slots_are_refused() -> None:
    """More than the fields of a schedule is kept in it."""
    with pytest.raises(TypeError, match="must be a dataclass without slots=True"):

        @dataclass(frozen=True, eq=False, slots=True)
        class Slotted(ParamScheduler):
            rate: float = 0.5

            def at(self, t: int, base: float) -> Affine:
                del base
                return Affine(self.rate**t)


def test_shares_are_shown_as_they_were_given() -> None:
    """An error about shares of training shows the shares, and not what they are of some length."""

    @dataclass(frozen=True, eq=False)
    class Share(ParamScheduler):
        every: int = field(default=2, metadata=DURATION)

        def at(self, t: int, base: float) -> Affine:
            del base
            return Affine(0.5 ** (t // self.every))

    optimizer = sgd()
    schedule = Share(optimizer, "lr", by_epoch=False, every="10%")  # type: ignore[arg-type]

    with pytest.raises(ValueError, match=r"as in Share\(every='10%'\)"):
        SchedulerGroup(optimizer, [schedule])


@pytest.mark.parametrize(("wrong", "right"), [("__post_init__", "validate"), ("_get_value", "at"), ("get_lr", "at")])
def test_the_words_of_other_libraries_are_refused(wrong: str, right: str) -> None:
    """A method that nobody calls, or that hides one that has to be called, is named with what it is called here."""
    with pytest.raises(TypeError, match=f"`{wrong}` of Own must be called `{right}` here"):
        type("Own", (LinearLR,), {wrong: lambda *_: None})


def test_a_schedule_that_waits_for_metrics_has_no_map() -> None:
    """It would never be asked."""
    with pytest.raises(TypeError, match="`at` of Own must not be given"):
        type("Own", (ReduceOnPlateauLR,), {"at": lambda *_: Affine(0.5)})


def test_an_attribute_that_comes_too_late_is_asked_for_as_a_field() -> None:
    """The way of torch, to set it after `super().__init__`, fails when the schedule is built."""

    class Late(ParamScheduler):
        def __init__(self, optimizer: torch.optim.Optimizer, every: int) -> None:
            super().__init__(optimizer, "lr")
            object.__setattr__(self, "every", every)

        def at(self, t: int, base: float) -> Affine:
            del base
            every: int = self.every  # type: ignore[attr-defined]
            return Affine(0.5 ** (t // every))

    with pytest.raises(TypeError, match="`every` of Late must be a field, but is none, or not yet"):
        Late(sgd(), 3)


def test_a_map_from_a_mixin_is_checked_like_any_other() -> None:
    """Where it comes from makes no difference; an error from inside of it comes through."""

    class Halving:
        def at(self, t: int, base: float) -> Any:
            del base
            return 0.5**t

    class Broken:
        def at(self, t: int, base: float) -> Any:
            raise TypeError(f"no value of {base} at {t}")

    with pytest.raises(TypeError, match="`at` of Own must give an Affine"):
        type("Own", (Halving, ParamScheduler), {})(sgd(), "lr")
    with pytest.raises(TypeError, match=r"no value of 1.0 at 0"):
        type("Own", (Broken, ParamScheduler), {})(sgd(), "lr")


def test_what_contradicts_itself_is_refused() -> None:
    """An offset of a schedule that says that it only multiplies, and a value that is no number."""
    offset = type("Own", (ParamScheduler,), {"at": lambda *_: Affine(0.5, 0.1), "multiplicative": True})
    with pytest.raises(ValueError, match="`multiplicative` of Own must be False where `at` gives an offset"):
        offset(sgd(), "lr")
    with pytest.raises(ValueError, match="must give numbers, but gave NaN at local tick 0"):
        schedule_that_gives(lambda _: Affine(float("nan")))(sgd(), "lr")


def test_a_list_that_its_owner_changes_later_changes_nothing() -> None:
    """The schedule has a copy: what it does is what was saved of it."""

    @dataclass(frozen=True, eq=False)
    class Listed(ParamScheduler):
        factors: list[float] = field(default_factory=list)

        def at(self, t: int, base: float) -> Affine:
            del base
            return Affine(self.factors[min(t, len(self.factors) - 1)])

    factors = [1.0, 0.5]
    group = SchedulerGroup(optimizer := sgd(), [Listed(optimizer, "lr", by_epoch=False, factors=factors)])
    factors.append(0.25)
    for _ in range(3):
        group.step()

    assert optimizer.param_groups[0]["lr"] == 0.5
    assert group.state_dict()["schedulers"][0]["config"]["factors"] == [1.0, 0.5]


def test_many_ticks_at_once_must_be_as_many() -> None:
    """A `maps` of another length is not stretched; a trace says so, and steps are made one by one."""

    @dataclass(frozen=True, eq=False)
    class Short(ParamScheduler):
        def at(self, t: int, base: float) -> Affine:
            del base
            return Affine(0.5**t)

        def maps(self, ticks: Any, base: float) -> Any:
            del ticks, base
            return [0.5], [0.0]

    group = SchedulerGroup(optimizer := sgd(), [Short(optimizer, "lr", by_epoch=False)])
    with pytest.raises(ValueError, match="`maps` of Short must give 9 scales and offsets"):
        group.trace(range(1, 10))
    for _ in range(3):
        group.step()

    assert optimizer.param_groups[0]["lr"] == 0.125
