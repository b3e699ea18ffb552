"""`lint` says what is probably a mistake, says it once, and refuses nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from resumable_sched.schedule import SchedulerGroup, build_schedulers, lint
from resumable_sched.schedule.lengths import Lengths
from resumable_sched.schedule.windows import Sizes, windows_of

WARM_UP = {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": 50}


def sgd() -> torch.optim.Optimizer:
    """Return an optimizer."""
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)


def found(config: Any, **lengths: Any) -> list[tuple[str, str]]:
    """Return kind and level of what is found in *config*, without what is said of every schedule."""
    lengths = {"epoch_length": 100, "max_epochs": 12, **lengths}
    return [(it.kind, it.level) for it in lint(build_schedulers(sgd(), config), **lengths) if it.kind != "default"]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"type": "MultiStepLR", "milestones": [8, 11]}, []),
        ({"type": "MultiStepLR", "milestones": [8, 12]}, [("never-reached", "warning")]),
        (
            {"type": "MultiStepLR", "milestones": [3], "begin": 1, "end": 4},
            [("never-reached", "warning"), ("gap", "note")],
        ),
        ({"type": "MultiStepLR", "milestones": [2], "begin": 1, "end": 4}, [("gap", "note")]),
        ({"type": "MultiStepLR", "milestones": [600, 1200], "by_epoch": False}, [("never-reached", "warning")]),
        ({"type": "StepLR", "step_size": 13}, [("cut-short", "warning")]),
        ({"type": "CosineAnnealingLR", "T_max": 12}, [("misses-floor", "note")]),
        ({"type": "CosineAnnealingLR", "T_max": 11}, []),
        ({"type": "CosineAnnealingLR", "T_max": 15}, [("misses-floor", "warning")]),
        ({"type": "CosineAnnealingLR", "T_max": 5}, [("rises-again", "warning")]),
        ({"type": "CosineAnnealingLR"}, [("misses-floor", "note")]),
        ({"type": "LinearLR", "end": 14}, [("cut-short", "warning")]),
        ({"type": "LinearLR", "end": 13}, []),
        ({"type": "LinearLR", "begin": 12, "end": 13}, [("never-opens", "warning")]),
        ({"type": "OneCycleLR", "eta_max": 1.0, "total_steps": 1300, "by_epoch": False}, [("cut-short", "warning")]),
        ({"type": "OneCycleLR", "eta_max": 1.0, "total_steps": 1200, "by_epoch": False}, []),
        (
            {"type": "CosineRestartLR", "periods": [6, 7], "restart_weights": [1, 1], "eta_min": 0},
            [("cut-short", "warning")],
        ),
        ({"type": "ReduceOnPlateauLR"}, [("metric", "note")]),
        ([WARM_UP, {"type": "MultiStepLR", "milestones": [8, 11]}], [("overlap", "note")]),
        (
            [WARM_UP, {"type": "CosineAnnealingLR", "T_max": 11, "eta_min": 0.01}],
            [("overlap", "warning")],
        ),
        ([WARM_UP, {**WARM_UP, "type": "LinearMomentum"}], []),
        ([WARM_UP, {"type": "StepLR", "step_size": 3, "begin": 1}], [("gap", "note")]),
        ([WARM_UP, {**WARM_UP, "begin": 50, "end": 60}], []),
        ({**WARM_UP, "begin": 10}, [("gap", "note")]),
    ],
)
def test_what_is_found(config: Any, expected: list[tuple[str, str]]) -> None:
    """Each mistake is found at the tick where it begins to be one, and not a tick before."""
    assert found(config) == expected


def test_the_longest_of_several_windows_covers_a_gap() -> None:
    """A short window inside a long one leaves no gap behind it."""
    config = [{**WARM_UP, "end": 500}, {**WARM_UP, "begin": 5, "end": 6}, {**WARM_UP, "begin": 400, "end": 600}]

    assert {kind for kind, _ in found(config)} == {"overlap"}


def test_a_missed_floor_says_how_much_remains() -> None:
    """The guide's own example, by epoch: 1.7 % of the way to the floor is left."""
    (finding,) = [
        it
        for it in lint(build_schedulers(sgd(), {"type": "CosineAnnealingLR", "T_max": 12}), max_epochs=12)
        if it.kind == "misses-floor"
    ]

    assert "by one tick: the last tick is 11 and `T_max` is 12, so that 1.7 % of the way remains" in finding.message
    assert str(finding).startswith("note: lr: CosineAnnealingLR: ")


def test_without_lengths_only_what_follows_from_the_windows_is_said() -> None:
    """Nothing is guessed: an end that nobody knows is told, and that clocks cannot be compared."""
    both = [WARM_UP, {"type": "MultiStepLR", "milestones": [8], "end": 10}]

    clock = ("epoch-clock", "note")
    unknown = ("unknown-length", "note")
    assert found({"type": "StepLR", "step_size": 9}, epoch_length=None, max_epochs=None) == [unknown, clock]
    assert found(both, epoch_length=None, max_epochs=None) == [clock, unknown]
    assert found(
        [{"type": "StepLR", "step_size": 1, "end": 3}, {"type": "StepLR", "step_size": 1, "begin": 5, "end": 7}],
        epoch_length=None,
        max_epochs=None,
    ) == [clock, ("gap", "note")]


def test_a_loop_that_forgets_epochs_is_noticed_where_the_length_of_training_tells(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once, as soon as the first of the epochs must be over; a loop that counts them hears nothing."""
    for forgets in (False, True):
        caplog.clear()
        optimizer = sgd()
        schedulers = build_schedulers(optimizer, {"type": "StepLR", "step_size": 1})
        group = SchedulerGroup(optimizer, schedulers, max_epochs=3, max_iters=31)
        for iteration in range(1, 31):
            group.step()
            if iteration % 10 == 0 and not forgets:
                group.step_epoch()
        messages = [record.getMessage() for record in caplog.records]
        assert [message.startswith("`step_epoch` must be called after each epoch") for message in messages] == [
            True
        ] * forgets


def test_schedules_of_different_param_groups_do_not_overlap() -> None:
    """What one does is not changed by the other; and each param group has gaps of its own, which are not listed."""
    optimizer = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)], lr=0.1)
    config = [
        {"type": "CosineAnnealingLR", "T_max": 5, "eta_min": 0.1, "end": 6, "groups": 0},
        {"type": "StepLR", "step_size": 2, "begin": 4, "end": 6, "groups": [1]},
    ]

    assert lint(build_schedulers(optimizer, config), epoch_length=10, max_epochs=6) == []


def test_samples_are_placed_where_the_size_of_an_update_tells() -> None:
    """Overlaps of clocks can be told then."""
    schedulers = build_schedulers(
        sgd(),
        [
            {"type": "StepLR", "step_size": 1, "unit": "sample", "end": 100},
            {"type": "StepLR", "step_size": 1, "by_epoch": False, "begin": 10, "end": 20},
        ],
    )

    assert [it.kind for it in lint(schedulers)] == ["unknown-length"]
    assert [it.kind for it in lint(schedulers, sizes=Sizes(samples=10))] == []
    assert [it.kind for it in lint(schedulers, sizes=Sizes(samples=9))] == ["overlap"]


def test_defaults_are_told() -> None:
    """An `end` that was not given is the end of training, in the schedule's own ticks."""
    findings = lint(build_schedulers(sgd(), {"type": "StepLR", "step_size": 3}), max_iters=250, epoch_length=100)

    assert [(it.kind, it.level) for it in findings] == [("default", "note")]
    assert "after 3 epochs" in findings[0].message


def test_schedules_by_the_name_of_their_optimizer_are_told_apart() -> None:
    """The same hyper-parameter of two optimizers does not overlap."""
    both = {"generator": sgd(), "discriminator": sgd()}

    findings = lint(build_schedulers(both, {**WARM_UP, "end": 2000}), max_iters=1000)

    assert [(it.kind, it.parameter, it.schedulers) for it in findings] == [
        ("cut-short", "generator.lr", (0,)),
        ("cut-short", "discriminator.lr", (0,)),
    ]


def test_what_is_probably_a_mistake_is_told_at_build(caplog: pytest.LogCaptureFixture) -> None:
    """Once, and notes are not: where lengths are known when it is built, else when the first update is counted."""
    config = [{"type": "MultiStepLR", "milestones": [8, 30]}, {"type": "LinearLR", "end": 500, "by_epoch": False}]

    def group(**lengths: int) -> SchedulerGroup:
        optimizer = sgd()
        return SchedulerGroup(optimizer, build_schedulers(optimizer, config), **lengths)  # type: ignore[arg-type]

    known = group(max_epochs=2, epoch_length=8)
    told = [
        "lr: MultiStepLR: `milestones` 8, 30: never reached, because the last tick is 1.",
        "lr: LinearLR: its window goes to iteration 500, but training has 16 iterations: it is cut short.",
    ]
    assert caplog.messages == told
    known.step()
    assert caplog.messages == told
    caplog.clear()

    copy.deepcopy(known).step()
    assert caplog.messages == []

    later = group()
    assert caplog.messages == []
    later.fill_lengths(max_epochs=2, epoch_length=8)
    assert caplog.messages == told
    later.step()
    assert caplog.messages == told


def test_a_length_that_nobody_knows_matters_where_values_depend_on_it(caplog: pytest.LogCaptureFixture) -> None:
    """A cosine until the end of training stands still; a step does not care."""
    for config in ({"type": "StepLR", "step_size": 3}, {"type": "CosineAnnealingLR"}):
        optimizer = sgd()
        group = SchedulerGroup(optimizer, build_schedulers(optimizer, {**config, "by_epoch": False}))
        group.step()

    assert caplog.messages == [
        "lr: CosineAnnealingLR: `end` is not given, and nobody says how many iterations training has."
    ]


def test_an_optimizer_that_is_updated_less_often_has_a_shorter_training() -> None:
    """What its schedules count is its own updates."""
    schedulers = {"slow": build_schedulers(sgd(), {"type": "StepLR", "step_size": 5, "end": 50, "by_epoch": False})}

    assert [it.level for it in lint(schedulers, max_iters=98, sizes=Sizes(cadence={"slow": 2}))] == []
    (finding,) = lint(schedulers, max_iters=97, sizes=Sizes(cadence={"slow": 2}))
    assert "but training has 48 iterations" in finding.message


def test_lengths_that_are_said_later_are_looked_at(caplog: pytest.LogCaptureFixture) -> None:
    """A group that knows how long an epoch is knows nothing of training yet."""
    optimizer = sgd()
    schedulers = build_schedulers(optimizer, {"type": "MultiStepLR", "milestones": [50, 500], "by_epoch": False})
    group = SchedulerGroup(optimizer, schedulers, epoch_length=10)
    assert caplog.messages == []

    group.fill_lengths(max_epochs=3)

    assert caplog.messages == ["lr: MultiStepLR: `milestones` 50, 500: never reached, because the last tick is 29."]


@pytest.mark.parametrize(
    ("config", "by_epoch"),
    [
        ({"type": "CosineAnnealingLR"}, True),
        ({"type": "WarmupStableDecayLR", "num_warmup_steps": 5, "num_decay_steps": 50}, False),
    ],
)
def test_what_lasts_as_long_as_training_needs_its_length(
    config: dict[str, Any], by_epoch: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said at the first epoch or update, also where only the end depends on it."""
    optimizer = sgd()
    group = SchedulerGroup(optimizer, build_schedulers(optimizer, {**config, "by_epoch": by_epoch}))
    if by_epoch:
        group.step_epoch()
    else:
        group.step()

    assert [each for each in caplog.messages if "nobody says how many" in each] == caplog.messages != []


def test_windows_are_where_epochs_of_another_length_put_them() -> None:
    """Those that were done count as they were."""
    schedulers = build_schedulers(sgd(), {"type": "LinearLR", "begin": 3, "end": 5})

    (window,) = windows_of(schedulers, Lengths(5, 5, surplus=10), Sizes(5, surplus=10))

    assert (window.begin, window.end) == (25, 35)
