"""Two real processes with gloo: the ranks behave as the fake ones do, and a DDP run resumes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from safetensors import safe_open


def test_two_processes_behave_as_the_fake_ranks_and_resume_a_ddp_run(tmp_path: Path) -> None:
    """Gathering, flags, forks, errors; then DDP with BatchNorm and dropout, bit for bit, stored without ``module.``."""
    script = Path(__file__).with_name("gloo_job.py")
    processes = [
        subprocess.Popen([sys.executable, str(script), str(tmp_path), str(rank)], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120)[1] for process in processes]

    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    names: set[str] = set()
    for shard in (tmp_path / "run").glob("ckpt-*/*.safetensors"):
        with safe_open(shard, framework="pt") as file:
            names |= set(file.keys())
    assert {"model/0.weight", "model/1.running_mean", "rank-00000/rng/torch", "rank-00001/rng/torch"} <= names
    assert not any("module" in name for name in names)
