"""Draw previews: a panel for each hyper-parameter, and above it a lane for each window."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from resumable_sched.plot.lanes import alike_groups, amendments_of, bounds_of, drawn_windows, gaps_of, shortened
from resumable_sched.plot.style import AMENDED, DIFFERENCE, LABELS, LINES, MUTED, TINTS, clean, count_axis, value_axis
from resumable_sched.plot.thinning import thinned
from resumable_sched.schedule.preview import first_value_difference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from resumable_sched.schedule.preview import Preview, ValueDifference

__all__ = ["figure_of_previews"]

_WIDTH: Final = 9.0
_PANEL: Final = 2.1
_LANE: Final = 0.21
_POINTS: Final = 4_000
_MOST_EPOCHS: Final = 60
_LABEL_SIZE: Final = 8
_MOST_HANDLES: Final = 9
_NOTE: Final = 130
"""Letters in a line of a note."""
_LETTER: Final = 0.0078
"""The width of a letter of a label, as a share of the width of a panel."""


def figure_of_previews(previews: Sequence[Preview], *, title: str | None = None, log: bool = False) -> Figure:
    """Draw one preview, or two on top of each other with their first difference.

    Args:
        previews: One or two.
        title: What to write above it.
        log: Whether values are on a logarithmic axis.

    Raises:
        ValueError: Nothing is scheduled.
    """
    names = list(dict.fromkeys(name for preview in previews for name in preview.trace.values))
    if not names:
        raise ValueError("`source` must have schedules to be drawn, but has none.")
    difference = first_value_difference(*previews) if len(previews) > 1 else None
    lanes = {name: _lanes(previews, name, difference) for name in names}
    heights = [height for name in names for height in (max(len(lanes[name]), 1) * _LANE, _PANEL)]
    figure = Figure(
        figsize=(_WIDTH, sum(heights) + 0.9 + 0.25 * len(names)),
        layout=ConstrainedLayoutEngine(h_pad=0.03, w_pad=0.06, hspace=0.0),
    )
    axes: list[Axes] = list(
        figure.subplots(2 * len(names), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    )
    first = min(preview.trace.iterations.start for preview in previews)
    last = max(preview.trace.iterations.stop for preview in previews)
    span = (first, max(last, first + 1))
    for name, strip, panel in zip(names, axes[::2], axes[1::2], strict=True):
        _draw_lanes(strip, lanes[name], span)
        _draw_panel(panel, name, previews, span, log=log)
        _draw_marks(panel, name, previews, difference)
    _draw_epochs(axes, previews[0].epoch_length, span)
    axes[-1].set_xlabel("iteration (completed optimizer updates)", fontsize=9)
    axes[-1].set_xlim(*span)
    count_axis(axes[-1], span[1])
    labels = " and ".join(shortened(preview.label) for preview in previews)
    figure.suptitle(labels if title is None else title, fontsize=11)
    _draw_legend(figure, previews)
    return figure


# ---------------------------------------------------------------------- what is where
@dataclass(frozen=True)
class _Lane:
    """Be one row above a panel: a bar with words, or only words at a place."""

    text: str
    begin: float
    end: float
    color: str | None
    ink: str = "0.15"
    hatch: str = ""


def _lanes(previews: Sequence[Preview], name: str, difference: ValueDifference | None) -> list[_Lane]:
    lanes = []
    if difference is not None and difference.parameter == name:
        values = " and ".join("nothing" if it is None else f"{it:.6g}" for it in difference.values)
        where = f"first difference, at iteration {difference.iteration:,} of group {difference.group}: {values}"
        lanes.append(_Lane(where, difference.iteration, difference.iteration, None, DIFFERENCE))
    for preview in previews:
        lanes += [
            _Lane(f"{text}, from iteration {made:,}", place, place, None, AMENDED)
            for place, made, text in amendments_of(preview, name)
        ]
    for number, preview in enumerate(previews):
        for index, window in enumerate(drawn_windows(preview, name)):
            begin, end = bounds_of(window, preview)
            label = shortened(window.label, 60)
            text = f"{shortened(preview.label)}: {label}" if len(previews) > 1 else label
            tint = TINTS[number if len(previews) > 1 else index % len(TINTS)]
            lanes.append(_Lane(text, begin, end, tint))
        if len(previews) == 1:
            lanes += [
                _Lane("gap: the value holds", begin, end, None, MUTED, "////") for begin, end in gaps_of(preview, name)
            ]
    return lanes


# ---------------------------------------------------------------------- drawing
def _draw_lanes(strip: Axes, lanes: Sequence[_Lane], span: tuple[int, int]) -> None:
    """Draw one lane below the other; words go into their bar, or beside it where it is too short."""
    strip.set_ylim(max(len(lanes), 1), 0)
    strip.axis("off")
    width = span[1] - span[0]
    for row, lane in enumerate(lanes):
        look: dict[str, Any] = {"color": lane.color} if lane.color else {"facecolor": "none", "edgecolor": "0.8"}
        if lane.color or lane.hatch:
            left, size = lane.begin, lane.end - lane.begin
            strip.barh(row + 0.5, size, left=left, height=0.84, linewidth=0, hatch=lane.hatch, **look)
        pad, needed = 0.006 * width, _LETTER * len(lane.text) * width
        if lane.end - lane.begin > needed:
            x, side = lane.begin + pad, "left"
        elif lane.end + needed < span[1]:
            x, side = lane.end + pad, "left"
        else:
            x, side = lane.begin - pad, "right"
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8} if lane.hatch else None
        strip.text(x, row + 0.52, lane.text, fontsize=_LABEL_SIZE, color=lane.ink, ha=side, va="center", bbox=box)


def _draw_panel(panel: Axes, name: str, previews: Sequence[Preview], span: tuple[int, int], *, log: bool) -> None:
    clean(panel)
    value_axis(panel, log=log)
    optimizer, _, parameter = name.rpartition(".")
    panel.set_ylabel(f"{optimizer}\n{LABELS.get(parameter, parameter)}".strip(), fontsize=9)
    if len(previews) == 1:
        _shade(panel, name, previews[0], span)
    handles = []
    for number, preview in enumerate(previews):
        curves = alike_groups(preview.columns(name), preview.trace.groups.get(name, ()))
        for color, (label, column) in enumerate(curves):
            ink = LINES[(color if len(curves) > 1 else number) % len(LINES)]
            _draw_curve(panel, preview, column, ink, number if len(previews) > 1 else None)
            if len(curves) > 1 and number == 0 and color < _MOST_HANDLES:
                handles.append(Line2D([], [], color=ink, linewidth=2, label=label))
        if number == 0 and len(curves) > _MOST_HANDLES:
            handles.append(Line2D([], [], linestyle="", label=f"... {len(curves) - _MOST_HANDLES} more"))
    panel.margins(y=0.08)
    low, high = panel.get_ylim()
    if not log and low < 0 <= min(min(column) for it in previews for column in it.trace.values.get(name, [[0.0]])):
        panel.set_ylim(bottom=-0.03 * high)  # 0 is a place, and not somewhere in the air
    if handles:
        panel.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)


def _draw_curve(panel: Axes, preview: Preview, column: Sequence[float], ink: str, layer: int | None) -> None:
    """Draw the values of one param group, each of which holds from one iteration to the next.

    The first of two *layers* lies wide and pale under the second.
    """
    iterations = preview.trace.iterations
    x, y = [*iterations, iterations.stop], [*column, *column[-1:]]

    def draw(part: slice, **style: Any) -> None:  # noqa: ANN401 - what matplotlib takes
        panel.plot(*thinned(x[part], y[part], _POINTS), color=ink, drawstyle="steps-post", **style)

    if layer is not None:
        if layer == 0:
            draw(slice(None), linewidth=6.0, alpha=0.35, solid_capstyle="butt")
        else:
            draw(slice(None), linewidth=1.6, linestyle="--")
    elif preview.position is None:
        draw(slice(None), linewidth=1.8)
    else:
        now = max(preview.position - iterations.start, 0)
        draw(slice(now + 1), linewidth=2.2)
        draw(slice(now, None), linewidth=1.6, linestyle=(0, (4, 2)))


def _shade(panel: Axes, name: str, preview: Preview, span: tuple[int, int]) -> None:
    for index, window in enumerate(drawn_windows(preview, name)):
        begin, end = bounds_of(window, preview)
        panel.axvspan(begin, end, color=TINTS[index % len(TINTS)], alpha=0.4, linewidth=0)
        for place in (begin, end):
            if span[0] < place < span[1]:
                panel.axvline(place, color="0.55", linewidth=0.8, linestyle=(0, (2, 2)))
    for begin, end in gaps_of(preview, name):
        panel.axvspan(begin, end, facecolor="none", edgecolor="0.85", hatch="////", linewidth=0)


def _draw_marks(panel: Axes, name: str, previews: Sequence[Preview], difference: ValueDifference | None) -> None:
    """Mark where a live group is, where it was amended, and where two previews first differ."""
    for preview in previews:
        for place in {made for place, made, _ in amendments_of(preview, name) if made == place}:
            panel.axvline(place, color=AMENDED, linewidth=1.0, linestyle=(0, (1, 1.5)))
    position = previews[0].position if len(previews) == 1 else None
    if position is not None:
        panel.axvline(position, color="0.1", linewidth=1.2)
    if difference is not None and difference.parameter == name:
        panel.axvline(difference.iteration, color=DIFFERENCE, linewidth=1.2)


def _draw_epochs(axes: Sequence[Axes], epoch_length: int | None, span: tuple[int, int]) -> None:
    """Mark where epochs end: faint lines where there are few, and an axis of their own at the top."""
    if epoch_length is None or span[1] <= epoch_length:
        return
    ends = range(span[0] - span[0] % epoch_length + epoch_length, span[1], epoch_length)
    if len(ends) <= _MOST_EPOCHS:
        for panel in axes[1::2]:
            for place in ends:
                panel.axvline(place, color="0.9", linewidth=0.7, zorder=0.6)

    def to_epochs(x: Any) -> Any:  # noqa: ANN401 - an array or a number
        return x / epoch_length

    def to_iterations(x: Any) -> Any:  # noqa: ANN401
        return x * epoch_length

    top = axes[0].secondary_xaxis("top", functions=(to_epochs, to_iterations))
    top.xaxis.set_major_locator(MaxNLocator(nbins=13, integer=True))
    top.set_xlabel("epoch", fontsize=9, labelpad=3)
    top.tick_params(colors="0.25", labelsize=8, length=3)
    top.spines["top"].set_color("0.6")


def _draw_legend(figure: Figure, previews: Sequence[Preview]) -> None:
    """Say what wide and narrow, solid and dashed lines are."""
    handles = []
    if len(previews) > 1:
        handles = [
            Line2D([], [], color="0.4", linewidth=6, alpha=0.4, label=shortened(previews[0].label)),
            Line2D([], [], color="0.2", linewidth=1.6, linestyle="--", label=shortened(previews[1].label)),
        ]
    elif previews[0].position is not None:
        position = previews[0].position
        known = position > previews[0].trace.iterations.start
        past = [Line2D([], [], color="0.2", linewidth=2.2, label="past")] if known else []
        handles = [
            *past,
            Line2D(
                [],
                [],
                color="0.1",
                linewidth=1.2,
                marker="|",
                markersize=9,
                linestyle="",
                label=f"now: iteration {position:,}",
            ),
            Line2D([], [], color="0.2", linewidth=1.6, linestyle=(0, (4, 2)), label="future"),
        ]
    notes = [note for preview in previews if preview.position is not None for note in preview.notes]
    note = "\n".join(textwrap.fill(each, _NOTE) for each in notes)
    if handles:
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=len(handles),
            frameon=False,
            fontsize=8,
            title=note or None,
            title_fontproperties={"size": 8},
        )
