"""What every storage must do, and a storage that dies in the middle of it."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, NoReturn, final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resumable_sched.checkpoint.storage import Buffer, Storage

__all__ = ["FaultyStorage", "SimulatedCrash", "StorageSuite"]


class SimulatedCrash(Exception):  # noqa: N818 - it is an event, not an error of the code that meets it
    """Say that the process is to be taken for dead from here on."""


@final
class FaultyStorage:
    """A storage whose process dies: some writes succeed, the next one raises, and then nothing works any more.

    Args:
        storage: What is written to; look there, or open it again, to see what a new process would see.
        fail_after: How many writes succeed.
        half_written: Whether the write that fails leaves the first half of its object behind, as a file system may.
    """

    def __init__(self, storage: Storage, *, fail_after: int, half_written: bool = False) -> None:
        self._storage = storage
        self._left = fail_after
        self._half_written = half_written
        self._lock = threading.Lock()
        self.dead = False
        """Whether the crash has happened."""

    @property
    def url(self) -> str:
        """Return the URL of the storage."""
        return self._storage.url

    def write(self, key: str, parts: Iterable[Buffer], size: int) -> None:
        """Write while the process is alive.

        Raises:
            SimulatedCrash: From the first write on that is one too many.
        """
        with self._lock:
            alive = self._alive()
            self._left -= 1
            self.dead = self._left < 0
        if not self.dead:
            alive.write(key, parts, size)
            return
        if self._half_written:
            content = b"".join(parts)
            alive.write(key, [content[: size // 2]], size // 2)
        self._crash()

    def read(self, key: str) -> bytes:
        """Read while the process is alive."""
        return self._alive().read(key)

    def read_into(self, key: str, offset: int, target: memoryview) -> int:
        """Read while the process is alive."""
        return self._alive().read_into(key, offset, target)

    def list(self, folder: str = "") -> dict[str, int]:
        """List while the process is alive."""
        return self._alive().list(folder)

    def delete(self, key: str) -> None:
        """Delete while the process is alive."""
        self._alive().delete(key)

    def delete_folder(self, folder: str) -> None:
        """Delete while the process is alive."""
        self._alive().delete_folder(folder)

    def _alive(self) -> Storage:
        if self.dead:
            self._crash()
        return self._storage

    def _crash(self) -> NoReturn:
        raise SimulatedCrash("The process died here.")


class StorageSuite:
    """The tests that every `Storage` must pass.

    Derive a test class from it and give it a pytest fixture ``storage`` that returns an empty one::

        class TestMyStorage(StorageSuite):
            @pytest.fixture
            def storage(self):
                return MyStorage(...)
    """

    def test_it_says_where_it_is(self, storage: Storage) -> None:
        """The URL is there for messages."""
        assert isinstance(storage.url, str)
        assert storage.url

    def test_it_is_empty_before_anything_is_written(self, storage: Storage) -> None:
        """A place that does not exist yet lists as empty, and so does a folder in it."""
        assert storage.list() == {}
        assert storage.list("folder") == {}

    def test_it_reads_what_was_written(self, storage: Storage) -> None:
        """Parts of every buffer type, empty ones too, become one object."""
        parts: list[Buffer] = [b"ab", bytearray(b"cd"), b"", memoryview(b"xefx")[1:3]]

        storage.write("folder/object", parts, 6)

        assert storage.read("folder/object") == b"abcdef"

    def test_it_keeps_an_empty_object(self, storage: Storage) -> None:
        """An object of no bytes exists."""
        storage.write("empty", [], 0)

        assert storage.read("empty") == b""
        assert storage.list() == {"empty": 0}

    def test_it_keeps_an_object_that_needs_several_requests(self, storage: Storage) -> None:
        """A large object of many parts arrives as it was."""
        part = bytes(range(256)) * 2**14
        size = 9 * len(part)

        storage.write("large", (part for _ in range(9)), size)

        assert storage.list() == {"large": size}
        end = memoryview(bytearray(6))
        assert storage.read_into("large", size - 4, end) == 4  # noqa: PLR2004 - the case
        assert bytes(end[:4]) == part[-4:]

    def test_it_lists_keys_and_sizes(self, storage: Storage) -> None:
        """A listing has all objects below a folder, at any depth, and none of a folder whose name begins alike."""
        for key, size in {"top": 1, "a/b": 2, "a/c/d": 3, "ab/e": 4}.items():
            storage.write(key, [bytes(size)], size)

        assert storage.list() == {"top": 1, "a/b": 2, "a/c/d": 3, "ab/e": 4}
        assert storage.list("a") == {"a/b": 2, "a/c/d": 3}
        assert storage.list("a/c") == {"a/c/d": 3}

    def test_it_reads_a_part(self, storage: Storage) -> None:
        """Reading stops at the end of the object and says how far it came."""
        storage.write("object", [b"0123456789"], 10)
        inside, beyond, outside, nothing = (memoryview(bytearray(n)) for n in (4, 4, 4, 0))

        assert [storage.read_into("object", 3, inside), bytes(inside)] == [4, b"3456"]
        assert [storage.read_into("object", 8, beyond), bytes(beyond)] == [2, b"89\0\0"]
        assert storage.read_into("object", 10, outside) == 0
        assert storage.read_into("object", 3, nothing) == 0

    def test_it_says_that_an_object_is_missing(self, storage: Storage) -> None:
        """To read what is not there is a FileNotFoundError, in an existing folder or not."""
        storage.write("folder/object", [b"x"], 1)

        for key in ("folder/missing", "missing/object"):
            with _raises(FileNotFoundError):
                storage.read(key)
            with _raises(FileNotFoundError):
                storage.read_into(key, 0, memoryview(bytearray(1)))

    def test_it_never_overwrites(self, storage: Storage) -> None:
        """A second write of a key is refused, and the first one stays."""
        storage.write("object", [b"first"], 5)

        with _raises(FileExistsError):
            storage.write("object", [b"second"], 6)

        assert storage.read("object") == b"first"

    def test_a_write_that_fails_leaves_nothing(self, storage: Storage) -> None:
        """If the parts raise, or are more or fewer bytes than announced, there is no object."""

        def parts() -> Iterator[bytes]:
            yield b"abc"
            raise SimulatedCrash

        with _raises(SimulatedCrash):
            storage.write("raised", parts(), 6)
        with _raises(OSError):
            storage.write("short", [b"abc"], 6)
        with _raises(OSError):
            storage.write("long", [b"abcdefghi"], 6)

        assert storage.list() == {}

    def test_a_write_under_way_is_not_an_object_yet(self, storage: Storage) -> None:
        """Until it is whole it has no name of its own; what it takes up is listed as a leftover, or not at all."""
        seen: dict[str, int] = {}

        def parts() -> Iterator[bytes]:
            yield b"abc"
            seen.update(storage.list())
            yield b"def"

        storage.write("folder/object", parts(), 6)

        assert all(key.startswith("folder/.tmp-") and key.endswith("-object") for key in seen), seen
        assert storage.list() == {"folder/object": 6}

    def test_it_deletes_one_object(self, storage: Storage) -> None:
        """Only that one is gone, at once, and to delete it again is no error."""
        storage.write("folder/a", [b"a"], 1)
        storage.write("folder/b", [b"b"], 1)

        storage.delete("folder/a")
        storage.delete("folder/a")
        storage.delete("nowhere/a")

        assert storage.list() == {"folder/b": 1}

    def test_it_deletes_a_folder(self, storage: Storage) -> None:
        """Everything below it is gone, and nothing else; to delete it again is no error."""
        for key in ("a/b", "a/c/d", "ab/e", "f"):
            storage.write(key, [b"x"], 1)

        storage.delete_folder("a")
        storage.delete_folder("a")

        assert storage.list() == {"ab/e": 1, "f": 1}

    def test_threads_may_write_at_the_same_time(self, storage: Storage) -> None:
        """Writers of different keys do not disturb each other, not even where they make the same folder."""
        start = threading.Barrier(4)

        def write(number: int) -> None:
            start.wait()
            for index in range(8):
                storage.write(f"folder-{index}/object-{number}", [bytes([number])], 1)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(storage.list()) == 4 * 8
        assert all(storage.read(key) == bytes([int(key[-1])]) for key in storage.list())


@contextlib.contextmanager
def _raises(kind: type[Exception]) -> Iterator[None]:
    """Expect an error; pytest is needed to run the suite, not to import this package."""
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")
