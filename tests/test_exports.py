"""`__all__` says what a module is for: other modules use nothing else of it."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import resumable_sched

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(resumable_sched.__file__).parent


def imports() -> Iterator[tuple[str, str, str]]:
    """Return each name that a module of the package takes from another one: who takes, from which, what."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{ROOT.name}."):
                for each in node.names:
                    yield str(path.relative_to(ROOT)), str(node.module), each.name


def test_what_another_module_uses_is_in_all() -> None:
    """A name that is missing there is used behind the back of whoever changes the module."""
    hidden = []
    for user, source, name in imports():
        module = importlib.import_module(source)
        submodule = Path(str(module.__file__)).name == "__init__.py" and _is_module(f"{source}.{name}")
        if not submodule and name != "__version__" and name not in module.__all__:
            hidden.append(f"{user}: {source}.{name}")
    assert hidden == []


def _is_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
