"""What all commands share: where they print, how they fail, and with which exit code."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from resumable_sched.demo import DemoError
from resumable_sched.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator

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
def plain_errors() -> Iterator[None]:
    """Turn what a user can do something about into one line, and an exit code."""
    try:
        yield
    except (DemoError, CheckpointError) as error:
        err.print(str(error), highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(EXIT_PROBLEM) from None
    except (ValueError, ImportError, OSError) as error:
        err.print(str(error), highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(EXIT_USAGE) from None
