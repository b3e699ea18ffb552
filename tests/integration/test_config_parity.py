# ruff: noqa: S311 - random programs, no secrets
"""Configs that are based on others mean what they mean to MMEngine, which runs them, or are refused."""

from __future__ import annotations

import random
import re
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from resumable_sched.errors import ConfigError
from resumable_sched.schedule import load_config

if TYPE_CHECKING:
    from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mmengine.config import Config

BASE = """\
n = 12
shared = dict(k=1)
model = dict(backbone=dict(depth=18), neck=[shared, 2])
param_scheduler = [dict(type='A', end=n, stones=[8, 11], inner=shared), dict(type='B', begin=n - 2, inner=shared)]
"""
START = "own = [1, dict(k=2)]\nlr = 0.5\n"
PLACES = (
    "_base_.param_scheduler",
    "_base_['param_scheduler'][0]",
    "_base_.param_scheduler[-1].inner",
    "_base_.param_scheduler[0]['stones']",
    "_base_.model.backbone",
    "_base_.n",
    "_base_.shared",
    "own",
    "own[1]",
    "alias",
)


def value(r: random.Random) -> str:
    """Draw an expression."""
    place = r.choice(PLACES)
    return r.choice(
        [
            "3",
            "lr",
            place,
            place,
            f"[{place}, 4]",
            f"dict(k={place}, type='C')",
            "_base_.n * 2 + len(own)",
            "[_base_.n // 5] * 2",
            "int(_base_.n * 0.3)",
            f"f({place})",
        ]
    )


def statement(r: random.Random) -> str:
    """Draw a statement that reads or changes what the config is based on."""
    place, new = r.choice(PLACES), value(r)
    return r.choice(
        [
            f"alias = {place}",
            f"{place} = {new}" if place != "alias" else f"alias = {new}",
            f"{place}[0] = {new}",
            f"{place}['k'] = {new}",
            f"_base_.param_scheduler[{r.randrange(2)}].{r.choice(['end', 'new'])} = {new}",
            f"_base_.{r.choice(['n', 'extra', 'model'])} = {new}",
            f"{place}['k'] += 1",
            f"_base_.n {r.choice(['+', '-', '*'])}= 2",
            f"{place}.append({new})",
            f"{place}.update(k={new})",
            f"_base_.update(dict({r.choice(['n', 'param_scheduler', 'shared'])}={new}))",
            f"del {place}",
            f"del {place}['k']",
            f"if lr:\n    {place}['k'] = {new}",
            f"for each in {place}:\n    each['k'] = 7",
            f"unused = {place}.pop(0)",
            f"param_scheduler = {new}",
            f"param_scheduler = [{new}, {place}]",
            f"param_scheduler = dict(type='D', k={new})",
        ]
    )


def plain(found: Any) -> Any:
    """Write tuples as lists and MMEngine's dicts as dicts."""
    if isinstance(found, list | tuple):
        return [plain(each) for each in found]
    return {key: plain(each) for key, each in found.items()} if isinstance(found, dict) else found


@pytest.mark.parametrize("start", range(0, 800, 400))
def test_what_a_config_changes_in_its_base_is_what_running_it_changes(tmp_path: Path, start: int) -> None:
    """Random programs: no value that is read differs from that of MMEngine, which executes the file."""
    (tmp_path / "base.py").write_text(BASE)
    read = refused = 0
    for seed in range(start, start + 400):
        r = random.Random(f"config {seed}")
        lines = "\n".join(statement(r) for _ in range(r.randrange(1, 4)))
        listed = r.choice(["'base.py'", "['base.py']"])
        file = tmp_path / f"config_{seed}.py"
        file.write_text(f"_base_ = {listed}\ndef f(x):\n    return x\n{START}{lines}\n")
        try:
            theirs = plain(Config.fromfile(str(file), import_custom_modules=False).get("param_scheduler"))
        except Exception:  # noqa: BLE001, S112 - a program that does not run has no values
            continue
        if re.search(r"function f|<lambda>", repr(theirs)):
            continue
        try:
            ours = load_config(file).schedulers
        except ConfigError:
            refused += 1
            continue
        read += 1
        assert ours == ([] if theirs is None else theirs), lines

    assert read > 40
    assert refused > 40
