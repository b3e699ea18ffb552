"""Each example of MMEngine's guide, taken from ``docs/guide.md`` as it stands there, has MMEngine's values.

The peer multiplies floats step by step, ours evaluates closed forms; 1e-11 of the larger of value and base is what
1,200 roundings may differ by.
"""

from __future__ import annotations

import ast
import importlib.util
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*pkg_resources.*")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    import mmengine.optim.scheduler as peer
    from mmengine.registry import PARAM_SCHEDULERS

from resumable_sched.schedule import MultiStepLR, SchedulerGroup, build_schedulers, load_config

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.filterwarnings(
    "ignore:Detected call of `scheduler.step\\(\\)` before `optimizer.step\\(\\)`:UserWarning"
)

DOCS = Path(__file__).parents[2] / "docs"
EPOCHS, EPOCH_LENGTH = 12, 100
LENGTHS: dict[str, Any] = {"epoch_length": EPOCH_LENGTH, "max_epochs": EPOCHS}
PARAMETERS = ("lr", "momentum", "weight_decay")


def examples() -> dict[str, str]:
    """Return the config of each example by the name of its picture, by the code that draws the pictures."""
    spec = importlib.util.spec_from_file_location("make_figures", DOCS / "make_figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {picture: text for picture, (_, text) in module.examples().items()}


EXAMPLES = examples()


def sgd() -> torch.optim.Optimizer:
    """Return the optimizer of the guide."""
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9, weight_decay=0.01)


def row(optimizer: torch.optim.Optimizer) -> list[float]:
    """Return what the optimizer shows."""
    return [optimizer.param_groups[0][name] for name in PARAMETERS]


def peer_values(config: Any) -> list[list[float]]:
    """Train with MMEngine's schedulers, built and stepped as its Runner and its hook do it."""
    optimizer, schedulers = sgd(), []
    for each in config if isinstance(config, list) else [config]:
        end = EPOCHS if each.get("by_epoch", True) else EPOCHS * EPOCH_LENGTH
        defaults = {"optimizer": optimizer, "epoch_length": EPOCH_LENGTH}
        schedulers.append(PARAM_SCHEDULERS.build({"end": end, **each}, default_args=defaults))
    return stepped(optimizer, schedulers)


def stepped(optimizer: torch.optim.Optimizer, schedulers: Sequence[Any]) -> list[list[float]]:
    """Return the values of each iteration of a training that steps every schedule by itself."""
    rows = []
    for iteration in range(EPOCHS * EPOCH_LENGTH):
        rows.append(row(optimizer))
        for each in schedulers:
            if not each.by_epoch or (iteration + 1) % EPOCH_LENGTH == 0:
                each.step()
    return rows


def assert_close(ours: list[list[float]], theirs: list[list[float]]) -> None:
    """Compare every value of every iteration."""
    bases = row(sgd())
    for iteration, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        for value, expected, base in zip(mine, other, bases, strict=True):
            assert abs(value - expected) <= 1e-11 * max(abs(expected), base), iteration


def test_the_guide_is_here_as_a_whole() -> None:
    """Twelve examples, each with a config, a small picture, and a place on the page."""
    assert set(EXAMPLES) == {
        f"guide-{name}.png"
        for name in (
            "by-epoch",
            "by-iteration",
            "converted",
            "cosine-by-epoch",
            "cosine-converted",
            "warm-up",
            "one-after-the-other",
            "gap",
            "overlap",
            "momentum",
            "param-lr",
            "param-weight-decay",
        )
    }
    for picture in EXAMPLES:
        with Image.open(DOCS / "images" / picture) as image:
            assert image.width >= 800
        assert (DOCS / "images" / picture).stat().st_size < 60_000


@pytest.mark.parametrize("picture", EXAMPLES)
def test_an_example_has_the_values_of_the_peer(picture: str, tmp_path: Path) -> None:
    """From the text of the guide, in a group and stepped one by one; MMEngine builds from the same text."""
    (tmp_path / "config.py").write_text(EXAMPLES[picture])
    config = load_config(tmp_path / "config.py")
    optimizer, lone = sgd(), sgd()
    group = SchedulerGroup(optimizer, build_schedulers(optimizer, config, **LENGTHS), **LENGTHS)

    rows = []
    for _ in range(EPOCHS * EPOCH_LENGTH):
        rows.append(row(optimizer))
        group.step()
        if group.iteration_in_epoch == EPOCH_LENGTH:
            group.step_epoch()

    assert_close(rows, peer_values(config.schedulers))
    assert_close(stepped(lone, build_schedulers(lone, config, **LENGTHS)), rows)


@pytest.mark.parametrize("picture", EXAMPLES)
def test_what_is_read_is_what_python_would_make_of_it(picture: str, tmp_path: Path) -> None:
    """Reading without executing gives the same dicts as executing."""
    (tmp_path / "config.py").write_text(EXAMPLES[picture])
    names: dict[str, Any] = {}
    exec(compile(ast.parse(EXAMPLES[picture]), picture, "exec"), names)  # noqa: S102 - the text of our own guide

    assert load_config(tmp_path / "config.py").schedulers == names["scheduler"]


def test_the_classmethod_of_the_guide_has_the_values_of_the_peer() -> None:
    """``MultiStepLR.build_iter_from_epoch(optimizer, milestones=[8, 11], gamma=0.1, epoch_length=...)``."""
    mine, theirs = sgd(), sgd()
    arguments: dict[str, Any] = {"milestones": [8, 11], "gamma": 0.1, "epoch_length": EPOCH_LENGTH}

    ours = stepped(mine, [MultiStepLR.build_iter_from_epoch(mine, **arguments)])

    assert_close(ours, stepped(theirs, [peer.MultiStepLR.build_iter_from_epoch(theirs, **arguments)]))


def test_an_overlap_has_the_values_of_a_chained_scheduler() -> None:
    """The guide says that schedules that overlap act as in torch's ChainedScheduler."""
    config = [
        {"type": "ConstantLR", "factor": 0.1, "by_epoch": False, "end": 401},
        {"type": "ExponentialLR", "gamma": 0.998, "by_epoch": False},
    ]
    mine, theirs = sgd(), sgd()
    torch_schedules = [
        torch.optim.lr_scheduler.ConstantLR(theirs, factor=0.1, total_iters=400),
        torch.optim.lr_scheduler.ExponentialLR(theirs, gamma=0.998),
    ]
    chained = torch.optim.lr_scheduler.ChainedScheduler(torch_schedules, optimizer=theirs)

    expected = []
    for _ in range(EPOCHS * EPOCH_LENGTH):
        expected.append(row(theirs))
        theirs.step()
        chained.step()

    assert_close(stepped(mine, build_schedulers(mine, config, **LENGTHS)), expected)


def test_the_cosine_of_the_guide_misses_its_floor_and_the_converted_one_meets_it_at_the_next_epoch() -> None:
    """What the pictures show: by epoch the last value is 1.7 % of the first; by iteration next to nothing."""
    config = {"type": "CosineAnnealingLR", "T_max": 12}
    by_epoch, converted = sgd(), sgd()

    stairs = stepped(by_epoch, build_schedulers(by_epoch, config, **LENGTHS))
    smooth = stepped(converted, build_schedulers(converted, {**config, "convert_to_iter_based": True}, **LENGTHS))

    assert len({each[0] for each in stairs}) == EPOCHS
    assert stairs[-1][0] == pytest.approx(0.0017, rel=0.01)
    assert smooth[-1][0] < 1e-6
    assert [each[0] for each in smooth[::EPOCH_LENGTH]] == pytest.approx([each[0] for each in stairs[::EPOCH_LENGTH]])
