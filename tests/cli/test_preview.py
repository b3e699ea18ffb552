"""`resumable-sched preview`: a plot for people, files for programs, exit codes for scripts."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from resumable_sched.cli.app import app
from resumable_sched.schedule.preview import preview_config

if TYPE_CHECKING:
    from pathlib import Path

GUIDE = """\
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='MultiStepLR', milestones=[8, 11, 20]),
]
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.02, momentum=0.9))
"""
LENGTHS = ("--epochs", 12, "--epoch-length", 100)


def run(*arguments: object) -> Result:
    """Run the command in this process, in a terminal of 80 columns."""
    return CliRunner().invoke(app, ["preview", *map(str, arguments)], env={"COLUMNS": "80"})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a config file."""
    (tmp_path / "config.py").write_text(GUIDE)
    return tmp_path / "config.py"


def test_without_out_there_is_a_plot_and_what_lint_says(config: Path) -> None:
    """The optimizer is the one of the config."""
    done = run(config, *LENGTHS)

    assert done.exit_code == 0
    for text in (
        "0.02 ┤",
        "LinearLR 0-50",
        "warning: lr: MultiStepLR: `milestones` 20",
        "overlap from iteration 0 to 50",
    ):
        assert text in done.output
    assert "is assumed" not in done.output


def test_a_config_that_says_how_long_training_is_needs_no_epochs(tmp_path: Path) -> None:
    """As MMEngine's have it; what the command line says wins."""
    (tmp_path / "config.py").write_text(GUIDE + "train_cfg = dict(max_epochs=12)\n")

    said, given = (run(tmp_path / "config.py", "--json", "--epoch-length", 10, *more) for more in ((), ("--epochs", 3)))

    assert len(json.loads(said.output)["iterations"]) == 120
    assert len(json.loads(given.output)["iterations"]) == 30


def test_tables_hold_every_value_to_the_last_bit(config: Path, tmp_path: Path) -> None:
    """CSV and JSON are read back as what the library computes; standard output is for one of them only."""
    expected = preview_config(
        [
            {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": 50},
            {"type": "MultiStepLR", "milestones": [8, 11, 20]},
        ],
        epochs=12,
        epoch_length=100,
        optimizer={"type": "SGD", "lr": 0.5},
        groups=(0.1, 1.0),
    ).trace.values["lr"]
    options = (*LENGTHS, "--lr", 0.5, "--groups", "0.1,1")

    assert run(config, *options, "--out", tmp_path / "values.csv").exit_code == 0
    assert run(config, *options, "--out", tmp_path / "values.json").exit_code == 0
    printed = json.loads(run(config, *options, "--json").stdout)

    with (tmp_path / "values.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["lr[1]"]) for row in rows] == expected[1]
    assert [(row["iteration"], row["epoch"]) for row in (rows[0], rows[-1])] == [("0", "0"), ("1199", "11")]
    assert json.loads((tmp_path / "values.json").read_text()) == printed
    assert printed["values"]["lr"] == [list(column) for column in expected]
    assert printed["windows"][0] == {"parameter": "lr", "schedule": "LinearLR 0-50", "begin": 0, "end": 50}


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")])
def test_out_writes_a_picture(config: Path, tmp_path: Path, name: str, start: bytes) -> None:
    """Of the type that the name says."""
    done = run(config, *LENGTHS, "--out", tmp_path / name)

    assert done.exit_code == 0
    assert (tmp_path / name).read_bytes().startswith(start)


def test_compare_says_where_two_configs_first_differ(config: Path, tmp_path: Path) -> None:
    """Exit code 1 and the place if they do, 0 if they do not."""
    (tmp_path / "new.py").write_text(GUIDE.replace("[8, ", "[9, "))

    differs, same = run(config, *LENGTHS, "--compare", tmp_path / "new.py"), run(config, *LENGTHS, "--compare", config)
    content = json.loads(run(config, *LENGTHS, "--compare", tmp_path / "new.py", "--json").stdout)

    assert differs.exit_code == 1
    assert "First difference at iteration 800: `lr` of param group 0 is 0.002" in differs.output
    assert "0.02 in new.py" in differs.output.replace("\n", " ")
    assert same.exit_code == 0
    assert "The same at every iteration" in same.output
    assert content["first_difference"]["iteration"] == 800
    assert len(content["configs"]) == 2


def test_a_schedule_of_ones_own_is_found_after_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--import`` imports a module from where the command runs; the config stays data."""
    (tmp_path / "own_schedules_of_a_test.py").write_text(
        "from dataclasses import dataclass, field\n"
        "from resumable_sched import ParamScheduler, register_scheduler\n"
        "from resumable_sched.schedule import Affine\n"
        "@register_scheduler\n"
        "@dataclass(frozen=True, eq=False)\n"
        "class HalfOfATestLR(ParamScheduler):\n"
        "    param_name: str = field(default='lr', init=False)\n"
        "    def at(self, t, base):\n"
        "        return Affine(0.5)\n"
    )
    (tmp_path / "config.json").write_text('{"scheduler": {"type": "HalfOfATestLR"}}')
    monkeypatch.chdir(tmp_path)

    unknown = run("config.json", *LENGTHS)
    known = run("config.json", *LENGTHS, "--import", "own_schedules_of_a_test", "--json")

    assert unknown.exit_code == 2
    assert "@register_scheduler" in unknown.output
    assert json.loads(known.stdout)["values"]["lr"][0][0] == 0.05


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (GUIDE.replace("begin=0", "begin='0'"), LENGTHS, "config.py:2: param_scheduler[0].begin: `begin` must be"),
        (GUIDE, ("--epochs", 12), "--iterations, or --epochs and --epoch-length, must be given"),
        (GUIDE, (*LENGTHS, "--groups", "1,x"), "`--groups` must be numbers"),
        (GUIDE, (*LENGTHS, "--out", "a.bmp"), "`--out` must end in one of .png"),
        (GUIDE, (*LENGTHS, "--import", "no_such_module"), "No module named"),
        (GUIDE, (*LENGTHS, "--optimizer", "lamb"), "lamb"),
        (GUIDE, (*LENGTHS, "--lr", "nan"), "`lr` must be finite"),
        (GUIDE, (*LENGTHS, "--iterations", 7), "--iterations must be 12 epochs of 100"),
        (
            "optimizer = dict(type='AdamW', betas=5)\nscheduler = dict(type='StepLR', step_size=1)",
            LENGTHS,
            "AdamW(betas=5) fails",
        ),
        ("param_scheduler = []", LENGTHS, "must have schedules to be shown"),
        ("x = 1", LENGTHS, "`param_scheduler`"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(config: Path, text: str, arguments: Any, message: str) -> None:
    """Exit code 2, and no traceback."""
    config.write_text(text)

    done = run(config, *arguments)

    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output


def test_a_file_that_is_not_there_is_a_wrong_argument(tmp_path: Path) -> None:
    """1 means that two configs differ, and nothing else."""
    assert run(tmp_path / "nothing.py", *LENGTHS).exit_code == 2
