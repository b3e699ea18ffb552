"""The command ``preview``: a config in, a picture out."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer
from rich.text import Text

from resumable_sched.cli.output import EXIT_PROBLEM, AsJson, err, out, plain_errors, print_json
from resumable_sched.plot import plot_trace
from resumable_sched.plot.terminal import plot_in_terminal
from resumable_sched.schedule import load_config
from resumable_sched.schedule.preview import Preview, ValueDifference, first_value_difference, preview_config

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["preview"]

_PICTURES: Final = (".png", ".svg", ".pdf")
_HEIGHT: Final = 24
_DPI: Final = 150
_OPTIONS: Final = {
    "epochs": "--epochs",
    "epoch_length": "--epoch-length",
    "iterations": "--iterations",
    "samples_per_iteration": "--samples-per-iteration",
    "tokens_per_iteration": "--tokens-per-iteration",
}
_KNOWN: Final = {"sgd": "SGD", "adamw": "AdamW", "adam": "Adam"}

File = Annotated[
    Path,
    typer.Argument(metavar="CONFIG", help="A config file: .py, .toml, .yaml or .json.", exists=True, dir_okay=False),
]


def preview(
    config: File,
    *,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of the training (those of the config, if it says).")
    ] = None,
    epoch_length: Annotated[int | None, typer.Option(min=1, help="Iterations of an epoch.", show_default=False)] = None,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Iterations of the training (epochs * epoch length).")
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option("--samples-per-iteration", min=1, help="Samples of an update, for schedules that count them."),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option("--tokens-per-iteration", min=1, help="Tokens of an update, for schedules that count them."),
    ] = None,
    optimizer: Annotated[
        Literal["sgd", "adam", "adamw"] | None,
        typer.Option(help="Which optimizer (that of the config, else sgd)."),
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Its learning rate.", show_default=False)] = None,
    momentum: Annotated[float | None, typer.Option(help="Its momentum, or first beta.", show_default=False)] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Its weight decay.", show_default=False)] = None,
    groups: Annotated[
        str,
        typer.Option(metavar="X,Y,...", help="For each param group, by how much its lr is multiplied; also NAME=X,..."),
    ] = "1",
    out_file: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write a picture (.png, .svg, .pdf) or a table (.csv, .json)."),
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(metavar="CONFIG", help="Another config, drawn on top.", exists=True, dir_okay=False),
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="A logarithmic axis in a picture.")] = False,
    modules: Annotated[
        list[str] | None,
        typer.Option("--import", metavar="MODULE", help="Import a module that registers schedules. Repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show every scheduled value of a config by iteration, its windows, and what in it is probably a mistake.

    The config is read as literals, and never executed. Exit code 1 means that the two configs of --compare differ.
    """
    with plain_errors(_OPTIONS):
        for module in modules or ():
            _import(module)
        shared: dict[str, Any] = {
            "epochs": epochs,
            "epoch_length": epoch_length,
            "iterations": iterations,
            "samples_per_iteration": samples,
            "tokens_per_iteration": tokens,
            "optimizer": _settings(optimizer, lr, momentum, weight_decay),
            "groups": _multipliers(groups),
        }
        files = [config] if compare is None else [config, compare]
        previews = [
            preview_config(load_config(file), label=label, **shared)
            for file, label in zip(files, _labels(files), strict=True)
        ]
        if not any(each.trace.values for each in previews):
            raise ValueError(f"{config}: `param_scheduler` must have schedules to be shown, but has none.")
        difference = first_value_difference(*previews) if compare is not None else None
        if out_file is not None:
            _write(out_file, previews, difference, log=log)
    if as_json:
        print_json(_content(previews, difference))
    else:
        if out_file is None:
            for line in plot_in_terminal(previews, out.width, (out.height if out.is_terminal else _HEIGHT) - 2):
                out.print(line)
        else:
            err.print(f"{out_file} is written.", highlight=False, markup=False, soft_wrap=True)
        _print_remarks(previews, difference)
    raise typer.Exit(0 if difference is None else EXIT_PROBLEM)


def _import(module: str) -> None:
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"`--import` must name a module that can be imported, but is {module!r} instead: {error}."
        ) from error
    finally:
        sys.path.pop(0)


def _settings(
    optimizer: str | None, lr: float | None, momentum: float | None, weight_decay: float | None
) -> dict[str, Any] | None:
    """Return what the command line says of the optimizer."""
    given = {
        "type": None if optimizer is None else _KNOWN[optimizer],
        "lr": lr,
        "momentum": momentum,
        "weight_decay": weight_decay,
    }
    return {name: value for name, value in given.items() if value is not None} or None


def _multipliers(text: str) -> list[float] | dict[str, float]:
    """Read numbers, or names and numbers.

    >>> _multipliers("1,0.1"), _multipliers("backbone=0.1,head=1")
    ([1.0, 0.1], {'backbone': 0.1, 'head': 1.0})
    """
    parts = [each.rpartition("=") for each in text.split(",")]
    try:
        numbers = [float(number) for *_, number in parts]
    except ValueError:
        numbers = []
    names = [name.strip() for name, _, _ in parts if name.strip()]
    if not numbers or len(set(names)) not in (0, len(parts)):
        raise ValueError(
            "`--groups` must be numbers with commas between them, each with a name and = before it or none, but is "
            f"{text!r} instead."
        )
    return dict(zip(names, numbers, strict=True)) if names else numbers


def _labels(files: Sequence[Path]) -> list[str]:
    """Return short names that differ."""
    names = [file.name for file in files]
    return names if len(set(names)) == len(names) else [str(file) for file in files]


def _write(file: Path, previews: Sequence[Preview], difference: ValueDifference | None, *, log: bool) -> None:
    suffix = file.suffix.lower()
    if suffix in _PICTURES:
        plot_trace(*previews, log=log).savefig(file, dpi=_DPI)
    elif suffix == ".json":
        file.write_text(json.dumps(_content(previews, difference)) + "\n", encoding="utf-8")
    elif suffix == ".csv":
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            names, columns = _table(previews)
            writer.writerow(names)
            writer.writerows(zip(*columns, strict=True))
    else:
        kinds = ", ".join((*_PICTURES, ".csv", ".json"))
        raise ValueError(f"`--out` must end in one of {kinds}, but is {file.name!r} instead.")


def _table(previews: Sequence[Preview]) -> tuple[list[str], list[Sequence[float]]]:
    """Return one table; the columns of a second config come after those of the first."""
    names, columns = previews[0].table()
    for other in previews[1:]:
        more, values = other.table()
        names += [f"{other.label}:{name}" for name in more[2:]]
        columns += values[2:]
    return names, columns


def _content(previews: Sequence[Preview], difference: ValueDifference | None) -> dict[str, Any]:
    if len(previews) == 1:
        return previews[0].as_json()
    found = None if difference is None else dataclasses.asdict(difference)
    return {"configs": [each.as_json() for each in previews], "first_difference": found}


def _print_remarks(previews: Sequence[Preview], difference: ValueDifference | None) -> None:
    for each in previews:
        name = f"{each.label}: " if len(previews) > 1 else ""
        for note in each.notes:
            out.print(Text(f"{name}note: {note}", style="bright_black"), soft_wrap=True)
        for finding in each.findings:
            style = "yellow" if finding.level == "warning" else "bright_black"
            out.print(Text(f"{name}{finding}", style=style), soft_wrap=True)
    if len(previews) > 1:
        out.print(_sentence(previews, difference), soft_wrap=True)


def _sentence(previews: Sequence[Preview], difference: ValueDifference | None) -> Text:
    if difference is None:
        return Text("The same at every iteration, bit for bit.", style="green")
    values = [
        f"{'not there' if value is None else repr(value)} in {each.label}"
        for value, each in zip(difference.values, previews, strict=True)
    ]
    where = f"`{difference.parameter}` of param group {difference.group} is {' and '.join(values)}"
    return Text(f"First difference at iteration {difference.iteration:,}: {where}.", style="red")
