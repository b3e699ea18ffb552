"""Keep the place of every value of a config file, so that an error can name it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from resumable_sched.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Config", "Located", "Path", "Unreadable", "path_text"]

_MOST_PARTS: Final = 100_000
Path = tuple["str | int", ...]
"""The keys and indices that lead to a value."""


def path_text(root: str, path: Path) -> str:
    """Write a place as Python would.

    >>> path_text("param_scheduler", (1, "milestones"))
    'param_scheduler[1].milestones'
    """
    return root + "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in path)


@dataclass(frozen=True)
class Unreadable:
    """Stand for what a config file says in a way that cannot be read; an error once it is needed.

    Attributes:
        reason: Why.
        shares: The values that it is made of: lists and dicts in them may be changed through it.
    """

    reason: str
    shares: tuple[Any, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class Located:
    """Hold a value with its place.

    Attributes:
        value: A number, string, bool or None; a list or a dict of `Located`; or `Unreadable`.
        file: The file.
        line: The line, from 1: that of the key for a value in a dict.
    """

    value: Any
    file: str
    line: int | None = None

    def find(self, path: Path) -> Located:
        """Return what is at *path*, or the nearest thing around it."""
        if not path:
            return self
        try:
            inner = self.value[path[0]]
        except (KeyError, IndexError, TypeError):
            return self
        return inner.find(path[1:]) if isinstance(inner, Located) else self

    def copy(self) -> Located:
        """Return a copy in which every list and dict is there once, as MMEngine makes one of what it is based on.

        Raises:
            ConfigError: It would be enormous: an alias of YAML may stand for the same value many times.
        """
        return self._copied([_MOST_PARTS])

    def _copied(self, left: list[int]) -> Located:
        left[0] -= 1
        if left[0] < 0:
            raise ConfigError("The value is too large to be based on.", file=self.file, line=self.line)
        value = self.value
        if isinstance(value, dict):
            value = {key: each._copied(left) for key, each in value.items()}  # noqa: SLF001 - its own kind
        elif isinstance(value, list):
            value = [each._copied(left) for each in value]  # noqa: SLF001 - the same
        return Located(value, self.file, self.line)

    def plain(self, root: str) -> Any:  # noqa: ANN401 - any JSON
        """Return the value without places.

        Raises:
            ConfigError: A part of it cannot be read.
        """
        return self._plain(root, (), {})

    def _plain(self, root: str, path: Path, done: dict[int, Any]) -> Any:  # noqa: ANN401
        if isinstance(self.value, Unreadable):
            raise ConfigError(self.value.reason, path=path_text(root, path), file=self.file, line=self.line)
        if not isinstance(self.value, dict | list):
            return self.value
        if id(self.value) not in done:  # an alias of YAML may stand for the same value many times
            done[id(self.value)] = (
                {key: each._plain(root, (*path, key), done) for key, each in self.value.items()}  # noqa: SLF001 - its own kind
                if isinstance(self.value, dict)
                else [each._plain(root, (*path, index), done) for index, each in enumerate(self.value)]  # noqa: SLF001
            )
        return done[id(self.value)]


@dataclass(frozen=True)
class Config:
    """Hold what a config file says of schedules, with the place of everything.

    Attributes:
        file: The file.
        key: The key of the file that holds the schedules.
        schedulers: A dict, a list of dicts, or a dict of such by the name of the optimizer.
        optimizers: The settings of each optimizer by name that could be read, such as ``{"type": "SGD", "lr": 0.1}``;
            a single one is called "optimizer".
        source: Where each part of `schedulers` stands.
        max_epochs: Epochs of the training, if the file says so.
        max_iters: Iterations of the training, if the file says so.
    """

    file: str
    key: str
    schedulers: Mapping[str, Any] | Sequence[Any]
    optimizers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: Located = field(default=Located(None, ""), repr=False)
    max_epochs: int | None = None
    max_iters: int | None = None

    def error(self, path: Path, reason: str) -> ConfigError:
        """Make an error that points at *path* below :attr:`key`."""
        place = self.source.find(path)
        return ConfigError(reason, path=path_text(self.key, path), file=place.file, line=place.line)
