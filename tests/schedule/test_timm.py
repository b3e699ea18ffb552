"""The families that timm has too give the values that timm's schedulers were recorded with.

tests/golden/record_timm.py says how. Both sides are closed forms, except where a floor follows a warm-up and makes a
chain: 1e-11 of the larger of value and base is what some tens of roundings may differ by.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from resumable_sched.schedule import (
    CosineAnnealingWarmRestartsLR,
    LinearLR,
    MultiStepLR,
    PolyRestartLR,
    SchedulerGroup,
    StepLR,
    TanhLR,
    WarmupStableDecayLR,
)

if TYPE_CHECKING:
    from resumable_sched.schedule import ParamScheduler

TOLERANCE = 1e-11
RECORDED = json.loads((Path(__file__).parents[1] / "golden" / "timm_schedules.json").read_text())
DECAYS = {"linear": "linear", "1-sqrt": "1-sqrt", "cosine": "cosine", "exp": "exponential"}


def translated(optimizer: torch.optim.Optimizer, case: dict[str, Any]) -> list[ParamScheduler]:
    """Return the schedules that are equivalent to one of timm's."""
    given = dict(case["arguments"])
    warm, first = given.pop("warmup_t", 0), given.pop("warmup_lr_init", 0.0)
    prefix = given.pop("warmup_prefix", case["scheduler"] in ("StepLRScheduler", "MultiStepLRScheduler"))
    window: dict[str, Any] = {"begin": warm, "by_epoch": False}
    skip = 0 if prefix else warm
    rise: list[ParamScheduler] = []
    if warm:
        rise = [LinearLR(optimizer, start_factor=first / case["rates"][0], end=warm + 1, by_epoch=False)]
    match case["scheduler"]:
        case "CosineLRScheduler":
            length, growth, floor = given.pop("t_initial"), given.pop("cycle_mul"), given.pop("lr_min")
            return [
                *rise,
                CosineAnnealingWarmRestartsLR(optimizer, length, growth, floor, **given, skip=skip, **window),
            ]
        case "TanhLRScheduler":
            return [*rise, TanhLR(optimizer, **given, skip=skip, **window)]
        case "PolyLRScheduler":
            return [*rise, PolyRestartLR(optimizer, **given, skip=skip, **window)]
        case "StepLRScheduler":
            window["begin"] -= skip
            return [*rise, StepLR(optimizer, given["decay_t"], given["decay_rate"], **window)]
        case "MultiStepLRScheduler":
            window["begin"] -= skip
            milestones = [each - 1 for each in given["decay_t"]]  # timm's come a tick early
            return [*rise, MultiStepLR(optimizer, milestones, given["decay_rate"], **window)]
        case _:
            phases = WarmupStableDecayLR(
                optimizer,
                num_warmup_steps=0,
                num_decay_steps=given["decay_t"],
                num_training_steps=given["t_initial"],
                decay_type=DECAYS[given["decay_fn"]],  # type: ignore[arg-type]  # one of them
                stable_type=given["stable_fn"],
                stable_timescale=given["stable_timescale"],
                decay_ratio=given["decay_ratio"],
                eta_min=given["lr_min"],
                **window,
            )
            return [*rise, phases]


@pytest.mark.parametrize("index", range(len(RECORDED["cases"])))
def test_values_are_those_that_timm_was_recorded_with(index: int) -> None:
    """At every tick every group has timm's learning rate."""
    case = RECORDED["cases"][index]
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in case["rates"]]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    group = SchedulerGroup(optimizer, translated(optimizer, case))
    for tick, values in enumerate(case["values"]):
        for each, value, base in zip(optimizer.param_groups, values, case["rates"], strict=True):
            assert abs(each["lr"] - value) <= TOLERANCE * max(abs(value), base), (tick, each["lr"], value, case)
        group.step()
