"""The benchmarks run and print their tables; what they measure is for people to look at, not for a test."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
QUICK = {
    "bench_save.py": (["--mebibytes", "1"], "resumable_sched, what the training waits"),
    "bench_state.py": (["--quick", "--groups", "1", "3"], "resumable_sched"),
    "bench_step.py": (["--quick", "--groups", "1", "3"], "resumable_sched"),
    "bench_trace.py": (["--quick"], "group.trace(iterations)"),
}


def test_every_benchmark_is_run_here() -> None:
    """A benchmark that is added has to be added here, too."""
    assert sorted(path.name for path in BENCHMARKS.glob("bench_*.py")) == sorted(QUICK)


@pytest.mark.parametrize("name", QUICK)
def test_a_benchmark_runs_and_prints_its_table(tmp_path: Path, name: str) -> None:
    """It ends without an error, and there is a row of ours with figures in it; the peers' calls have not rotted."""
    options, row = QUICK[name]
    folder = ["--folder", str(tmp_path / "saves")] if name == "bench_save.py" else []
    if folder:
        (tmp_path / "saves").mkdir()
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *options, *folder], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert re.search(rf"^{re.escape(row)} .*\d\.\d", done.stdout, re.MULTILINE), done.stdout
