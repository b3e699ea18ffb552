"""What the commands print."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from rich.markup import escape
from rich.table import Table

from resumable_sched.checkpoint.manifest import Folder, Manifest, read_manifest
from resumable_sched.checkpoint.tree import tensor_names
from resumable_sched.distributed import EXIT_PREEMPTED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from resumable_sched.checkpoint import Checkpoint, Problem, Storage
    from resumable_sched.demo import DemoResult

__all__ = [
    "Contents",
    "bytes_to_read",
    "contents",
    "human_age",
    "human_size",
    "print_checkpoint",
    "print_checkpoints",
    "print_demo",
    "print_problems",
]

_COLORS: Final = {"complete": "green", "partial": "yellow", "corrupt": "red"}
_MOST_GROUPS: Final = 3
_STEPS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def human_size(size: float) -> str:
    """Return a number of bytes for people.

    >>> human_size(17), human_size(25_525), human_size(3 * 2**30)
    ('17 B', '24.9 KiB', '3.0 GiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:  # noqa: PLR2004 - binary units
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def human_age(created: str, now: datetime | None = None) -> str:
    """Return how long ago an ISO 8601 time is; empty if it is unknown.

    >>> human_age("2026-01-01T00:00:00+00:00", datetime(2026, 1, 3, 4, tzinfo=timezone.utc))
    '2 d 4 h'
    """
    if not created:
        return ""
    seconds = max(int(((now or datetime.now(timezone.utc)) - datetime.fromisoformat(created)).total_seconds()), 0)
    for index, (length, unit) in enumerate(_STEPS):
        if seconds >= length:
            rest = seconds % length // _STEPS[index + 1][0] if index + 1 < len(_STEPS) else 0
            return f"{seconds // length} {unit}" + (f" {rest} {_STEPS[index + 1][1]}" if rest else "")
    return "now"


def print_checkpoints(console: Console, url: str, found: Sequence[Checkpoint]) -> None:
    """Print a table of checkpoints, and below it why some are not complete."""
    console.print(escape(url), style="bold", highlight=False, soft_wrap=True)
    table = Table(header_style="bold", box=None, pad_edge=False)
    names = ["iteration", "status", "size", "age", "position", "schedule"]
    if any(it.metrics for it in found):
        names.append("metrics")
    for name in names:
        right = name in ("iteration", "size", "age")
        table.add_column(name, justify="right" if right else "left", no_wrap=right or name == "status", overflow="fold")
    for it in found:
        status = it.status if it.current or it.status != "complete" else "complete, left"
        cells = [
            f"{it.iteration:,}",
            f"[{_COLORS[it.status]}]{status}[/]",
            human_size(it.size),
            human_age(it.created),
            # The iteration has a column of its own.
            escape(_position(it.summaries, without="iteration").replace(", ", "\n")),
            escape(_values(it.summaries).replace(", ", "\n")),
            escape(_pairs(it.metrics)),
        ]
        table.add_row(*cells[: len(names)])
    console.print(table)
    for it in found:
        if it.reason:
            console.print(
                f"[{_COLORS[it.status]}]{it.iteration}[/] ({it.save_id}): {escape(it.reason)}",
                highlight=False,
                soft_wrap=True,
            )
    if any(not it.current and it.status == "complete" for it in found):
        console.print("left: of a branch that a restore of an older one left, or of a job that had been replaced.")


def _position(summaries: Mapping[str, Any], *, without: str = "") -> str:
    texts = []
    for found in _found(summaries, "position"):
        if isinstance(found, dict):
            texts.append(", ".join(_place(*item) for item in found.items() if item[1] and item[0] != without))
        else:
            texts.append(_number(found))
    return "; ".join(texts)


def _place(name: object, value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) else _number(value)
    return f"{text} {name}" if name in ("samples", "tokens") else f"{str(name).replace('_', ' ')} {text}"


def _values(summaries: Mapping[str, Any]) -> str:
    return "; ".join(_pairs(it) if isinstance(it, dict) else _number(it) for it in _found(summaries, "values"))


def _found(summaries: Mapping[str, Any], name: str) -> list[Any]:
    """Return what the objects say under *name*: those of schedules have a known form, those of users have any."""
    return [it[name] for it in summaries.values() if isinstance(it, dict) and name in it]


def _pairs(values: Mapping[Any, Any]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in values.items())


def _number(value: Any) -> str:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return f"({_pairs(value)})"
    if isinstance(value, (list, tuple)):
        texts = [_number(item) for item in value]
        if len(set(texts)) == 1:  # all param groups are alike
            return texts[0]
        return "/".join(texts if len(texts) <= _MOST_GROUPS else [*texts[:_MOST_GROUPS], "..."])
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Contents:
    """What is in a checkpoint."""

    manifest: Manifest

    def tensors(self) -> list[tuple[str, str, tuple[int, ...], int]]:
        """Return name, dtype, shape and bytes of each tensor, by name."""
        items = sorted(self.manifest.tensors.items())
        return [(name, it.dtype, it.shape, sum(chunk.length for chunk in it.chunks)) for name, it in items]

    def objects(self) -> list[tuple[str, str, int, int]]:
        """Return name, sharing, number of tensors and bytes of each object."""
        sizes = {name: size for name, *_, size in self.tensors()}
        shared = [(name, "shared", [tree]) for name, tree in self.manifest.state.items()]
        ranks = self.manifest.rank_state
        own = [(name, "per rank", [trees[name] for trees in ranks]) for name in ranks[0]]
        rows = []
        for name, sharing, trees in [*shared, *own]:
            keys = [key for tree in trees for key in tensor_names(tree)]
            rows.append((name, sharing, len(keys), sum(sizes[key] for key in keys)))
        return rows

    def as_json(self) -> dict[str, Any]:
        """Return the contents for ``--json``."""
        return {
            "claim": self.manifest.claim,
            "software": self.manifest.software,
            "objects": [
                {"name": name, "sharing": sharing, "tensors": count, "bytes": size}
                for name, sharing, count, size in self.objects()
            ],
            "files_by_name": {name: it.size for name, it in self.manifest.files.items()},
            "tensors": [
                {"name": name, "dtype": dtype, "shape": list(shape), "bytes": size}
                for name, dtype, shape, size in self.tensors()
            ],
        }


def contents(storage: Storage, folder: Folder) -> Contents | None:
    """Read the manifest of a checkpoint; None if it cannot be read."""
    try:
        return Contents(read_manifest(storage, folder))
    except OSError:
        return None


def print_checkpoint(console: Console, url: str, it: Checkpoint, inside: Contents | None) -> None:
    """Print all about one checkpoint."""
    facts = Table(title=f"iteration {it.iteration} at {escape(url)}", title_justify="left", box=None, show_header=False)
    facts.add_row("status", f"[{_COLORS[it.status]}]{it.status}[/]" + (f": {escape(it.reason)}" if it.reason else ""))
    facts.add_row("save", f"{it.save_id}, by start {it.incarnation} of the job")
    known = it.world_size > 0  # else there is no manifest that could be read
    facts.add_row("ranks", str(it.world_size) if known else "unknown")
    facts.add_row("after", (it.parent or "nothing: it is the first") if known else "unknown")
    facts.add_row("saved", f"{it.created} ({human_age(it.created)} ago)" if known else "unknown")
    facts.add_row("size", f"{human_size(it.size)} in {it.files} files")
    for name, value in (
        ("position", _position(it.summaries)),
        ("schedule", _values(it.summaries)),
        ("metrics", _pairs(it.metrics)),
        ("software", _pairs(inside.manifest.software) if inside else ""),
    ):
        if value:
            facts.add_row(name, escape(value))
    console.print(facts)
    if inside is None:
        return
    table = Table(header_style="bold", box=None, pad_edge=False)
    for name, right in (("object", False), ("state", False), ("tensors", True), ("bytes", True)):
        table.add_column(name, justify="right" if right else "left")
    for name, sharing, count, size in inside.objects():
        table.add_row(escape(name), sharing, str(count), human_size(size))
    console.print(table)
    tensors = Table(header_style="bold", box=None, pad_edge=False)
    for name in ("tensor", "dtype", "shape"):
        tensors.add_column(name, overflow="fold")
    for name, dtype, shape, _ in inside.tensors():
        tensors.add_row(escape(name), dtype, escape(str(list(shape))))
    console.print(tensors)


def print_problems(console: Console, nothing: str, found: Sequence[Checkpoint], problems: Sequence[Problem]) -> None:
    """Print what verifying has found, or *nothing* where there is no checkpoint."""
    for problem in problems:
        console.print(f"[red]{escape(problem.file)}[/]: {escape(problem.reason)}", highlight=False, soft_wrap=True)
    if not found:
        console.print(escape(nothing), highlight=False, soft_wrap=True)
    elif not problems:
        whole, total = sum(it.status != "partial" for it in found), bytes_to_read(found)
        console.print(f"[green]{whole} checkpoints verify[/], {human_size(total)} read.", highlight=False)


def bytes_to_read(found: Sequence[Checkpoint]) -> int:
    """Return how many bytes verifying has to read."""
    return sum(it.size for it in found if it.status != "partial")


def print_demo(console: Console, result: DemoResult) -> None:
    """Print what came of the demo."""
    table = Table(header_style="bold", box=None, pad_edge=False)
    for name in ("interruption", "after iteration", "went on at", "ended after", "torchrun's exit code"):
        table.add_column(name, justify="left" if name == "interruption" else "right")
    for stop in result.stops:
        table.add_row(stop.signal, str(stop.iteration), str(stop.resumed), f"{stop.seconds:.1f} s", str(stop.exit_code))
    console.print(table)
    console.print(
        f"On SIGTERM the workers save and exit with {EXIT_PREEMPTED}; torchrun waits for them (30 s, then it would "
        "kill them) and ends with 1 itself.",
        style="dim",
        highlight=False,
    )
    for rank, difference in enumerate(result.differences):
        if difference is not None:
            console.print(f"[red]rank {rank}: {escape(str(difference))}[/]", highlight=False, soft_wrap=True)
    if result.identical:
        ranks = len(result.differences)
        console.print(
            f"[green]Identical bit for bit[/]: {result.compared:,} values in {result.iterations} iterations on "
            f"{ranks} ranks (learning rate, momentum, loss and parameters; at the end also buffers, optimizer, "
            "generators).",
            highlight=False,
        )
    else:
        console.print("[red]The interrupted training differs from the undisturbed one.[/]")
    digits = max(0, 1 - math.floor(math.log10(max(result.seconds, 1e-9))))
    console.print(
        f"{result.seconds:.{digits}f} s. Picture: {escape(str(result.picture))}", highlight=False, soft_wrap=True
    )
