"""`plot_trace` draws what is asked for; what a figure holds is looked up in it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from resumable_sched import SchedulerGroup, Trace, build_schedulers, load_config, plot_trace
from resumable_sched.plot.sources import trace_of
from resumable_sched.testing import Recording

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GUIDE: list[dict[str, Any]] = [
    {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": 50},
    {"type": "MultiStepLR", "milestones": [8, 11]},
    {"type": "LinearMomentum", "start_factor": 0.5, "by_epoch": False, "end": 100},
    {"type": "LinearMomentum", "start_factor": 0.9, "by_epoch": False, "begin": 600, "end": 900},
]
LENGTHS: dict[str, Any] = {"epochs": 12, "epoch_length": 100}


def live(iterations: int) -> SchedulerGroup:
    """Return a group that has done some iterations of 12 epochs."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    group = SchedulerGroup(optimizer, build_schedulers(optimizer, GUIDE), epoch_length=100, max_epochs=12)
    for _ in range(iterations):
        group.step()
        if group.iteration_in_epoch == 100:
            group.step_epoch()
    return group


def panels(figure: Figure) -> dict[str, Axes]:
    """Return the panels by what they are called."""
    return {axes.get_ylabel(): axes for axes in figure.axes if axes.get_ylabel()}


def curves(panel: Axes) -> list[Any]:
    """Return the curves, without the straight lines that mark a place."""
    return [line for line in panel.lines if len(line.get_xdata()) > 2]  # type: ignore[arg-type]


def words(figure: Figure) -> str:
    """Return all that is written above the panels, and the title."""
    return "\n".join([figure.get_suptitle(), *(text.get_text() for axes in figure.axes for text in axes.texts)])


def test_every_parameter_has_a_panel_with_its_values() -> None:
    """The curve holds the value of each iteration until the next one, and the last one to the end."""
    figure = plot_trace(GUIDE, **LENGTHS)

    (curve,) = curves(panels(figure)["learning rate"])
    x, y = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
    expected = list(live(0).trace(1200).values["lr"][0])
    assert x.tolist() == list(range(1201))
    assert y.tolist() == [*expected, expected[-1]]
    assert curve.get_drawstyle() == "steps-post"
    assert list(panels(figure)) == ["learning rate", "momentum"]


def test_windows_and_gaps_are_named() -> None:
    """Each window with its class and ticks, and each stretch where none is open."""
    text = words(plot_trace(GUIDE, **LENGTHS, title="warm-up"))

    for each in (
        "warm-up",
        "LinearLR 0-50",
        "MultiStepLR epochs 0-end",
        "LinearMomentum 600-900",
        "gap: the value holds",
    ):
        assert each in text


def test_words_never_overlap() -> None:
    """No two texts of a figure share a pixel, however short the windows are and however many there are."""
    many = [{"type": "StepLR", "step_size": 1, "begin": it, "end": it + 1} for it in range(12)]
    for config in (GUIDE, many, [GUIDE[0], {"type": "CosineAnnealingMomentum", "begin": 11, "end": 12}]):
        for groups in ((1.0,), (0.1, 1.0, 0.5)):
            figure = plot_trace(config, **LENGTHS, groups=groups)
            figure.draw_without_rendering()
            boxes = [
                text.get_window_extent()
                for axes in figure.axes
                for text in [*axes.texts, axes.yaxis.label, axes.xaxis.label, *axes.get_xticklabels()]
                if text.get_text() and text.get_visible()
            ]
            lanes = [text.get_window_extent() for axes in figure.axes for text in axes.texts]
            assert not [
                (one, other) for one in lanes for other in boxes if one.bounds != other.bounds and one.overlaps(other)
            ]
            assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in lanes)


def test_param_groups_that_are_alike_share_a_curve() -> None:
    """The legend says which are which, and is beside the panel."""
    figure = plot_trace(GUIDE, **LENGTHS, groups=(0.1, 1.0, 1.0))

    panel = panels(figure)["learning rate"]
    legend = panel.get_legend()
    assert len(curves(panel)) == 2
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["group 0", "groups 1, 2"]
    assert panels(figure)["momentum"].get_legend() is None


def test_a_live_group_shows_past_and_future() -> None:
    """The past is solid up to now, the future dashed from there on, and the group does not move."""
    group = live(430)

    figure = plot_trace(group)

    past, future = curves(panels(figure)["learning rate"])
    assert (past.get_linestyle(), future.get_linestyle()) == ("-", "--")
    assert np.asarray(past.get_xdata())[[0, -1]].tolist() == [0, 430]
    assert np.asarray(future.get_xdata())[[0, -1]].tolist() == [430, 1200]
    assert group.iteration == 430


def test_a_recording_with_a_gap_is_refused() -> None:
    """What was used there is not known; the error says where."""
    lines = [(iteration, {"values": {"lr": [0.1]}}) for iteration in (1, 2, 4)]

    with pytest.raises(ValueError, match="every iteration from 1 to 4, but 3 is missing"):
        trace_of(Recording(lines, [], {}))


def test_a_recording_is_the_past() -> None:
    """Lines of a recording tell of completed updates; where an iteration was done twice, the last time counts."""
    group = live(3)
    lines = [
        (it + 1, {"values": {"lr": [value], "momentum": [0.5]}})
        for it, value in ((0, 9.0), (1, 8.0), (1, 7.0), (2, 6.0))
    ]
    recording = Recording(lines, [(1, 0)], {})

    past, _ = curves(panels(plot_trace(group, past=recording))["learning rate"])

    assert np.asarray(past.get_ydata()).tolist() == [9.0, 7.0, 6.0, group.values()["lr"][0]]


def test_two_lie_on_top_of_each_other_with_their_first_difference(tmp_path: Path) -> None:
    """From files too: labels are the names of the files."""
    for name, end in (("old.py", 50), ("new.py", 60)):
        (tmp_path / name).write_text(f"param_scheduler = dict(type='LinearLR', by_epoch=False, end={end})")

    figure = plot_trace(tmp_path / "old.py", load_config(tmp_path / "new.py"), iterations=100)

    first, second = curves(panels(figure)["learning rate"])
    assert first.get_linewidth() > 2 * second.get_linewidth()
    assert "first difference, at iteration 1 of group 0" in words(figure)
    assert "old.py: LinearLR 0-50" in words(figure)


def test_a_trace_alone_can_be_drawn_and_nothing_cannot() -> None:
    """A trace has no windows; a list without schedules has nothing to show."""
    figure = plot_trace(Trace(range(3), [0, 0, 0], None, {"lr": [[0.1, 0.2, 0.3]]}), log=True)

    assert panels(figure)["learning rate"].get_yscale() == "log"
    with pytest.raises(ValueError, match="must have schedules to be drawn"):
        plot_trace([], iterations=10)


def test_a_million_iterations_are_drawn_with_few_points() -> None:
    """Extremes survive thinning."""
    config = {"type": "MultiStepLR", "milestones": [777_777], "by_epoch": False}

    (curve,) = curves(panels(plot_trace(config, iterations=10**6))["learning rate"])

    x, y = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
    assert len(x) < 10_000
    assert abs(x[y < 0.05].min() - 777_777) < 300


def test_importing_the_package_does_not_need_matplotlib() -> None:
    """The extra is for those who draw; without it `plot_trace` says what to install."""
    program = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import resumable_sched\n"
        "assert 'rich' not in sys.modules\n"
        "sys.modules.pop('matplotlib')\n"
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "import resumable_sched.plot as plot\n"
        "plot.find_spec = lambda name: None if name == 'matplotlib' else find(name)\n"
        "try: resumable_sched.plot_trace([])\n"
        "except ImportError as error: print(error)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "pip install 'resumable-sched[plot]'" in done.stdout


def test_amendments_and_the_names_of_groups_are_shown() -> None:
    """Each change is marked where it was made, with its reason, once for all groups that it is of."""
    groups: list[dict[str, Any]] = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "name": name, "lr": lr}
        for name, lr in (("neck", 0.1), ("head", 1.0))
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    config = {"type": "CosineAnnealingLR", "T_max": 100, "by_epoch": False, "end": 100}
    group = SchedulerGroup(optimizer, build_schedulers(optimizer, config), max_iters=100)
    for iteration in range(60):
        group.step()
        if iteration == 19:
            group.amend("lr", scale=0.5, reason="loss spike")
        if iteration == 39:
            group.amend("lr", value=0.3, groups="head")

    figure = plot_trace(group)

    assert "x 0.5: loss spike, from iteration 20\n" in words(figure)
    assert "= 0.3 (head), from iteration 40\n" in words(figure)
    panel = panels(figure)["learning rate"]
    assert {20, 40, 60} <= {line.get_xdata()[0] for line in panel.lines if len(line.get_xdata()) == 2}  # type: ignore[arg-type, index]
    legend = panel.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["neck", "head"]


def test_long_names_and_many_groups_leave_room_for_the_curves() -> None:
    """Names are cut in the middle, and a legend has ten rows at most; two configs without names have some."""
    groups: list[dict[str, Any]] = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "name": f"{'a long name ' * 8}{index}", "lr": 0.1 + index}
        for index in range(40)
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    group = SchedulerGroup(optimizer, build_schedulers(optimizer, GUIDE[0]), max_iters=50)
    group.amend("lr", scale=0.5, reason="because " * 20, groups=list(range(20)))

    figure = plot_trace(group)
    figure.canvas.draw()

    legend = panels(figure)["learning rate"].get_legend()
    assert legend is not None
    texts = [text.get_text() for text in legend.get_texts()]
    assert len(texts) == 10
    assert texts[-1] == "... 31 more"
    assert max(map(len, words(figure).split("\n"))) < 300
    two = plot_trace(GUIDE, GUIDE[:3], **LENGTHS)
    assert two.get_suptitle() == "first and second"
