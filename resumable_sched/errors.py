"""What can go wrong, as one tree.

Bad arguments raise Python's own ``ValueError``, ``TypeError`` or ``KeyError``. The classes here are for what the world
did. Each carries the facts that a program may need as fields, also to another process, and inherits the built-in that a
caller would reach for::

    ResumableSchedError
    ├── ConfigError                (ValueError)         a config that says no schedule, and where
    ├── ScheduleMismatchError      (ValueError)         the saved schedule is not the one that was built
    ├── StateFormatError           (ValueError)         a state dict of another kind or version
    ├── UnstorableError            (TypeError)          a value that JSON and safetensors cannot hold
    ├── StateMismatchError         (ValueError)         saved and live state do not fit
    ├── ForeignWriterError         (RuntimeError)       other code writes a scheduled value at every step
    ├── RankError                  (RuntimeError)       another rank failed, or ranks disagree
    ├── FencedError                (RuntimeError)       a newer start of the job owns the checkpoints
    ├── demo.DemoError             (RuntimeError)       the demo could not be run
    └── CheckpointError            (OSError)
        ├── CorruptCheckpointError                      bytes that are not the ones that were written
        └── IncompleteCheckpointError (FileNotFoundError)  nothing complete to restore
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

__all__ = [
    "CheckpointError",
    "ConfigError",
    "CorruptCheckpointError",
    "FencedError",
    "ForeignWriterError",
    "IncompleteCheckpointError",
    "RankError",
    "ResumableSchedError",
    "ScheduleMismatchError",
    "StateFormatError",
    "StateMismatchError",
    "UnstorableError",
]


class ResumableSchedError(Exception):
    """Be the base of every error that this package defines."""

    @classmethod
    def rebuilt(cls, message: str, fields: Mapping[str, Any]) -> Self:
        """Build an error from what another process, or a copy, has of it: its text and its fields."""
        error = cls.__new__(cls)
        error.args = (message,)
        vars(error).update(fields)
        return error

    def __reduce__(self) -> tuple[Any, ...]:
        system = {name: getattr(self, name) for name in ("errno", "strerror", "filename") if isinstance(self, OSError)}
        return _copied, (type(self), self.args, vars(self), system)


def _copied(
    kind: type[ResumableSchedError], args: tuple[Any, ...], fields: Mapping[str, Any], system: Mapping[str, Any]
) -> ResumableSchedError:
    """Build the copy of an error; *system* are the attributes of an ``OSError``."""
    error = kind.rebuilt("", fields)
    error.args = args
    for name, value in system.items():
        if value is not None:
            setattr(error, name, value)
    return error


class ConfigError(ResumableSchedError, ValueError):
    """Say what in a config cannot be used, and where it is.

    Attributes:
        path: The place in the config, such as ``param_scheduler[1].milestones``; empty where the file as a whole is
            meant.
        reason: What is wrong there.
        file: The config file; None for a config that was passed as an object.
        line: The line of the file, from 1; None where there is none.
    """

    def __init__(self, reason: str, *, path: str = "", file: str | None = None, line: int | None = None) -> None:
        place = "" if file is None else f"{file}: " if line is None else f"{file}:{line}: "
        super().__init__(f"{place}{path}: {reason}" if path else f"{place}{reason}")
        self.path = path
        self.reason = reason
        self.file = file
        self.line = line


class ScheduleMismatchError(ResumableSchedError, ValueError):
    """Say that the saved schedule differs from the one that was built.

    Attributes:
        differences: One line for each field that differs, with the saved and the new value.
    """

    def __init__(self, message: str, differences: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.differences = tuple(differences)


class StateFormatError(ResumableSchedError, ValueError):
    """Say that a state dict is of another kind, version or shape than the object that should load it."""


class UnstorableError(ResumableSchedError, TypeError):
    """Say that a value in the state cannot be stored without pickle.

    Attributes:
        path: Where the value is, such as ``state["loader"]["worker"][3]``.
        kind: The qualified name of its type.
    """

    def __init__(self, path: str, kind: str, remedy: str = "") -> None:
        super().__init__(
            f"{path} must be a tensor, an array, bytes, a number, a string, None, or a dict, list or tuple of these, "
            f"but is a {kind} instead." + (f" {remedy}" if remedy else "")
        )
        self.path = path
        self.kind = kind


class StateMismatchError(ResumableSchedError, ValueError):
    """Say that what was saved and what should be restored do not fit; nothing was changed yet.

    Attributes:
        missing: Names that are expected but were not saved.
        unexpected: Names that were saved but are not restored.
    """

    def __init__(self, message: str, *, missing: Sequence[str] = (), unexpected: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)


class ForeignWriterError(ResumableSchedError, RuntimeError):
    """Say that other code writes a scheduled value again and again, or has written what is no finite number.

    Attributes:
        parameter: The hyper-parameter.
        group: The param group.
        expected: The value that its schedule gives.
        observed: The value that was found.
    """

    def __init__(self, parameter: str, group: int, expected: float, observed: float, times: int = 1) -> None:
        change = f"from {expected!r} to {observed!r}"
        if times > 1:
            super().__init__(
                f"`{parameter}` of param group {group} must be written by its schedule alone, but other code has set "
                f"it in {times} consecutive steps, the last time {change}. Another scheduler acts on the optimizer, or "
                "the training loop sets the value: remove one of the two."
            )
        else:
            super().__init__(
                f"`{parameter}` of param group {group} must be a finite number, but other code has set it {change}. "
                "Find what writes it, or use group.amend with a number."
            )
        self.parameter = parameter
        self.group = group
        self.expected = expected
        self.observed = observed


class RankError(ResumableSchedError, RuntimeError):
    """Say that another rank failed, or that the ranks' states differ where they must be equal.

    Attributes:
        rank: The first rank that failed or differs.
    """

    def __init__(self, rank: int, message: str) -> None:
        super().__init__(f"Rank {rank}: {message}")
        self.rank = rank


class FencedError(ResumableSchedError, RuntimeError):
    """Say that a newer start of the job has taken over the checkpoints; this process must stop.

    Attributes:
        host: Where the newer job runs; empty if its claim cannot be read.
        pid: Its process.
        command: Its command line.
        started: When it claimed, ISO 8601 in UTC.
    """

    def __init__(self, url: str, *, host: str = "", pid: int = 0, command: str = "", started: str = "") -> None:
        owner = f"process {pid} on {host}, since {started}: {command}" if host else "its claim cannot be read"
        super().__init__(
            f"{url} was taken over by a newer start of the job ({owner}). This process no longer commits or deletes "
            "checkpoints there; stop it, or stop the other one and start this one again."
        )
        self.host = host
        self.pid = pid
        self.command = command
        self.started = started


class CheckpointError(ResumableSchedError, OSError):
    """Be the base of what is wrong with stored checkpoints."""


class CorruptCheckpointError(CheckpointError):
    """Say that stored bytes are not the ones that were written.

    Attributes:
        file: The damaged or missing file, relative to the checkpoint URL.
        reason: What is wrong with it.
    """

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason


class IncompleteCheckpointError(CheckpointError, FileNotFoundError):
    """Say that there is no complete checkpoint where one was asked for, and what there is instead.

    Attributes:
        iteration: The one that was asked for; None if any would have done.
        damaged: What is wrong with each checkpoint that was set aside, beginning with the file.
    """

    def __init__(self, message: str, *, iteration: int | None = None, damaged: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.iteration = iteration
        self.damaged = tuple(damaged)
