"""A group is saved with its optimizers in one commit, on any fsspec URL."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import torch

from resumable_sched import (
    CosineAnnealingLR,
    LinearLR,
    LinearMomentum,
    Retention,
    SchedulerGroup,
    load_group,
    save_group,
)
from resumable_sched.checkpoint import open_storage
from resumable_sched.errors import IncompleteCheckpointError, ScheduleMismatchError, StateMismatchError
from resumable_sched.testing import FaultyStorage, SimulatedCrash

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resumable_sched import ParamScheduler

_numbers = itertools.count()


@pytest.fixture(params=["folder", "file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return a new place on each kind of storage."""
    places = {"folder": f"{tmp_path}/g", "file": f"file://{tmp_path}/g", "memory": f"memory://group-{next(_numbers)}"}
    return places[str(request.param)]


def one(start_factor: float = 0.1, width: int = 3) -> SchedulerGroup:
    """Build a group on one optimizer."""
    optimizer = torch.optim.SGD(torch.nn.Linear(width, 1).parameters(), lr=0.5, momentum=0.9)
    schedulers = [
        LinearLR(optimizer, start_factor=start_factor, end=8, by_epoch=False),
        CosineAnnealingLR(optimizer, T_max=20, begin=8, by_epoch=False),
        LinearMomentum(optimizer, start_factor=0.5, end=15, by_epoch=False),
    ]
    return SchedulerGroup(optimizer, schedulers)


def two() -> SchedulerGroup:
    """Build a group on two optimizers, as a GAN has."""
    optimizers = {
        "generator": torch.optim.Adam(torch.nn.Linear(2, 2).parameters(), lr=1e-3),
        "critic": torch.optim.SGD(torch.nn.Linear(2, 1).parameters(), lr=0.1, momentum=0.5),
    }
    schedulers: dict[str, list[ParamScheduler]] = {
        "generator": [LinearLR(optimizers["generator"], start_factor=0.2, end=9, by_epoch=False)],
        "critic": [LinearMomentum(optimizers["critic"], start_factor=0.2, end=9, by_epoch=False)],
    }
    return SchedulerGroup(optimizers, schedulers)


def train(group: SchedulerGroup, iterations: int) -> list[dict[str, Any]]:
    """Step everything, and return the values that each update used."""
    used = []
    for _ in range(iterations):
        used.append(group.values())
        for optimizer in group.optimizers.values():
            assert isinstance(optimizer, torch.optim.Optimizer)
            for parameters in optimizer.param_groups:
                for parameter in parameters["params"]:
                    parameter.grad = torch.full_like(parameter, 0.25)
            optimizer.step()
        group.step(samples=2)
    return used


@pytest.mark.parametrize("build", [one, two])
def test_a_loaded_group_goes_on_with_the_same_floats(url: str, build: Callable[[], SchedulerGroup]) -> None:
    """Values, counters and the optimizers' own state are those of the group that was saved."""
    group = build()
    train(group, 6)
    save_group(url, group)
    expected = train(group, 12)

    again = build()
    checkpoint = load_group(url, again)
    actual = train(again, 12)

    assert checkpoint.iteration == 6
    assert actual == expected
    assert again.state_dict() == group.state_dict()
    for name, optimizer in group.optimizers.items():
        other = again.optimizers[name]
        assert isinstance(optimizer, torch.optim.Optimizer)
        assert isinstance(other, torch.optim.Optimizer)
        for entry, twin in zip(optimizer.state.values(), other.state.values(), strict=True):
            for key, value in entry.items():
                torch.testing.assert_close(twin[key], value, rtol=0, atol=0)


def test_a_changed_schedule_is_an_error_and_changes_nothing(url: str) -> None:
    """The error names the field, and neither the optimizer nor the group was touched."""
    saved = one()
    train(saved, 4)
    save_group(url, saved)
    changed = one(start_factor=0.3)
    before = (changed.state_dict(), changed.values())

    with pytest.raises(ScheduleMismatchError, match=r"start_factor"):
        load_group(url, changed)

    assert (changed.state_dict(), changed.values()) == before


def test_another_model_is_an_error_and_changes_nothing(url: str) -> None:
    """Optimizer state of other shapes is refused before the schedule moves."""
    saved = one()
    train(saved, 4)
    save_group(url, saved)
    other = one(width=5)
    train(other, 1)

    with pytest.raises(StateMismatchError, match=r"was saved with shape \[1, 3\], but has shape \[1, 5\] here"):
        load_group(url, other)

    assert other.iteration == 1


def test_nothing_there_is_an_error_that_names_the_url(url: str) -> None:
    """There is no default to fall back to."""
    with pytest.raises(IncompleteCheckpointError, match="has no complete checkpoint"):
        load_group(url, one())


def test_a_crash_at_any_write_leaves_the_earlier_save(tmp_path: Path) -> None:
    """Group and optimizer are of the same save, whichever write was the last one."""
    storage = open_storage(tmp_path / "run")
    group = one()
    train(group, 3)
    save_group(storage, group)
    train(group, 1)

    for writes in range(3):
        with pytest.raises(SimulatedCrash):
            save_group(FaultyStorage(storage, fail_after=writes), group)
        again = one()

        assert load_group(storage, again).iteration == again.iteration == 3


def test_retention_is_the_callers(tmp_path: Path) -> None:
    """Every save stays unless a retention says otherwise."""
    group = one()
    for _ in range(3):
        train(group, 1)
        save_group(tmp_path / "all", group)
        save_group(tmp_path / "last", group, retention=Retention(keep_last=1))

    kept = {place: len(list((tmp_path / place).glob("ckpt-*"))) for place in ("all", "last")}

    assert kept == {"all": 3, "last": 1}
