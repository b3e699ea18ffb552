# ruff: noqa: S311 - random programs, no secrets
"""What is read from a Python config is what running it would give, or an error; never another value."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from resumable_sched.errors import ConfigError
from resumable_sched.schedule.config.python_files import read_python

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("a", "b", "c", "config")
START = "a = [1]\nb = dict(k0=1)\nc = 2\nconfig = [a, dict(k1=b)]\n"


def expression(r: random.Random, depth: int = 0) -> str:  # noqa: C901, PLR0911 - one line for each kind
    """Draw an expression: mostly what can be read, sometimes a call."""

    def inner() -> str:
        return expression(r, depth + 1)

    match r.randrange(12 if depth < 3 else 4):
        case 0:
            return r.choice(["1", "-3", "0.5", "True", "None", "'x'"])
        case 1 | 2:
            return r.choice(NAMES)
        case 3:
            return str(r.randrange(5))
        case 4:
            return f"[{inner()}, {inner()}]"
        case 5:
            return f"dict(k0={inner()}, k1={inner()})"
        case 6:
            return f"{{'k0': {inner()}, 'k0': {inner()}}}"
        case 7:
            return f"({inner()} {r.choice(['+', '-', '*', '/', '//', '%'])} {inner()})"
        case 8:
            return f"[*{inner()}, {inner()}]"
        case 9:
            return f"dict(**{inner()})"
        case 10:
            return f"({inner()},)"
        case _:
            return f"change({inner()})"


def statement(r: random.Random) -> str:
    """Draw a statement: assignments, and all that can change a list or a dict behind a name."""
    name, other = r.choice(NAMES), r.choice(NAMES)
    value = expression(r)
    return r.choice(
        [
            f"{name} = {value}",
            f"{name} = {other} = {value}",
            f"{name}: object = {value}",
            f"{name} += {value}",
            f"{name} *= 2",
            f"{name}.append({value})",
            f"{name}['k0'] = {value}",
            f"{name}[0]['k1'] = {value}",
            f"if 1:\n    {name} = {value}",
            f"for {name} in (1, 2): {other}.append(1)",
            f"del {name}",
            f"{name}, {other} = {value}, 1",
            f"unused = [{name} := {value}]",
            f"unused = {name}.pop()",
            f"with changed({name}) as {other}: pass",
            f"def {name}(): pass",
            f"import os as {name}",
            f"try:\n    {name}.clear()\nexcept Exception as {other}: {other} = 3",
            f"match 5:\n    case {name}: pass",
        ]
    )


def change(value: Any) -> Any:
    """Change what a config calls."""
    if isinstance(value, list):
        value.append(9)
    if isinstance(value, dict):
        value["changed"] = 1
    return value


@contextmanager
def changed(value: Any) -> Iterator[Any]:
    """Change what a config enters."""
    yield change(value)


def lists(value: Any) -> Any:
    """Write tuples as lists, as they are read."""
    if isinstance(value, list | tuple):
        return [lists(each) for each in value]
    return {key: lists(each) for key, each in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("seeds", [range(start, start + 1000) for start in range(0, 4000, 1000)])
def test_reading_gives_what_running_gives_or_nothing(seeds: range) -> None:
    """Random programs full of aliases and changes: no value that is read differs from the one that running makes."""
    read = refused = 0
    for seed in seeds:
        r = random.Random(f"program {seed}")
        text = START + "\n".join(statement(r) for _ in range(r.randrange(1, 5)))
        names: dict[str, Any] = {"change": change, "changed": changed}
        try:
            exec(text, names)  # noqa: S102 - our own programs
        except Exception:  # noqa: BLE001, S112 - a program that does not run has no values
            continue
        found = read_python(text, "config.py")
        if "config" not in names:
            continue
        try:
            value = found["config"].plain("config")
        except ConfigError:
            refused += 1
            continue
        read += 1
        assert value == lists(names["config"]), text

    assert read > len(seeds) // 20
    assert refused > len(seeds) // 20
