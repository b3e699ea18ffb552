"""What all commands share: where they print, how they fail, and with which exit code."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from resumable_sched.demo import DemoError
from resumable_sched.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["EXIT_PROBLEM", "EXIT_USAGE", "AsJson", "err", "out", "plain_errors", "print_json"]

EXIT_PROBLEM: Final = 1
"""What was looked at is not there, or is damaged, or differs."""
EXIT_USAGE: Final = 2
"""The arguments cannot be used."""

out: Final = Console()
err: Final = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def print_json(content: object) -> None:
    """Print what a program reads."""
    typer.echo(json.dumps(content, default=str, indent=2))


@contextmanager
def plain_errors(options: Mapping[str, str] | None = None) -> Iterator[None]:
    """Turn what a user can do something about into one line, and an exit code.

    Args:
        options: What arguments of functions, which errors name, are called on the command line.
    """
    try:
        yield
    except (DemoError, CheckpointError) as error:
        err.print(str(error), highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(EXIT_PROBLEM) from None
    except (ValueError, ImportError, OSError) as error:
        text = re.sub(r"`(\w+)`", lambda found: (options or {}).get(found[1], found[0]), str(error))
        err.print(text, highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(EXIT_USAGE) from None
