"""Where torch does something else on purpose or by mistake; docs/torch-differences.md says why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.optim import lr_scheduler as peer

from resumable_sched import schedule
from resumable_sched.schedule import SchedulerGroup

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step\\(\\)`:UserWarning")

CHAIN, SEQUENCE = peer.ChainedScheduler, peer.SequentialLR


def half(tick: int) -> float:  # noqa: ARG001 - the same at every tick
    """Return a factor."""
    return 0.5


def one(tick: int) -> float:  # noqa: ARG001
    """Return no factor."""
    return 1.0


def sgd() -> torch.optim.SGD:
    """Return an optimizer."""
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.5)


def torchs(build: Callable[[Any], Any], count: int) -> list[float]:
    """Return the first *count* learning rates of torch, rounded."""
    target = sgd()
    scheduler, values = build(target), []
    for tick in range(count):
        values.append(round(float(target.param_groups[0]["lr"]), 9))
        if tick < count - 1:
            scheduler.step()
    return values


def ours(build: Callable[[Any], list[Any]], count: int) -> list[float]:
    """Return the first *count* learning rates of ours, rounded."""
    target = sgd()
    return [round(value, 9) for value in SchedulerGroup(target, build(target)).trace(count).values["lr"][0]]


def sequence(target: Any, parts: list[dict[str, Any]], milestones: list[int]) -> Any:
    """Build a sequence by iteration."""
    return schedule.SequentialLR(target, parts, milestones, by_epoch=False)


def test_a_function_overwrites_the_others_in_torch_and_here_if_it_is_told_to() -> None:
    """Steps beside a function are never seen in torch, or for a tick, and here they stay."""
    for absolute, behind, before in [(True, [1, 1, 1, 1], [1, 1, 0.5, 1]), (False, [1, 1, 0.5, 0.5], [1, 1, 0.5, 0.5])]:
        own: dict[str, Any] = {"absolute": absolute, "by_epoch": False}
        for build, expected in [
            (lambda it: [schedule.StepLR(it, 2, 0.5, by_epoch=False), schedule.LambdaLR(it, one, **own)], behind),  # noqa: B023 - used at once
            (lambda it: [schedule.LambdaLR(it, one, **own), schedule.StepLR(it, 2, 0.5, by_epoch=False)], before),  # noqa: B023
        ]:
            assert ours(build, 4) == expected
    assert torchs(lambda it: CHAIN([peer.StepLR(it, 2, 0.5), peer.LambdaLR(it, one)]), 4) == [1, 1, 1, 1]
    assert torchs(lambda it: CHAIN([peer.LambdaLR(it, one), peer.StepLR(it, 2, 0.5)]), 4) == [1, 1, 0.5, 1]


def test_warm_restarts_overwrite_the_others_in_torch_and_here_if_they_are_told_to() -> None:
    """Each restart is from the base there, and from what comes in here."""
    restarts, constant = schedule.CosineAnnealingWarmRestartsLR, schedule.ConstantLR
    assert torchs(lambda it: CHAIN([peer.ConstantLR(it, 0.5, 9), peer.CosineAnnealingWarmRestarts(it, 2)]), 3) == [
        1,
        0.5,
        1,
    ]
    for absolute, expected in [(True, [1, 0.5, 1]), (False, [0.5, 0.25, 0.5])]:
        assert (
            ours(
                lambda it: [constant(it, 0.5, by_epoch=False), restarts(it, 2, absolute=absolute, by_epoch=False)],  # noqa: B023
                3,
            )
            == expected
        )


def test_a_product_goes_on_from_where_the_schedule_before_it_was_in_torch() -> None:
    """Here it starts from the base, as every other part."""
    theirs = torchs(lambda it: SEQUENCE(it, [peer.ConstantLR(it, 0.5, 9), peer.MultiplicativeLR(it, half)], [2]), 4)
    parts = [{"type": "ConstantLR", "factor": 0.5, "end": 10}, {"type": "MultiplicativeLR", "lr_lambda": half}]

    assert theirs == [0.5, 0.5, 0.25, 0.125]
    assert ours(lambda it: [sequence(it, parts, [2])], 4) == [0.5, 0.5, 1, 0.5]


def test_a_part_does_not_change_the_base_of_those_before_it() -> None:
    """In torch a one-cycle and a first cyclic schedule are the base of the whole sequence."""
    cycle: dict[str, Any] = {"total_steps": 9, "div_factor": 4.0}
    theirs = torchs(
        lambda it: SEQUENCE(it, [peer.StepLR(it, 9), peer.OneCycleLR(it, 2.0, cycle_momentum=False, **cycle)], [2]), 3
    )
    parts = [{"type": "StepLR", "step_size": 9}, {"type": "OneCycleLR", "eta_max": 2.0, **cycle}]
    assert theirs == [0.5, 0.5, 0.5]
    assert ours(lambda it: [sequence(it, parts, [2])], 3) == [1, 1, 0.5]

    theirs = torchs(
        lambda it: SEQUENCE(it, [peer.CyclicLR(it, 0.25, 0.5, 9, cycle_momentum=False), peer.StepLR(it, 9)], [1]), 2
    )
    parts = [
        {"type": "CyclicLR", "base_lr": 0.25, "max_lr": 0.5, "step_size_up": 9},
        {"type": "StepLR", "step_size": 9},
    ]
    assert theirs == [0.25, 0.25]
    assert ours(lambda it: [sequence(it, parts, [1])], 2) == [0.25, 1]


def test_a_milestone_undoes_what_others_did_in_torch() -> None:
    """Here a sequence is one schedule among others, which go on to act."""
    theirs = torchs(
        lambda it: CHAIN(
            [SEQUENCE(it, [peer.ConstantLR(it, 0.5, 9), peer.StepLR(it, 9)], [2]), peer.ExponentialLR(it, 0.5)]
        ),
        4,
    )
    parts = [{"type": "ConstantLR", "factor": 0.5, "end": 10}, {"type": "StepLR", "step_size": 9}]

    assert theirs == [0.5, 0.25, 0.5, 0.25]
    assert ours(lambda it: [sequence(it, parts, [2]), schedule.ExponentialLR(it, 0.5, by_epoch=False)], 4) == [
        0.5,
        0.25,
        0.25,
        0.125,
    ]


def test_a_sequence_can_be_part_of_a_sequence() -> None:
    """Torch raises, and is a tick ahead with a chain that is the first."""
    inner = [{"type": "StepLR", "step_size": 1, "gamma": 0.5}, {"type": "StepLR", "step_size": 1, "gamma": 0.25}]
    parts: list[dict[str, Any]] = [
        {"type": "StepLR", "step_size": 9},
        {"type": "SequentialLR", "schedulers": inner, "milestones": [2]},
    ]

    assert ours(lambda it: [sequence(it, parts, [1])], 5) == [1, 1, 0.5, 1, 0.25]
    with pytest.raises(NotImplementedError):
        torchs(lambda it: SEQUENCE(it, [peer.StepLR(it, 9), CHAIN([peer.StepLR(it, 9)])], [1]), 3)
    assert torchs(lambda it: SEQUENCE(it, [CHAIN([peer.ExponentialLR(it, 0.5)]), peer.StepLR(it, 9)], [5]), 2) == [
        0.5,
        0.25,
    ]


def test_a_cyclic_schedule_behind_another_starts_late_in_torch() -> None:
    """Its first value there is `initial_lr`; here it is `base_lr`."""
    theirs = torchs(lambda it: CHAIN([peer.StepLR(it, 9), peer.CyclicLR(it, 0.25, 0.5, 1, cycle_momentum=False)]), 3)

    assert theirs == [1, 0.5, 0.25]
    assert ours(
        lambda it: [schedule.StepLR(it, 9, by_epoch=False), schedule.CyclicLR(it, 0.25, 0.5, 1, by_epoch=False)], 3
    ) == [0.25, 0.5, 0.25]


def test_a_cyclic_schedule_is_the_base_of_others_only_where_it_is_the_first() -> None:
    """What follows from the base is torch's, also behind a cyclic schedule that others precede."""
    theirs = torchs(
        lambda it: CHAIN(
            [
                peer.StepLR(it, 9),
                peer.CyclicLR(it, 0.25, 0.5, 1, cycle_momentum=False),
                peer.CosineAnnealingWarmRestarts(it, 2),
            ]
        ),
        3,
    )

    assert (
        ours(
            lambda it: [
                schedule.StepLR(it, 9, by_epoch=False),
                schedule.CyclicLR(it, 0.25, 0.5, 1, by_epoch=False),
                schedule.CosineAnnealingWarmRestartsLR(it, 2, absolute=True, by_epoch=False),
            ],
            3,
        )
        == theirs
    )


def test_the_last_one_cycle_replaces_the_others_in_torch() -> None:
    """Here each has its own peak."""
    cycle: dict[str, Any] = {"total_steps": 9, "div_factor": 4.0}
    peaks = [4.0, 2.0]
    theirs = torchs(lambda it: CHAIN([peer.OneCycleLR(it, each, cycle_momentum=False, **cycle) for each in peaks]), 1)
    targets = sgd()
    both = [schedule.OneCycleLR(targets, eta_max=each, by_epoch=False, **cycle) for each in peaks]

    assert theirs == [0.5]
    assert both[0].layer.base == [4.0]
    assert both[1].get_last_value() == [0.5]


def test_one_cycle_climbs_and_raises_in_torch() -> None:
    """Here it stays where it ended."""
    build: Callable[[Any], Any] = lambda it: peer.OneCycleLR(it, 1.0, total_steps=10, cycle_momentum=False)  # noqa: E731
    mine = ours(lambda it: [schedule.OneCycleLR(it, eta_max=1.0, total_steps=10, by_epoch=False)], 13)

    assert torchs(build, 11)[10] > torchs(build, 10)[9] == mine[9] == mine[12]
    with pytest.raises(ValueError, match="Tried to step 11 times"):
        torchs(build, 12)


def test_a_factor_of_zero_is_a_factor() -> None:
    """Torch divides by it, or refuses it."""
    with pytest.raises(ZeroDivisionError):
        torchs(lambda it: peer.ConstantLR(it, 0.0, 2), 3)
    with pytest.raises(ValueError, match="Starting multiplicative factor expected to be greater than 0"):
        peer.LinearLR(sgd(), 0.0)
    assert ours(lambda it: [schedule.ConstantLR(it, 0.0, end=3, by_epoch=False)], 3) == [0, 0, 1]
    assert ours(lambda it: [schedule.LinearLR(it, 0.0, end=3, by_epoch=False)], 3) == [0, 0.5, 1]


def test_a_length_of_zero_is_the_same_alone_and_in_a_sequence() -> None:
    """Torch keeps the first factor alone, and in a sequence divides by zero or forgets it."""
    first = {"type": "StepLR", "step_size": 9}
    for family, theirs in [("Linear", peer.LinearLR), ("Constant", peer.ConstantLR)]:
        part = {"type": f"{family}LR", "end": 1}
        alone = ours(lambda it: [getattr(schedule, f"{family}LR")(it, end=1, by_epoch=False)], 2)  # noqa: B023
        assert alone == torchs(lambda it: theirs(it, total_iters=0), 2)  # noqa: B023
        assert ours(lambda it: [sequence(it, [first, part], [1])], 3) == [1, *alone]  # noqa: B023
    with pytest.raises(ZeroDivisionError):
        torchs(lambda it: SEQUENCE(it, [peer.StepLR(it, 9), peer.LinearLR(it, total_iters=0)], [1]), 2)
    assert torchs(lambda it: SEQUENCE(it, [peer.StepLR(it, 9), peer.ConstantLR(it, total_iters=0)], [1]), 2) == [1, 1]


def test_rounding_errors_add_up_in_torch() -> None:
    """A cosine that comes back from far above the base has lost digits there, and none here."""
    theirs, mine = sgd(), sgd()
    for target in (theirs, mine):
        target.param_groups[0]["lr"] = 1e-5
    other = peer.CosineAnnealingLR(theirs, 11, 0.08)
    group = SchedulerGroup(mine, [schedule.CosineAnnealingLR(mine, 11, 0.08, by_epoch=False)])
    for _ in range(22):
        other.step()
        group.step()

    drift = abs(float(theirs.param_groups[0]["lr"]) - 1e-5)
    assert 1e-11 * 1e-5 < drift < 1e-14
    assert abs(float(mine.param_groups[0]["lr"]) - 1e-5) <= 1e-16
