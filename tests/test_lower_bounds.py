"""The lowest versions that are allowed are those that are tested."""

from __future__ import annotations

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]


def versions(lines: list[str], sign: str) -> dict[str, tuple[int, ...]]:
    """Return names and versions; 2.6 and 2.6.0 are the same."""
    found = (re.match(rf"([\w.-]+){sign}([\d.]+)", line) for line in lines)
    return {each[1].lower(): tuple(map(int, (each[2] + ".0.0").split(".")[:3])) for each in found if each is not None}


def test_every_lower_bound_is_one_that_is_tested() -> None:
    """`constraints-oldest.txt` installs just the versions from which on the package says it works."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for name in ("cli", "plot", "data", "demo") for line in project["optional-dependencies"][name]]
    allowed = versions([*project["dependencies"], *extras], ">=")
    tested = versions((ROOT / "constraints-oldest.txt").read_text().splitlines(), "==")

    assert {name: version for name, version in allowed.items() if name != "typing_extensions"} == tested
