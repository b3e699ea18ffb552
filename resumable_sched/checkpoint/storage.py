"""Where checkpoints are kept: six verbs over immutable objects.

Every object is written once, under a name that nobody else uses, and is whole and durable when `write` returns. There
is no rename and no overwrite, so an object store and a file system behave the same.
`resumable_sched.testing.StorageSuite` says what every implementation must do.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, cast, final

from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import get_protocol, stringify_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["TEMPORARY", "Buffer", "FsspecStorage", "LocalStorage", "Storage", "open_storage"]

Buffer: TypeAlias = "bytes | bytearray | memoryview"

TEMPORARY: Final = ".tmp-"
"""What the last part of a key begins with while, or since, a write of it has not come to its end."""
_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_COLLAPSED: Final = re.compile(r"([a-z][a-z0-9+.-]+):/(?!/)")  # what pathlib makes of a URL
_GENERIC_FIND: Final = AsyncFileSystem._find  # noqa: SLF001 - to tell whether a file system has a better one
_WALKS: Final = 5  # after which a listing is taken as it is, however fast others write
_ONE_REQUEST: Final = 32 * 2**20  # bytes up to which an object is sent in one piece


class Storage(Protocol):
    """A flat namespace of immutable objects under one URL. Keys are relative, with ``/`` between their parts."""

    @property
    def url(self) -> str:
        """Return the root, for messages and for telling two storages apart."""

    def write(self, key: str, parts: Iterable[Buffer], size: int) -> None:
        """Create the object *key* of *size* bytes from *parts*; it is visible whole or not at all.

        Raises:
            FileExistsError: If there is one already, where the storage can tell.
            OSError: If it could not be written; a retry needs another key.
        """

    def read(self, key: str) -> bytes:
        """Return the whole object.

        Raises:
            FileNotFoundError: If it is not there.
        """

    def read_into(self, key: str, offset: int, target: memoryview) -> int:
        """Fill *target* from byte *offset* on and return how many bytes there were.

        Raises:
            FileNotFoundError: If it is not there.
        """

    def list(self, folder: str = "") -> dict[str, int]:
        """Return the sizes of all objects below *folder*, by key, as they are now (no cache).

        What an unfinished write of *name* takes up is listed as ``.tmp-UNIQUE-name`` beside it, if it is to be seen at
        all: a process that dies in a write leaves it behind, and somebody must be able to find it.
        """

    def delete(self, key: str) -> None:
        """Remove the object; it is not an error if it is gone."""

    def delete_folder(self, folder: str) -> None:
        """Remove everything below *folder*, leftovers of interrupted writes included."""


@final
class LocalStorage:
    """A folder of a POSIX file system.

    An object is written under a temporary name beside its own, flushed to the disk, and then linked to its name,
    which fails if the name is taken; the folder is flushed last. A crash leaves at most a temporary name, or an empty
    folder, which is listed as one.

    Args:
        root: The folder; it is made when something is written.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        # Resolved once: a link that is turned to another place in mid-run must not split a checkpoint.
        self._root = Path(root).expanduser().resolve()

    @property
    def url(self) -> str:
        """Return the absolute path."""
        return str(self._root)

    def write(self, key: str, parts: Iterable[Buffer], size: int) -> None:
        """Create the file; see `Storage.write`."""
        path = self._root / key
        _make_folder(path.parent)
        temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}-{path.name}")
        try:
            with temporary.open("xb", buffering=0) as file:
                written = 0
                for part in parts:
                    rest = memoryview(part).cast("B")
                    while rest:
                        count = file.write(rest)
                        rest = rest[count:]
                        written += count
                os.fsync(file.fileno())
            _require_size(path, written, size)
            _publish(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _flush_folder(path.parent)

    def read(self, key: str) -> bytes:
        """Return the content of the file."""
        return (self._root / key).read_bytes()

    def read_into(self, key: str, offset: int, target: memoryview) -> int:
        """Read straight into *target*: no buffer in between."""
        count = 0
        with (self._root / key).open("rb", buffering=0) as file:
            file.seek(offset)
            while count < len(target) and (more := file.readinto(target[count:])):
                count += more
        return count

    def list(self, folder: str = "") -> dict[str, int]:
        """Walk the folder; files that vanish meanwhile are left out, any other error is raised.

        A walk is no moment: it would miss a checkpoint that comes while the older one goes. So it is made again while
        the folders change under it.
        """
        for _ in range(_WALKS):
            before = self._names(folder)
            sizes = self._walk(folder)
            if self._names(folder) == before:
                break
        return sizes

    def _names(self, folder: str) -> set[str]:
        try:
            return {path.name for path in (self._root / folder).iterdir()}
        except FileNotFoundError:
            return set()

    def _walk(self, folder: str) -> dict[str, int]:
        sizes = {}
        for place, folders, names in os.walk(self._root / folder, onerror=_raise_unless_gone):
            here = Path(place).relative_to(self._root)
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    sizes[(here / name).as_posix()] = Path(place, name).stat().st_size
            if not folders and not names and here != Path():
                sizes[(here / TEMPORARY).as_posix()] = 0  # made for a write that died before it could begin
        return sizes

    def delete(self, key: str) -> None:
        """Remove the file, durably: a manifest must not come back after its shards are gone."""
        path = self._root / key
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            _flush_folder(path.parent)

    def delete_folder(self, folder: str) -> None:
        """Remove the folder."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._root / folder)


def _raise_unless_gone(error: OSError) -> None:
    """Let no folder that cannot be read pass for an empty one: the run would start again from nothing."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _require_size(path: object, written: int, size: int) -> None:
    if written != size:
        raise OSError(f"{path} must have {size} bytes, but {written} were given.")


def _make_folder(folder: Path) -> None:
    """Make *folder* and its parents, each of them durable."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(exist_ok=True)
        _flush_folder(place.parent)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _publish(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # No hard links here (FAT, some network mounts). Names are unique to the attempt, so nobody else writes this
        # one.
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        temporary.rename(path)


@final
class FsspecStorage:
    """Any fsspec file system: an object is one upload, and is there when the upload is complete.

    Args:
        filesystem: The file system. Listings must not come from a cache (`open_storage` sees to that).
        root: The path of the folder on it.
        url: What to call it in messages.
    """

    def __init__(self, filesystem: AbstractFileSystem, root: str, url: str) -> None:
        self._fs = filesystem
        self._root = root.rstrip("/")
        self._url = url

    @property
    def url(self) -> str:
        """Return the URL as it was given."""
        return self._url

    def write(self, key: str, parts: Iterable[Buffer], size: int) -> None:
        """Upload the object; see `Storage.write`."""
        path = f"{self._root}/{key}"
        if self._fs.exists(path):
            # Best effort, and enough: names are unique to the attempt, so only a mistake in this package comes here.
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        with contextlib.suppress(FileExistsError):
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        if size <= _ONE_REQUEST:
            content = b"".join(parts)
            _require_size(path, len(content), size)
            self._put(path, content)
            return
        file = self._fs.open(path, "wb")
        try:
            written = 0
            for part in parts:
                written += memoryview(part).nbytes
                file.write(part)
            _require_size(path, written, size)
        except BaseException:
            # close() would upload what there is so far as if it were the whole object.
            with contextlib.suppress(Exception):
                file.discard()
            with contextlib.suppress(AttributeError):  # local files have no way back; without a manifest they are void
                file.closed = True
            raise
        file.close()

    def _put(self, path: str, content: bytes) -> None:
        try:
            self._fs.pipe_file(path, content)
        except OSError:
            # The request may have been carried out and only its answer lost: what is there decides.
            with contextlib.suppress(Exception):
                if self._fs.cat_file(path) == content:
                    return
            raise

    def read(self, key: str) -> bytes:
        """Download the object."""
        content: bytes = self._fs.cat_file(f"{self._root}/{key}")
        return content

    def read_into(self, key: str, offset: int, target: memoryview) -> int:
        """Download a range of the object."""
        if not len(target):
            return 0
        content = self._fs.cat_file(f"{self._root}/{key}", start=offset, end=offset + len(target))
        target[: len(content)] = content
        return len(content)

    def list(self, folder: str = "") -> dict[str, int]:
        """List without the file system's own cache."""
        self._fs.invalidate_cache()
        place = f"{self._root}/{folder}".rstrip("/") or "/"
        prefix = f"{self._root}/".lstrip("/")
        return {path.lstrip("/").removeprefix(prefix): size for path, size in self._sizes(place)}

    def _sizes(self, place: str) -> Iterator[tuple[str, int]]:
        kind = type(self._fs)
        if kind.find is not AbstractFileSystem.find or getattr(kind, "_find", _GENERIC_FIND) is not _GENERIC_FIND:
            # An object store, which lists everything below a prefix in one request.
            with contextlib.suppress(FileNotFoundError):
                for path, info in self._fs.find(place, detail=True).items():
                    yield path, int(info["size"])
            return
        # fsspec's own walk takes a folder that it fails to read for an empty one.
        pending = [place]
        while pending:
            with contextlib.suppress(FileNotFoundError):  # it vanished, or was never there
                for info in self._fs.ls(pending.pop(), detail=True):
                    if info["type"] == "directory":
                        pending.append(info["name"])
                    else:
                        yield info["name"], int(info["size"])

    def delete(self, key: str) -> None:
        """Remove the object."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._root}/{key}")

    def delete_folder(self, folder: str) -> None:
        """Remove the objects one by one, then the folder where there is such a thing."""
        for key in self.list(folder):
            self.delete(key)
        with contextlib.suppress(Exception):  # object stores have no folders
            self._fs.rmdir(f"{self._root}/{folder}")


def open_storage(url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> Storage:
    """Open the storage at *url*.

    Args:
        url: A local path, or a URL of any scheme that fsspec knows: ``file://``, ``memory://``, ``s3://``, ...
        storage_options: What the fsspec file system takes, such as ``{"endpoint_url": ...}``.

    Raises:
        ValueError: If the URL is empty, a chain (``simplecache::s3://...``), of a scheme that fsspec does not know, or
            in the home of an unknown user, or if options are given for a local path.
        ImportError: If the scheme needs a package that is not installed; fsspec names it.
    """
    text = stringify_path(url)
    if not isinstance(text, str) or not text:
        raise ValueError(f"`url` must be a path or a URL, but is {url!r} instead.")
    if isinstance(url, str) and "::" in text:
        # fsspec would chain file systems, which neither flush nor leave caches out; "a::b" would be a folder "a:".
        raise ValueError(
            f"`url` must be one place, but is {url!r} instead, a chain of them. Give its last part, or a pathlib.Path "
            "for a local folder with :: in its name."
        )
    if "::" in text or get_protocol(text) in ("file", "local"):
        if storage_options:
            raise ValueError(
                f"`storage_options` must be empty for a local path, but is {dict(storage_options)!r} instead."
            )
        if not isinstance(url, str) and (scheme := _COLLAPSED.match(text)):
            raise ValueError(
                f"`url` must be a string where it has a scheme, but is {url!r} instead: a path drops the second "
                f"slash of {scheme[1]}://."
            )
        path = text
        if "::" not in text:
            path = cast("str", LocalFileSystem._strip_protocol(text))  # noqa: SLF001 - how fsspec reads file URLs
        try:
            return LocalStorage(path)
        except RuntimeError:  # of pathlib
            raise ValueError(
                f"`url` must be in the home of a user of this machine where it begins with ~, but is {url!r} instead."
            ) from None
    filesystem, root = url_to_fs(text, use_listings_cache=False, **(storage_options or {}))
    return FsspecStorage(filesystem, root, filesystem.unstrip_protocol(root).rstrip("/"))
