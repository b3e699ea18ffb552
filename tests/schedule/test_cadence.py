"""Several optimizers in one group: each may be updated at its own cadence, and all have one state."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch

from resumable_sched.errors import ScheduleMismatchError
from resumable_sched.schedule import (
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    LinearMomentum,
    MultiStepLR,
    ParamScheduler,
    SchedulerGroup,
    StepLR,
    share,
)


def optimizers() -> dict[str, torch.optim.Optimizer]:
    """Return the optimizers of a GAN."""
    rates = {"generator": 0.1, "critic": 0.4}
    return {
        name: torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9) for name, lr in rates.items()
    }


def build(owners: dict[str, torch.optim.Optimizer], **arguments: Any) -> SchedulerGroup:
    """Schedule the generator's in closed form and by a chain, and the critic's by samples."""
    slow, fast = owners["generator"], owners["critic"]
    schedulers: list[ParamScheduler] = [
        LinearLR(slow, start_factor=0.1, by_epoch=False, end=5),
        StepLR(slow, 1, gamma=0.5, begin=1),
        CosineAnnealingLR(fast, T_max=50, eta_min=0.01, by_epoch=False, end=60),
        ExponentialLR(fast, gamma=0.9, by_epoch=False, begin=3),
        LinearMomentum(slow, start_factor=0.5, by_epoch=False, end=10**6),
        LinearMomentum(fast, start_factor=0.5, unit="sample", end=1000),
    ]
    return SchedulerGroup(owners, schedulers, **arguments)


def shown(owners: dict[str, torch.optim.Optimizer]) -> list[tuple[float, float]]:
    """Return learning rate and momentum of each optimizer."""
    return [(each.param_groups[0]["lr"], each.param_groups[0]["momentum"]) for each in owners.values()]


def test_an_optimizer_counts_its_own_updates() -> None:
    """With a cadence of 5, a schedule moves as it would alone with every fifth step."""
    owners, alone = optimizers(), optimizers()
    group, twin = build(owners, cadence={"generator": 5}), build(alone)
    for iteration in range(1, 41):
        group.step(samples=4)
        if iteration % 5 == 0:
            twin.step(samples=4)

        assert group.updates == {"generator": iteration // 5, "critic": iteration}
        assert shown(owners)[0][1] == shown(alone)[0][1]
    assert group.iteration == 40


@pytest.mark.parametrize("build_cadence", [{"generator": 3}, {"critic": 2}, {"generator": 2, "critic": 3}])
def test_a_trace_is_what_training_uses_and_every_stop_resumes(build_cadence: dict[str, int]) -> None:
    """Chains, epochs, samples and values that run ahead included."""
    owners = optimizers()
    group = build(owners, cadence=build_cadence, epoch_length=7)
    group.step(samples=4)
    trace = group.trace(40, samples_per_iteration=4)
    states = []
    for row in range(40):
        values = {name: column[0][row] for name, column in trace.values.items()}
        rates = [(values[f"{name}.lr"], values[f"{name}.momentum"]) for name in owners]
        assert shown(owners) == rates
        states.append((json.loads(json.dumps(group.state_dict())), rates))
        group.step(samples=4)
        if group.iteration_in_epoch == 7:
            group.step_epoch()

    for stop in range(0, 40, 6):
        again = optimizers()
        other = build(again, cadence=build_cadence, epoch_length=7)
        other.load_state_dict(states[stop][0])
        for row in range(stop, 40):
            assert shown(again) == states[row][1]
            other.step(samples=4)
            if other.iteration_in_epoch == 7:
                other.step_epoch()
        assert other.state_dict() == group.state_dict()


def test_a_loop_may_say_who_was_updated() -> None:
    """An irregular cadence is counted as it happens, is state, and goes on after a resume."""
    owners = optimizers()
    group = build(owners)
    for names in (["critic"], ["critic"], None, ["generator"], ["critic", "generator"], None):
        group.step(samples=4, optimizers=names)
    again, other = copy.deepcopy((owners, group))
    state = json.loads(json.dumps(group.state_dict()))
    third = optimizers()
    fresh = build(third)
    fresh.load_state_dict(state)

    assert group.updates == {"generator": 4, "critic": 5}
    assert state["position"]["updates"] == {"generator": 4, "critic": 5}
    for _ in range(20):
        assert shown(again) == shown(owners) == shown(third)
        for each in (group, other, fresh):
            each.step(samples=4)
    assert group.updates == {"generator": 24, "critic": 25}


def test_a_window_that_is_left_open_ends_with_the_updates_of_its_optimizer() -> None:
    """Half as many updates for half the cadence."""
    owners = optimizers()
    schedulers = {
        "generator": [MultiStepLR(owners["generator"], milestones=[share(0.5)], by_epoch=False)],
        "critic": [MultiStepLR(owners["critic"], milestones=[share(0.5)], by_epoch=False)],
    }
    group = SchedulerGroup(owners, schedulers, max_iters=40, cadence={"generator": 4})

    assert [each.milestones for each in group.schedulers if isinstance(each, MultiStepLR)] == [(5,), (20,)]


def test_unknown_optimizers_are_named() -> None:
    """A typing error is not silently another optimizer."""
    with pytest.raises(ValueError, match=r"`cadence` must name optimizers of the group \('generator', 'critic'\)"):
        build(optimizers(), cadence={"discriminator": 5})
    with pytest.raises(ValueError, match="`cadence` must be at least 1"):
        build(optimizers(), cadence={"critic": 0})
    group = build(optimizers())
    with pytest.raises(ValueError, match="`optimizers` must name optimizers of the group"):
        group.step(samples=4, optimizers=["generater"])
    assert group.iteration == 0


def test_muon_and_adamw_have_one_state() -> None:
    """Matrices by one, the rest by the other, each with schedules of its own; both go on together."""

    def start() -> tuple[dict[str, torch.optim.Optimizer], SchedulerGroup]:
        torch.manual_seed(1)
        model = torch.nn.Linear(3, 2)
        pair: dict[str, torch.optim.Optimizer] = {
            "muon": getattr(torch.optim, "Muon", torch.optim.SGD)([model.weight], lr=0.02, momentum=0.95),
            "adamw": torch.optim.AdamW([model.bias], lr=0.003),
        }
        schedulers: dict[str, list[ParamScheduler]] = {
            "muon": [LinearLR(pair["muon"], 0.1, by_epoch=False, end=9), LinearMomentum(pair["muon"], 0.9, end=5)],
            "adamw": [CosineAnnealingLR(pair["adamw"], T_max=30, by_epoch=False, end=30)],
        }
        return pair, SchedulerGroup(pair, schedulers, epoch_length=6)

    (pair, group), (other, again) = start(), start()
    for _ in range(5):
        group.step()
    again.load_state_dict(json.loads(json.dumps(group.state_dict())))
    for _ in range(20):
        assert [each.param_groups[0]["lr"] for each in other.values()] == [
            each.param_groups[0]["lr"] for each in pair.values()
        ]
        for each in (group, again):
            each.step()
            if each.iteration_in_epoch == 6:
                each.step_epoch()
    assert group.values().keys() == {"muon", "adamw"}
    assert other["muon"].param_groups[0]["momentum"] == pair["muon"].param_groups[0]["momentum"]


def test_an_update_out_of_turn_is_counted_also_while_values_run_ahead() -> None:
    """An optimizer that took part in every iteration so far, out of its turn, counts for itself from then on."""
    owners = optimizers()
    group = build(owners, cadence={"generator": 2})
    group.step(samples=4, optimizers=["generator", "critic"])
    for _ in range(5):
        group.step(samples=4)
    assert group.updates == {"generator": 4, "critic": 6}
    again = optimizers()
    other = build(again, cadence={"generator": 2})
    other.load_state_dict(json.loads(json.dumps(group.state_dict())))
    for _ in range(30):
        assert shown(again) == shown(owners)
        group.step(samples=4)
        other.step(samples=4)


def test_an_amendment_is_where_the_group_was() -> None:
    """By intent or by others, of an optimizer that is updated now and then too: iterations are the group's."""
    owners = optimizers()
    group = build(owners, cadence={"generator": 5})
    for _ in range(20):
        group.step(samples=4)
    owners["generator"].param_groups[0]["momentum"] *= 0.5
    group.step(samples=4)
    group.amend("momentum", scale=0.5, optimizer="generator")

    assert [(each.kind, each.iteration) for each in group.amendments["generator.momentum"]] == [
        ("foreign", 20),
        ("scale", 21),
    ]


@pytest.mark.parametrize("wrong", [3, "critic"])
def test_a_wrong_list_of_optimizers_is_refused(wrong: Any) -> None:
    """A name alone is no list of names."""
    group = build(optimizers())

    with pytest.raises(TypeError, match="`optimizers` must be a list of names"):
        group.step(samples=4, optimizers=wrong)
    with pytest.raises(TypeError, match="`cadence` must be a dict"):
        build(optimizers(), cadence=wrong)
    with pytest.raises(TypeError, match="`agree` must be a function"):
        build(optimizers(), agree=3)


@pytest.mark.parametrize("other", [{"generator": 4}, {}])
def test_another_cadence_is_another_schedule(other: dict[str, int]) -> None:
    """It is compared, and kept or adopted, as everything is that decides on values to come."""
    saved = build(optimizers(), cadence={"generator": 5})
    for _ in range(20):
        saved.step(samples=3)
    state = json.loads(json.dumps(saved.state_dict()))
    ahead = saved.trace(30, 100, samples_per_iteration=3).values

    def load(policy: Any) -> SchedulerGroup:
        group = build(optimizers(), cadence=other)
        group.load_state_dict(state, policy)
        return group

    with pytest.raises(ScheduleMismatchError, match=r"`cadence` was {'generator': 5} when iteration 20 was saved, but"):
        load("error")
    kept, adopted = load("keep"), load("adopt")
    assert kept.trace(30, 100, samples_per_iteration=3).values == ahead
    assert kept.cadence == {"generator": 5}
    assert adopted.cadence == other
    assert adopted.updates["generator"] == saved.updates["generator"]


def test_another_cadence_says_from_where_on_it_differs() -> None:
    """Each of the two is looked at with its own."""

    def group(every: int) -> SchedulerGroup:
        owners = optimizers()
        members = [ExponentialLR(owners["generator"], gamma=0.5, by_epoch=False)]
        return SchedulerGroup(owners, members, cadence={"generator": every})

    with pytest.raises(ScheduleMismatchError, match=r"Values differ from iteration 3 on: .* is 0.1 as saved, and 0.05"):
        group(3).load_state_dict(group(5).state_dict())


def test_a_state_that_does_not_tell_the_cadence_is_loaded() -> None:
    """As all were before they told; and an optimizer that is updated every time needs not be named."""
    saved = build(optimizers(), cadence={"generator": 5})
    for _ in range(20):
        saved.step(samples=3)
    state = saved.state_dict()
    del state["cadence"]

    for policy in ("error", "keep"):
        group = build(optimizers(), cadence={"generator": 5, "critic": 1})
        group.load_state_dict(state, policy)
        group.load_state_dict(saved.state_dict(), policy)
        assert group.cadence["generator"] == 5
        assert group.values() == saved.values()
