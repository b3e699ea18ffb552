"""The plot in the terminal fits, and says what the figure says."""

from __future__ import annotations

from typing import Any

import pytest

from resumable_sched.plot.terminal import plot_in_terminal
from resumable_sched.schedule.preview import Preview, preview_config

GUIDE: list[dict[str, Any]] = [
    {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": 50},
    {"type": "MultiStepLR", "milestones": [8, 11]},
    {"type": "LinearMomentum", "start_factor": 0.5, "by_epoch": False, "begin": 300, "end": 400},
    {"type": "CosineAnnealingMomentum", "eta_min": 0.8, "by_epoch": False, "begin": 1100, "end": 1200},
]


def preview(config: Any = GUIDE, label: str = "config.py", **options: Any) -> Preview:
    """Return a preview of 12 epochs of 100 iterations."""
    return preview_config(config, **{"epochs": 12, "epoch_length": 100, "label": label, **options})


def text_of(previews: list[Preview], width: int = 80, height: int = 22) -> list[str]:
    """Return the lines without their colours."""
    return [line.plain for line in plot_in_terminal(previews, width, height)]


@pytest.mark.parametrize("width", [40, 80, 132])
@pytest.mark.parametrize("config", [GUIDE[:2], GUIDE, GUIDE[2:]])
def test_no_line_is_wider_than_the_terminal(width: int, config: Any) -> None:
    """Nothing wraps, with one config or with two."""
    one, two = preview(config), preview(config, label="a_file_with_a_very_long_name_indeed.py", groups=(1.0, 0.1))

    for previews in ([one], [one, two]):
        assert max(map(len, text_of(previews, width))) <= width


def test_a_plot_fits_into_a_small_terminal() -> None:
    """One parameter or two in 24 rows, the prompt included."""
    assert len(text_of([preview(GUIDE[:2])])) <= 22
    assert len(text_of([preview()])) <= 22


def test_windows_gaps_and_groups_are_named() -> None:
    """Their names are there in full at 80 columns."""
    text = "\n".join(text_of([preview(groups=(0.1, 1.0))]))

    for each in (
        "LinearLR 0-50",
        "MultiStepLR epochs 0-end",
        "LinearMomentum 300-400",
        "CosineAnnealingMomentum 1100-1200",
        "gap: the value holds",
        "group 0",
        "group 1",
        "iteration 0",
        "epoch ",
    ):
        assert each in text


def test_the_curve_is_where_its_values_are() -> None:
    """A value that falls to a tenth at 8 of 12 epochs is at the top before and near the bottom after it."""
    lines = text_of([preview({"type": "MultiStepLR", "milestones": [8]})], 82, 20)
    panel = [line[10:] for line in lines if "│" in line or "┤" in line]

    def dots(row: str, first: int, last: int) -> bool:
        return any(0x2800 < ord(each) < 0x2900 for each in row[first:last])

    assert dots(panel[0], 0, 47)
    assert not dots(panel[0], 49, 72)
    assert not any(dots(row, 0, 46) for row in panel[1:])
    assert any(dots(row, 60, 61) for row in panel[-3:])


def test_constant_and_negative_values_can_be_drawn() -> None:
    """A flat line is in the middle, and no number is divided by zero."""
    for lr in (0.5, 0.0):
        lines = text_of([preview({"type": "StepLR", "step_size": 50}, optimizer={"type": "SGD", "lr": lr})])
        assert any("⠒" in line or "⠤" in line or "⣀" in line or "⠉" in line for line in lines)


def test_two_are_told_apart_and_their_first_difference_is_marked() -> None:
    """With the label of each."""
    other = [{**GUIDE[0], "end": 150}, GUIDE[1]]

    text = "\n".join(text_of([preview(GUIDE[:2], "old.py"), preview(other, "new.py")]))

    for each in ("⣿ old.py", "⣿ new.py", "old.py: LinearLR 0-50", "new.py: LinearLR 0-150", "▲ first difference"):
        assert each in text
