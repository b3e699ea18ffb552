"""The demo: train undisturbed, train again with a SIGKILL and a SIGTERM on the way, and compare bit for bit.

The training is ``examples/distributed/train_ddp.py``, run by torchrun as a user would run it. There is no other loop
here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from resumable_sched.errors import ResumableSchedError
from resumable_sched.testing import Difference, Recording, first_difference

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DemoError", "DemoResult", "Stop", "Training", "compare", "example_script", "run_demo"]

WORLD_SIZE: Final = 2
EPOCHS: Final = 6
EPOCH_LENGTH: Final = 28
"""Iterations of an epoch of the example: 1,797 images over 2 ranks in batches of 32, full ones only."""
KILL_AFTER: Final = EPOCH_LENGTH // 2
"""The middle of the warm-up, which lasts one epoch."""
TERMINATE_AFTER: Final = EPOCH_LENGTH * (1 + EPOCHS) // 2
"""The middle of the cosine, which lasts from the second epoch to the last."""
_MARKER: Final = ".resumable-sched-demo"
_NEEDED: Final = ("sklearn", "torchdata", "matplotlib")
_POLL_SECONDS: Final = 0.005
_LONGEST_SECONDS: Final = 300.0


class DemoError(ResumableSchedError, RuntimeError):
    """Say that the demo could not be run; this is not a difference between the runs."""


@dataclass(frozen=True)
class Stop:
    """One interruption of the second run.

    Attributes:
        signal: What was sent.
        iteration: The last iteration that was done.
        resumed: The first iteration of the next start.
        exit_code: Of torchrun. After a SIGTERM it is 1, whatever its workers return.
        seconds: From the signal to the end of torchrun.
    """

    signal: str
    iteration: int
    resumed: int
    exit_code: int
    seconds: float


@dataclass
class DemoResult:
    """What came of it.

    Attributes:
        directory: Where everything is.
        iterations: How many iterations each rank did in the undisturbed run.
        stops: The interruptions of the second run.
        differences: By rank, the first place where the second run differs; None where it does not.
        compared: How many values were compared.
        picture: The figure.
        seconds: How long it all took.
    """

    directory: Path
    iterations: int = 0
    stops: list[Stop] = field(default_factory=list)
    differences: list[Difference | None] = field(default_factory=list)
    compared: int = 0
    picture: Path = Path()
    seconds: float = 0.0

    @property
    def identical(self) -> bool:
        """Return whether both runs are the same bit for bit."""
        return bool(self.differences) and not any(self.differences)


class Progress(Protocol):
    """Told where the demo is."""

    def __call__(self, stage: str, iteration: int, iterations: int) -> None:
        """Take note of the *iteration* that a *stage* has reached."""


def example_script() -> Path:
    """Return the training script: in an installed package its copy, in a checkout the file itself."""
    package = Path(__file__).parent
    for root in (package / "_examples", package.parent / "examples"):
        if (script := root / "distributed" / "train_ddp.py").is_file():
            return script
    raise DemoError("examples/distributed/train_ddp.py is missing from this installation. Install the package again.")


def run_demo(directory: Path, *, script: Path | None = None, on_progress: Progress = lambda *_: None) -> DemoResult:
    """Run the demo.

    Args:
        directory: An empty or new folder, or one of an earlier demo, whose files are replaced.
        script: The training script; None for the example.
        on_progress: Told where it is.

    Raises:
        DemoError: If something is not installed, the folder holds other things, or a training fails.
    """
    began = time.monotonic()
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise DemoError(
            f"{', '.join(missing)} must be installed for the demo. Run: pip install 'resumable-sched[demo]'"
        )
    from resumable_sched.plot import figure_of_runs  # noqa: PLC0415 - needs matplotlib, which was looked for above

    _prepare(directory)
    training = Training(script or example_script(), on_progress)
    result = DemoResult(directory)

    training.run_to_end(directory / "undisturbed", "undisturbed")
    interrupted = directory / "interrupted"
    killed = training.run_until(interrupted, "until SIGKILL", KILL_AFTER, signal.SIGKILL)
    terminated = training.run_until(interrupted, "until SIGTERM", TERMINATE_AFTER, signal.SIGTERM)
    training.run_to_end(interrupted, "to the end")

    undisturbed_runs = _recordings(directory / "undisturbed")
    interrupted_runs = _recordings(interrupted)
    resumes = [index for _, index in interrupted_runs[0].starts[1:]]
    for (number, exit_code, seconds), index in zip((killed, terminated), resumes, strict=True):
        lines = interrupted_runs[0].lines
        result.stops.append(Stop(number.name, lines[index - 1][0], lines[index][0], exit_code, seconds))
    result.iterations = len(undisturbed_runs[0].lines)
    result.differences = compare(directory / "undisturbed", interrupted)
    result.compared = sum(
        _count(facts) for run in interrupted_runs for facts in (*(it for _, it in run.lines), run.end)
    )
    result.picture = directory / "schedule.png"
    marks = [(stop.iteration, stop.signal) for stop in result.stops]
    figure_of_runs(undisturbed_runs[0], interrupted_runs[0], marks).savefig(result.picture, dpi=120)
    result.seconds = time.monotonic() - began
    return result


def _prepare(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()) and not (directory / _MARKER).exists():
        raise DemoError(f"{directory} must be empty or of an earlier demo, but has other files. Choose another --dir.")
    (directory / _MARKER).touch()
    for name in ("undisturbed", "interrupted"):
        rmtree(directory / name, ignore_errors=True)


def compare(undisturbed: Path, interrupted: Path) -> list[Difference | None]:
    """Return, by rank, the first difference between the recordings of two folders; None where there is none."""
    return [first_difference(*pair) for pair in zip(_recordings(undisturbed), _recordings(interrupted), strict=True)]


def _recordings(directory: Path) -> list[Recording]:
    return [Recording.read(directory / "recording" / f"rank-{rank}.jsonl") for rank in range(WORLD_SIZE)]


def _count(facts: Any) -> int:  # noqa: ANN401 - JSON
    if isinstance(facts, (dict, list)):
        return sum(_count(item) for item in (facts.values() if isinstance(facts, dict) else facts))
    return 1


_Ended: TypeAlias = "tuple[signal.Signals, int, float]"


class Training:
    """Start one training script again and again, each time with the same command line.

    Args:
        script: The script.
        on_progress: Told where it is.
    """

    def __init__(self, script: Path, on_progress: Progress) -> None:
        self._script = script
        self._on_progress = on_progress

    def run_to_end(self, directory: Path, stage: str) -> None:
        """Start it and wait until the training is done.

        Raises:
            DemoError: If it fails.
        """
        process = self._start(directory)
        try:
            while process.poll() is None:
                self._report(directory, stage)
                time.sleep(_POLL_SECONDS * 10)
        finally:
            _stop(process)
        if process.returncode != 0:
            raise DemoError(f"The training ended with exit code {process.returncode}.\n{_tail(directory)}")
        self._report(directory, stage)

    def run_until(self, directory: Path, stage: str, iteration: int, number: signal.Signals) -> _Ended:
        """Start it, send a signal once *iteration* is done, and return how it ended.

        Raises:
            DemoError: If it does not get there.
        """
        process = self._start(directory)
        deadline = time.monotonic() + _LONGEST_SECONDS
        try:
            while self._report(directory, stage) < iteration:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise DemoError(f"The training did not get to iteration {iteration}.\n{_tail(directory)}")
                time.sleep(_POLL_SECONDS)
            sent = time.monotonic()
            if number == signal.SIGKILL:
                _kill(process, directory)
            else:
                process.send_signal(number)  # torchrun passes it on to its workers
            process.wait(_LONGEST_SECONDS)
            seconds = time.monotonic() - sent
        finally:
            _stop(process)
        return number, process.returncode, seconds

    def _start(self, directory: Path) -> subprocess.Popen[bytes]:
        directory.mkdir(parents=True, exist_ok=True)
        command: Sequence[str] = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"),
            *("--nproc-per-node", str(WORLD_SIZE), str(self._script)),
            *("--checkpoint-url", str(directory / "checkpoints"), "--epochs", str(EPOCHS)),
            *("--record", str(directory / "recording")),
        ]
        # The comparison is of CPU runs; and two ranks need not find two GPUs here.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": ""}
        with (directory / "log.txt").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)  # noqa: S603 - our own

    def _report(self, directory: Path, stage: str) -> int:
        try:
            reached = min(recording.last_iteration for recording in _recordings(directory))
        except FileNotFoundError:
            reached = 0
        self._on_progress(stage, reached, EPOCHS * EPOCH_LENGTH)
        return reached


def _kill(process: subprocess.Popen[bytes], directory: Path) -> None:
    """SIGKILL torchrun and its workers, as a machine that vanishes does: nobody has a chance to clean up.

    The workers of this start have recorded iterations, so their processes are known. A worker that is gone already saw
    torchrun go.
    """
    workers = [recording.starts[-1][0] for recording in _recordings(directory)]
    process.kill()
    for worker in workers:  # torchrun starts each worker in a session of its own
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    process.wait()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End what is still running, after an error or Ctrl-C: torchrun ends its workers when it is told to end."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_LONGEST_SECONDS)
        finally:
            process.kill()


def _tail(directory: Path) -> str:
    lines = (directory / "log.txt").read_text(errors="replace").splitlines()
    return "\n".join([*lines[-25:], f"(the whole log is {directory / 'log.txt'})"])
