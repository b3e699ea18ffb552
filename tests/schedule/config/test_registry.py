"""Names in configs: ours, the peers', and the user's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import torch

from resumable_sched import schedule
from resumable_sched.schedule import Affine, LinearLR, ParamScheduler, build_schedulers, register_scheduler
from resumable_sched.schedule.config import registry

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, eq=False)
class HalveLR(ParamScheduler):
    """Halve the learning rate at every tick."""

    param_name: str = field(default="lr", init=False)

    def at(self, t: int, base: float) -> Affine:  # noqa: ARG002
        """Halve."""
        return Affine(0.5**t)


@pytest.fixture(autouse=True)
def _forget_what_a_test_registers() -> Iterator[None]:
    before = dict(registry._REGISTERED)
    yield
    registry._REGISTERED.clear()
    registry._REGISTERED.update(before)


def sgd() -> torch.optim.Optimizer:
    """Return an optimizer."""
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.8, momentum=0.9)


def test_every_schedule_of_the_package_is_known_by_its_name() -> None:
    """The registry is the catalogue; a family that is added to the package is registered by that."""
    exported = {name for name in schedule.__all__ if isinstance(getattr(schedule, name), type)}
    catalogue = {name for name in exported if issubclass(getattr(schedule, name), ParamScheduler)} - {"ParamScheduler"}

    known = {name: registry.find_scheduler(name) for name in registry.scheduler_names()}
    own = {name for name, cls in known.items() if cls.__module__.startswith("resumable_sched.")}  # others are users'

    assert own == catalogue
    assert all(registry.find_scheduler(name) is getattr(schedule, name) for name in catalogue)


@pytest.mark.parametrize(
    "kind",
    [
        "mmengine.LinearLR",
        "mmengine.optim.scheduler.LinearLR",
        "mmengine.optim:LinearLR",
        "mmengine.optim.scheduler.lr_scheduler.LinearLR",
        "mmdet.LinearLR",
        type("LinearLR", (), {"__module__": "mmengine.optim.scheduler.lr_scheduler"}),
    ],
)
def test_the_peers_names_mean_ours(kind: object) -> None:
    """A scope, import path or class of MMEngine in a config that moves over finds the class of the same name here."""
    assert registry.find_scheduler(kind) is LinearLR


def test_a_registered_schedule_is_built_by_name() -> None:
    """The decorator gives the class back, and configs know it under its own name or another."""
    assert register_scheduler(HalveLR) is HalveLR
    assert register_scheduler(name="Half")(HalveLR) is HalveLR

    for name in ("HalveLR", "Half"):
        optimizer = sgd()
        (built,) = build_schedulers(optimizer, {"type": name})
        built.step()
        assert optimizer.param_groups[0]["lr"] == 0.4


def test_a_schedule_that_is_not_registered_is_found_by_class_or_import_path() -> None:
    """What is importable needs no registration."""
    assert registry.find_scheduler(HalveLR) is HalveLR
    assert registry.find_scheduler("resumable_sched.schedule.lr:LinearLR") is LinearLR
    assert registry.find_scheduler("resumable_sched.schedule.lr.LinearLR") is LinearLR


def test_a_name_is_taken_once() -> None:
    """Another class under a known name is refused, ours always; the same class again is not another one."""
    register_scheduler(HalveLR)
    register_scheduler(HalveLR)
    other = type("HalveLR", (HalveLR,), {})

    with pytest.raises(ValueError, match=r"`name` must be new, but 'HalveLR' is .*replace=True"):
        register_scheduler(other)
    with pytest.raises(ValueError, match=r"'LinearLR' is resumable_sched\.schedule\.lr\.LinearLR already"):
        register_scheduler(name="LinearLR", replace=True)(HalveLR)
    assert register_scheduler(replace=True)(other) is other
    assert registry.find_scheduler("HalveLR") is other


def test_what_is_no_schedule_cannot_be_registered() -> None:
    """A torch schedule, a function or an instance is refused."""
    wrong: Any
    for wrong in (torch.optim.lr_scheduler.LinearLR, sgd, LinearLR(sgd())):
        with pytest.raises(TypeError, match="must be given a subclass of ParamScheduler"):
            register_scheduler(wrong)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("LinerLR", "Did you mean LinearLR?"),
        ("cosineannealinglr", "Did you mean CosineAnnealingLR?"),
        ("Bathtub", "must be the name of a schedule, but is 'Bathtub' instead"),
        ("torch.optim.lr_scheduler.StepLR", "Use the name 'StepLR'"),
        ("no.such.module.StepLR", "Did you mean StepLR?"),
        ("os.system", "must be a subclass of ParamScheduler"),
        (torch.optim.SGD, "must be a subclass of ParamScheduler"),
        (ParamScheduler, "must be a subclass of ParamScheduler"),
        (7, "must be the name of a schedule or a class, but is 7"),
        ("..", "must be importable"),
    ],
)
def test_an_unknown_type_says_what_may_have_been_meant(kind: object, text: str) -> None:
    """The error names close matches, and how a schedule of one's own becomes known."""
    with pytest.raises(ValueError, match="`type`") as raised:
        registry.find_scheduler(kind)

    assert text in str(raised.value)
