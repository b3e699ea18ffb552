"""Families that MMEngine does not have: functions by import path, values by param group, conversion, refusals."""

from __future__ import annotations

import copy
import functools
import json
import math
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resumable_sched import schedule
from resumable_sched.errors import ScheduleMismatchError
from resumable_sched.schedule import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestartsLR,
    CyclicLR,
    HalfLifeLR,
    InverseSqrtLR,
    LambdaLR,
    LambdaMomentum,
    MultiplicativeLR,
    PiecewiseLR,
    PiecewiseParamScheduler,
    QuadraticWarmupLR,
    SchedulerGroup,
    TanhLR,
    TriStageLR,
    WarmupStableDecayLR,
    importable,
    recipes,
)
from resumable_sched.schedule.lint import lint
from tests.schedule.drawn import FAMILIES, Case, Spec, ripple, shrink, specs

if TYPE_CHECKING:
    from collections.abc import Callable


def halve(tick: int) -> float:
    """Return a factor that halves."""
    return 0.5**tick


def tenth(tick: int) -> float:  # noqa: ARG001 - a function of the tick
    """Return a constant."""
    return 0.1


def optimizer(groups: int = 2) -> torch.optim.Optimizer:
    """Return an optimizer whose groups all start from the same learning rate."""
    weights = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(groups)]
    return torch.optim.SGD(weights, lr=1.0, momentum=0.5)


def run(scheduler: schedule.ParamScheduler, ticks: int) -> list[list[float]]:
    """Return the values of each tick."""
    seen = []
    for _ in range(ticks):
        seen.append(scheduler.get_last_value())
        scheduler.step()
    return seen


# ---------------------------------------------------------------------------------------- functions
def test_a_function_is_saved_by_its_path() -> None:
    """The configuration holds the path as a plain string, and the state survives JSON."""
    scheduler = LambdaLR(optimizer(), halve)
    state = scheduler.state_dict()

    assert scheduler.lr_lambda == f"{__name__}:halve"
    assert type(state["config"]["lr_lambda"]) is str
    assert json.loads(json.dumps(state)) == state
    assert repr(scheduler.lr_lambda) in repr(scheduler)


def test_a_path_is_as_good_as_the_function() -> None:
    """A configuration file can name a function; the two are equal when they are compared."""
    named = LambdaLR(optimizer(), "tests.schedule.drawn:shrink")
    named.load_state_dict(LambdaLR(optimizer(), shrink).state_dict())

    assert named.get_last_value() == [1.0, 1.0]
    assert LambdaLR(optimizer(), "math:cos").get_last_value() == [1.0, 1.0]


def _nested() -> Callable[[int], float]:
    def inner(tick: int) -> float:
        return 0.5**tick

    return inner


class _Callable:
    def __call__(self, tick: int) -> float:
        return 0.5**tick

    def method(self, tick: int) -> float:
        return 0.5**tick


@pytest.mark.parametrize(
    "function",
    [lambda tick: 0.5**tick, _nested(), functools.partial(pow, 0.5), _Callable(), _Callable().method],
    ids=["lambda", "nested", "partial", "callable", "method"],
)
@pytest.mark.parametrize("make", [LambdaLR, MultiplicativeLR, lambda it, fn: CyclicLR(it, 0.1, 1.0, scale_fn=fn)])
def test_a_function_without_a_path_is_refused_with_the_remedy(make: Any, function: Any) -> None:
    """What could not be saved by its name is refused when it is built, and nothing is registered."""
    target = optimizer()
    with pytest.raises(ValueError, match=r"must be a function that can be imported.*Define it with `def`"):
        make(target, function)

    assert "initial_lr" not in target.param_groups[0]


@pytest.mark.parametrize(
    ("given_", "error", "message"),
    [
        ("halve", ValueError, "\"module:name\", but is 'halve'"),
        ("no.such.module:halve", ValueError, "No module named"),
        ("math:no_such_function", ValueError, "has no attribute"),
        ("math:pi", TypeError, "must be the path of a function"),
        (0.5, TypeError, "must be a function or its path"),
        ([halve], ValueError, "must have a value for each of 2 param groups"),
    ],
)
def test_what_is_no_function_is_refused(given_: Any, error: type[Exception], message: str) -> None:
    """The error says what was given."""
    with pytest.raises(error, match=message):
        LambdaLR(optimizer(), given_)


def test_each_group_can_have_a_function() -> None:
    """Groups with equal bases still get the values of their own functions."""
    assert run(LambdaLR(optimizer(), [halve, tenth]), 3) == [[1.0, 0.1], [0.5, 0.1], [0.25, 0.1]]
    assert run(MultiplicativeLR(optimizer(), [halve, shrink]), 3) == [[1.0, 1.0], [0.5, 0.9], [0.125, 0.9 * 0.8]]


def test_a_different_function_is_a_changed_configuration() -> None:
    """The error names both paths; keeping the saved one is possible for a function that the program knows."""
    state = LambdaLR(optimizer(), halve).state_dict()
    state["tick"] = 2
    other = LambdaLR(optimizer(), shrink)
    with pytest.raises(ScheduleMismatchError, match=r"`lr_lambda` was '.*:halve' .* but is '.*:shrink' now"):
        other.load_state_dict(state)

    other.load_state_dict(state, on_mismatch="keep")
    assert other.get_last_value() == [0.25, 0.25]
    assert run(copy.deepcopy(other), 2) == [[0.25, 0.25], [0.125, 0.125]]


def test_a_saved_state_does_not_import_code() -> None:
    """Keeping a saved schedule never runs a function that the program has not named itself."""
    state = LambdaLR(optimizer(), halve).state_dict()
    state["config"]["lr_lambda"] = "os:abort"
    importable._NAMED.pop("os:abort", None)
    with pytest.raises(ScheduleMismatchError, match="A saved state does not import code"):
        LambdaLR(optimizer(), shrink).load_state_dict(state, on_mismatch="keep")


def test_functions_survive_pickle_and_copies() -> None:
    """The function travels by reference, and its products with it."""
    for made in (LambdaMomentum(optimizer(), halve), MultiplicativeLR(optimizer(), [shrink, halve])):
        made.step()
        again = pickle.loads(pickle.dumps(made))  # noqa: S301 - our own bytes

        assert run(again, 3) == run(made, 3)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=8))
def test_a_product_does_not_depend_on_what_was_asked_before(ticks: list[int]) -> None:
    """Ticks in any order give the same floats as a fresh product."""
    used = importable.Product("product", shrink)
    for tick in ticks:
        assert used(tick) == importable.Product("product", shrink)(tick)


def test_a_product_may_pass_through_zero() -> None:
    """A factor of 0 ends it, in closed form and in a chain."""
    seen = run(MultiplicativeLR(optimizer(1), ripple), 7)
    target = optimizer(1)
    schedulers = [CosineAnnealingLR(target, T_max=99, eta_min=0.1), MultiplicativeLR(target, ripple)]

    assert [value for [value] in seen[5:]] == [0.0, 0.0]
    assert all(math.isfinite(value) for [value] in run(schedulers[1], 9))


# ---------------------------------------------------------------------------------------- values by group
def test_each_group_can_have_its_own_cycle() -> None:
    """Lists of ends, as torch takes them, also with equal bottoms; a number stands for all groups."""
    scheduler = CyclicLR(optimizer(), 0.25, [1.0, 0.5], step_size_up=1)

    assert run(scheduler, 3) == [[0.25, 0.25], [1.0, 0.5], [0.25, 0.25]]
    assert scheduler.base_values == [0.25, 0.25]
    with pytest.raises(ValueError, match="`max_lr` must have a value for each of 2 param groups"):
        CyclicLR(optimizer(), 0.25, [1.0, 0.5, 0.1])


def test_each_group_can_have_its_own_stages() -> None:
    """Lists of scales, as fairseq2 takes them."""
    scheduler = TriStageLR(optimizer(), 4, (0.5, 0.0, 0.5), start_lr_scale=[0.5, 0.0], final_lr_scale=[0.25, 1.0])

    assert run(scheduler, 5) == [[0.5, 0.0], [0.75, 0.5], [1.0, 1.0], [0.5, 1.0], [0.25, 1.0]]


@pytest.mark.parametrize("warm_up", [1, 2, 7])
def test_a_quadratic_warm_up_has_the_values_of_mmdetections_recurrence(warm_up: int) -> None:
    """It begins at ``1 / n ** 2`` of the base and adds ``(2 * t + 1) / n ** 2`` of it at each tick of the window."""
    owner = optimizer(1)
    begin = 3
    schedules = [QuadraticWarmupLR(owner, begin=begin, end=begin + warm_up, by_epoch=False)]
    trace = SchedulerGroup(owner, schedules).trace(20)
    expected = [1.0] * begin
    for t in range(warm_up):
        expected.append((expected[-1] if t else 0.0) + (2 * t + 1) / warm_up**2)
    expected += expected[-1:] * (20 - len(expected))

    assert trace.values["lr"][0] == pytest.approx(expected, rel=1e-14)


# ---------------------------------------------------------------------------------------- epochs to iterations
CONVERTED: list[tuple[str, dict[str, Any]]] = [
    ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2, "eta_min": 0.1, "skip": 1}),
    (
        "Cyclic",
        {"base_lr": 0.1, "max_lr": 1.0, "step_size_up": 2, "step_size_down": 3, "mode": "exp_range", "gamma": 0.9},
    ),
    ("HalfLife", {"decay_period": 1.5}),
    ("InverseSqrt", {"num_warmup_steps": 2, "timescale": 3}),
    ("Piecewise", {"milestones_values": [(1, 0.5), (2.5, 0.25), (6, 1.0)]}),
    ("PolyRestart", {"t_initial": 3, "cycle_limit": 2}),
    ("Tanh", {"t_initial": 3, "cycle_mul": 1.5, "cycle_limit": 2}),
    ("TriStage", {"num_steps": 10, "stage_ratio": (0.2, 0.3, 0.5)}),
    ("WarmupStableDecay", {"num_warmup_steps": 2, "num_decay_steps": 3, "num_training_steps": 8}),
]


@pytest.mark.parametrize(("family", "arguments"), CONVERTED)
def test_both_curves_meet_at_every_epoch(family: str, arguments: dict[str, Any]) -> None:
    """What was built by iterations from epochs has the values of the one by epochs where an epoch ends."""
    cls = getattr(schedule, f"{family}LR")
    slow = cls(optimizer(), **arguments)
    fast = cls.build_iter_from_epoch(optimizer(), **arguments, epoch_length=10)
    for _ in range(12):
        assert fast.get_last_value() == pytest.approx(slow.get_last_value(), rel=1e-9, abs=1e-9)
        slow.step()
        for _ in range(10):
            fast.step()


def test_a_function_of_epochs_cannot_be_taken_by_iteration() -> None:
    """What is inside a function cannot be multiplied, so it is refused."""
    with pytest.raises(ValueError, match="`lr_lambda` must not be given where iterations are built from epochs"):
        LambdaLR.build_iter_from_epoch(optimizer(), halve, epoch_length=10)


# ---------------------------------------------------------------------------------------- windows and lists
@pytest.mark.parametrize("family", [each for each in FAMILIES if each != "ReduceOnPlateau"])
def test_many_ticks_at_once_are_the_same_floats(family: str) -> None:
    """`maps` does what `at` does, and `increments` what `increment` does, to the last bit, from any tick on."""

    @settings(max_examples=20)
    @given(specs((family,)), st.integers(0, 5))
    def property_(spec: Spec, first: int) -> None:
        case = Case(specs=(spec,), epochs=(), metrics=(), adam=False, tensor=False)
        scheduler = case.schedulers(case.optimizer())[0]
        ticks = range(first, min(scheduler.span, first + 20) + 1)
        for base in scheduler.split_base([0.05, 0.5])[0]:
            scales, offsets = scheduler.maps(ticks, base)
            assert [*zip(scales, offsets, strict=True)] == [scheduler.at(tick, base) for tick in ticks]
            scales, offsets = scheduler.increments(ticks, base)
            assert [*zip(scales, offsets, strict=True)] == [scheduler.increment(tick, base) for tick in ticks]

    property_()


@pytest.mark.parametrize(
    "build",
    [
        lambda it: recipes.warmup_constant(it, 10),
        lambda it: recipes.warmup_linear(it, 10, 100),
        lambda it: recipes.warmup_cosine(it, 10, 100),
        lambda it: recipes.warmup_cosine(it, 10, 100, 1.5, min_lr_rate=0.1),
        lambda it: recipes.warmup_cosine_from_first_step(it, 10, 100, min_lr_rate=0.1),
        lambda it: recipes.warmup_cosine_restarts(it, 10, 100, 3),
        lambda it: recipes.warmup_polynomial(it, 10, 100),
        lambda it: recipes.warmup_inverse_sqrt(it, 10),
        lambda it: recipes.warmup_stable_decay(it, 10, 20, 100),
    ],
)
def test_recipes_are_in_closed_form_and_nothing_is_wrong_with_them(build: Callable[..., Any]) -> None:
    """No chain, and no warning of lint for the training that they are made for."""
    target = optimizer()
    schedulers = build(target)

    assert all(each.multiplicative for each in schedulers)
    assert [each for each in lint(schedulers, max_iters=100) if each.level == "warning"] == []


def test_a_group_gives_the_length_that_was_left_out() -> None:
    """Where no length of training is given to the schedule, the group's is taken."""
    target = optimizer()
    scheduler = WarmupStableDecayLR(target, 2, 4, decay_type="linear", by_epoch=False)
    group = SchedulerGroup(target, [scheduler], max_iters=10)

    assert [value[0] for value in zip(*group.trace(10).values["lr"], strict=True)] == [
        0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25,
    ]  # fmt: skip


def test_a_table_can_schedule_anything() -> None:
    """Absolute values of any key, or factors."""
    target = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, weight_decay=0.5)
    decay = PiecewiseParamScheduler(target, "weight_decay", [(0, 0.0), (2, 1.0)])
    factor = PiecewiseLR(target, [(0, 0.5), (2, 0.25)], "constant", relative=True)

    assert run(decay, 4) == [[0.0], [0.5], [1.0], [1.0]]
    assert run(factor, 3) == [[0.5], [0.5], [0.25]]


def test_far_away_costs_no_more() -> None:
    """A cycle a billion ticks away is found without walking there."""
    for scheduler in (
        CosineAnnealingWarmRestartsLR(optimizer(), 7, 2),
        CosineAnnealingWarmRestartsLR(optimizer(), 7, 1.001),
        TanhLR(optimizer(), 7, cycle_limit=None),
        CyclicLR(optimizer(), 0.1, 1.0, 7),
    ):
        for tick in range(10**9 - 50, 10**9):
            assert 0.0 <= scheduler.at(tick, 1.0)(1.0) <= 1.0


SAW: Any = "saw"
TRIPLES: Any = [(1, 2, 3)]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda it: CyclicLR(it, 0.1, 1.0, 0), "`step_size_up` must be at least 1, but is 0"),
        (lambda it: CyclicLR(it, 0.1, 1.0, mode=SAW), '`mode` must be "triangular", "triangular2" or "exp_range"'),
        (lambda it: CosineAnnealingWarmRestartsLR(it, 0), "`T_0` must be more than 0, but is 0"),
        (lambda it: CosineAnnealingWarmRestartsLR(it, 5, 0.5), "`T_mult` must be at least 1, but is 0.5"),
        (
            lambda it: CosineAnnealingWarmRestartsLR(it, 5, eta_min=0.1, eta_min_ratio=0.1),
            "`eta_min` must not be given",
        ),
        (lambda it: CosineAnnealingWarmRestartsLR(it, 5, cycle_limit=0), "`cycle_limit` must be at least 1, but is 0"),
        (lambda it: TanhLR(it, 5, 3.0, 3.0), "`lb` must be less than `ub`, 3.0, but is 3.0"),
        (lambda it: HalfLifeLR(it, 0), "`decay_period` must be more than 0, but is 0"),
        (lambda it: InverseSqrtLR(it, 0), "`timescale` must be given where `num_warmup_steps` is 0"),
        (lambda it: PiecewiseLR(it, []), "`milestones_values` must be a list of at least one point"),
        (lambda it: PiecewiseLR(it, [(2, 0.1), (1, 0.2)]), "whose ticks do not decrease"),
        (lambda it: PiecewiseLR(it, TRIPLES), r"must be pairs \(tick, value\), but one is \(1, 2, 3\)"),
        (lambda it: TriStageLR(it, 10, (0.5, 0.6)), "`stage_ratio` must be three shares whose sum is 1"),
        (lambda it: TriStageLR(it, 10, (0.5, 0, 0.5), final_lr_scale=0.0), "`final_lr_scale` must be more than 0"),
        (lambda it: WarmupStableDecayLR(it, 5, 6, 10), "`num_training_steps` must be at least .* 11, but is 10"),
        (lambda it: WarmupStableDecayLR(it, 5, 6, 20, 5), "must be the sum of the three phases, 16"),
        (lambda it: WarmupStableDecayLR(it, 5, 6, 20, min_lr_ratio=0.1, eta_min=0.1), "`eta_min` must not be given"),
        (lambda it: WarmupStableDecayLR(it, 0, 6, 20, stable_type="rsqrt"), "`stable_timescale` must be given"),
        (lambda it: WarmupStableDecayLR(it, 0, 6, 20, decay_ratio=1.0), "`decay_ratio` must be between 0 and 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(build: Callable[..., Any], message: str) -> None:
    """The error names the argument, the rule and the value."""
    with pytest.raises(ValueError, match=message):
        build(optimizer())
