"""Draw the pictures of ``docs/guide.md`` from its own text.

    python docs/make_figures.py

The last config in a code block before a picture ``images/guide-*.png`` is what that picture shows.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image

from resumable_sched import SchedulerGroup, build_schedulers, load_config, plot_trace
from resumable_sched.schedule.preview import preview_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

DOCS = Path(__file__).parent
EPOCHS, EPOCH_LENGTH = 12, 100
OPTIMIZER = {"type": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
_EXAMPLE = re.compile(
    r"### ([^\n]+)\n(?:(?!###).)*?```python\n(.*?)```\n\n!\[[^\]]*\]\(images/(guide-[\w-]+\.png)\)", re.DOTALL
)


def examples() -> Mapping[str, tuple[str, str]]:
    """Return title and config of each example of the guide, by the name of its picture."""
    text = (DOCS / "guide.md").read_text(encoding="utf-8")
    return {picture: (title, config) for title, config, picture in _EXAMPLE.findall(text)}


def save(figure: Figure, file: Path) -> None:
    """Write a picture with few colours, which is small."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    colors = 96
    Image.open(content).convert("RGB").quantize(colors, dither=Image.Dither.NONE).save(file, optimize=True)
    sys.stdout.write(f"{file}: {file.stat().st_size / 1000:.0f} kB\n")


def main() -> None:
    """Draw all."""
    images = DOCS / "images"
    with tempfile.TemporaryDirectory() as folder:
        for picture, (title, text) in examples().items():
            file = Path(folder) / "config.py"
            file.write_text(text, encoding="utf-8")
            figure = plot_trace(
                load_config(file), epochs=EPOCHS, epoch_length=EPOCH_LENGTH, optimizer=OPTIMIZER, title=title
            )
            save(figure, images / picture)
        warm_up = Path(folder) / "old.py"
        warm_up.write_text(examples()["guide-warm-up.png"][1], encoding="utf-8")
        longer = Path(folder) / "new.py"
        longer.write_text(warm_up.read_text(encoding="utf-8").replace("end=50", "end=150"), encoding="utf-8")
        previews = [
            preview_config(
                load_config(file), label=file.name, optimizer=OPTIMIZER, epochs=EPOCHS, epoch_length=EPOCH_LENGTH
            )
            for file in (warm_up, longer)
        ]
        save(plot_trace(*previews), images / "plot-compare.png")
        config = load_config(warm_up)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    group = SchedulerGroup(optimizer, build_schedulers(optimizer, config), epoch_length=EPOCH_LENGTH, max_epochs=EPOCHS)
    for _ in range(430):
        group.step()
        if group.iteration_in_epoch == EPOCH_LENGTH:
            group.step_epoch()
    save(plot_trace(group, title="After 430 iterations"), images / "plot-live.png")
    save(plot_trace(amended(), title="Amended on its way"), images / "plot-amended.png")


def amended() -> SchedulerGroup:
    """Train two param groups half way, and amend their learning rates."""
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "name": name, "lr": lr}
        for name, lr in (("backbone", 0.1), ("head", 0.4))
    ]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    config = [
        {"type": "LinearLR", "start_factor": 0.05, "by_epoch": False, "end": "10%"},
        {"type": "CosineAnnealingLR", "by_epoch": False, "begin": "10%", "end": "100%"},
    ]
    iterations = EPOCHS * EPOCH_LENGTH
    built = build_schedulers(optimizer, config, max_iters=iterations)
    group = SchedulerGroup(optimizer, built, epoch_length=EPOCH_LENGTH, max_iters=iterations)
    for iteration in range(1, 701):
        group.step()
        match iteration:
            case 250:
                group.amend("lr", scale=0.5, reason="loss spike")
            case 400:
                group.amend("lr", scale=2.0, groups="head", reason="the head lags behind")
            case 550:
                optimizer.param_groups[0]["lr"] = 0.02
        if group.iteration_in_epoch == EPOCH_LENGTH:
            group.step_epoch()
    return group


if __name__ == "__main__":
    main()
