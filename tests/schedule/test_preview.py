"""`preview`: what training will do, has done, and where two configs differ."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from resumable_sched.schedule import SchedulerGroup, StepLR, Trace, build_schedulers
from resumable_sched.schedule.preview import (
    Preview,
    first_value_difference,
    preview_config,
    preview_group,
)

if TYPE_CHECKING:
    from collections.abc import Callable

GUIDE: list[dict[str, Any]] = [
    {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": 50},
    {"type": "MultiStepLR", "milestones": [8, 11]},
    {"type": "LinearMomentum", "start_factor": 0.5, "by_epoch": False, "end": 100},
]
LENGTHS: dict[str, Any] = {"epochs": 12, "epoch_length": 100}


def live(config: Any = GUIDE) -> SchedulerGroup:
    """Return a group that trains for 12 epochs of 100 iterations."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    schedulers = build_schedulers(optimizer, config)
    return SchedulerGroup(optimizer, schedulers, epoch_length=100, max_epochs=12)


def train(group: SchedulerGroup, iterations: int) -> list[dict[str, Any]]:
    """Count *iterations*, and give the values that each of them used."""
    used = []
    for _ in range(iterations):
        used.append(group.values())
        group.step()
        if group.iteration_in_epoch == 100:
            group.step_epoch()
    return used


def test_a_preview_holds_what_training_uses() -> None:
    """Every value of every iteration, exactly."""
    used = train(live(), 1200)

    preview = preview_config(GUIDE, **LENGTHS)

    assert preview.trace.values == {name: [[it[name][0] for it in used]] for name in ("lr", "momentum")}
    assert [(it.key, it.begin, it.end) for it in preview.windows] == [
        ("lr", 0, 50),
        ("lr", 0, 1200),
        ("momentum", 0, 100),
    ]


def test_the_optimizer_is_the_given_one_else_that_of_the_config_else_said_to_be_assumed() -> None:
    """Settings on the spot win, multipliers make param groups, and what is assumed is a note."""
    adam = preview_config(
        GUIDE[1:2], **LENGTHS, optimizer={"type": "AdamW", "lr": 2e-3, "weight_decay": 0.5}, groups=(0.1, 1.0)
    )
    other = preview_config({"type": "StepLR", "step_size": 3}, **LENGTHS, optimizer={"type": "Lamb", "lr": 0.5})

    assert [column[0] for column in adam.trace.values["lr"]] == [2e-4, 2e-3]
    assert adam.constants["momentum"] == [0.9, 0.9]
    assert adam.constants["weight_decay"] == [0.5, 0.5]
    assert not adam.notes
    assert other.trace.values["lr"][0][0] == 0.5
    assert "SGD with lr 0.1" in preview_config(GUIDE, **LENGTHS).notes[0]


def test_a_change_of_optimizer_keeps_no_settings_that_belong_to_the_old_one() -> None:
    """``betas`` of the config's Adam say nothing about an SGD."""
    preview = preview_config(
        {"generator": [GUIDE[1]], "discriminator": []}, **LENGTHS, optimizer={"type": "SGD", "lr": 1.0}
    )

    assert list(preview.trace.values) == ["generator.lr"]
    assert preview.constants["discriminator.lr"] == [1.0]


def test_the_length_of_training_must_be_known() -> None:
    """The error names what is missing."""
    with pytest.raises(ValueError, match="`iterations`, or `epochs` and `epoch_length`, must be given"):
        preview_config(GUIDE, epochs=12)


@pytest.mark.parametrize("iteration", [0, 1, 49, 50, 51, 100, 850, 1200])
def test_a_live_group_shows_its_past_and_its_future(iteration: int) -> None:
    """Wherever it is, the picture is that of the whole training, and the group is as it was."""
    group = live()
    train(group, iteration)
    before = group.state_dict()

    preview = preview_group(group)

    assert preview.trace.values == preview_config(GUIDE, **LENGTHS).trace.values
    assert preview.position == iteration
    assert not preview.notes
    assert group.state_dict() == before


def test_a_past_that_cannot_be_computed_is_left_out_with_a_note() -> None:
    """An epoch that was cut short is not guessed."""
    short = live()
    train(short, 40)
    short.step_epoch()

    preview = preview_group(short)

    assert preview.trace.iterations == range(40, 1200)
    assert "The values before iteration 40 cannot be computed again" in preview.notes[0]


def copied(group: SchedulerGroup, build: Callable[..., SchedulerGroup], **arguments: Any) -> SchedulerGroup:
    """Return a new group that goes on from the state of *group*."""
    fresh = build(**arguments)
    fresh.load_state_dict(json.loads(json.dumps(group.state_dict())))
    return fresh


@pytest.mark.parametrize("resumed", [False, True])
def test_the_past_has_what_metrics_have_done(resumed: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Where a plateau has reduced the values, and where training was made longer, also after a resume."""
    config = [{"type": "ReduceOnPlateauLR", "patience": 0, "min_value": 0.02}, {"type": "LinearLR", "by_epoch": False}]

    def build() -> SchedulerGroup:
        return live(config)

    group, rows = build(), []
    for epoch, metric in enumerate((1.0, 2.0, 0.5, 3.0, 3.0)):
        rows += train(group, 100)
        group.observe({"loss": metric})
        if epoch == 2:
            rows += train(group, 50)
            group.extend(max_epochs=15)
            if resumed:
                group = copied(group, build)
            rows += train(group, 50)
    caplog.clear()

    preview = preview_group(group)

    assert not preview.notes
    assert preview.trace.iterations == range(1500)
    assert preview.trace.values["lr"][0][: len(rows)] == [each["lr"][0] for each in rows]
    assert len({each["lr"][0] for each in rows[50:150]}) > 1
    assert caplog.messages == []


def test_the_past_of_an_adopted_schedule_begins_there() -> None:
    """Nobody knows any more what the other one was, so that it is not drawn as if it had been this one."""
    before = live(GUIDE[:1])
    train(before, 30)
    group = live([{**GUIDE[0], "end": 80}])
    group.load_state_dict(before.state_dict(), "adopt")
    shown = train(group, 10)

    preview = preview_group(group)

    assert preview.trace.iterations == range(30, 1200)
    assert preview.trace.values["lr"][0][:10] == [each["lr"][0] for each in shown]
    assert "The values before iteration 30 cannot be computed" in preview.notes[0]


def test_a_recorded_past_is_taken_as_it_is() -> None:
    """What was recorded need not follow from the configuration."""
    group = live(GUIDE[:1])
    train(group, 5)
    past = Trace(range(5), [0] * 5, None, {"lr": [[9.0, 8.0, 7.0, 6.0, 5.0]]})

    preview = preview_group(group, past=past)

    assert preview.trace.values["lr"][0][:6] == [9.0, 8.0, 7.0, 6.0, 5.0, *group.values()["lr"]]
    assert preview.trace.iterations == range(1200)
    with pytest.raises(ValueError, match="must have all iterations up to 5, but has 3"):
        preview_group(group, past=Trace(range(3), [0] * 3, None, {"lr": [[9.0, 8.0, 7.0]]}))


def test_the_first_difference_is_the_first_in_time() -> None:
    """Iteration, hyper-parameter, param group and both values; None where every bit is the same."""
    later = [*GUIDE[:1], {"type": "MultiStepLR", "milestones": [9, 11]}, GUIDE[2]]
    base = preview_config(GUIDE, **LENGTHS)

    same = first_value_difference(base, preview_config(GUIDE, **LENGTHS))
    step = first_value_difference(base, preview_config(later, **LENGTHS))
    unscheduled = first_value_difference(base, preview_config(GUIDE[:2], **LENGTHS))

    assert same is None
    assert step is not None
    assert (step.iteration, step.parameter, step.group) == (800, "lr", 0)
    assert [round(each or 0, 12) for each in step.values] == [0.01, 0.1]
    assert unscheduled is not None
    assert (unscheduled.iteration, unscheduled.parameter, unscheduled.values) == (0, "momentum", (0.45, 0.9))


def test_other_numbers_of_param_groups_differ() -> None:
    """What is there only in one has no value in the other."""
    difference = first_value_difference(
        preview_config(GUIDE, **LENGTHS), preview_config(GUIDE, **LENGTHS, groups=(1.0, 2.0))
    )

    assert difference is not None
    assert (difference.group, difference.values[0]) == (1, None)


def test_the_table_names_every_column() -> None:
    """For CSV: one row for each iteration, one column for each param group."""
    preview = preview_config(GUIDE, **LENGTHS, groups=(1.0, 0.5))

    names, columns = preview.table()

    assert names == ["iteration", "epoch", "lr[0]", "lr[1]", "momentum[0]", "momentum[1]"]
    assert {len(column) for column in columns} == {1200}
    assert isinstance(preview, Preview)


def amended() -> tuple[torch.optim.Optimizer, SchedulerGroup, list[list[float]]]:
    """Return a group that was amended on its way, and what its optimizer has shown."""
    groups: list[dict[str, Any]] = [{"params": [torch.nn.Parameter(torch.zeros(1))], "name": name} for name in "ab"]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    config = [
        {"type": "LinearLR", "start_factor": 0.1, "unit": "sample", "end": "25%"},
        {"type": "StepLR", "step_size": 20, "by_epoch": False},
    ]
    lengths: dict[str, Any] = {"max_iters": 100, "max_samples": 400}
    group = SchedulerGroup(optimizer, build_schedulers(optimizer, config, **lengths), **lengths)
    rows: list[list[float]] = [[], []]
    for iteration in range(50):
        match iteration:
            case 10:
                group.amend("lr", scale=0.5, reason="spike")
            case 20:
                optimizer.param_groups[1]["lr"] = 0.77
                group.state_dict()
            case 30:
                group.amend("lr", reset=True, groups="a")
        for row, each in zip(rows, optimizer.param_groups, strict=True):
            row.append(each["lr"])
        group.step(samples=4)
    return optimizer, group, rows


def test_the_past_has_the_amendments_where_they_were() -> None:
    """Computed again, with samples as they were, it is what the optimizer has shown; the future goes on with them."""
    _, group, rows = amended()

    preview = preview_group(group)

    assert not preview.notes
    assert [column[:50] for column in preview.trace.values["lr"]] == rows
    assert [column[50:] for column in preview.trace.values["lr"]] == [
        list(column) for column in group.trace(50, samples_per_iteration=4).values["lr"]
    ]
    assert preview.trace.groups == {"lr": ["a", "b"]}
    assert [(it["iteration"], it["group"]) for it in preview.as_json()["amendments"]["lr"]] == [
        (10, 0),
        (10, 1),
        (20, 1),
        (30, 0),
    ]
    assert [(it.begin, it.end) for it in preview.windows] == [(0, 25), (0, 100)]


def test_the_past_of_a_training_that_was_made_longer_is_what_it_was() -> None:
    """Before that it had the values of another length; what was amended stays where it was."""
    optimizer, group, rows = amended()
    group.extend(max_iters=200, max_samples=800)
    for _ in range(30):
        for row, each in zip(rows, optimizer.param_groups, strict=True):
            row.append(each["lr"])
        group.step(samples=4)

    preview = preview_group(group)

    assert not preview.notes
    assert [column[:80] for column in preview.trace.values["lr"]] == rows


def test_a_config_that_counts_samples_or_chooses_groups_can_be_previewed() -> None:
    """The size of an update says where the samples are, and names where the groups are."""
    config = [
        {"type": "LinearLR", "start_factor": 0.5, "unit": "sample", "end": 33, "groups": "head"},
        {"type": "LinearMomentum", "start_factor": 0.5, "unit": "token", "end": "50%"},
    ]
    preview = preview_config(
        config, iterations=8, samples_per_iteration=8, tokens_per_iteration=2, groups={"neck": 1, "head": 10}
    )

    assert preview.trace.values["lr"][0] == [0.1] * 8
    assert [round(it, 12) for it in preview.trace.values["lr"][1]] == [0.5, 0.625, 0.75, 0.875, 1.0, 1.0, 1.0, 1.0]
    assert [(it.parameter, it.begin, it.end) for it in preview.windows] == [("lr", 0, 5), ("momentum", 0, 4)]
    with pytest.raises(ValueError, match="`samples_per_iteration` must be given"):
        preview_config(config, iterations=8, tokens_per_iteration=2, groups={"head": 1})


def test_one_optimizer_that_was_given_by_name_keeps_it() -> None:
    """Also where the name is that of an optimizer that was given without one."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    group = SchedulerGroup({"optimizer": optimizer}, [StepLR(optimizer, 2, by_epoch=False)], max_iters=6)
    group.step()

    preview = preview_group(group)

    assert list(preview.trace.values) == ["optimizer.lr"]
    assert preview.trace.values["optimizer.lr"][0] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert preview.as_json()["position"] == 1


@pytest.mark.parametrize("field", ["lengths", "cadence"])
def test_a_past_that_the_state_does_not_tell_is_not_made_up(field: str) -> None:
    """Nor is one of updates that were not those of the cadence, or of epochs of another length."""
    group = live({"type": "ReduceOnPlateauLR", "patience": 0})
    train(group, 100)
    group.observe({"loss": 1.0})
    group.observe({"loss": 2.0})
    state = group.state_dict()
    del state[field]
    fresh = live({"type": "ReduceOnPlateauLR", "patience": 0})
    fresh.load_state_dict(state)

    preview = preview_group(fresh)

    assert preview.trace.iterations == range(100 if field == "lengths" else 0, 1200)
    assert bool(preview.notes) == (field == "lengths")


def test_the_past_of_an_optimizer_that_was_left_out_is_not_made_up() -> None:
    """Its updates lag behind from then on, wherever that was."""
    owners = {name: torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1) for name in "ab"}
    members = [StepLR(each, 2, by_epoch=False) for each in owners.values()]
    group = SchedulerGroup(owners, members, max_iters=20)
    for iteration in range(4):
        group.step(optimizers=["a"] if iteration == 1 else None)

    assert preview_group(group).trace.iterations == range(4, 20)
