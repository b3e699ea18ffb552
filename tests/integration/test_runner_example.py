"""`examples/runner.py`, as a user runs it: told to stop, killed, and started again with the same command line."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from resumable_sched import CheckpointManager
from resumable_sched.distributed import EXIT_PREEMPTED

EXAMPLE = Path(__file__).parents[2] / "examples" / "runner.py"


def run_until(begins: str, number: signal.Signals, folder: Path, times: int = 1) -> tuple[int, list[str]]:
    """Start it, send a signal when so many lines have begun so, and return exit code and lines."""
    command = [sys.executable, "-W", "ignore", str(EXAMPLE), "--checkpoint-url", str(folder), "--epochs", "500"]
    lines: list[str] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if line.startswith(begins) and sum(each.startswith(begins) for each in lines) == times:
                process.send_signal(number)
    return process.returncode, lines


def newest(folder: Path) -> int:
    """Return the iteration of the newest complete checkpoint."""
    found = CheckpointManager(folder, {"nothing": 0}, read_only=True).checkpoints()
    return [it.iteration for it in found if it.status == "complete"][-1]


def goes_on(lines: list[str]) -> str:
    """Return the line that says where it goes on; one about a save that was killed may come before it."""
    return next(line for line in lines if "is passed over: manifest.json is missing" not in line)


def test_the_example_stops_with_75_and_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGTERM saves at once; SIGKILL loses what came after the last save."""
    code, _ = run_until("iteration 130/", signal.SIGTERM, tmp_path)
    assert code == EXIT_PREEMPTED
    saved = newest(tmp_path)
    assert saved >= 130

    code, lines = run_until("validation after", signal.SIGKILL, tmp_path, times=3)
    assert code == -signal.SIGKILL
    assert goes_on(lines).startswith(f"goes on after iteration {saved}, ")
    assert newest(tmp_path) > saved

    saved = newest(tmp_path)
    _, lines = run_until("goes on", signal.SIGKILL, tmp_path)
    assert goes_on(lines).startswith(f"goes on after iteration {saved}, ")
