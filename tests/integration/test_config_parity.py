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


TRICKS = [
    "class A:\n    param_scheduler[0]['end'] = 7",
    "class A:\n    x = param_scheduler.pop()",
    "class A:\n    global param_scheduler\n    param_scheduler = []",
    "def f(x=param_scheduler.pop()): pass",
    "def deco(f):\n    param_scheduler.pop()\n    return f\n@deco\ndef g(): pass",
    "class A:\n    _base_.param_scheduler[0].end = 9",
    "def f():\n    global lr\n    lr = 5\nf()\nparam_scheduler = [lr]",
    "def f(): param_scheduler.pop()\nf()",
    "def f(): param_scheduler.pop()\nx = [1]\nx[f() or 0] = 3",
    "g = lambda: param_scheduler.pop()\nx = g()",
    "def f(): h()\ndef h(): param_scheduler.pop()\nf()",
    "if lr:\n    def f(): param_scheduler.pop()\nf()",
    "x = param_scheduler[:]\nx[0]['end'] = 6",
    "x = param_scheduler or 0\nx[0]['end'] = 44",
    "x = param_scheduler if 1 else 0\nx.pop()",
    "x = [y for y in param_scheduler]\nx[0]['end'] = 33",
    "x = [dict(a=param_scheduler[:])]\nx[0]['a'][0]['end'] = 33",
    "p = param_scheduler.pop\np()",
    "p = lambda: param_scheduler\ny = p()\ny.pop()",
    "class A: x = param_scheduler\nA.x.pop()",
    "def f(x=param_scheduler): x.pop()\nf()",
    "exec('param_scheduler = []')",
    "globals()['param_scheduler'] = []",
    "locals().update(param_scheduler=[])",
    "globals()['int'] = round\nparam_scheduler = [int(5.7)]",
    "def f(): exec('param_scheduler = []', globals())\nf()",
    "x = [1]\nx[param_scheduler.pop() and 0] = 3",
    "x: param_scheduler.pop() = 3",
    "match dict(a=1):\n    case {**lr}: pass\nparam_scheduler = [lr]",
    "param_scheduler = [dict(end='{{fileBasename}}')]",
    "param_scheduler = [len({1: 2, '1': 3})]",
    "param_scheduler = [_base_.deep, len(_base_.deep)]",
    "param_scheduler = [{{_base_.deep}}]",
    "deep = dict(r=3)\nparam_scheduler = [_base_.deep]",
    "param_scheduler = [_base_.odd.merge]",
    "x = dict(a=1)\nx |= param_scheduler[0]\nx['k'] = 5",
]


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("own", [True, False])
def test_no_way_around_the_reader_gives_another_value(tmp_path: Path, trick: str, *, own: bool) -> None:
    """Classes, functions, aliases through what is not read, exec: refused, where not read as MMEngine does."""
    (tmp_path / "first.py").write_text(f"deep = dict(q=1)\nodd = dict(merge=2)\n{BASE}")
    (tmp_path / "second.py").write_text("_base_ = 'first.py'\ndeep = dict(z=2)\n")
    (tmp_path / "config.py").write_text(
        f"_base_ = 'second.py'\nlr = 3\n{'param_scheduler = [dict(end=5), dict(end=10)]' if own else ''}\n{trick}\n"
    )
    try:
        theirs = plain(Config.fromfile(str(tmp_path / "config.py"), import_custom_modules=False)["param_scheduler"])
    except Exception:  # noqa: BLE001 - what only the base has is no name of the file's
        assert not own
        return
    try:
        ours = load_config(tmp_path / "config.py").schedulers
    except ConfigError:
        return
    assert ours == theirs


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
