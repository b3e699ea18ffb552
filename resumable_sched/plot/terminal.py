"""Plot previews in a terminal: braille dots for the values, a line for each window. Needs rich."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich.text import Text

from resumable_sched.plot.lanes import alike_groups, bounds_of, drawn_windows, gaps_of
from resumable_sched.schedule.preview import first_value_difference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from resumable_sched.schedule.preview import Preview

__all__ = ["plot_in_terminal"]

_COLORS: Final = ("bright_blue", "yellow", "green", "magenta", "cyan", "red")
_DIM: Final = "bright_black"
_DOTS: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of a braille character: four rows of two dots."""
_MARGIN: Final = 9
_LOWEST, _HIGHEST = 5, 14
_NICE: Final = (1.0, 2.0, 2.5, 5.0, 10.0)


def plot_in_terminal(previews: Sequence[Preview], width: int, height: int) -> list[Text]:
    """Return the lines of a plot of one preview, or of two on top of each other.

    Args:
        previews: One or two.
        width: Columns of the terminal.
        height: Rows to fill, if that is enough.
    """
    names = list(dict.fromkeys(name for preview in previews for name in preview.trace.values))
    span = (
        min(preview.trace.iterations.start for preview in previews),
        max(preview.trace.iterations.stop for preview in previews),
    )
    area = max(width - _MARGIN - 1, 20)
    lanes = {name: _lanes(previews, name, area, span) for name in names}
    axis = _axis(previews[0].epoch_length, span, area)
    around = sum(len(each) + 2 for each in lanes.values()) + len(axis)
    rows = min(max((height - around) // max(len(names), 1), _LOWEST), _HIGHEST)
    lines: list[Text] = []
    for name in names:
        lines += [_heading(previews, name), *_panel(previews, name, area, rows, span)]
        lines += [_margin("└", "─" * area), *lanes[name]]
    lines += axis
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def _heading(previews: Sequence[Preview], name: str) -> Text:
    line = Text(name, style="bold")
    if len(previews) > 1:
        for number, preview in enumerate(previews):
            line.append(f"  ⣿ {preview.label}", style=_COLORS[number])
        return line
    curves = alike_groups(previews[0].trace.values[name], previews[0].trace.groups.get(name, ()))
    for color, (label, _) in enumerate(curves):
        if len(curves) > 1:
            line.append(f"  ⣿ {label}", style=_COLORS[color % len(_COLORS)])
    return line


def _panel(previews: Sequence[Preview], name: str, area: int, rows: int, span: tuple[int, int]) -> list[Text]:
    """Draw the values of one hyper-parameter."""
    curves = [
        (number, color, preview.trace.iterations, np.asarray(column, dtype=np.float64))
        for number, preview in enumerate(previews)
        for color, (_, column) in enumerate(alike_groups(preview.columns(name)))
    ]
    finite = [values[np.isfinite(values)] for *_, values in curves]
    low = min((float(each.min()) for each in finite if len(each)), default=0.0)
    high = max((float(each.max()) for each in finite if len(each)), default=1.0)
    ticks = _value_ticks(low, high)
    limits = (min(low, ticks[0]), max(high, ticks[-1]))
    cells = np.zeros((rows, area), dtype=int)
    styles = np.full((rows, area), -1)
    for number, color, iterations, values in curves:
        dots = _dots(values, iterations, span, (2 * area, 4 * rows), limits)
        own = sum(dots[y::4, x::2].astype(int) * _DOTS[y][x] for y in range(4) for x in range(2))
        cells |= own
        styles[np.asarray(own) > 0] = number if len(previews) > 1 else color
    marks = {_cell(place, span, area) - 1 for preview in previews for place in _boundaries(preview, name, span)}
    labels = {round((limits[1] - tick) / (limits[1] - limits[0]) * (rows - 1)): f"{tick:.4g}" for tick in ticks}
    lines = []
    for row in range(rows):
        line = _margin("┤" if row in labels else "│", "", labels.get(row, ""))
        for column in range(area):
            if cells[row, column]:
                line.append(chr(0x2800 + cells[row, column]), style=_COLORS[styles[row, column] % len(_COLORS)])
            else:
                line.append("┊" if column in marks else " ", style=_DIM)
        lines.append(line)
    return lines


def _value_ticks(low: float, high: float) -> list[float]:
    """Return round numbers that enclose the values; 0 is one of them if it is near.

    >>> _value_ticks(1e-4, 0.1), _value_ticks(0.85, 0.9), _value_ticks(0.5, 0.5)
    ([0.0, 0.05, 0.1], [0.84, 0.86, 0.88, 0.9], [0.0, 0.5, 1.0])
    """
    if low == high:
        low, high = (min(0.0, 2 * low), max(0.0, 2 * high)) if low else (-1.0, 1.0)
    if 0 < low < high / 4:
        low = 0.0
    step = _step((high - low) / 3)
    return [
        round(index * step, 12) for index in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)
    ]


def _dots(
    values: NDArray[Any], iterations: range, span: tuple[int, int], size: tuple[int, int], limits: tuple[float, float]
) -> NDArray[Any]:
    """Set the dots of a curve: in each column from its lowest to its highest value, and on from the column before."""
    width, height = size
    dots = np.zeros((height, width), dtype=bool)
    edges = np.linspace(span[0], span[1], width + 1)
    index = np.clip(np.floor(edges).astype(int) - iterations.start, 0, len(values))
    low, high = limits
    before: int | None = None
    for x in range(width):
        stretch = values[index[x] : max(index[x + 1], index[x] + 1)]
        stretch = stretch[np.isfinite(stretch)]
        if not len(stretch):
            before = None
            continue
        y = [round((high - float(each)) / (high - low) * (height - 1)) for each in (stretch.max(), stretch.min())]
        last = round((high - float(stretch[-1])) / (high - low) * (height - 1))
        top, bottom = (y[0], y[1]) if before is None else (min(y[0], before), max(y[1], before))
        dots[top : bottom + 1, x] = True
        before = last
    return dots


def _boundaries(preview: Preview, name: str, span: tuple[int, int]) -> list[int]:
    return [
        place
        for window in drawn_windows(preview, name)
        for place in bounds_of(window, preview)
        if span[0] < place < span[1]
    ]


def _cell(iteration: float, span: tuple[int, int], area: int) -> int:
    return min(round((iteration - span[0]) / (span[1] - span[0]) * area), area)


def _lanes(previews: Sequence[Preview], name: str, area: int, span: tuple[int, int]) -> list[Text]:
    """Return a line for each window, as long as the window is open, with its name in it or beside it."""
    lanes = []
    for number, preview in enumerate(previews):
        for window in drawn_windows(preview, name):
            text = f"{preview.label}: {window.label}" if len(previews) > 1 else window.label
            style = _COLORS[number] if len(previews) > 1 else ""
            begin, end = bounds_of(window, preview)
            lanes.append(_bar((_cell(begin, span, area), _cell(end, span, area)), area, text, style))
        if len(previews) == 1:
            for first, last in gaps_of(preview, name):
                place = (_cell(first, span, area), _cell(last, span, area))
                lanes.append(_bar(place, area, "gap: the value holds", _DIM, "╌"))
    difference = first_value_difference(*previews) if len(previews) > 1 else None
    if difference is not None and difference.parameter == name:
        cell = _cell(difference.iteration, span, area)
        lanes.append(_bar((cell, cell), area, "first difference", "bold red", "▲"))
    return lanes


def _bar(place: tuple[int, int], area: int, text: str, style: str, stroke: str = "━") -> Text:
    """Draw from cell to cell, and put the words into the bar, or else on the side where there is more room."""
    begin, end = place[0], max(place[1], place[0] + 1)
    line = _margin(" ", "")
    room = area - end - 1
    if end - begin >= len(text) + 4:
        inside = stroke * 2 + f" {text} "
        shown = " " * begin + inside + stroke * (end - begin - len(inside))
    elif room >= min(len(text), begin - 1):
        shown = " " * begin + stroke * (end - begin) + " " + _short(text, room)
    else:
        words = _short(text, begin - 1)
        shown = " " * (begin - 1 - len(words)) + words + " " + stroke * (end - begin)
    line.append(shown, style=style)
    return line


def _short(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(room - 1, 0)] + "…"


def _margin(edge: str, rest: str, label: str = "") -> Text:
    line = Text(no_wrap=True, overflow="crop")
    line.append(f"{label:>{_MARGIN - 1}} ")
    line.append(edge + rest, style=_DIM)
    return line


def _axis(epoch_length: int | None, span: tuple[int, int], area: int) -> list[Text]:
    """Return the line of iterations, and the one of epochs where these are known."""
    lines = [_ticks("iteration", [(place, _number(place)) for place in _nice(*span, 6)], span, area)]
    if epoch_length is not None and span[1] > epoch_length:
        epochs = _nice(span[0] / epoch_length, span[1] / epoch_length, 12)
        places = [(it * epoch_length, f"{it:g}") for it in epochs if float(it).is_integer()]
        lines.append(_ticks("epoch", places, span, area))
    return lines


def _ticks(title: str, places: Sequence[tuple[float, str]], span: tuple[int, int], area: int) -> Text:
    cells = [" "] * (area + _MARGIN + 1)
    used = len(title)
    cells[:used] = title
    for place, label in places:
        start = _MARGIN + 1 + _cell(place, span, area) - len(label) // 2
        start = min(start, len(cells) - len(label))
        if start > used:
            cells[start : start + len(label)] = label
            used = start + len(label)
    return Text("".join(cells), style=_DIM, no_wrap=True, overflow="crop")


def _nice(first: float, last: float, most: int) -> list[float]:
    """Return round numbers from *first* to *last*, about *most* of them.

    >>> _nice(0, 1200, 6)
    [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0, 1200.0]
    """
    step = max(_step((last - first) / most), 1.0)
    start = math.ceil(first / step)
    return [index * step for index in range(start, math.floor(last / step) + 1)]


def _step(least: float) -> float:
    """Return the first round number from *least* on."""
    power = 10.0 ** math.floor(math.log10(least)) if least > 0 else 1.0
    return next(each * power for each in _NICE if each * power >= least * (1 - 1e-9))


def _number(value: float) -> str:
    large = 1e6
    return f"{value / large:g} M" if value >= large else f"{value:,.0f}"
