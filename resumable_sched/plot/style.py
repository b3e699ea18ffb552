"""Colours and axes that all figures share. The colours are those of Okabe and Ito, told apart by everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

__all__ = ["AMENDED", "DIFFERENCE", "LABELS", "LINES", "MUTED", "TINTS", "clean", "count_axis", "value_axis"]

LINES: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#E69F00")
"""For curves."""
TINTS: Final = ("#cfe2f0", "#fbe3bd", "#c9e9dd", "#f3dbe8", "#e4e4e4")
"""For windows."""
MUTED: Final = "#666666"
DIFFERENCE: Final = "#b2182b"
AMENDED: Final = "#8a5a00"
LABELS: Final[Mapping[str, str]] = {"lr": "learning rate", "weight_decay": "weight decay"}
"""What to call hyper-parameters whose key is no word."""

_LARGE: Final = 1_000_000


def clean(panel: Axes) -> None:
    """Take away what says nothing: a frame on two sides, a loud grid."""
    panel.grid(visible=True, axis="y", color="0.92")
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    panel.spines[["left", "bottom"]].set_color("0.6")
    panel.tick_params(colors="0.25", labelsize=8)


def count_axis(panel: Axes, last: int) -> None:
    """Write iterations as people write them: 1,200 or 2.5 M."""
    axis = panel.xaxis
    axis.set_major_locator(MaxNLocator(nbins=8, integer=True, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(EngFormatter() if last >= _LARGE else FuncFormatter(lambda value, _: f"{value:,.0f}"))


def value_axis(panel: Axes, *, log: bool) -> None:
    """Write each value in full, so that no power of ten hides in a corner."""
    if log:
        panel.set_yscale("log")
        return
    panel.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
