"""`ls`, `show` and `verify`: tables for people, JSON for programs, exit codes for both."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from resumable_sched import CheckpointManager, LinearLR, SchedulerGroup, __version__
from resumable_sched.cli.app import app
from resumable_sched.distributed import FakeRanks


def run(*arguments: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "160"})


@pytest.fixture
def url(tmp_path: Path) -> Path:
    """Return a folder with checkpoints of iterations 10 and 20."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    group = SchedulerGroup(optimizer, [LinearLR(optimizer, start_factor=0.5, end=40, by_epoch=False)], epoch_length=15)
    state = {"model": model, "optimizer": optimizer, "schedule": group}
    with CheckpointManager(tmp_path / "run", state, require_rng=False) as manager:
        for iteration in (10, 20):
            while group.iteration < iteration:
                optimizer.step()
                group.step(samples=4)
                if group.iteration_in_epoch == 15:
                    group.step_epoch()
            manager.save(iteration, metrics={"val_loss": 1 / iteration}, block=True)
    return tmp_path / "run"


def folder_of(url: Path, iteration: int) -> Path:
    """Return the folder of a checkpoint."""
    return next(url.glob(f"ckpt-{iteration:012d}-*"))


def flip_a_bit(file: Path, position: int) -> None:
    """Damage a file."""
    content = bytearray(file.read_bytes())
    content[position] ^= 4
    file.write_bytes(content)


def test_ls_shows_position_schedule_and_metrics(url: Path) -> None:
    """A line for each checkpoint, with what a person wants to know before choosing one."""
    done = run("ls", url)

    assert done.exit_code == 0
    for text in ("complete", "epoch 1", "iteration in epoch 5", "80 samples", "lr 0.3782", "val_loss 0.05", "KiB"):
        assert text in done.output


def test_ls_as_json_is_what_the_library_says(url: Path) -> None:
    """Programs get the fields of `Checkpoint`."""
    found = json.loads(run("ls", url, "--json").stdout)

    assert [(it["iteration"], it["status"], it["metrics"]) for it in found] == [
        (10, "complete", {"val_loss": 0.1}),
        (20, "complete", {"val_loss": 0.05}),
    ]
    assert found[1]["summaries"]["schedule"]["position"]["iteration"] == 20


def test_ls_says_what_is_partial_and_what_is_corrupt_and_why(url: Path) -> None:
    """One without a manifest is partial, one with a file of another size is corrupt, and the reason is there."""
    (folder_of(url, 10) / "manifest.json").unlink()
    with (folder_of(url, 20) / "rank-00000.safetensors").open("ab") as file:
        file.write(b"x")

    done = run("ls", url)

    assert done.exit_code == 1  # no complete one is left
    assert "partial" in done.output
    assert "manifest.json: it is missing" in done.output
    assert "corrupt" in done.output
    assert "rank-00000.safetensors: it has" in done.output


def test_show_tells_all_about_the_newest_or_a_given_one(url: Path) -> None:
    """Position, schedule, software, objects and tensors."""
    newest, older = run("show", url), run("show", url, 10)

    assert (newest.exit_code, older.exit_code) == (0, 0)
    assert "iteration 20 at" in newest.output
    assert "iteration 10 at" in older.output
    for text in ("lr 0.3782", "model/weight", "[2, 3]", "float32", f"resumable_sched {__version__}", "shared"):
        assert text in newest.output
    content = json.loads(run("show", url, 10, "--json").stdout)
    assert [it["name"] for it in content["tensors"]] == ["model/bias", "model/weight"]
    assert {it["name"]: it["bytes"] for it in content["objects"]} == {"model": 32, "optimizer": 0, "schedule": 0}


class Summarized:
    """An object of the user's that says something of itself in a form of its own."""

    def __init__(self, summary: Any) -> None:
        self._summary = summary

    def state_dict(self) -> dict[str, Any]:
        """Have no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Need none."""

    def summary(self) -> Any:
        """Return what was given."""
        return self._summary


@pytest.mark.parametrize(
    ("summary", "shown"),
    [
        ({"position": 3}, "3"),
        ({"position": {"iteration": [1], "place": "here", "samples": None, 7: {1: 2}}}, "place here"),
        ({"position": {"tokens": 1.5, "samples": 1234}}, "1.5 tokens, 1,234 samples"),
        ({"position": {"iteration": 1, "epoch": (1, 2)}}, "epoch 1/2"),
        ({"values": [1, 2]}, "1/2"),
        ({"values": {"lr": None, 1: {"x": 0.5}}}, "lr None, 1 (x 0.5)"),
        ("text", ""),
        (None, ""),
        ([1], ""),
    ],
)
def test_a_summary_of_any_form_is_shown_or_left_out(tmp_path: Path, summary: Any, shown: str) -> None:
    """What an object says of itself cannot keep checkpoints from being listed."""
    with CheckpointManager(tmp_path, {"own": Summarized(summary)}) as manager:
        manager.save(1)

    listed, told = run("ls", tmp_path), run("show", tmp_path)

    assert (listed.exit_code, told.exit_code) == (0, 0), listed.output + told.output
    assert shown in told.output


def test_verify_reads_everything_and_names_the_damaged_file(url: Path) -> None:
    """Exit code 0 when every byte verifies, 1 and the file's name when one does not."""
    before = run("verify", url)
    flip_a_bit(folder_of(url, 10) / "rank-00000.safetensors", -1)
    after, only_the_other = run("verify", url), run("verify", url, 20)

    assert before.exit_code == 0
    assert "2 checkpoints verify" in before.output
    assert after.exit_code == 1
    assert f"{folder_of(url, 10).name}/rank-00000.safetensors" in after.output.replace("\n", "")
    assert only_the_other.exit_code == 0
    assert len(json.loads(run("verify", url, "--json").stdout)["problems"]) == 1


@pytest.mark.parametrize("damage", ["cut", "delete"])
def test_show_tells_of_a_damaged_checkpoint_what_its_manifest_says(url: Path, damage: str) -> None:
    """With a sound manifest only the shard is in doubt: parent, ranks, time, position and tensors are known."""
    shard = folder_of(url, 20) / "rank-00000.safetensors"
    sound = [line.split() for line in run("show", url, 20).output.splitlines()]
    if damage == "cut":
        shard.write_bytes(shard.read_bytes()[:-1])
    else:
        shard.unlink()

    done = run("show", url, 20)

    assert done.exit_code == 1
    assert "corrupt: rank-00000.safetensors: it" in done.output
    for text in (f"{folder_of(url, 10).name.split('-', 2)[2]}", " ago)", "epoch 1", "val_loss 0.05", "model/weight"):
        assert text in done.output
    told = [line.split() for line in done.output.splitlines()]
    assert {line[0] for line in sound if line not in told} <= {"status", "size", "saved"}


def test_show_says_unknown_where_there_is_no_manifest(url: Path) -> None:
    """A partial checkpoint is not said to be the first one."""
    (folder_of(url, 20) / "manifest.json").unlink()

    output = run("show", url, 20).output

    assert [line.split() for line in output.splitlines() if line.split()[:1] in (["ranks"], ["after"], ["saved"])] == [
        ["ranks", "unknown"],
        ["after", "unknown"],
        ["saved", "unknown"],
    ]


class OwnTensors(Summarized):
    """An object of which each rank has its own tensors."""

    per_rank = True

    def state_dict(self) -> dict[str, Any]:
        """Have two tensors."""
        return {"a": torch.zeros(3), "state": torch.zeros(1)}


def test_show_counts_the_tensors_of_each_object(tmp_path: Path) -> None:
    """Whatever objects are called, each tensor counts for its own one; of what is per rank all ranks' do."""
    state = {
        "optimizer": {"state": torch.zeros(100)},
        "state": torch.zeros(1),
        "a/b": torch.zeros(10),
        "a": 1,
        "00000": OwnTensors(None),
    }

    def work(ranks: FakeRanks) -> None:
        with CheckpointManager(tmp_path, dict(state), process_group=ranks) as manager:
            manager.save(1)

    assert FakeRanks.run(2, work) == [None, None]
    content = json.loads(run("show", tmp_path, "--json").stdout)

    assert {it["name"]: (it["sharing"], it["tensors"], it["bytes"]) for it in content["objects"]} == {
        "optimizer": ("shared", 1, 400),
        "state": ("shared", 1, 4),
        "a/b": ("shared", 1, 40),
        "a": ("shared", 0, 0),
        "00000": ("per rank", 4, 32),
    }


def test_lines_are_not_broken_where_a_program_reads_them(url: Path) -> None:
    """In a pipe each problem and each reason is one line, however long it is."""
    with (folder_of(url, 10) / "rank-00000.safetensors").open("ab") as file:
        file.write(b"x")
    environment = {"COLUMNS": "40"}

    listed = CliRunner().invoke(app, ["ls", str(url)], env=environment).stdout.splitlines()
    verified = CliRunner().invoke(app, ["verify", str(url)], env=environment).stdout.splitlines()
    absent = CliRunner().invoke(app, ["verify", str(url), "9"], env=environment).stdout.splitlines()

    assert len([it for it in listed if it.startswith("10 (") and "rank-00000.safetensors: it has" in it]) == 1
    assert len(verified) == 1
    assert verified[0].startswith(f"{folder_of(url, 10).name}/rank-00000.safetensors: it has")
    assert absent == [f"There is no checkpoint of iteration 9 at {url}."]


@pytest.mark.parametrize("command", ["ls", "show", "verify"])
def test_looking_writes_nothing(url: Path, command: str) -> None:
    """A command must not fence the job that is training."""
    before = {path: path.stat().st_mtime_ns for path in url.rglob("*")}

    run(command, url)

    assert {path: path.stat().st_mtime_ns for path in url.rglob("*")} == before


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("ls", "/nowhere/at/all"), 1, "There is no checkpoint at /nowhere/at/all."),
        (("show", "/nowhere/at/all"), 1, "There is no complete checkpoint"),
        (("verify", "/nowhere/at/all"), 1, "There is no checkpoint"),
        (("ls", "nonsense://bucket"), 2, "nonsense"),
        (("ls", ""), 2, "`url` must be a path or a URL"),
        (("ls", "memory://x", "--option", "novalue"), 2, "KEY=VALUE"),
        (("ls",), 2, "Missing argument"),
        (("show", "memory://x", "ten"), 2, "integer"),
        (("frobnicate",), 2, "No such command"),
    ],
)
def test_wrong_arguments_and_missing_places_are_told_apart(arguments: tuple[str, ...], code: int, text: str) -> None:
    """Exit code 1 for what is not there, 2 for what cannot be meant, and one line that says which."""
    done = run(*arguments)

    assert done.exit_code == code
    assert text in done.output.replace("\n", " ")
    assert "Traceback" not in done.output


def test_the_version_is_the_packages() -> None:
    """``--version`` says which one is installed."""
    assert run("--version").output.strip() == __version__


def test_help_names_every_command_and_the_exit_codes() -> None:
    """A stranger finds out what there is."""
    output = run("--help").output

    for text in ("demo", "ls", "show", "verify", "Exit codes"):
        assert text in output
