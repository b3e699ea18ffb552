"""Durations may be shares of training, and training may become longer or shorter."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from resumable_sched.errors import ConfigError, ScheduleMismatchError
from resumable_sched.schedule import (
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    ParamScheduler,
    PiecewiseLR,
    PolyLR,
    SchedulerGroup,
    StepLR,
    WarmupStableDecayLR,
    build_schedulers,
    share,
)


def sgd() -> torch.optim.Optimizer:
    """Return an optimizer."""
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)


def by_shares(optimizer: torch.optim.Optimizer, **lengths: Any) -> SchedulerGroup:
    """Warm up over a tenth of training, and anneal over the rest."""
    schedulers: list[ParamScheduler] = [
        LinearLR(optimizer, 0.1, by_epoch=False, end=share(0.1)),
        CosineAnnealingLR(optimizer, by_epoch=False, begin=share(0.1), end=share(1)),
    ]
    return SchedulerGroup(optimizer, schedulers, **lengths)


def by_ticks(optimizer: torch.optim.Optimizer, length: int) -> SchedulerGroup:
    """Do the same in ticks."""
    schedulers: list[ParamScheduler] = [
        LinearLR(optimizer, 0.1, by_epoch=False, end=length // 10),
        CosineAnnealingLR(optimizer, by_epoch=False, begin=length // 10, end=length),
    ]
    return SchedulerGroup(optimizer, schedulers)


@pytest.mark.parametrize("length", [20, 50, 1000])
def test_shares_are_the_ticks_that_they_come_to(length: int) -> None:
    """Every value is that of the schedule in ticks, to the last bit."""
    shares, ticks = by_shares(sgd(), max_iters=length), by_ticks(sgd(), length)

    assert shares.trace(length).values == ticks.trace(length).values
    assert shares.schedulers[1].begin == length // 10


def test_shares_work_for_all_durations_clocks_and_configs() -> None:
    """Milestones, tables, steps; by epoch and by sample; converted to iterations."""
    optimizer = sgd()
    config = [
        {"type": "MultiStepLR", "milestones": ["50%", "75%"], "convert_to_iter_based": True},
        {"type": "StepLR", "step_size": "30%", "unit": "sample"},
        {"type": "PiecewiseLR", "milestones_values": [(0, 1.0), ("40%", 0.5)], "relative": True, "by_epoch": True},
    ]
    lengths: dict[str, Any] = {"epoch_length": 10, "max_epochs": 8, "max_samples": 1000}
    built = build_schedulers(optimizer, config, **lengths)
    SchedulerGroup(optimizer, built, **lengths)
    multi, step, table = built

    assert isinstance(multi, MultiStepLR)
    assert multi.milestones == (40, 60)
    assert isinstance(step, StepLR)
    assert step.step_size == 300
    assert isinstance(table, PiecewiseLR)
    assert [tick for tick, _ in table.milestones_values] == [0, 3]


def test_training_longer_is_no_other_configuration() -> None:
    """The state of a training by shares goes on in a longer one, at the values of the longer one."""
    group = by_shares(sgd(), max_iters=100)
    for _ in range(40):
        group.step()
    longer = by_shares(sgd(), max_iters=200)
    longer.load_state_dict(json.loads(json.dumps(group.state_dict())))

    assert longer.values()["lr"][0] == by_ticks(sgd(), 200).trace(41).values["lr"][0][40]
    assert group.state_dict()["schedulers"][0]["config"]["end"] == "10%"
    assert group.state_dict()["schedulers"][1]["config"]["T_max"] is None


def test_another_share_is_a_mismatch() -> None:
    """It is compared as it was given."""
    one, two = sgd(), sgd()
    first = SchedulerGroup(one, [LinearLR(one, by_epoch=False, end=share(0.1))], max_iters=50)
    second = SchedulerGroup(two, [LinearLR(two, by_epoch=False, end=share(0.2))], max_iters=50)

    with pytest.raises(
        ScheduleMismatchError, match="LinearLR: `end` was '10%' when iteration 0 was saved, but is '20%'"
    ):
        second.load_state_dict(first.state_dict())
    second.load_state_dict(first.state_dict(), on_mismatch="keep")
    assert second.trace(50).values == first.trace(50).values


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"end": "ten%"}, '`end` must be a number of ticks or a share, such as 500 or "10%"'),
        ({"end": "110%"}, "`end` must be a number of ticks or a share"),
        ({"begin": "50%", "end": "20%"}, "`end` must be greater than `begin`"),
    ],
)
def test_a_wrong_share_is_refused(arguments: dict[str, Any], text: str) -> None:
    """The error names the argument and shows what a share looks like."""
    with pytest.raises(ValueError, match=text):
        LinearLR(sgd(), by_epoch=False, **arguments)


def test_the_length_must_be_known() -> None:
    """A share of nobody knows what is refused, by the group and by the schedule alone."""
    with pytest.raises(ValueError, match="`max_iters` must be given where durations are shares of training"):
        by_shares(sgd())
    scheduler = LinearLR(sgd(), by_epoch=False, end=share(0.1))
    with pytest.raises(RuntimeError, match="The length of training must be known"):
        scheduler.step()
    with pytest.raises(ValueError, match="This follows from shares of a training of 3 iterations"):
        by_shares(sgd(), max_iters=3)
    with pytest.raises(ConfigError, match="`end` must be greater"):
        build_schedulers(sgd(), {"type": "LinearLR", "begin": "1%", "end": "2%", "by_epoch": False}, max_iters=10)


# ------------------------------------------------------------------------------ extend
def test_extending_moves_what_was_left_open() -> None:
    """From now on values are those of a training that was to be so long; what was closed stays."""
    optimizer, other = sgd(), sgd()
    group = SchedulerGroup(optimizer, [LinearLR(optimizer, 1.0, 0.0, by_epoch=False)], max_iters=41)
    longer = SchedulerGroup(other, [LinearLR(other, 1.0, 0.0, by_epoch=False)], max_iters=81)
    for _ in range(20):
        group.step()
        longer.step()
    assert group.values()["lr"] == [0.5]

    group.extend(max_iters=81)
    for _ in range(60):
        assert optimizer.param_groups[0]["lr"] == group.values()["lr"][0] == longer.values()["lr"][0]
        group.step()
        longer.step()
    assert group.values()["lr"] == [0.0]
    assert group.training_length("iteration") == 81


def test_an_extension_survives_a_resume_with_the_same_program() -> None:
    """The command line is the old one, and training is still longer; a new command line wins."""
    group = by_shares(sgd(), max_iters=100)
    for _ in range(20):
        group.step()
    group.extend(max_iters=200)
    state = json.loads(json.dumps(group.state_dict()))
    again, changed = by_shares(sgd(), max_iters=100), by_shares(sgd(), max_iters=150)
    for other in (again, changed):
        other.load_state_dict(state)

    assert again.values() == group.values()
    assert again.state_dict() == group.state_dict()
    assert [each.lengths.max_iters for each in (group, again, changed)] == [200, 200, 150]
    assert changed.values()["lr"][0] == by_ticks(sgd(), 150).trace(21).values["lr"][0][20]


def test_a_jump_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody changes the values of a run without a word."""
    group = by_shares(sgd(), max_iters=100)
    for _ in range(20):
        group.step()
    group.extend(max_iters=200)

    assert "The change of the length of training moves {'lr': [" in caplog.text


def test_training_may_become_shorter_but_not_than_it_is() -> None:
    """What is done is done; a schedule that no longer fits is an error, and nothing has changed."""
    group = by_shares(sgd(), max_iters=100)
    for _ in range(20):
        group.step()
    group.extend(max_iters=50)
    before = group.values()
    with pytest.raises(ValueError, match="`max_iters` must be at least 20, which is done, but is 19"):
        group.extend(max_iters=19)

    with pytest.raises(ValueError, match=r"One of `max_epochs`, `max_iters`, .* must be given"):
        group.extend()

    assert group.values() == before
    assert group.lengths.max_iters == 50


def test_a_chain_goes_on_from_where_it_is() -> None:
    """Its value depends on the path, so that it does not jump."""
    optimizer = sgd()
    schedulers = [
        CosineAnnealingLR(optimizer, eta_min=0.1, by_epoch=False, T_max=50),
        ExponentialLR(optimizer, 0.99, by_epoch=False),
        OneCycleLR(optimizer, 1.0, total_steps=10, by_epoch=False, begin=60, end=70),
    ]
    group = SchedulerGroup(optimizer, schedulers, max_iters=100)
    for _ in range(20):
        group.step()
    before = group.values()
    group.extend(max_iters=200)

    assert group.values() == before


def test_an_extension_does_not_make_what_a_build_refuses() -> None:
    """A floor that would overlap another schedule on the clock of samples; nothing has changed."""
    optimizer = sgd()
    schedulers: list[ParamScheduler] = [
        PolyLR(optimizer, eta_min=0.003, unit="sample", end=share(0.5)),
        ExponentialLR(optimizer, 0.9, unit="sample", begin=60),
    ]
    group = SchedulerGroup(optimizer, schedulers, max_samples=100)
    for _ in range(4):
        group.step(samples=10)
    before = group.state_dict()

    with pytest.raises(ValueError, match="must follow each other where one counts samples"):
        group.extend(max_samples=200)
    assert group.state_dict() == before


def test_a_load_into_schedules_that_do_not_fit_the_saved_length_changes_nothing() -> None:
    """The check says so before anything is touched."""
    one, two = sgd(), sgd()
    group = SchedulerGroup(one, [LinearLR(one, 0.5, by_epoch=False)], max_iters=100)
    group.step()
    group.extend(max_iters=50)
    other = SchedulerGroup(two, [LinearLR(two, 0.5, by_epoch=False, begin=80)], max_iters=100)
    before = other.state_dict()

    for act in (other.check_state_dict, other.load_state_dict):
        with pytest.raises(ScheduleMismatchError, match="do not fit into a training of the length that was saved"):
            act(group.state_dict(), "adopt")
    assert other.state_dict() == before


@pytest.mark.parametrize(
    "build",
    [
        lambda it: LinearLR(it, begin=share(0.5), end=60, by_epoch=False),
        lambda it: LinearLR(it, unit="sample", begin=share(0.1)),
        lambda it: WarmupStableDecayLR(it, share(0.1), 20, num_training_steps=100, by_epoch=False),
        lambda it: PiecewiseLR(it, [(0, 0.1), (share(0.5), 0.2), (80, 0.1)], by_epoch=False),
        lambda it: MultiStepLR(it, [10, share(0.5), 90], by_epoch=False),
    ],
)
def test_shares_and_plain_numbers_stand_beside_each_other(build: Any) -> None:
    """Whatever fits into the real training can be built, and has its values."""
    optimizer = sgd()
    scheduler = build(optimizer)
    lengths: dict[str, Any] = {"max_iters": 100, "max_samples": 100}
    group = SchedulerGroup(optimizer, [scheduler], **lengths)
    for _ in range(100):
        group.step(samples=1)
    config = {name: value for name, value in scheduler.configuration().items() if name != "unit"}

    assert any("%" in str(value) for value in config.values())
    again = sgd()
    other = SchedulerGroup(again, [build(again)], **lengths)
    other.load_state_dict(json.loads(json.dumps(group.state_dict())))
    assert other.values() == group.values()


def test_a_third_is_a_third() -> None:
    """A share keeps all its digits."""
    optimizer = sgd()
    scheduler = LinearLR(optimizer, by_epoch=False, end=share(1 / 3))
    SchedulerGroup(optimizer, [scheduler], max_iters=30_000_000)

    assert scheduler.end == 10_000_000


def left_open(**lengths: Any) -> SchedulerGroup:
    """Anneal until training ends."""
    optimizer = sgd()
    return SchedulerGroup(optimizer, [CosineAnnealingLR(optimizer, by_epoch=False)], **lengths)


@pytest.mark.parametrize("length", [60, 200])
def test_another_length_on_resume_is_told(length: int, caplog: pytest.LogCaptureFixture) -> None:
    """It is no other schedule, but the values move; with the same length nothing is said."""
    saved = left_open(max_iters=100)
    for _ in range(50):
        saved.step()

    left_open(max_iters=100).load_state_dict(saved.state_dict())
    assert caplog.records == []
    other = left_open(max_iters=length)
    other.load_state_dict(saved.state_dict())

    (record,) = caplog.records
    assert record.getMessage() == (
        f"Loading what was saved at iteration 50 moves `lr` of `optimizer` from {saved.values()['lr']} to "
        f"{other.values()['lr']}: `max_iters` was 100 and is {length}."
    )


def test_epochs_of_another_length_make_no_other_number_of_epochs() -> None:
    """What was done counts as it was, what is left as it is now; and so again after the next resume."""
    first = left_open(max_epochs=6, epoch_length=20)
    for _ in range(20):
        first.step()
    first.step_epoch()
    second = left_open(max_epochs=6, epoch_length=10)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for _ in range(7):
        second.step()
    third = left_open(max_epochs=6, epoch_length=10)
    third.load_state_dict(json.loads(json.dumps(second.state_dict())))

    assert [each.training_length("iteration") for each in (first, second, third)] == [120, 70, 70]
    assert third.values() == second.values()
    assert third.trace(43).values == left_open(max_iters=70).trace(range(27, 70)).values
    assert not third.extension
    third.extend(max_epochs=7)
    assert third.training_length("iteration") == 80


def test_an_epoch_that_is_too_short_for_what_was_done_is_refused() -> None:
    """The next step could not be."""
    saved = left_open(max_epochs=3, epoch_length=100)
    for _ in range(75):
        saved.step()

    with pytest.raises(ScheduleMismatchError, match="`epoch_length` must be at least 75, which the epoch has already"):
        left_open(max_epochs=3, epoch_length=50).load_state_dict(saved.state_dict())


def test_lengths_that_were_left_out_can_be_filled_in() -> None:
    """As if they had been given at build; what was given there stays."""
    filled, given = left_open(), left_open(max_iters=30)
    filled.fill_lengths(max_iters=30, epoch_length=10)
    given.fill_lengths(max_iters=99)

    assert filled.trace(30).values == given.trace(30).values
    assert (filled.lengths.epoch_length, given.lengths.max_iters) == (10, 30)
    assert not filled.extension
    given.load_state_dict(filled.state_dict())


LENGTHS = {"epoch_length": 5, "max_epochs": 4}


@pytest.mark.parametrize("extended", [False, True])
def test_lengths_may_be_filled_in_before_or_after_a_load(extended: bool) -> None:
    """Epochs that were longer, and an extension, count all the same."""
    saved = left_open(epoch_length=10, max_epochs=4)
    for _ in range(2):
        for _ in range(10):
            saved.step()
        saved.step_epoch()
    if extended:
        saved.extend(max_epochs=8)
    state = json.loads(json.dumps(saved.state_dict()))
    given, before, after = left_open(**LENGTHS), left_open(), left_open()
    given.load_state_dict(state)
    before.fill_lengths(**LENGTHS)
    before.load_state_dict(state)
    after.load_state_dict(state)
    after.fill_lengths(**LENGTHS)

    assert given.training_length("iteration") == 20 + 5 * (8 - 2 if extended else 4 - 2)
    assert given.state_dict() == before.state_dict() == after.state_dict()


def test_an_extension_is_kept_by_a_program_that_says_more() -> None:
    """Such as a Runner, which tells a group what nobody had told; but what it says otherwise wins."""
    saved = left_open()
    saved.step()
    saved.extend(max_iters=60)

    same, other = left_open(epoch_length=10), left_open(max_iters=30)
    for group in (same, other):
        group.load_state_dict(saved.state_dict())

    assert same.lengths.max_iters == 60
    assert other.lengths.max_iters == 60
    changed = left_open(max_iters=50)
    changed.step()
    changed.extend(max_iters=60)
    other = left_open(max_iters=30)
    other.load_state_dict(changed.state_dict())
    assert other.lengths.max_iters == 30
