"""SIGKILL at random moments of saving: what was acknowledged is there, whole, and nothing is ever mixed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resumable_sched.checkpoint import CheckpointManager, Retention, load
from resumable_sched.errors import IncompleteCheckpointError
from tests.integration.killable import make_state, step_of

if TYPE_CHECKING:
    from collections.abc import Iterator

KILLS = int(os.environ.get("RESUMABLE_SCHED_KILLS", "13"))  # of each kind; some hundreds take a minute


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    """Start the process that forks jobs."""
    script = Path(__file__).with_name("killable.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def save_seconds(server: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> float:
    """Return how long a save takes on this disk, so that kills fall into saves on slow ones too."""
    folder = tmp_path_factory.mktemp("pace")
    acknowledged = _kill_once(server, folder / "run", folder / "notes", 0.5, "synchronous")
    return 0.5 / max(len(acknowledged), 1)


def _kill_once(server: subprocess.Popen[str], url: Path, notes: Path, after_seconds: float, mode: str) -> list[int]:
    """Start a job, kill it some time after its first save began, and return the steps that it acknowledged."""
    assert server.stdin is not None
    assert server.stdout is not None
    notes.unlink(missing_ok=True)
    server.stdin.write(json.dumps([str(url), str(notes), mode == "asynchronous"]) + "\n")
    server.stdin.flush()
    pid = int(server.stdout.readline())
    deadline = time.monotonic() + 60
    while not notes.exists() or not notes.read_text().startswith("ready\n"):
        assert time.monotonic() < deadline, "the job does not get ready"
        assert "Traceback" not in (notes.read_text() if notes.exists() else ""), notes.read_text()
        time.sleep(0.001)
    time.sleep(after_seconds)  # the moment of the kill is the case
    os.kill(pid, signal.SIGKILL)
    assert server.stdout.readline() == "dead\n"
    first, *acknowledged = notes.read_text().splitlines()
    assert first == "ready"
    return [int(line) for line in acknowledged]


@pytest.mark.parametrize("mode", ["asynchronous", "synchronous"])
def test_a_kill_at_any_moment_loses_nothing_that_was_acknowledged(
    server: subprocess.Popen[str], tmp_path: Path, save_seconds: float, mode: str
) -> None:
    """Every job is killed somewhere in its saves; the next one and a reader get the last step, or a newer whole one."""
    rng = random.Random(f"{mode} {KILLS}")  # noqa: S311 - the same moments in every run
    reached = 0
    for kill in range(KILLS):
        acknowledged = _kill_once(server, tmp_path / "run", tmp_path / "notes", rng.uniform(0, 8) * save_seconds, mode)
        reached = max([reached, *acknowledged])
        state = make_state(-1)
        try:
            load(tmp_path / "run", state)
        except IncompleteCheckpointError:
            assert reached == 0, f"kill {kill}: step {reached} was acknowledged, but nothing is there"
            continue
        step = step_of(state)
        assert step >= reached, f"kill {kill}: step {reached} was acknowledged, but {step} is restored"
        reached = step

    assert reached > KILLS // 2, "the jobs were killed before they could save anything"
    with CheckpointManager(tmp_path / "run", state, retention=Retention(keep_last=2)) as manager:
        manager.restore()
        manager.save(step_of(state) + 1)
    kept = {it.save_id for it in manager.checkpoints()}
    assert [name for _, _, names in os.walk(tmp_path / "run") for name in names if name.startswith(".tmp-")] == []
    assert {path.name.split("-", 2)[2] for path in (tmp_path / "run").glob("ckpt-*")} == kept


def test_a_killed_first_job_leaves_nothing_or_a_whole_checkpoint(server: subprocess.Popen[str], tmp_path: Path) -> None:
    """In an empty folder, where the first commit may or may not have happened, a restart always works."""
    rng = random.Random(5)  # noqa: S311
    for kill in range(KILLS // 4):
        url = tmp_path / str(kill)
        _kill_once(server, url, tmp_path / "notes", rng.uniform(0, 0.01), "synchronous")
        _kill_once(server, url, tmp_path / "notes", 0.0, "synchronous")  # its restore must not fail either
