# ruff: noqa: S311 - random cases, no secrets
"""Record what timm's schedulers give, for tests/schedule/test_timm.py and tests/integration/test_migration.py.

timm imports torchvision, which does not load beside the torch of this environment; its schedulers need neither. So only
they are imported, from a folder of their own:

    pip install --no-deps --target /tmp/timm timm==1.0.31
    python tests/golden/record_timm.py /tmp/timm
"""

from __future__ import annotations

import importlib
import json
import random
import re
import sys
import types
from pathlib import Path
from typing import Any

import torch

TICKS = 48
CASES = 12
RATES = (0.05, 0.5)


def warm_up(r: random.Random, rates: list[float]) -> dict[str, Any]:
    """Draw no warm-up, or one from 0, or (where there is one learning rate) from a value."""
    if r.random() < 0.4:
        return {}
    first = 0.0 if len(rates) > 1 else r.choice([0.0, 0.01])
    return {"warmup_t": r.randrange(1, 9), "warmup_lr_init": first, "warmup_prefix": r.random() < 0.5}


def cycles(r: random.Random) -> dict[str, Any]:
    """Draw how cycles follow each other."""
    return {
        "t_initial": r.randrange(4, 25),
        "lr_min": r.choice([0.0, 0.004]),
        "cycle_mul": r.choice([1.0, 1.0, 1.5, 2.0]),
        "cycle_decay": r.choice([1.0, 0.5]),
        "cycle_limit": r.randrange(1, 4),
    }


def draw(r: random.Random, name: str, rates: list[float]) -> dict[str, Any]:
    """Draw the arguments of the scheduler *name*."""
    warm = warm_up(r, rates)
    match name:
        case "CosineLRScheduler":
            return {**cycles(r), "k_decay": r.choice([1.0, 0.7, 2.0]), **warm}
        case "PolyLRScheduler":
            power = r.choice([0.5, 1.0, 2.0])
            return {**cycles(r), "power": power, "k_decay": r.choice([1.0, 0.7, 2.0]), **warm}
        case "TanhLRScheduler":
            prefix = {"warmup_prefix": True} if warm else {}  # else timm's warm-up aims at a value that nobody gave it
            return {**cycles(r), "lb": r.choice([-7.0, -4.0]), "ub": r.choice([3.0, 2.0]), **warm, **prefix}
        case "StepLRScheduler":
            return {"decay_t": r.randrange(9, 20), "decay_rate": r.uniform(0.3, 0.9), **warm}
        case "MultiStepLRScheduler":
            return {"decay_t": sorted(r.sample(range(10, 40), 3)), "decay_rate": r.uniform(0.3, 0.9), **warm}
        case _:
            warm.pop("warmup_prefix", None)
            return {
                "t_initial": 30,
                "decay_t": r.randrange(1, 31),
                "lr_min": r.choice([0.0, 0.004]),
                "stable_fn": r.choice(["constant", "rsqrt"]),
                "stable_timescale": float(r.randrange(1, 30)),
                "decay_fn": r.choice(["linear", "1-sqrt", "cosine", "exp"]),
                "decay_ratio": r.choice([0.1, 0.5]),
                **warm,
            }


def record(peer: Any, name: str, seed: int) -> dict[str, Any]:
    """Return the arguments of a case, and the learning rate of each group at each tick."""
    r = random.Random(f"{name} {seed}")
    rates = list(RATES) if r.random() < 0.5 else [RATES[0]]
    arguments = draw(r, name, rates)
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    scheduler = getattr(peer, name)(optimizer, **arguments, t_in_epochs=False)
    values = []
    for tick in range(TICKS):
        scheduler.step_update(tick)
        values.append([group["lr"] for group in optimizer.param_groups])
    return {"scheduler": name, "rates": rates, "arguments": arguments, "values": values}


def record_page(peer: dict[str, Any]) -> dict[str, list[float]]:
    """Return the learning rates of each call in the table of docs/migration.md, which begins at 0.1."""
    page = (Path(__file__).parents[2] / "docs" / "migration.md").read_text()
    values: dict[str, list[float]] = {}
    for call in re.findall(r"^\| `(\w+LRScheduler\(optimizer, .*?\))` \|", page, re.MULTILINE):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        scheduler = eval(call, {**peer, "optimizer": optimizer})  # noqa: S307 - our own page
        scheduler.t_in_epochs = False
        values[call] = []
        for tick in range(101):
            scheduler.step_update(tick)
            values[call].append(optimizer.param_groups[0]["lr"])
    return values


def main(folder: str) -> None:
    """Import timm's schedulers from *folder* and write the file beside this script."""
    package = types.ModuleType("timm")
    package.__path__ = [str(Path(folder) / "timm")]
    sys.modules["timm"] = package
    peer = importlib.import_module("timm.scheduler")
    wsd = importlib.import_module("timm.scheduler.wsd_lr")
    version = next(Path(folder).glob("timm-*.dist-info")).name.removesuffix(".dist-info")
    names = ["CosineLRScheduler", "TanhLRScheduler", "PolyLRScheduler", "StepLRScheduler", "MultiStepLRScheduler"]
    cases = [record(peer, name, seed) for name in names for seed in range(CASES)]
    cases += [record(wsd, "WSDLRScheduler", seed) for seed in range(CASES)]
    lines = ",\n".join(json.dumps(case) for case in cases)
    target = Path(__file__).with_name("timm_schedules.json")
    rows = {**vars(peer), "WSDLRScheduler": wsd.WSDLRScheduler}
    page = ",\n".join(f"{json.dumps(call)}: {json.dumps(values)}" for call, values in record_page(rows).items())
    text = f'{{"version": {json.dumps(version)}, "page": {{\n{page}\n}}, "cases": [\n{lines}\n]}}\n'
    target.write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
