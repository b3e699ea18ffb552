"""Record a training run exactly, and say where another run first differs from it.

A recording is a file of JSON lines, one per iteration: learning rates, losses and digests of tensors. Floats are
written so that they read back to the last bit, so two recordings are equal exactly if the runs were.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import xxhash

from resumable_sched.checkpoint.shards import bytes_of
from resumable_sched.checkpoint.tree import flatten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import torch

__all__ = ["Difference", "Recorder", "Recording", "digest", "digests", "first_difference"]


def digest(tensors: Iterable[torch.Tensor]) -> str:
    """Return the xxh3-128 of the dtypes, shapes and bytes of *tensors*, as 32 hexadecimal digits.

    >>> import torch
    >>> digest([torch.zeros(2)]) == digest([torch.zeros(2)]) != digest([-torch.zeros(2)])
    True
    """
    hasher = xxhash.xxh3_128()
    for tensor in tensors:
        plain = tensor.detach().cpu().contiguous()
        hasher.update(f"{plain.dtype}{tuple(plain.shape)}".encode())
        hasher.update(bytes_of(plain))
    return hasher.hexdigest()


def digests(state: Mapping[str, Any]) -> dict[str, str]:
    """Return a digest for each tensor, and one for the rest, of each object in *state*, plain values included.

    Raises:
        UnstorableError: If a state holds what a checkpoint could not hold either.

    >>> import torch
    >>> sorted(digests({"model": torch.nn.Linear(1, 1), "step": 7}))
    ['model', 'model/bias', 'model/weight', 'step']
    """
    found: dict[str, str] = {}
    for name, value in state.items():
        tree, tensors = flatten(value.state_dict() if hasattr(value, "state_dict") else value, name)
        found[name] = xxhash.xxh3_128_hexdigest(json.dumps(tree, sort_keys=True).encode())
        found |= {key: digest([tensor]) for key, tensor in tensors.items()}
    return found


@final
class Recorder:
    """Append what happened at each iteration to a file, one write per line, so that a kill costs at most the last line.

    A run that is started again appends to the same file; iterations that it does again stand there twice.

    Args:
        path: The file, such as ``recording/rank-0.jsonl``. Its folder is made.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            content = self._path.read_bytes()
            os.truncate(self._path, content.rfind(b"\n") + 1)  # the line that a kill cut off
        self._write({"started": os.getpid()})

    def record(self, iteration: int, **facts: Any) -> None:  # noqa: ANN401 - anything that JSON can hold
        """Write down the *facts* of an iteration: numbers, strings, and lists and dicts of these."""
        self._write({"iteration": iteration, **facts})

    def record_end(self, **facts: Any) -> None:  # noqa: ANN401 - as above
        """Write down the *facts* of the end of the training."""
        self._write({"end": True, **facts})

    def _write(self, line: Mapping[str, Any]) -> None:
        with self._path.open("ab", buffering=0) as file:
            file.write(json.dumps(line).encode() + b"\n")


@dataclass(frozen=True)
class Recording:
    """What a file of a `Recorder` says.

    Attributes:
        lines: The facts of each iteration, in the order in which they happened; repeats included.
        starts: For each start of the run: its process and the index of its first line.
        end: The facts of the end; empty if the run did not get there.
    """

    lines: Sequence[tuple[int, Mapping[str, Any]]]
    starts: Sequence[tuple[int, int]]
    end: Mapping[str, Any]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Recording:
        """Read a recording, which may still be being written.

        Raises:
            FileNotFoundError: If there is none.
        """
        lines: list[tuple[int, Mapping[str, Any]]] = []
        starts: list[tuple[int, int]] = []
        end: Mapping[str, Any] = {}
        for text in Path(path).read_bytes().splitlines(keepends=True):
            if not text.endswith(b"\n"):
                break
            content = json.loads(text)
            if "started" in content:
                starts.append((content["started"], len(lines)))
            elif "end" in content:
                end = content
            else:
                lines.append((content.pop("iteration"), content))
        return cls(lines, starts, end)

    @property
    def last_iteration(self) -> int:
        """Return the newest iteration; 0 if there is none yet."""
        return self.lines[-1][0] if self.lines else 0


@dataclass(frozen=True)
class Difference:
    """Where two runs part.

    Attributes:
        iteration: The first iteration that differs; None for the end of the training.
        what: The fact that differs, such as ``values.lr[0]``.
        expected: What the first run had.
        actual: What the second run had.
    """

    iteration: int | None
    what: str
    expected: object
    actual: object

    def __str__(self) -> str:
        place = "the end" if self.iteration is None else f"iteration {self.iteration}"
        return f"at {place}, {self.what} is {self.actual!r} instead of {self.expected!r}"


def first_difference(expected: Recording, actual: Recording) -> Difference | None:
    """Return the first place where *actual* is not, bit for bit, what *expected* is; None if there is none.

    Every iteration counts as often as it was done: a repeat after a restart must come out the same too. Iterations
    that one of the two never did are differences.
    """
    wanted = dict(expected.lines)
    found: list[Difference] = []
    for iteration, facts in actual.lines:
        if iteration not in wanted:
            found.append(Difference(iteration, "the iteration", "absent", "done"))
        found += (Difference(iteration, *parts) for parts in _differences(wanted.get(iteration, {}), facts))
    done = dict(actual.lines)
    found += (Difference(iteration, "the iteration", "done", "absent") for iteration in wanted if iteration not in done)
    if found:
        return min(found, key=lambda difference: difference.iteration or 0)
    return next((Difference(None, *parts) for parts in _differences(expected.end, actual.end)), None)


def _differences(expected: Any, actual: Any, path: str = "") -> Iterator[tuple[str, object, object]]:  # noqa: ANN401 - JSON
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        for key in [*expected, *(key for key in actual if key not in expected)]:
            place = f"{path}.{key}" if path else str(key)
            yield from _differences(expected.get(key, "absent"), actual.get(key, "absent"), place)
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for index, (one, other) in enumerate(zip(expected, actual, strict=True)):
            yield from _differences(one, other, f"{path}[{index}]")
    elif json.dumps(expected) != json.dumps(actual):  # as text: nan is nan, and -0.0 is not 0.0
        yield path, expected, actual
