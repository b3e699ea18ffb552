"""MMEngine's own Runner trains with our schedules from an unchanged config, and resumes from its own checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOLERANCE = 1e-11
"""As in the parity tests: the peer multiplies step by step, ours evaluates closed forms."""
JOB = Path(__file__).with_name("mmengine_job.py")

Values = dict[str, list[float]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Values]:
    """Return the learning rate and the momentum of each update of each training."""
    # Its own warnings (pkg_resources, its schedulers' deprecations) are none of ours.
    command = [sys.executable, "-W", "ignore", str(JOB), str(tmp_path_factory.mktemp("mmengine"))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Values] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("loop", ["by iteration", "by epoch"])
def test_the_values_are_those_of_mmengine(trained: dict[str, Values], loop: str) -> None:
    """In its iteration-based loop, and in its epoch-based one with a plateau that its hook feeds."""
    ours, peers = trained[loop], trained[f"peer {loop}"]

    assert ours.keys() == peers.keys()
    assert len({tuple(each) for each in ours.values()}) > 5
    for iteration, expected in peers.items():
        assert ours[iteration] == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE * 0.9), iteration


@pytest.mark.parametrize(
    ("run", "loop", "start"),
    [
        ("resumed at 3", "by iteration", 3),
        ("resumed at 6", "by iteration", 6),
        ("resumed at 12", "by iteration", 12),
        ("resumed by epoch", "by epoch", 10),
    ],
)
def test_a_resumed_run_has_the_same_floats(trained: dict[str, Values], run: str, loop: str, start: int) -> None:
    """From MMEngine's own checkpoint, in the middle of the warm-up, in the cosine, and between two validations."""
    expected = {iteration: each for iteration, each in trained[loop].items() if int(iteration) >= start}

    assert trained[run] == expected


def test_the_plateau_has_acted(trained: dict[str, Values]) -> None:
    """Otherwise the comparison by epoch would say little: steps alone give two halvings in eight epochs."""
    last = trained["by epoch"]["39"][0]

    assert last < 0.1 * 0.5**2 * 0.6
