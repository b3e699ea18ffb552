"""The demo passes, and cannot pass when anything that matters is not restored."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from resumable_sched.demo import TERMINATE_AFTER, Training, compare, example_script

FAULTS = {
    "generators": (
        """
        from resumable_sched import RNGState
        RNGState.load_state_dict = lambda self, state: None
        """,
        "loss",  # dropout draws other masks
    ),
    "momentum buffers": (
        """
        import torch
        load = torch.optim.SGD.load_state_dict
        def forget(self, state):
            load(self, state)
            for content in self.state.values():
                content["momentum_buffer"].zero_()
        torch.optim.SGD.load_state_dict = forget
        """,
        "parameters",  # the loss of the first iteration does not depend on the optimizer
    ),
    "schedule, which is one ahead": (
        """
        from resumable_sched import SchedulerGroup
        load = SchedulerGroup.load_state_dict
        def shift(self, state, on_mismatch=None):
            load(self, state, on_mismatch)
            self.step()
            counters = self._driver.timeline.counters
            counters.iteration, counters.iteration_in_epoch = counters.iteration - 1, counters.iteration_in_epoch - 1
        SchedulerGroup.load_state_dict = shift
        """,
        "values.lr[0]",
    ),
    "data position, which is one batch ahead": (
        """
        from torchdata.stateful_dataloader import StatefulDataLoader
        load, iterate, skip = StatefulDataLoader.load_state_dict, StatefulDataLoader.__iter__, []
        def remember(self, state):
            load(self, state)
            skip.append(True)
        def one_ahead(self):
            batches = iterate(self)
            if skip:
                skip.clear()
                next(batches)
            return batches
        StatefulDataLoader.load_state_dict, StatefulDataLoader.__iter__ = remember, one_ahead
        """,
        "loss",
    ),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the recording of a training that nothing has disturbed."""
    directory = tmp_path_factory.mktemp("undisturbed")
    Training(example_script(), lambda *_: None).run_to_end(directory, "undisturbed")
    return directory


@pytest.mark.parametrize("forgotten", FAULTS)
def test_the_comparison_names_the_first_iteration_at_which_something_was_not_restored(
    forgotten: str, undisturbed: Path, tmp_path: Path
) -> None:
    """A training that resumes without one part of its state is found out at the first iteration after the resume."""
    patch, what = FAULTS[forgotten]
    script = tmp_path / "broken.py"
    lines = [line.removeprefix(" " * 8) for line in patch.splitlines()]
    start = f"import runpy\nrunpy.run_path({str(example_script())!r}, run_name='__main__')\n"
    script.write_text("\n".join(lines) + "\n" + start)
    training = Training(script, lambda *_: None)

    training.run_until(tmp_path / "run", "until SIGTERM", TERMINATE_AFTER, signal.SIGTERM)
    stopped = int((tmp_path / "run" / "recording" / "rank-0.jsonl").read_text().count('"iteration"'))
    training.run_to_end(tmp_path / "run", "to the end")
    differences = compare(undisturbed, tmp_path / "run")

    assert [(it.iteration, it.what) for it in differences if it] == [(stopped + 1, what)] * 2


def test_the_demo_hides_gpus_from_its_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is promised is a comparison on the CPU, and a machine may have fewer GPUs than the demo has ranks."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    script = tmp_path / "look.py"
    script.write_text(
        "import os, pathlib\n"
        "seen = pathlib.Path(__file__).with_name('rank-' + os.environ['RANK'])\n"  # a file each: lines may mix
        "seen.write_text(repr(os.environ.get('CUDA_VISIBLE_DEVICES')))\n"
    )

    Training(script, lambda *_: None).run_to_end(tmp_path / "run", "look")

    assert [(tmp_path / f"rank-{rank}").read_text() for rank in range(2)] == ["''", "''"]


def test_the_demo_is_identical_and_can_be_run_again_in_its_own_folder_only(tmp_path: Path) -> None:
    """The demo exits 0 with a picture and JSON; it replaces its own files, and refuses a folder with others."""
    command = [sys.executable, "-m", "resumable_sched.cli", "demo", "--json", "--dir"]
    (tmp_path / "demo" / "interrupted").mkdir(parents=True)
    (tmp_path / "demo" / "interrupted" / "left-over").touch()
    (tmp_path / "demo" / ".resumable-sched-demo").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    environment = os.environ | {"COLUMNS": "200"}

    done = subprocess.run([*command, tmp_path / "demo"], capture_output=True, text=True, check=False, env=environment)
    refused = subprocess.run(
        [*command, tmp_path / "other"], capture_output=True, text=True, check=False, env=environment
    )

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["identical"] is True
    assert [stop["signal"] for stop in result["stops"]] == ["SIGKILL", "SIGTERM"]
    killed, terminated = result["stops"]
    assert killed["resumed"] <= killed["iteration"] < 28  # in the warm-up; back at the last checkpoint
    assert terminated["resumed"] == terminated["iteration"] + 1  # saved on the signal
    assert terminated["seconds"] < 15  # torchrun would kill after 30
    assert (tmp_path / "demo" / "schedule.png").stat().st_size > 10_000
    assert not (tmp_path / "demo" / "interrupted" / "left-over").exists()
    assert refused.returncode == 1
    assert "has other files" in refused.stderr
    assert (tmp_path / "other" / "thesis.tex").exists()
