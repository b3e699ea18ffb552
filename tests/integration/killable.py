"""A server that forks jobs to be killed: it imports torch once, so that a kill costs a tenth of a second.

It reads one JSON array per line: the URL, the file for acknowledgements, and whether saves are asynchronous. It
answers with the process number of the job, and with another line when the job is dead. The job restores, checks, then
saves one step after the other for ever, and notes each step in the file when its save has been acknowledged.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any, NoReturn

import torch

from resumable_sched.checkpoint import CheckpointManager, Retention

_SHAPES = ((64, 64), (1000,), (), (3, 0), (17, 5))


def make_state(step: int) -> dict[str, Any]:
    """Return a state of several tensors, all of which carry the step."""
    model = torch.nn.ParameterList([torch.nn.Parameter(torch.full(shape, float(step))) for shape in _SHAPES])
    return {"model": model, "step": step, "extra": {"tensor": torch.full((100,), step), "tuple": (step, str(step))}}


def step_of(state: dict[str, Any]) -> int:
    """Return the step of a state, after checking that all of it is of that step."""
    step: int = state["step"]
    values = {value for tensor in state["model"] for value in tensor.detach().reshape(-1).tolist()}
    if values != {float(step)} or state["extra"]["tuple"] != (step, str(step)):
        raise AssertionError(f"step {step} is mixed with {values} and {state['extra']['tuple']}")
    if state["extra"]["tensor"].tolist() != [step] * 100:
        raise AssertionError(f"step {step} is mixed with {state['extra']['tensor']}")
    return step


def _run(url: str, acknowledgements: int, *, asynchronous: bool) -> NoReturn:
    torch.set_num_threads(1)
    state = make_state(0)
    manager = CheckpointManager(url, state, retention=Retention(keep_last=2), asynchronous=asynchronous)
    manager.restore()
    step = step_of(state)
    os.write(acknowledgements, b"ready\n")
    previous = None
    while True:
        step += 1
        state["step"] = step
        with torch.no_grad():
            for tensor in state["model"]:
                tensor.fill_(step)
        state["extra"]["tensor"].fill_(step)
        state["extra"]["tuple"] = (step, str(step))
        save = manager.save(step)
        for done in (previous, save):
            if done is not None and done.done:
                done.wait()
                os.write(acknowledgements, b"%d\n" % done.iteration)
        previous = save


def main() -> None:
    """Serve until the input ends."""
    for line in sys.stdin:
        url, notes, asynchronous = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                _run(url, os.open(notes, flags), asynchronous=asynchronous)
            except BaseException:  # noqa: BLE001 - the parent's loop must never run in the child
                os.write(os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT), traceback.format_exc().encode())
                os._exit(1)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        os.waitpid(pid, 0)
        sys.stdout.write("dead\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
