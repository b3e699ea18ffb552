"""Pictures of schedules: figures (the extra ``plot`` brings matplotlib) and plots in the terminal (``cli``, rich)."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from resumable_sched.schedule import Config, SchedulerGroup, Trace
    from resumable_sched.schedule.preview import Preview
    from resumable_sched.testing import Recording

__all__ = ["figure_of_runs", "plot_trace"]


def plot_trace(
    source: SchedulerGroup | Trace | Preview | Config | str | os.PathLike[str] | Mapping[str, Any] | Sequence[Any],
    other: SchedulerGroup
    | Trace
    | Preview
    | Config
    | str
    | os.PathLike[str]
    | Mapping[str, Any]
    | Sequence[Any]
    | None = None,
    *,
    iterations: int | None = None,
    epochs: int | None = None,
    epoch_length: int | None = None,
    samples_per_iteration: int | None = None,
    tokens_per_iteration: int | None = None,
    optimizer: Mapping[str, Any] | None = None,
    groups: Sequence[float] | Mapping[str, float] = (1.0,),
    past: Recording | Trace | None = None,
    title: str | None = None,
    log: bool = False,
) -> Figure:
    """Draw every scheduled hyper-parameter by iteration, with the windows of the schedules above it.

    ::

        plot_trace(group).savefig("schedule.png")
        plot_trace("config.py", epochs=12, epoch_length=100)
        plot_trace("old.py", "new.py", epochs=12, epoch_length=100)  # on top of each other, with the first difference

    Args:
        source: A live group, of which the past is drawn as a line and the future dashed; a config, as for
            `build_schedulers`, or its file; what `preview_config` gave; or a bare trace.
        other: What to draw on top of it.
        iterations: Up to which iteration; the end of training by default.
        epochs: Epochs of the training; for a config.
        epoch_length: Iterations of an epoch; a group's own by default.
        samples_per_iteration: Samples of an update, for schedules that count samples; for a group, as up to now.
        tokens_per_iteration: Tokens of an update, for schedules that count tokens; for a group, as up to now.
        optimizer: Settings that win over those of a config, such as ``{"type": "AdamW", "lr": 1e-3}``.
        groups: For each param group of a config, by how much its learning rate is multiplied; or a dict by name.
        past: What a group has used up to now; by default it is computed again.
        title: The title; what *source* is called by default.
        log: Draw the values on a logarithmic axis.

    Returns:
        The figure; ``.savefig("schedule.svg")`` writes it.

    Raises:
        ImportError: matplotlib is not installed.
        ConfigError: A config is wrong.
        ValueError: It is not known how long training is.
    """
    _need_matplotlib()
    from resumable_sched.plot.sources import preview_of  # noqa: PLC0415 - after the check
    from resumable_sched.plot.traces import figure_of_previews  # noqa: PLC0415

    shared: dict[str, Any] = {
        "iterations": iterations,
        "epochs": epochs,
        "epoch_length": epoch_length,
        "samples_per_iteration": samples_per_iteration,
        "tokens_per_iteration": tokens_per_iteration,
        "optimizer": optimizer,
        "groups": groups,
    }
    previews = [preview_of(source, past=past, **shared)]
    if other is not None:
        previews.append(preview_of(other, past=None, **shared))
    if len({each.label for each in previews}) < len(previews):  # two configs from Python
        previews = [replace(each, label=label) for each, label in zip(previews, ("first", "second"), strict=True)]
    return figure_of_previews(previews, title=title, log=log)


def figure_of_runs(undisturbed: Recording, interrupted: Recording, stops: Sequence[tuple[int, str]]) -> Figure:
    """Draw the scheduled values of two recordings on top of each other, a panel for each parameter.

    Args:
        undisturbed: The first run: wide, light lines.
        interrupted: The second run: narrow, dark lines, another dash pattern after each start.
        stops: Where the second run was stopped, by iteration, and how, such as ``(14, "SIGKILL")``.

    Raises:
        ImportError: matplotlib is not installed.
    """
    _need_matplotlib()
    from resumable_sched.plot import runs  # noqa: PLC0415 - after the check

    return runs.figure_of_runs(undisturbed, interrupted, stops)


def _need_matplotlib() -> None:
    if find_spec("matplotlib") is None:
        raise ImportError("matplotlib must be installed to draw figures. Run: pip install 'resumable-sched[plot]'")
