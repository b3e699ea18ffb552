"""Each row of docs/migration.md has the same learning rates on both sides.

The left side is run where the peer is here (transformers, torch), looked up where it was recorded (timm), and else
computed from the peer's formula, which is written below. Both sides are closed forms or step some tens of times: they
may differ by 1e-11 of the larger of value and base.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.optim import lr_scheduler
from transformers import optimization

from resumable_sched import schedule

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings(
    "ignore:Detected call of `lr_scheduler.step\\(\\)`:UserWarning",
    "ignore:The epoch parameter in `scheduler.step\\(\\)`:UserWarning",  # torch's SequentialLR warns of itself
)

TOLERANCE = 1e-11
BASE = 0.1
TICKS = 100
ROOT = Path(__file__).parents[2]
RECORDED: dict[str, list[float]] = json.loads((ROOT / "tests" / "golden" / "timm_schedules.json").read_text())["page"]


def scale(tick: int) -> float:
    """Return a factor near 1."""
    return 0.95 + 0.01 * (tick % 5)


def rows() -> list[tuple[str, str, str]]:
    """Return the peer, its call and ours of each row."""
    found, peer = [], ""
    for line in (ROOT / "docs" / "migration.md").read_text().splitlines():
        if line.startswith("## "):
            peer = line.removeprefix("## ")
        elif match := re.fullmatch(r"\| `(.*)` \| `(.*)` \|", line):
            found.append((peer, match[1], match[2]))
    return found


def optimizer() -> torch.optim.Optimizer:
    """Return an optimizer with the learning rate that the page assumes."""
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE, momentum=0.9)


def warmed(after: Callable[[int], float]) -> Callable[[int], float]:
    """Rise in a line over 10 ticks, then do what *after* says."""
    return lambda t: t / 10 if t < 10 else after(t)


def cosine(x: float, low: float) -> float:
    """Fall from 1 to *low* along half a cosine."""
    return low + (1 - low) * (1 + math.cos(math.pi * x)) / 2


def doubling(t: int) -> float:
    """Return the share of the present cycle, of which each is twice as long as the last; the first has 10 ticks."""
    begin, length = 0, 10
    while t >= begin + length:
        begin, length = begin + length, 2 * length
    return (t - begin) / length


def megatron_wsd(fall: Callable[[float], float]) -> Callable[[int], float]:
    """Rise, stay until 80, then fall to 0.1."""
    return warmed(lambda t: 1.0 if t <= 80 else 0.1 + 0.9 * fall((t - 80) / 20))


FORMULAS: dict[str, Callable[[int], float]] = {
    'PiecewiseLinear(optimizer, "lr", [(10, 0.1), (50, 0.01)])': lambda t: (
        1.0 if t < 10 else 1.0 - 0.9 * min(t - 10, 40) / 40
    ),
    'LinearCyclicalScheduler(optimizer, "lr", 0.1, 0.01, 20)': lambda t: 0.1 + 0.9 * abs(t % 20 / 20 - 0.5) * 2,
    'CosineAnnealingScheduler(optimizer, "lr", 0.1, 0.01, 20)': lambda t: (
        1.0 - 0.9 / 2 * (1 - math.cos(2 * math.pi * (t % 20) / 20))
    ),
    "create_lr_scheduler_with_warmup(ExponentialLR(optimizer, 0.9), warmup_start_value=0.0, warmup_end_value=0.1, "
    "warmup_duration=11)": warmed(lambda t: 0.9 ** (t - 10)),
    'StepScheduler("30ba", 0.1)': lambda t: 0.1 ** (t // 30),
    'MultiStepScheduler(["30ba", "60ba"])': lambda t: 0.1 ** ((t >= 30) + (t >= 60)),
    'ConstantScheduler(0.5, "50ba")': lambda t: 0.5 if t < 50 else 1.0,
    'LinearScheduler(1.0, 0.1, "100ba")': lambda t: 1.0 - 0.9 * min(t / 100, 1.0),
    'ExponentialScheduler(0.5, "10ba")': lambda t: 0.5 ** (t / 10),
    'CosineAnnealingScheduler("100ba", 0.1)': lambda t: cosine(min(t / 100, 1.0), 0.1),
    'CosineAnnealingWarmRestartsScheduler("10ba", 2.0, 0.1)': lambda t: cosine(doubling(t), 0.1),
    'PolynomialScheduler(2.0, "100ba")': lambda t: (1 - min(t / 100, 1.0)) ** 2,
    'MultiStepWithWarmupScheduler("10ba", ["30ba"])': warmed(lambda t: 0.1 if t >= 30 else 1.0),
    'ConstantWithWarmupScheduler("10ba")': warmed(lambda _: 1.0),
    'LinearWithWarmupScheduler("10ba", t_max="100ba")': warmed(lambda t: 1 - min((t - 10) / 90, 1.0)),
    'CosineAnnealingWithWarmupScheduler("10ba", "100ba", 0.1)': warmed(lambda t: cosine(min((t - 10) / 90, 1.0), 0.1)),
    'PolynomialWithWarmupScheduler("10ba", 2.0, "100ba")': warmed(lambda t: (1 - min((t - 10) / 90, 1.0)) ** 2),
    'lr_decay_style="constant"': warmed(lambda _: 1.0),
    'lr_decay_style="linear"': warmed(lambda t: 0.1 + 0.9 * (1 - (t - 10) / 90)),
    'lr_decay_style="cosine"': warmed(lambda t: cosine((t - 10) / 90, 0.1)),
    'lr_decay_style="inverse-square-root"': warmed(lambda t: max(0.1, 10**0.5 / t**0.5)),
    'lr_decay_style="WSD", wsd_decay_steps=20, lr_wsd_decay_style="exponential"': megatron_wsd(
        lambda x: 2.0 * 0.5**x - 1.0
    ),
    'lr_decay_style="WSD", wsd_decay_steps=20, lr_wsd_decay_style="minus_sqrt"': megatron_wsd(lambda x: 1 - x**0.5),
    "TriStageLR(optimizer, 100, (0.1, 0.4, 0.5))": lambda t: (
        0.01 + 0.99 * t / 10 if t < 10 else 1.0 if t < 50 else math.exp(math.log(0.01) * min((t - 50) / 50, 1.0))
    ),
    "NoamLR(optimizer, 10)": lambda t: t * 10**-1.5 if t < 10 else t**-0.5,
}


def run_peer(names: dict[str, Any], call: str) -> list[float]:
    """Run the peer."""
    target = optimizer()
    scheduler = eval(call, {**names, "optimizer": target, "scale": scale})  # noqa: S307 - our own page
    values = []
    for _ in range(TICKS + 1):
        values.append(float(target.param_groups[0]["lr"]))
        if len(values) < TICKS:  # torch's one-cycle does not step beyond its end
            scheduler.step()
    return values[:TICKS]


def run_ours(call: str) -> list[float]:
    """Run our schedules one by one, as MMEngine's hook does."""
    target = optimizer()
    made = eval(call, {**vars(schedule), "optimizer": target, "scale": scale})  # noqa: S307 - our own page
    values = []
    for _ in range(TICKS):
        values.append(float(target.param_groups[0]["lr"]))
        for scheduler in made if isinstance(made, list) else [made]:
            scheduler.step()
    return values


@pytest.mark.parametrize(("peer", "theirs", "ours"), rows())
def test_both_sides_of_a_row_have_the_same_learning_rates(peer: str, theirs: str, ours: str) -> None:
    """At each of 100 ticks."""
    match peer:
        case "transformers":
            expected = run_peer(vars(optimization), theirs)
        case "torch":
            expected = run_peer(vars(lr_scheduler), theirs)
        case "timm":
            expected = RECORDED[theirs]
        case _:
            expected = [BASE * FORMULAS[theirs](tick) for tick in range(TICKS)]

    for tick, (one, two) in enumerate(zip(run_ours(ours), expected[:TICKS], strict=True)):
        assert abs(one - two) <= TOLERANCE * max(abs(two), BASE), (tick, one, two)


def test_every_schedule_of_the_peers_is_on_the_page() -> None:
    """Whatever transformers and torch offer has a row or a sentence."""
    page = (ROOT / "docs" / "migration.md").read_text()
    offered = [name for name in vars(optimization) if re.fullmatch(r"get_\w*schedule\w*", name)]
    offered += [name for name in lr_scheduler.__all__ if name not in ("LRScheduler", "ReduceLROnPlateau")]

    assert [name for name in offered if f"{name}(" not in page and f"`{name}`" not in page] == []
    assert {call for peer, call, _ in rows() if peer == "timm"} == set(RECORDED)
    assert {call for peer, call, _ in rows() if peer not in ("timm", "torch", "transformers")} == set(FORMULAS)
