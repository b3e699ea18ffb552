"""The commands of ``resumable-sched``. Only ``demo``, into its folder, and ``preview --out`` write anything."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from resumable_sched import __version__
from resumable_sched.checkpoint import open_storage
from resumable_sched.checkpoint.catalog import Checkpoint, describe, examine
from resumable_sched.checkpoint.manifest import survey
from resumable_sched.cli import tables
from resumable_sched.cli.output import EXIT_PROBLEM, AsJson, err, out, plain_errors, print_json
from resumable_sched.cli.preview import preview
from resumable_sched.demo import run_demo

if TYPE_CHECKING:
    from resumable_sched.checkpoint import Storage

__all__ = ["app"]

app: Final = typer.Typer(
    help="Schedules and checkpoints of training runs that continue as if they had never stopped.",
    epilog="Exit codes: 0 all is well; 1 what was asked for is missing, damaged or differs; 2 the arguments are wrong.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Url = Annotated[
    str, typer.Argument(metavar="URL", help="A folder, or a URL of any scheme that fsspec knows.", show_default=False)
]
Option = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", metavar="KEY=VALUE", help="A storage option; VALUE is JSON or text. Repeatable."),
]


@app.callback(invoke_without_command=True)
def _version(
    *, version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def demo(
    *,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Where to put everything (a new temporary folder).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train, kill the training twice, start it again, and show that it came out the same bit for bit.

    A small CNN learns real handwritten digits with DDP on 2 processes: once undisturbed, and once with a SIGKILL in the
    warm-up and a SIGTERM in the cosine. Exit code 0 means that every learning rate, momentum, loss, parameter, buffer,
    optimizer state and generator is identical.
    """
    place = directory or Path(tempfile.mkdtemp(prefix="resumable-sched-demo-"))
    bar = Progress(
        TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=err
    )
    tasks: dict[str, Any] = {}

    def show(stage: str, iteration: int, iterations: int) -> None:
        if stage not in tasks:
            tasks[stage] = bar.add_task(stage, total=iterations)
            for earlier in list(tasks.values())[:-1]:
                bar.stop_task(earlier)
        bar.update(tasks[stage], completed=iteration)

    # As Ctrl-C does: leave through the `finally` blocks, which end torchrun and its workers.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with plain_errors(), bar:
        result = run_demo(place.absolute(), on_progress=show)
    if as_json:
        print_json({"identical": result.identical, **dataclasses.asdict(result)})
    else:
        tables.print_demo(out, result)
    raise typer.Exit(0 if result.identical else EXIT_PROBLEM)


app.command()(preview)


@app.command()
def ls(url: Url, *, option: Option = None, as_json: AsJson = False) -> None:
    """List the checkpoints at URL, oldest first, with what is wrong with those that are not complete.

    Files are judged by their presence and size; `verify` reads them.
    """
    with plain_errors():
        found = describe(_open(url, option))
    if as_json:
        print_json([dataclasses.asdict(checkpoint) for checkpoint in found])
    elif found:
        tables.print_checkpoints(out, url, found)
    else:
        err.print(_nothing_at(url), highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(0 if any(it.status == "complete" for it in found) else EXIT_PROBLEM)


@app.command()
def show(
    url: Url,
    iteration: Annotated[
        int | None, typer.Argument(metavar="ITERATION", help="Which one (the newest complete one).")
    ] = None,
    *,
    option: Option = None,
    as_json: AsJson = False,
) -> None:
    """Show one checkpoint: position, schedule, metrics, files and tensors."""
    with plain_errors():
        storage = _open(url, option)
        checkpoint = _pick(describe(storage), iteration)
        if checkpoint is None:
            err.print(_nothing_at(url, iteration, kind="complete "), highlight=False, markup=False, soft_wrap=True)
            raise typer.Exit(EXIT_PROBLEM)
        folder = next(it for it in survey(storage).folders if it.save_id == checkpoint.save_id)
        contents = tables.contents(storage, folder) if checkpoint.status != "partial" else None
    if as_json:
        print_json({**dataclasses.asdict(checkpoint), **(contents.as_json() if contents else {})})
    else:
        tables.print_checkpoint(out, url, checkpoint, contents)
    raise typer.Exit(0 if checkpoint.status == "complete" else EXIT_PROBLEM)


@app.command()
def verify(
    url: Url,
    iteration: Annotated[int | None, typer.Argument(metavar="ITERATION", help="Only this one (all).")] = None,
    *,
    option: Option = None,
    as_json: AsJson = False,
) -> None:
    """Read every byte of the checkpoints at URL and name each file that is damaged or missing."""
    with plain_errors():
        storage = _open(url, option)
        found = [it for it in describe(storage) if iteration is None or it.iteration == iteration]
        total = tables.bytes_to_read(found)
        columns = (TextColumn("verifying"), BarColumn(), DownloadColumn(binary_units=True), TimeElapsedColumn())
        with Progress(*columns, console=err, transient=True) as bar:
            task = bar.add_task("", total=total)
            problems = list(examine(storage, iteration, lambda count: bar.advance(task, count)))
    if as_json:
        print_json(
            {
                "checkpoints": len(found),
                "bytes": total,
                "problems": [dataclasses.asdict(problem) for problem in problems],
            }
        )
    else:
        tables.print_problems(out, _nothing_at(url, iteration), found, problems)
    raise typer.Exit(0 if found and not problems else EXIT_PROBLEM)


def _nothing_at(url: str, iteration: int | None = None, *, kind: str = "") -> str:
    wanted = f"{kind}checkpoint" if iteration is None else f"checkpoint of iteration {iteration}"
    return f"There is no {wanted} at {url}."


def _pick(found: list[Checkpoint], iteration: int | None) -> Checkpoint | None:
    if iteration is None:
        matching = [it for it in found if it.status == "complete" and it.current]
    else:
        matching = [it for it in found if it.iteration == iteration]
        matching.sort(key=lambda it: (it.status == "complete", it.current))
    return matching[-1] if matching else None


def _open(url: str, option: list[str] | None) -> Storage:
    options: dict[str, Any] = {}
    for pair in option or []:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"must be like KEY=VALUE, but is {pair!r}", param_hint="--option")
        try:
            options[key] = json.loads(value)
        except json.JSONDecodeError:
            options[key] = value
    return open_storage(url, options)
