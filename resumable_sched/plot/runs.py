"""Draw two recordings of a training on top of each other."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from resumable_sched.plot.lanes import group_label
from resumable_sched.plot.style import LABELS, clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from resumable_sched.testing import Recording

__all__ = ["figure_of_runs"]

_LIGHT: Final = ("#9ecae1", "#fdae6b", "#a1d99b", "#bcbddc")
_DARK: Final = ("#08519c", "#a63603", "#006d2c", "#54278f")
_DASHES: Final[Sequence[Any]] = ("-", (0, (4, 2)), (0, (1, 1)))
_STOP: Final = "#cb181d"
_RESUME: Final = "#238b45"


def figure_of_runs(undisturbed: Recording, interrupted: Recording, stops: Sequence[tuple[int, str]]) -> Figure:
    """Draw the scheduled values of two recordings on top of each other, a panel for each parameter.

    Args:
        undisturbed: The first run: wide, light lines.
        interrupted: The second run: narrow, dark lines, another dash pattern after each start.
        stops: Where the second run was stopped, by iteration, and how, such as ``(14, "SIGKILL")``.
    """
    names = list(undisturbed.lines[0][1]["values"])
    figure = Figure(figsize=(9, 2.6 * len(names) + 1.0), layout="constrained")
    panels: list[Axes] = list(figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0])
    for name, panel in zip(names, panels, strict=True):
        _draw_values(panel, name, undisturbed, interrupted)
        _draw_stops(panel, interrupted, stops, named=panel is panels[0])
        clean(panel)
        panel.set_ylabel(LABELS.get(name, name))
    panels[-1].set_xlabel("iteration (completed optimizer updates)")
    figure.suptitle("One training, undisturbed and interrupted, on top of each other", fontsize=11)
    _add_legend(figure, starts=len(interrupted.starts))
    return figure


def _draw_values(panel: Axes, name: str, undisturbed: Recording, interrupted: Recording) -> None:
    bounds = [*(index for _, index in interrupted.starts), len(interrupted.lines)]
    iterations = [iteration for iteration, _ in undisturbed.lines]
    for color, (label, (values, others)) in enumerate(_alike(name, undisturbed, interrupted).items()):
        panel.plot(iterations, values, color=_LIGHT[color % len(_LIGHT)], linewidth=6, solid_capstyle="butt")
        for start, (first, last) in enumerate(pairwise(bounds)):
            panel.plot(
                [iteration for iteration, _ in interrupted.lines[first:last]],
                others[first:last],
                color=_DARK[color % len(_DARK)],
                linewidth=1.5,
                linestyle=_DASHES[start % len(_DASHES)],
            )
        peak = values.index(max(values))
        place = (iterations[peak], values[peak])
        panel.annotate(label, place, (0, 6), textcoords="offset points", fontsize=8, ha="right", va="bottom")
    panel.margins(x=0.02, y=0.14)


def _alike(
    name: str, undisturbed: Recording, interrupted: Recording
) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
    """Return the values of both runs, once for all param groups that have the same, by what to call these."""
    members: dict[tuple[tuple[float, ...], ...], list[int]] = {}
    for group in range(len(undisturbed.lines[0][1]["values"][name])):
        runs = (undisturbed, interrupted)
        values = tuple(tuple(facts["values"][name][group] for _, facts in run.lines) for run in runs)
        members.setdefault(values, []).append(group)
    return {group_label(groups): (values[0], values[1]) for values, groups in members.items()}


def _draw_stops(panel: Axes, interrupted: Recording, stops: Sequence[tuple[int, str]], *, named: bool) -> None:
    resumes = [interrupted.lines[index][0] for _, index in interrupted.starts[1:] if index < len(interrupted.lines)]
    for (iteration, how), resume in zip(stops, resumes, strict=False):
        panel.axvline(iteration, color=_STOP, linewidth=1)
        panel.axvline(resume, color=_RESUME, linewidth=1, linestyle=":")
        if named:
            text = f"{how} after {iteration},\ngoes on at {resume}"
            above = panel.get_xaxis_transform()
            panel.text(iteration, 1.01, text, color=_STOP, fontsize=8, va="bottom", transform=above)


def _add_legend(figure: Figure, starts: int) -> None:
    handles = [Line2D([], [], color="0.75", linewidth=6, label="undisturbed")]
    for start in range(starts):
        style = _DASHES[start % len(_DASHES)]
        handles.append(
            Line2D([], [], color="0.2", linewidth=1.5, linestyle=style, label=f"interrupted, start {start + 1}")
        )
    handles += [
        Line2D([], [], color=_STOP, linewidth=1, label="stopped"),
        Line2D([], [], color=_RESUME, linewidth=1, linestyle=":", label="went on"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8)
