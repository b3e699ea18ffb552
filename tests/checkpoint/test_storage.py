"""Storages: every one passes the same suite, and the local one is durable and honest about what it cannot read."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from resumable_sched.checkpoint import FsspecStorage, LocalStorage, Storage, open_storage
from resumable_sched.testing import FaultyStorage, SimulatedCrash, StorageSuite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class TestLocalStorage(StorageSuite):
    """The suite on a folder."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        """Return a folder that does not exist yet."""
        return LocalStorage(tmp_path / "a" / "b")


class TestLocalStorageWithoutLinks(StorageSuite):
    """The suite on a file system that has no hard links."""

    @pytest.fixture
    def storage(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
        """Return a folder where linking is refused."""

        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)
        return LocalStorage(tmp_path)


class TestMemoryStorage(StorageSuite):
    """The suite on fsspec's memory."""

    @pytest.fixture
    def storage(self) -> Storage:
        """Return a folder of the process-wide memory file system."""
        return open_storage(f"memory://{uuid.uuid4().hex}/run/")


class TestMemoryRoot(StorageSuite):
    """The suite at the root of a file system, where the prefix is empty."""

    @pytest.fixture
    def storage(self) -> Iterator[Storage]:
        """Empty the process-wide memory before and after."""
        fsspec.filesystem("memory").store.clear()
        yield open_storage("memory://")
        fsspec.filesystem("memory").store.clear()


class TestFsspecLocalStorage(StorageSuite):
    """The suite on fsspec's local files: the generic code path of slow and unusual file systems."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        """Return a folder that does not exist yet."""
        return FsspecStorage(LocalFileSystem(), str(tmp_path / "run"), "local-through-fsspec")


class TestFsspecDirStorage(StorageSuite):
    """The suite on a file system that wraps another one."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        """Return a chained file system."""
        return FsspecStorage(fsspec.filesystem("dir", path=str(tmp_path), fs=LocalFileSystem()), "run", "dir")


class TestFaultyStorage(StorageSuite):
    """A faulty storage is a storage like any other until it fails."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        """Return one that does not fail here."""
        return FaultyStorage(LocalStorage(tmp_path), fail_after=10**6)


@pytest.mark.parametrize("half_written", [False, True])
def test_a_faulty_storage_is_dead_after_the_crash(tmp_path: Path, *, half_written: bool) -> None:
    """The write after the last good one raises, may leave half an object, and then no verb works."""
    storage = FaultyStorage(LocalStorage(tmp_path), fail_after=1, half_written=half_written)
    storage.write("first", [b"1234"], 4)

    with pytest.raises(SimulatedCrash):
        storage.write("second", [b"1234"], 4)

    calls: list[Callable[[], Any]] = [
        lambda: storage.write("third", [b""], 0),
        lambda: storage.read("first"),
        lambda: storage.read_into("first", 0, memoryview(bytearray(1))),
        storage.list,
        lambda: storage.delete("first"),
        lambda: storage.delete_folder(""),
    ]
    for call in calls:
        with pytest.raises(SimulatedCrash):
            call()
    assert LocalStorage(tmp_path).list() == {"first": 4, **({"second": 2} if half_written else {})}


def test_leftovers_of_a_killed_write_are_listed_and_go_with_their_folder(tmp_path: Path) -> None:
    """A process that dies in a write leaves a temporary file, whose name says of what, or an empty folder."""
    storage = LocalStorage(tmp_path)

    def die() -> Iterator[bytes]:
        yield b"half"
        os._exit(0)

    if (child := os.fork()) == 0:
        storage.write("folder/object", die(), 8)
    os.waitpid(child, 0)
    (tmp_path / "empty").mkdir()

    listed = storage.list()
    for folder in ("folder", "empty"):
        storage.delete_folder(folder)

    assert {re.sub("[0-9a-f]{32}", "UNIQUE", key): size for key, size in listed.items()} == {
        "folder/.tmp-UNIQUE-object": 4,
        "empty/.tmp-": 0,
    }
    assert list(tmp_path.iterdir()) == []


def test_everything_is_flushed_before_a_write_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is flushed under its temporary name, then the folder of the name, and the parents of new folders."""
    flushed: list[str] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    LocalStorage(tmp_path / "run").write("folder/object", [b"x"], 1)

    assert flushed[:2] == [tmp_path.name, "run"]
    assert flushed[2].startswith(".tmp-")
    assert flushed[3:] == ["folder"]


@pytest.mark.parametrize("through_fsspec", [False, True])
def test_a_folder_that_cannot_be_read_does_not_pass_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, through_fsspec: bool
) -> None:
    """An I/O error in a listing is raised: else a run would silently start again from nothing."""
    storage: Storage = LocalStorage(tmp_path)
    storage.write("folder/object", [b"x"], 1)
    if through_fsspec:
        storage = FsspecStorage(LocalFileSystem(), str(tmp_path), "local")
    scandir = os.scandir

    def fail_inside(place: Any = ".") -> Any:
        if str(place).rstrip("/").endswith("folder"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", fail_inside)

    with pytest.raises(OSError, match="Input/output error"):
        storage.list()


def test_a_large_upload_that_fails_raises_its_own_error(tmp_path: Path) -> None:
    """What went wrong is what is raised, even where the file system cannot take back what it has written."""
    storage = FsspecStorage(LocalFileSystem(), str(tmp_path), "local")

    def parts() -> Iterator[bytes]:
        yield bytes(2**25)
        raise SimulatedCrash

    with pytest.raises(SimulatedCrash):
        storage.write("large", parts(), 2**26)


def test_an_upload_whose_answer_was_lost_is_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the object is there with our bytes, an error after the upload changes nothing; with others, it is raised."""
    storage = open_storage(f"memory://{uuid.uuid4().hex}")
    pipe_file = MemoryFileSystem.pipe_file

    def lose_the_answer(filesystem: MemoryFileSystem, path: str, value: bytes) -> None:
        pipe_file(filesystem, path, value)
        raise ConnectionResetError

    def fail(*_: object) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lose_the_answer)
    storage.write("a", [b"abc"], 3)
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", fail)

    with pytest.raises(ConnectionResetError):
        storage.write("b", [b"abc"], 3)
    assert storage.list() == {"a": 3}


def test_a_full_disk_is_an_error_that_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the disk, even as late as in the flush, is raised, and its temporary file is gone."""

    def full(descriptor: int) -> None:
        del descriptor
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    storage = LocalStorage(tmp_path)
    storage.write("before", [b"x"], 1)
    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match="No space left"):
        storage.write("object", [b"x"], 1)
    assert [path.name for path in tmp_path.iterdir()] == ["before"]


def test_local_urls_of_every_spelling_are_the_same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path, a relative path, a path object, a link, ``~`` and file URLs with or without slashes agree."""
    place = tmp_path / "run"
    place.mkdir()
    (tmp_path / "link").symlink_to(place)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    spellings: list[Any] = [
        place,
        "run",
        "./run/",
        "run/../run",
        "~/run",
        Path("~/run"),
        "link",
        f"{place}/",
        f"file://{place}",
        f"file:{place}/",
        f"local://{place}",
    ]

    assert {open_storage(url).url for url in spellings} == {str(place)}


def test_a_path_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a URL cannot say, a path can."""
    monkeypatch.chdir(tmp_path)

    assert open_storage(Path("a::b")).url == str(tmp_path / "a::b")
    assert open_storage("./~nobody-at-all/run").url == str(tmp_path / "~nobody-at-all" / "run")


def test_urls_with_and_without_a_trailing_slash_are_the_same_place() -> None:
    """A slash at the end of a URL means nothing."""
    assert open_storage("memory://run/").url == open_storage("memory://run").url


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("", None, "`url` must be a path or a URL, but is '' instead"),
        (7, None, "`url` must be a path or a URL, but is 7 instead"),
        (Path("s3://bucket/run"), None, "a path drops the second slash of s3://"),
        ("nonsense://bucket", None, "nonsense"),
        ("/somewhere", {"anon": True}, "`storage_options` must be empty for a local path"),
        ("a::b", None, "`url` must be one place, but is 'a::b' instead"),
        ("simplecache::s3://bucket/run", None, "`url` must be one place"),
        ("~nobody-at-all/run", None, "must be in the home of a user .* but is '~nobody-at-all/run' instead"),
    ],
)
def test_urls_that_mean_nothing_are_refused(url: Any, options: dict[str, Any] | None, says: str) -> None:
    """The error says what is wrong with the URL; nothing is made up."""
    with pytest.raises(ValueError, match=says):
        open_storage(url, options)


def test_importing_the_package_needs_no_pytest() -> None:
    """The suite is importable where pytest is not installed, since the package imports its testing tools."""
    code = "import sys; sys.modules['pytest'] = None; import resumable_sched.testing.storage"
    subprocess.run([sys.executable, "-c", code], check=True)
