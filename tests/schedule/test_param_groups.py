"""Schedules may act on some param groups only, and on those that come later; each keeps its name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from resumable_sched.errors import ScheduleMismatchError
from resumable_sched.schedule import (
    ConstantLR,
    CosineAnnealingLR,
    CosineRestartLR,
    LambdaLR,
    LinearLR,
    LinearMomentum,
    LinearParamScheduler,
    OneCycleLR,
    ReduceOnPlateauLR,
    SchedulerGroup,
    StepLR,
)
from tests.schedule.drawn import ripple, shrink

if TYPE_CHECKING:
    from collections.abc import Mapping


def parameter() -> list[torch.nn.Parameter]:
    """Return a new parameter."""
    return [torch.nn.Parameter(torch.zeros(1))]


def named() -> torch.optim.Optimizer:
    """Return an optimizer with a backbone and a head."""
    groups = [
        {"params": parameter(), "name": "backbone", "lr": 0.1},
        {"params": parameter(), "name": "head", "lr": 1.0, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.5, weight_decay=0.01)


def without_decay(group: Mapping[str, Any]) -> bool:
    """Choose the param groups without weight decay."""
    return bool(group["weight_decay"] == 0.0)


def nothing(group: Mapping[str, Any]) -> bool:
    """Choose no param group."""
    return not group


def shown(optimizer: torch.optim.Optimizer) -> list[float]:
    """Return the learning rate of each param group."""
    return [group["lr"] for group in optimizer.param_groups]


# ------------------------------------------------------------------------------ which groups a schedule acts on
@pytest.mark.parametrize("groups", [1, "head", ["head"], (1,), without_decay, f"{__name__}:without_decay"])
def test_a_schedule_acts_on_the_groups_that_are_chosen(groups: Any) -> None:
    """By place, by name, or by a function that can be imported; a resume goes on in the same way."""

    def build() -> tuple[torch.optim.Optimizer, SchedulerGroup]:
        optimizer = named()
        return optimizer, SchedulerGroup(optimizer, [StepLR(optimizer, 2, 0.5, by_epoch=False, groups=groups)])

    optimizer, group = build()
    again, other = build()
    for step in range(30):
        assert shown(optimizer) == [0.1, 0.5 ** (step // 2)]
        other.load_state_dict(json.loads(json.dumps(group.state_dict())))
        assert shown(again) == shown(optimizer)
        group.step()


def test_schedules_of_different_groups_do_not_overlap() -> None:
    """A cosine with a floor on one, and a step on the other, are no chain: each is a function of the position."""
    optimizer = named()
    schedulers = [
        CosineAnnealingLR(optimizer, T_max=10, eta_min=0.01, unit="sample", end=1000, groups="backbone"),
        StepLR(optimizer, 3, unit="sample", groups="head"),
    ]
    group = SchedulerGroup(optimizer, schedulers)  # a chain that counts samples would be refused
    alone = torch.optim.SGD(parameter(), lr=0.1)
    twin = SchedulerGroup(alone, [CosineAnnealingLR(alone, T_max=10, eta_min=0.01, unit="sample", end=1000)])
    for _ in range(12):
        group.step(samples=1)
        twin.step(samples=1)

        assert group.values()["lr"][0] == twin.values()["lr"][0]


def test_chains_and_plateaus_leave_other_groups_alone() -> None:
    """What is not chosen keeps its value, to the last bit."""
    optimizer = named()
    schedulers = [
        CosineAnnealingLR(optimizer, T_max=10, eta_min=0.01, by_epoch=False, groups="head"),
        StepLR(optimizer, 3, by_epoch=False, groups="head"),
        ReduceOnPlateauLR(optimizer, patience=0, groups="head"),
        OneCycleLR(optimizer, eta_max=0.7, total_steps=20, by_epoch=False, begin=20, end=40, groups="head"),
    ]
    group = SchedulerGroup(optimizer, schedulers)
    trace = group.trace(30, epoch_length=10**6)
    for row in range(30):
        assert shown(optimizer) == [column[row] for column in trace.values["lr"]]
        assert shown(optimizer)[0] == 0.1
        group.step()
    group.observe({"loss": 1.0})
    before = shown(optimizer)
    group.observe({"loss": 1.0})

    assert shown(optimizer)[0] == before[0]
    assert shown(optimizer)[1] < before[1]


@pytest.mark.parametrize(
    ("groups", "error", "text"),
    [
        (
            "neck",
            ValueError,
            r"`groups` must choose among the param groups 0 \('backbone'\), 1 \('head'\), but has 'neck'",
        ),
        (5, ValueError, "but has 5"),
        ([], ValueError, "must choose at least one param group"),
        (lambda group: True, ValueError, "`groups` must be a function that can be imported"),  # noqa: ARG005
        (nothing, ValueError, "chooses none of"),
        ("no.such.module:function", ValueError, "must be the path of a function that can be imported"),
        ([1.5], TypeError, "`groups` must be an integer"),
    ],
)
def test_a_wrong_choice_is_refused(groups: Any, error: type[Exception], text: str) -> None:
    """The error says which groups there are, and the schedule does not act."""
    optimizer = named()

    with pytest.raises(error, match=text):
        StepLR(optimizer, 2, groups=groups)
    assert SchedulerGroup(optimizer, []).values() == {}


def test_another_choice_is_another_configuration() -> None:
    """Loading says so."""
    one, two = named(), named()
    group = SchedulerGroup(one, [StepLR(one, 2, groups="head")])
    other = SchedulerGroup(two, [StepLR(two, 2)])

    with pytest.raises(ScheduleMismatchError, match=r"StepLR: `groups` was \['head'\] when .*, but is absent now"):
        other.load_state_dict(group.state_dict())
    other.load_state_dict(group.state_dict(), on_mismatch="keep")
    other.step_epoch()
    other.step_epoch()
    assert shown(two) == [0.1, 0.1 * 1.0]


# ------------------------------------------------------------------------------ groups that come later
def build_three(optimizer: torch.optim.Optimizer) -> SchedulerGroup:
    """Schedule two hyper-parameters in closed form, and a metric."""
    schedulers = [
        LinearLR(optimizer, start_factor=0.1, by_epoch=False, end=10),
        CosineAnnealingLR(optimizer, T_max=30, by_epoch=False, begin=10, end=40),
        LinearMomentum(optimizer, start_factor=0.5, by_epoch=False, end=20),
    ]
    return SchedulerGroup(optimizer, schedulers, max_iters=40)


@pytest.mark.parametrize("moment", [0, 3, 17, 30])
def test_a_group_that_comes_later_has_the_values_that_it_would_have_had(moment: int) -> None:
    """Unfreezing schedules the new param group at once, as if it had been there from the beginning."""
    optimizer = torch.optim.SGD(parameter(), lr=0.4, momentum=0.9)
    groups: list[dict[str, Any]] = [{"params": parameter()}, {"params": parameter(), "lr": 0.04}]
    both = torch.optim.SGD(groups, lr=0.4, momentum=0.9)
    group, twin = build_three(optimizer), build_three(both)
    for step in range(40):
        if step == moment:
            group.add_param_group({"params": parameter(), "lr": 0.04})
        if step >= moment:
            assert group.values() == twin.values()
            assert shown(optimizer) == shown(both)
        group.step()
        twin.step()
    assert group.state_dict() == twin.state_dict()


def test_a_run_resumes_after_a_group_was_added() -> None:
    """The program adds it again before it loads; where it forgets to, the error says so."""
    optimizer = torch.optim.SGD(parameter(), lr=0.4, momentum=0.9)
    group = build_three(optimizer)
    for _ in range(7):
        group.step()
    group.add_param_group({"params": parameter(), "lr": 0.04})
    group.step()
    state = json.loads(json.dumps(group.state_dict()))

    again = torch.optim.SGD(parameter(), lr=0.4, momentum=0.9)
    other = build_three(again)
    with pytest.raises(ScheduleMismatchError, match="Add those that came later to the optimizer before the state is"):
        other.load_state_dict(state)
    again.add_param_group({"params": parameter(), "lr": 0.04})
    again.load_state_dict(optimizer.state_dict())
    other.load_state_dict(state)
    for _ in range(20):
        assert shown(again) == shown(optimizer)
        group.step()
        other.step()


def test_a_group_that_was_added_to_the_optimizer_is_scheduled_from_the_next_step_on() -> None:
    """Also where somebody else's change is found at the same time."""
    optimizer = torch.optim.SGD(parameter(), lr=0.4, momentum=0.9)
    group = build_three(optimizer)
    group.step()
    optimizer.add_param_group({"params": parameter(), "lr": 0.8})
    optimizer.param_groups[0]["lr"] *= 0.5
    group.step()

    assert shown(optimizer)[1] == pytest.approx(4.0 * shown(optimizer)[0])
    assert group.values()["lr"] == shown(optimizer)


def test_chains_and_plateaus_go_on_for_a_group_that_comes_later() -> None:
    """A chain begins as if nothing had overlapped, a plateau as if there had been no metric."""
    optimizer = torch.optim.SGD(parameter(), lr=1.0)
    schedulers = [
        CosineAnnealingLR(optimizer, T_max=10, eta_min=0.1, by_epoch=False),
        StepLR(optimizer, 2, 0.5, by_epoch=False),
        ReduceOnPlateauLR(optimizer, patience=0, factor=0.5),
    ]
    group = SchedulerGroup(optimizer, schedulers)
    group.step()
    group.observe({"loss": 1.0})
    group.observe({"loss": 1.0})
    group.add_param_group({"params": parameter(), "lr": 2.0})
    before = shown(optimizer)
    group.observe({"loss": 1.0})

    assert shown(optimizer) == [0.5 * value for value in before]
    assert len(group.state_dict()["schedulers"][2]["plateau"]["scales"]) == 2


def test_a_schedule_with_a_value_for_each_group_refuses_one_more() -> None:
    """Nobody said what the new one's value is; nothing has changed."""
    optimizer = torch.optim.SGD(parameter(), lr=1.0)
    group = SchedulerGroup(optimizer, [LambdaLR(optimizer, [ripple], by_epoch=False)])
    optimizer.add_param_group({"params": parameter()})

    with pytest.raises(ValueError, match="must have a value for each of 2 param groups"):
        group.step()
    assert group.iteration == 0
    assert LambdaLR(torch.optim.SGD(parameter(), lr=1.0), [shrink]).get_last_value() == [1.0]


# ------------------------------------------------------------------------------ names, and other hyper-parameters
def test_other_names_at_other_places_are_a_mismatch() -> None:
    """The states of optimizers go by place, so that swapped groups would silently take each other's."""
    one, two = named(), named()
    two.param_groups.reverse()
    group, other = (SchedulerGroup(each, [ConstantLR(each, 0.5)]) for each in (one, two))

    with pytest.raises(
        ScheduleMismatchError, match="param group 0 was 'backbone' when iteration 0 was saved, but is 'head'"
    ):
        other.load_state_dict(group.state_dict())


def test_names_are_in_the_trace() -> None:
    """Pictures and tables show them."""
    optimizer = named()

    assert SchedulerGroup(optimizer, [StepLR(optimizer, 2)]).trace(0, 1).groups == {"lr": ["backbone", "head"]}


def test_the_second_beta_and_eps_are_hyper_parameters_like_any_other() -> None:
    """Each has its place, also beside a schedule of the momentum, and values run ahead for each alone."""
    optimizer = torch.optim.AdamW(parameter(), lr=0.1, betas=(0.8, 0.99), eps=1e-8)
    schedulers = [
        LinearParamScheduler(optimizer, "betas[1]", 0.5, by_epoch=False, end=30),
        LinearParamScheduler(optimizer, "eps", 0.5, by_epoch=False, end=30),
    ]
    group = SchedulerGroup(optimizer, schedulers)
    trace = group.trace(30)
    for row in range(30):
        found = optimizer.param_groups[0]
        assert found["betas"] == (0.8, trace.values["betas[1]"][0][row])
        assert found["eps"] == trace.values["eps"][0][row]
        group.step()
    assert group.amendments == {}
    assert "betas[1]" not in optimizer.param_groups[0]

    both = torch.optim.AdamW(parameter(), lr=0.1, betas=(0.8, 0.99))
    second = SchedulerGroup(
        both,
        [
            LinearMomentum(both, 0.5, by_epoch=False, end=30),
            LinearParamScheduler(both, "betas[1]", 0.5, by_epoch=False, end=30),
        ],
    )
    for row in range(25):
        assert both.param_groups[0]["betas"][1] == trace.values["betas[1]"][0][row]
        assert both.param_groups[0]["betas"][0] == second.values()["momentum"][0]
        second.step()
    assert second.amendments == {}


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("betas[0]", ValueError, 'must be "momentum"'),
        ("betas[2]", KeyError, "such as betas"),
        ("gamma[1]", KeyError, "gamma"),
    ],
)
def test_a_place_that_is_not_there_is_refused(name: str, error: type[Exception], text: str) -> None:
    """The first of the betas has a name already."""
    with pytest.raises(error, match=text):
        LinearParamScheduler(torch.optim.AdamW(parameter()), name)


@pytest.mark.parametrize("wrong", [{}, {"momentum": "x"}])
def test_a_param_group_that_cannot_be_scheduled_is_not_added(wrong: dict[str, Any]) -> None:
    """The optimizer is as it was, and the run goes on."""
    optimizer = torch.optim.SGD(parameter(), lr=0.1, momentum=0.9)
    schedulers = [
        LinearMomentum(optimizer, 0.5, by_epoch=False, end=100),
        OneCycleLR(optimizer, eta_max=[0.3], total_steps=50, by_epoch=False),
    ]
    group = SchedulerGroup(optimizer, schedulers)
    group.step()
    with pytest.raises((ValueError, TypeError)):
        group.add_param_group({"params": parameter(), **wrong})
    group.step()

    assert len(optimizer.param_groups) == 1
    assert group.iteration == group.state_dict()["position"]["iteration"] == 2


def test_a_truth_value_is_no_hyper_parameter() -> None:
    """Half of `nesterov` means nothing."""
    with pytest.raises(KeyError, match="`param_name` must be a number in every param group"):
        LinearParamScheduler(torch.optim.SGD(parameter(), lr=0.1, momentum=0.9, nesterov=True), "nesterov")


def lrs(optimizer: torch.optim.Optimizer) -> list[float]:
    """Return the learning rates."""
    return [group["lr"] for group in optimizer.param_groups]


def test_a_group_asks_anew_which_param_groups_are_chosen() -> None:
    """Names that change between the schedule and its group count; loading one's own state changes nothing then."""
    optimizer = named()
    schedule = LinearLR(optimizer, 0.5, by_epoch=False, end=10, groups="head")
    backbone, head = optimizer.param_groups
    backbone["name"], head["name"] = "head", "backbone"

    group = SchedulerGroup(optimizer, [schedule])

    assert lrs(optimizer) == [0.05, 1.0]
    group.load_state_dict(group.state_dict())
    assert lrs(optimizer) == [0.05, 1.0]


@pytest.mark.parametrize("times", [1, 2])
def test_a_choice_that_is_kept_gives_later_schedules_the_base_that_was_saved(times: int) -> None:
    """A one-cycle sets the base of those after it, where it acts; the saved choice of param groups says where."""

    def build(chosen: list[int]) -> tuple[torch.optim.Optimizer, SchedulerGroup]:
        optimizer = torch.optim.SGD([{"params": parameter(), "lr": 0.1 * lr} for lr in (1, 2, 3)])
        schedules = [
            OneCycleLR(optimizer, eta_max=1.0, total_steps=5, by_epoch=False, end=5, groups=chosen),
            CosineRestartLR(optimizer, periods=[20], eta_min=0.0, by_epoch=False, begin=5, end=25),
        ]
        return optimizer, SchedulerGroup(optimizer, schedules)

    saved, group = build([0, 1])
    for _ in range(8):
        group.step()
    loaded, other = build([2])
    for _ in range(times):
        other.load_state_dict(group.state_dict(), "keep")

    assert lrs(loaded) == lrs(saved)
    group.step()
    other.step()
    assert lrs(loaded) == lrs(saved)


def test_a_value_that_is_set_between_two_schedules_is_meant() -> None:
    """It is an amendment, as one that is set after the last schedule is."""
    optimizer = torch.optim.SGD(parameter(), lr=0.1)
    first = LinearLR(optimizer, 0.5, by_epoch=False, end=10)
    optimizer.param_groups[0]["lr"] = 0.03

    second = StepLR(optimizer, 5, by_epoch=False)
    group = SchedulerGroup(optimizer, [first, second])

    assert lrs(optimizer) == [pytest.approx(0.03, rel=1e-12)]
    assert [each.observed for each in group.amendments["lr"]] == [0.03]


def test_a_param_group_without_a_lower_bound_is_not_added() -> None:
    """A plateau with a list of bounds says so when the group comes, and not when patience has run out."""
    optimizer = torch.optim.SGD([{"params": parameter(), "lr": lr} for lr in (0.1, 0.2)])
    schedule = ReduceOnPlateauLR(optimizer, monitor="loss", patience=0, min_value=[1e-3, 1e-3])
    group = SchedulerGroup(optimizer, [schedule])

    with pytest.raises(ValueError, match="`min_value` must have a value for each of 3 param groups"):
        group.add_param_group({"params": parameter(), "lr": 0.1})

    assert len(optimizer.param_groups) == 2
