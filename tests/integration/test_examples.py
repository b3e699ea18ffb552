"""The examples, as a user runs them: killed, told to stop, and started again with the same command line."""

from __future__ import annotations

import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import torch.distributed as dist

from resumable_sched import CheckpointManager
from resumable_sched.demo import example_script
from resumable_sched.distributed import EXIT_PREEMPTED

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLES = Path(__file__).parents[2] / "examples"
SINGLE = [sys.executable, "-W", "ignore", str(EXAMPLES / "train.py")]
TORCHRUN = [
    *(sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"),
    *("--signals-to-handle", "SIGTERM,SIGINT,SIGUSR1", "--nproc-per-node", "2", str(example_script())),
]


def start_and_signal(
    command: Sequence[str],
    folder: Path,
    numbers: Sequence[signal.Signals],
    *,
    after: str = "starts after",
    lines: int = 1,
) -> tuple[int, str]:
    """Start a training, send signals once *lines* lines begin with *after*, and return exit code and output."""
    process = subprocess.Popen(
        [*command, "--checkpoint-url", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        output = ""
        while output.count(f"\n{after}") + output.startswith(after) < lines:
            line = process.stdout.readline()
            assert line, f"it ended too early: {output}{process.communicate()[1]}"
            output += line
        for number in numbers:
            process.send_signal(number)
        rest, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, output + rest


def newest(folder: Path) -> int:
    """Return the iteration of the newest complete checkpoint."""
    found = CheckpointManager(folder, {"nothing": 0}, read_only=True).checkpoints()
    return [it.iteration for it in found if it.status == "complete"][-1]


SEVERAL = [signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM]


@pytest.mark.parametrize("numbers", [[signal.SIGTERM], [signal.SIGUSR1], SEVERAL])
def test_a_signal_saves_and_ends_with_the_documented_code(tmp_path: Path, numbers: list[signal.Signals]) -> None:
    """One signal or several: a checkpoint is written, the exit code is 75, and the next start goes on there."""
    command = [*SINGLE, "--save-every", "1000000"]  # so the only checkpoint is that of the signal
    code, _ = start_and_signal(command, tmp_path, numbers)
    _, output = start_and_signal(command, tmp_path, [signal.SIGKILL])

    assert code == EXIT_PREEMPTED == 75
    assert f"starts after iteration {newest(tmp_path)}" in output


def test_a_killed_training_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    """SIGKILL loses what came after the last save, and nothing else."""
    # A save waits for the one before it, so when the second one is reported the first one is committed.
    code, _ = start_and_signal(SINGLE, tmp_path, [signal.SIGKILL], after="iteration", lines=2)
    saved = newest(tmp_path)
    _, output = start_and_signal(SINGLE, tmp_path, [signal.SIGKILL])

    assert code == -signal.SIGKILL
    assert saved >= 100
    assert f"starts after iteration {saved}" in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_torchrun_passes_a_signal_on_and_waits_for_the_save(tmp_path: Path, number: signal.Signals) -> None:
    """All ranks save the same iteration well before torchrun's 30 seconds are over; torchrun itself ends with 1.

    Now and then it aborts on its way out, after the workers have ended and it has raised its `SignalException`.
    """
    command = [*TORCHRUN, "--save-every", "1000000"]
    began = time.monotonic()
    code, _ = start_and_signal(command, tmp_path, [number])
    seconds = time.monotonic() - began

    assert code in (1, -signal.SIGABRT)
    assert newest(tmp_path) > 0
    assert seconds < 30


@pytest.mark.parametrize(("gpus", "backend"), [(0, "gloo"), (1, "gloo"), (2, "nccl"), (8, "nccl")])
def test_the_distributed_example_takes_gpus_only_if_there_is_one_for_each_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, backend: str
) -> None:
    """On a machine with one GPU two ranks train on the CPU; rank 1 does not ask for a second one."""
    chosen: list[str] = []

    def init_process_group(backend: str) -> None:
        chosen.append(backend)
        raise InterruptedError

    monkeypatch.setattr(sys, "argv", ["train_ddp.py", "--checkpoint-url", str(tmp_path)])
    for name, value in {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(dist, "init_process_group", init_process_group)

    with pytest.raises(InterruptedError):
        runpy.run_path(str(example_script()), run_name="__main__")

    assert chosen == [backend]


def test_the_distributed_example_is_short_enough_to_read() -> None:
    """A user copies it, so it must stay small: at most 120 lines, none of them long."""
    lines = example_script().read_text().splitlines()

    assert len(lines) <= 120
    assert max(map(len, lines)) <= 120
