"""Look at schedules before, while and after they run: every value, the windows, and what is worth knowing."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import torch

from resumable_sched.schedule.amendments import in_force
from resumable_sched.schedule.arguments import check_number
from resumable_sched.schedule.config import Config, build_schedulers
from resumable_sched.schedule.config.build import StandIn
from resumable_sched.schedule.group import ONLY, SchedulerGroup
from resumable_sched.schedule.lengths import Lengths
from resumable_sched.schedule.lint import Finding, lint
from resumable_sched.schedule.reports import quiet
from resumable_sched.schedule.trace import Trace
from resumable_sched.schedule.turns import Turn
from resumable_sched.schedule.windows import Sizes, Window, windows_of

if TYPE_CHECKING:
    from resumable_sched.schedule.amendments import Amendment
    from resumable_sched.schedule.targets import HasParamGroups

__all__ = [
    "DEFAULT_OPTIMIZER",
    "Preview",
    "ValueDifference",
    "first_value_difference",
    "preview_config",
    "preview_group",
]

DEFAULT_OPTIMIZER: Final[Mapping[str, Any]] = {"type": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
"""What is previewed where nothing says which optimizer will be scheduled."""


@dataclass(frozen=True)
class Preview:
    """Hold what there is to see of some schedules.

    Attributes:
        label: What to call them.
        trace: The values of each iteration.
        windows: The windows of the schedules.
        findings: What `lint` says.
        notes: What was assumed.
        constants: The other hyper-parameters, which nothing changes: a value for each param group.
        epoch_length: Iterations of an epoch, if it is known.
        position: The iteration that a live group has reached; None for a config.
    """

    label: str
    trace: Trace
    windows: tuple[Window, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    constants: Mapping[str, Sequence[float]] = field(default_factory=dict)
    epoch_length: int | None = None
    position: int | None = None

    def columns(self, name: str) -> Sequence[Sequence[float]]:
        """Give, for each param group, the value of a hyper-parameter in each row, also of one that is not scheduled."""
        if name in self.trace.values:
            return self.trace.values[name]
        return [[value] * len(self.trace.iterations) for value in self.constants.get(name, ())]

    def as_json(self) -> dict[str, Any]:
        """Return everything as what JSON can hold."""
        return {
            "label": self.label,
            "iterations": list(self.trace.iterations),
            "epochs": list(self.trace.epochs),
            "samples": None if self.trace.samples is None else list(self.trace.samples),
            "tokens": None if self.trace.tokens is None else list(self.trace.tokens),
            "amendments": {
                name: [dataclasses.asdict(each) for each in made] for name, made in self.trace.amendments.items()
            },
            "values": {name: [list(column) for column in columns] for name, columns in self.trace.values.items()},
            "constants": {name: list(values) for name, values in self.constants.items()},
            "groups": {name: list(names) for name, names in self.trace.groups.items()},
            "windows": [
                {"parameter": it.key, "schedule": it.label, "begin": it.begin, "end": it.end} for it in self.windows
            ],
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "notes": list(self.notes),
            "epoch_length": self.epoch_length,
            "position": self.position,
        }

    def table(self) -> tuple[list[str], list[Sequence[float]]]:
        """Return the names of the columns of a table, such as ``lr[0]``, and the columns."""
        names: list[str] = ["iteration", "epoch"]
        columns: list[Sequence[float]] = [self.trace.iterations, self.trace.epochs]
        for name, groups in self.trace.values.items():
            names += [f"{name}[{group}]" for group in range(len(groups))]
            columns += groups
        return names, columns


def preview_config(
    config: object,
    *,
    epochs: int | None = None,
    epoch_length: int | None = None,
    iterations: int | None = None,
    samples_per_iteration: int | None = None,
    tokens_per_iteration: int | None = None,
    optimizer: Mapping[str, Any] | None = None,
    groups: Sequence[float] | Mapping[str, float] = (1.0,),
    label: str | None = None,
) -> Preview:
    """Compute what training with *config* will do, without a model.

    Args:
        config: What `build_schedulers` takes.
        epochs: Epochs of the training; by default what a config file says, as `iterations`.
        epoch_length: Iterations of an epoch.
        iterations: Iterations of the training; ``epochs * epoch_length`` by default.
        samples_per_iteration: Samples of an update, for schedules that count samples.
        tokens_per_iteration: Tokens of an update, for schedules that count tokens.
        optimizer: Settings that win over those of the config, such as ``{"type": "AdamW", "lr": 1e-3}``.
        groups: For each param group, by how much its learning rate is multiplied; or a dict by name.
        label: What to call it.

    Raises:
        ConfigError: The config is wrong.
        ValueError: It is not known how long training is, or *iterations* contradicts the rest, or a setting of the
            optimizer is no finite number.
    """
    for name, value in (optimizer or {}).items():
        if isinstance(value, float):
            check_number(name, value)
    if isinstance(config, Config) and iterations is None and epochs is None:
        iterations, epochs = config.max_iters, config.max_epochs
    product = None if epochs is None or epoch_length is None else epochs * epoch_length
    if iterations is None:
        iterations = product
    if iterations is None:
        raise ValueError(
            "`iterations`, or `epochs` and `epoch_length`, must be given, to know how long training is, but are "
            f"{iterations}, {epochs} and {epoch_length} instead."
        )
    if product not in (None, iterations):
        raise ValueError(
            f"`iterations` must be {epochs} epochs of {epoch_length}, or be given without `epochs`, but is "
            f"{iterations} instead."
        )
    schedulers = config.schedulers if isinstance(config, Config) else config
    names = list(schedulers) if isinstance(schedulers, Mapping) and "type" not in schedulers else None
    known = config.optimizers if isinstance(config, Config) else {}
    notes: list[str] = []
    stand_ins = {
        name: _stand_in(known.get(name or "optimizer"), optimizer, groups, notes)
        for name in ([""] if names is None else names)
    }
    optimizers: HasParamGroups | dict[str, HasParamGroups] = stand_ins[""] if names is None else {**stand_ins}
    lengths: dict[str, Any] = {
        "epoch_length": epoch_length,
        "max_epochs": epochs,
        "max_iters": iterations,
        "max_samples": samples_per_iteration and samples_per_iteration * iterations,
        "max_tokens": tokens_per_iteration and tokens_per_iteration * iterations,
    }
    sizes = Sizes(epoch_length, samples_per_iteration, tokens_per_iteration)
    built = build_schedulers(optimizers, config, **lengths)
    with quiet():
        group = SchedulerGroup(optimizers, built, **lengths)
    trace = group.trace(
        iterations, samples_per_iteration=samples_per_iteration, tokens_per_iteration=tokens_per_iteration
    )
    return Preview(
        label=label or (config.file if isinstance(config, Config) else "config"),
        trace=trace,
        windows=tuple(windows_of(built, Lengths(**lengths), sizes)),
        findings=tuple(lint(built, **lengths, sizes=sizes)),
        notes=tuple(dict.fromkeys(notes)),
        constants=_constants(stand_ins, trace),
        epoch_length=epoch_length,
    )


def preview_group(
    group: SchedulerGroup,
    *,
    iterations: int | None = None,
    epoch_length: int | None = None,
    samples_per_iteration: int | None = None,
    tokens_per_iteration: int | None = None,
    past: Trace | None = None,
    label: str = "group",
) -> Preview:
    """Compute what the schedules of a live group have done and will do; changes nothing.

    The past is what *past* says, or it is computed again from the beginning; where it does not lead to the group's
    present position and values (epochs were cut short, a metric has moved a plateau), it is left out, with a note.

    Args:
        group: The group.
        iterations: Up to which iteration; to the end of training by default.
        epoch_length: Iterations of an epoch; the group's own by default.
        samples_per_iteration: Samples of an update, for schedules that count samples; as up to now by default.
        tokens_per_iteration: Tokens of an update, for schedules that count tokens; as up to now by default.
        past: The values that were used up to now, from iteration 0 or later.
        label: What to call it.

    Raises:
        ValueError: It is not known how long training is.
    """
    length = group.lengths.epoch_length if epoch_length is None else epoch_length
    position = group.iteration
    samples = samples_per_iteration or _mean(group.samples, position)
    tokens = tokens_per_iteration or _mean(group.tokens, position)
    end = iterations if iterations is not None else group.training_length("iteration")
    for most, done, size in (
        (group.lengths.max_samples, group.samples, samples),
        (group.lengths.max_tokens, group.tokens, tokens),
    ):
        if end is None and most is not None and size:
            end = position + max(-(-(most - done) // size), 0)
    if end is None:
        raise ValueError("`iterations` must be given for a group that does not know how long training is, but is None.")
    counts: dict[str, Any] = {"samples_per_iteration": samples, "tokens_per_iteration": tokens}
    future = group.trace(max(end - position, 0), length, **counts)
    notes: list[str] = []
    if past is None and position:
        past = _computed_past(group, length, position, counts)
        unknown = position if past is None else past.iterations.start
        if unknown:
            notes.append(
                f"The values before iteration {unknown} cannot be computed again: epochs or updates were not all "
                "equally large, schedules that overlap were changed, or others were adopted. Pass a recording."
            )
    members = {
        name: [each for each in group.schedulers if each.optimizer is optimizer]
        for name, optimizer in group.optimizers.items()
    }
    lengths = group.lengths._replace(
        epoch_length=length,
        max_epochs=group.training_length("epoch"),
        max_iters=group.training_length("iteration"),
    )
    sizes = Sizes(length, samples, tokens, group.cadence, group.lengths.surplus)
    schedulers = members if group.by_name else list(group.schedulers)
    return Preview(
        label=label,
        trace=future if past is None else _joined(past, future),
        windows=tuple(windows_of(schedulers, lengths, sizes)),
        findings=tuple(lint(schedulers, **lengths.as_dict(), sizes=sizes)),
        notes=tuple(notes),
        epoch_length=length,
        position=position,
    )


@dataclass(frozen=True)
class ValueDifference:
    """Say where two previews first differ.

    Attributes:
        iteration: Completed updates before the one that uses the values.
        parameter: The hyper-parameter.
        group: The param group.
        values: The two values; None where one of them has none.
    """

    iteration: int
    parameter: str
    group: int
    values: tuple[float | None, float | None]


def first_value_difference(one: Preview, other: Preview) -> ValueDifference | None:
    """Find the first iteration at which any value of *one* and *other* differs at all; None if there is none.

    Only iterations that are in both are looked at. A hyper-parameter that only one of them schedules is compared with
    the constant value that it has in the other.
    """
    shared = _shared(one.trace.iterations, other.trace.iterations)
    first: tuple[int, str, int, tuple[float | None, float | None]] | None = None
    for name in dict.fromkeys([*one.trace.values, *other.trace.values]):
        columns = [each.columns(name) for each in (one, other)]
        for group in range(max(map(len, columns))):
            pair = [
                _rows(column[group], each.trace.iterations, shared) if group < len(column) else None
                for column, each in zip(columns, (one, other), strict=True)
            ]
            row = _first_row(pair[0], pair[1], len(shared) if first is None else first[0])
            if row is not None:
                values = tuple(None if each is None else each[row] for each in pair)
                first = (row, name, group, (values[0], values[1]))
    if first is None:
        return None
    return ValueDifference(shared[first[0]], *first[1:])


def _shared(one: range, other: range) -> Sequence[int]:
    """Return the iterations that two traces have in common."""
    if one.step == other.step == 1:
        return range(max(one.start, other.start), max(min(one.stop, other.stop), one.start, other.start))
    return [iteration for iteration in one if iteration in other]


def _rows(column: Sequence[float], iterations: range, shared: Sequence[int]) -> Sequence[float]:
    """Return the values of a column at iterations that it shares with another one."""
    if isinstance(shared, range):
        return column[shared.start - iterations.start : shared.stop - iterations.start]
    return [column[iterations.index(iteration)] for iteration in shared]


def _first_row(one: Sequence[float] | None, other: Sequence[float] | None, rows: int) -> int | None:
    """Find the first of *rows* in which two columns differ."""
    if one is None or other is None:
        return 0 if rows else None
    for row in range(rows):
        if one[row] != other[row] and not (one[row] != one[row] and other[row] != other[row]):
            return row
    return None


def _stand_in(
    found: Mapping[str, Any] | None,
    given: Mapping[str, Any] | None,
    groups: Sequence[float] | Mapping[str, float],
    notes: list[str],
) -> StandIn:
    """Make something with the hyper-parameters that the optimizer will have."""
    settings: dict[str, Any] = {**(found or {}), **(given or {})}
    if given and "type" in given and found and given["type"] != found.get("type"):
        settings = {key: value for key, value in settings.items() if key in given or key in ("lr", "weight_decay")}
    if "type" not in settings:
        settings = {**DEFAULT_OPTIMIZER, **settings}
        shown = ", ".join(f"{key} {settings[key]:g}" for key in ("lr", "momentum", "weight_decay") if key in settings)
        notes.append(f"No optimizer is named, so that {settings['type']} with {shown} is assumed.")
    kind = str(settings.pop("type")).rpartition(".")[2]
    defaults: dict[str, Any] = {
        key: value for key, value in settings.items() if isinstance(value, int | float | list | tuple)
    }
    cls = getattr(torch.optim, kind, None)
    if inspect.isclass(cls) and issubclass(cls, torch.optim.Optimizer):
        taken = inspect.signature(cls).parameters
        arguments = {key: value for key, value in defaults.items() if key in taken}
        try:
            if "momentum" in defaults and "momentum" not in taken and "betas" in taken:
                betas = arguments.get("betas", taken["betas"].default)
                arguments["betas"] = (defaults["momentum"], *betas[1:])
            defaults = dict(cls([torch.nn.Parameter(torch.zeros(1))], **arguments).defaults)
        except (TypeError, ValueError, IndexError) as error:
            shown = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            text = f"`optimizer` must be one that torch can build, but {kind}({shown}) fails: {error}."
            raise ValueError(text) from error
    elif "lr" not in defaults:
        defaults["lr"] = DEFAULT_OPTIMIZER["lr"]
        notes.append(f"{kind} is not an optimizer of torch, so that lr {defaults['lr']:g} is assumed.")
    named = groups.items() if isinstance(groups, Mapping) else [(None, each) for each in groups]
    return StandIn(
        [{**defaults, "lr": float(defaults["lr"]) * each, **({"name": name} if name else {})} for name, each in named],
        defaults,
    )


def _constants(optimizers: Mapping[str, StandIn], trace: Trace) -> dict[str, list[float]]:
    found = {}
    for optimizer, stand_in in optimizers.items():
        for name, value in stand_in.param_groups[0].items():
            key = f"{optimizer}.{name}" if optimizer else name
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and key not in trace.values and not name.startswith("initial_"):
                found[key] = [float(group[name]) for group in stand_in.param_groups]
        momentum = f"{optimizer}.momentum" if optimizer else "momentum"
        if momentum not in trace.values and "betas" in stand_in.param_groups[0]:
            found[momentum] = [float(group["betas"][0]) for group in stand_in.param_groups]
    return found


def _mean(total: int, iterations: int) -> int | None:
    """Return the size of an update, where all may have been of one."""
    return total // iterations if iterations and total and total % iterations == 0 else None


def _computed_past(
    group: SchedulerGroup, epoch_length: int | None, position: int, counts: Mapping[str, Any]
) -> Trace | None:
    """Run new groups of the same schedules up to *position*; None if they arrive somewhere else."""
    if epoch_length is None:
        if group.epoch:
            return None
        epoch_length = position + 1
    if (group.epoch, group.iteration_in_epoch) not in _positions(position, epoch_length) or group.lengths.surplus:
        return None
    if any(turn.lengths.epoch_length not in (None, epoch_length) for turn in group.turns):
        return None
    if any(count != position // group.cadence.get(name, 1) for name, count in group.updates.items()):
        return None
    folds = [each.layer.clock.fold for each in group.schedulers]
    now = Turn(position + 1, group.lengths, [None if fold is None else fold.scales for fold in folds])
    parts = []
    first = group.known_from
    for turn in [*group.turns, now]:
        if turn.until > first:
            parts.append(_part(group, turn, range(first, turn.until), epoch_length, counts))
            first = turn.until
    values = {
        name: [[value for part in parts for value in part.values[name][column]] for column in range(len(columns))]
        for name, columns in parts[-1].values.items()
    }
    start = group.known_from
    columns = {name: _amended(each, start, group.amendments.get(name, ())) for name, each in values.items()}
    present = group.trace(1, epoch_length, **counts)
    for name, shown in present.values.items():
        if [each[-1] for each in columns[name]] != [each[0] for each in shown]:
            return None
    past = {name: [each[:-1] for each in every] for name, every in columns.items()}
    epochs = [epoch for part in parts for epoch in part.epochs]
    return Trace(range(start, position), epochs[:-1], None, past)


def _part(group: SchedulerGroup, turn: Turn, iterations: range, epoch_length: int, counts: Mapping[str, Any]) -> Trace:
    """Run a new group of the same schedules as if there had never been anything else than *turn* says."""
    stand_ins = {}
    for name, optimizer in group.optimizers.items():
        parameters = {each.param_name for each in group.schedulers if each.optimizer is optimizer}
        groups = [
            {"name": each.get("name"), **{parameter: float(each[f"initial_{parameter}"]) for parameter in parameters}}
            for each in optimizer.param_groups
        ]
        stand_ins[name] = StandIn(groups, base_param_settings=getattr(optimizer, "base_param_settings", None))
    names = {id(optimizer): name for name, optimizer in group.optimizers.items()}
    again = [
        dataclasses.replace(
            each, optimizer=stand_ins[names[id(each.optimizer)]], last_step=-1, verbose=False, **each.shares
        )
        for each in group.schedulers
    ]
    lengths: dict[str, Any] = turn.lengths.as_dict() | {
        "epoch_length": None,
        "max_epochs": turn.lengths.of_training("epoch"),
        "max_iters": turn.lengths.of_training("iteration"),
    }
    owners: Any = stand_ins if group.by_name else stand_ins[ONLY]
    with quiet():
        fresh = SchedulerGroup(owners, again, **lengths, cadence=group.cadence)
    for each, scales in zip(again, turn.scales, strict=True):
        if each.layer.clock.fold is not None and scales is not None:
            each.layer.clock.fold.scales[: len(scales)] = scales  # groups that came later were not reduced
    return fresh.trace(iterations, epoch_length, **counts)


def _amended(columns: Sequence[Sequence[float]], start: int, amendments: Sequence[Amendment]) -> list[list[float]]:
    """Put amendments into the values of iterations from *start* on."""
    amended = [list(column) for column in columns]
    places = [*sorted({max(each.iteration - start, 0) for each in amendments}), len(amended[0]) if amended else 0]
    for first, last in pairwise(places):
        for group, column in enumerate(amended):
            for each in in_force(amendments, group, first + start):
                column[first:last] = map(each, column[first:last])
    return amended


def _positions(iteration: int, epoch_length: int) -> list[tuple[int, int]]:
    """Return the epochs, and the iterations within, that *iteration* may be in: an epoch may have ended just now."""
    epoch, rest = divmod(iteration, epoch_length)
    return [(epoch, rest)] if rest or not epoch else [(epoch, 0), (epoch - 1, epoch_length)]


def _joined(past: Trace, future: Trace) -> Trace:
    """Put two traces after each other; iterations that nobody recorded are not there."""
    rows = [row for row, iteration in enumerate(past.iterations) if iteration < future.iterations.start]
    first = past.iterations[rows[0]] if rows else future.iterations.start
    if len(rows) != future.iterations.start - first:
        raise ValueError(
            f"`past` must have all iterations up to {future.iterations.start}, but has {len(rows)} from {first} on."
        )
    values = {
        name: [[*old[: len(rows)], *new] for old, new in zip(past.values[name], columns, strict=True)]
        for name, columns in future.values.items()
    }
    epochs = [*past.epochs[: len(rows)], *future.epochs]
    joined = range(first, future.iterations.stop)
    return Trace(joined, epochs, None, values, amendments=future.amendments, groups=future.groups)
