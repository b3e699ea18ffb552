"""A storage with a hook, for tests that need something to happen at a certain write."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from resumable_sched.checkpoint import Storage
    from resumable_sched.checkpoint.storage import Buffer

__all__ = ["Interposed", "fail_on_second", "wait_for"]


class Interposed:
    """A storage with something in between each write and the disk."""

    def __init__(self, storage: Storage, before_write: Callable[[str], None]) -> None:
        self._storage = storage
        self.url = storage.url
        self.read, self.read_into, self.list = storage.read, storage.read_into, storage.list
        self.delete, self.delete_folder = storage.delete, storage.delete_folder
        self.before_write = before_write

    def write(self, key: str, parts: Iterable[Buffer], size: int) -> None:
        """Call the hook, then write."""
        self.before_write(key)
        self._storage.write(key, parts, size)


def wait_for(event: threading.Event) -> Callable[[str], None]:
    """Return a hook that waits for *event*."""

    def hook(_: str) -> None:
        event.wait()

    return hook


def fail_on_second(kind: str) -> Callable[[str], None]:
    """Return a hook that raises, as a full disk does, at the second key that ends with *kind*."""
    seen: list[str] = []

    def hook(key: str) -> None:
        if key.endswith(kind):
            seen.append(key)
            if len(seen) == 2:
                raise OSError(28, "No space left on device")

    return hook
