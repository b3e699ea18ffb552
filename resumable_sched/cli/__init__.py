"""The command line: arguments in, library calls, tables out."""

from __future__ import annotations

import sys
from importlib.util import find_spec

__all__ = ["main"]


def main() -> None:
    """Run ``resumable-sched``."""
    if find_spec("typer") is None or find_spec("rich") is None:
        sys.exit("resumable-sched needs the packages typer and rich. Run: pip install 'resumable-sched[cli]'")
    from resumable_sched.cli.app import app  # noqa: PLC0415 - after the check

    app()
