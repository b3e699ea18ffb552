"""Load config files: the only place where schedules read files."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Final, NamedTuple

from resumable_sched.errors import ConfigError
from resumable_sched.schedule.config.data_files import read_json, read_toml, read_yaml
from resumable_sched.schedule.config.located import Config, Located, Unreadable
from resumable_sched.schedule.config.python_files import read_python
from resumable_sched.schedule.config.python_values import BASE

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

__all__ = ["load_config"]

_SCHEDULERS: Final = ("param_scheduler", "scheduler", "schedulers")
_OPTIMIZERS: Final = ("optim_wrapper", "optimizer")
_TRAINING: Final = "train_cfg"
_DELETE: Final = "_delete_"


def load_config(path: str | os.PathLike[str]) -> Config:
    """Read schedules from a file: ``.py`` in MMEngine's style, ``.toml``, ``.yaml`` or ``.json``.

    The schedules are under ``param_scheduler`` (also ``scheduler`` or ``schedulers``). From ``optim_wrapper`` or
    ``optimizer`` the numbers are read that a preview starts from, and from ``train_cfg`` how long training is;
    everything else is ignored. A Python file is read as literals and never executed. Files named by ``_base_``, or
    imported ``with read_base():``, are read first, as in MMEngine: dicts are merged into those of ``_base_``,
    ``_delete_=True`` and everything else replaces. None for the schedules is an empty list.

    Raises:
        ConfigError: The file cannot be read, or holds no schedules; with file, line and key.
    """
    file = str(path)
    found = _read(FilePath(path), (), {})
    present = [key for key in _SCHEDULERS if key in found]
    keys = [key for key in present if found[key].value is not None] or present[:1]
    if len(keys) > 1:
        place = found[keys[1]]
        raise ConfigError(
            f"There must be one key with schedules, but there are {' and '.join(keys)}. Keep one.",
            path=keys[1],
            file=place.file,
            line=place.line,
        )
    if not keys:
        raise ConfigError(
            "`param_scheduler` (or `scheduler`, `schedulers`) must be assigned at the top level of the file or in a "
            "file of its `_base_`, but is not there. Imports are not followed, but for those under read_base().",
            file=file,
        )
    source = found[keys[0]]
    schedulers = source.plain(keys[0])
    training = found.get(_TRAINING, Located(None, file))
    lengths = {name: training.find((name,)).value for name in ("max_epochs", "max_iters")}
    known = {name: length for name, length in lengths.items() if isinstance(length, int) and length > 0}
    return Config(file, keys[0], [] if schedulers is None else schedulers, _optimizers(found), source, **known)


def _read(path: FilePath, outer: tuple[FilePath, ...], files: dict[FilePath, dict[str, Located]]) -> dict[str, Located]:
    """Read a file and the files that it is based on, which come first; each once, into *files*."""
    file = str(path)
    if path.suffix.lower() not in _READERS:
        kinds = ", ".join(_READERS)
        raise ConfigError(f"A config must be a file of type {kinds}, but ends in {path.suffix!r}.", file=file)
    place = path.resolve()
    if place in outer:
        raise ConfigError("A config must not be based on itself, but this one is.", path=BASE, file=file)
    if place in files:
        return files[place]
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"The config cannot be read: {reason}.", file=file) from error
    around = _Around(path, (*outer, place), files)
    try:
        own = _READERS[path.suffix.lower()](text, file, around)
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:  # such as a number of thousands of digits
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"The config cannot be read: {reason}.", file=file) from error
    base = own.pop(BASE, None)
    found: dict[str, Located] = {}
    if base is not None:
        if isinstance(base.value, Unreadable):
            base.plain(BASE)
        found.update(base.value)
    for key, value in own.items():
        found[key] = _merged_key(found[key], value, key) if key in found else _without_delete(value)
    files[place] = found
    return found


class _Around(NamedTuple):
    """Read what a file refers to.

    Attributes:
        path: The file.
        outer: It, and the files that are being read because of which it is read.
        files: The files that were read.
    """

    path: FilePath
    outer: tuple[FilePath, ...]
    files: dict[FilePath, dict[str, Located]]

    def bases(self, named: Located) -> Located:
        """Return what the files hold that `_base_` names."""
        found: dict[str, Located] = {}
        for base in _base_files(named, self.path.parent):
            for key, value in _read(base, self.outer, self.files).items():
                if key in found and key in (*_SCHEDULERS, *_OPTIMIZERS):
                    raise ConfigError(
                        f"must be in one of the files in `{BASE}`, but is in {found[key].file} too.",
                        path=key,
                        file=value.file,
                        line=value.line,
                    )
                found[key] = value.copy()
        return Located(found, named.file, named.line)

    def module(self, name: str) -> dict[str, Located]:
        """Return what a module holds that is imported ``with read_base():``; it is found, and not imported."""
        rest = name.lstrip(".")
        parts = rest.split(".")
        if rest == name:
            home = _home(parts.pop(0))
        else:
            home = self.path.parent.joinpath(*[".."] * (len(name) - len(rest) - 1))
        file = None if home is None else home.joinpath(*parts).with_suffix(".py")
        if file is None or not _is_file(file):
            where = "" if file is None else f": there is no {file}"
            reason = f"`read_base` must import a config that is there, but `{name}` is not{where}."
            raise ConfigError(reason, file=str(self.path))
        return {key: value.copy() for key, value in _read(file, self.outer, self.files).items()}


def _base_files(named: Located, folder: FilePath) -> list[FilePath]:
    """Return the files that are named; ``package::folder/file.py`` is one that an installed package brings."""
    given = named.plain(BASE)
    names: list[str] = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        reason = f"must be the path of a file, or a list of them, but is {names!r} instead."
        raise ConfigError(reason, path=BASE, file=named.file, line=named.line)
    return [_base_file(name, folder, named) for name in names]


def _base_file(name: str, folder: FilePath, named: Located) -> FilePath:
    package, _, inner = name.rpartition("::")
    home = _home(package) if package else None
    file = folder / name if home is None else home / ".mim" / "configs" / inner
    reason = ""
    if "://" in name:
        reason = f"must be paths of local files, but has {name!r}. Copy that file, and name the copy."
    elif package and home is None:
        reason = f"must be of installed packages, but {package} of {name!r} is not. Install it, or copy that file."
    elif not _is_file(file):
        reason = f"must be paths of files, but there is no {file}."
    if reason:
        raise ConfigError(reason, path=BASE, file=named.file, line=named.line)
    return file


def _is_file(path: FilePath) -> bool:
    try:
        return path.is_file()
    except OSError:  # its name is too long
        return False


def _home(package: str) -> FilePath | None:
    """Return the folder of an installed package, without importing it."""
    try:
        found = importlib.util.find_spec(package) if package.isidentifier() else None
    except (ImportError, ValueError):
        found = None
    return FilePath(found.origin).parent if found is not None and found.origin else None


def _python(text: str, file: str, around: _Around) -> dict[str, Located]:
    return read_python(text, file, around.bases, around.module)


def _data(read: Callable[[str, str], dict[str, Located]], text: str, file: str, around: _Around) -> dict[str, Located]:
    found = read(text, file)
    return found if BASE not in found else {**found, BASE: around.bases(found[BASE])}


_READERS: Final[Mapping[str, Callable[[str, str, _Around], dict[str, Located]]]] = {
    ".py": _python,
    ".toml": partial(_data, read_toml),
    ".yaml": partial(_data, read_yaml),
    ".yml": partial(_data, read_yaml),
    ".json": partial(_data, read_json),
}


def _merged_key(base: Located, own: Located, key: str) -> Located:
    """Merge what a file says of *key* into what its bases say; only what schedules need is ever an error."""
    try:
        return _merged(base, own, key)
    except ConfigError as error:
        if key in _SCHEDULERS:
            raise
        if key in (*_OPTIMIZERS, _TRAINING):  # a preview takes what there is
            return _without_delete(own)
        return Located(Unreadable(error.reason), own.file, own.line)


def _merged(base: Located, own: Located, path: str) -> Located:
    """Merge dicts key by key; everything else, and what says ``_delete_``, replaces."""
    if not isinstance(own.value, dict) or _deletes(own):
        return _without_delete(own)
    if isinstance(base.value, Unreadable):
        base.plain(path)
    if not isinstance(base.value, dict):
        raise ConfigError(
            f"is a dict here, which cannot be merged into what {base.file} has. Put {_DELETE}=True into the dict to "
            "replace that.",
            path=path,
            file=own.file,
            line=own.line,
        )
    merged = dict(base.value)
    for key, value in _without_delete(own).value.items():
        merged[key] = _merged(merged[key], value, f"{path}.{key}") if key in merged else _without_delete(value)
    return Located(merged, own.file, own.line)


def _deletes(value: Located) -> bool:
    return isinstance(value.value, dict) and _DELETE in value.value and bool(value.value[_DELETE].value)


def _without_delete(value: Located) -> Located:
    if isinstance(value.value, dict) and _DELETE in value.value:
        return Located({key: each for key, each in value.value.items() if key != _DELETE}, value.file, value.line)
    return value


def _optimizers(found: Mapping[str, Located]) -> dict[str, dict[str, object]]:
    """Find what the file says of optimizers; what cannot be read there is left out."""
    place = next((found[key] for key in _OPTIMIZERS if key in found and isinstance(found[key].value, dict)), None)
    if place is None:
        return {}
    settings: dict[str, Located] = place.value
    inner = settings.get("optimizer")
    if inner is not None and isinstance(inner.value, dict):
        return {"optimizer": _numbers(inner)}
    wrapped = {
        name: each.value.get("optimizer", each)
        for name, each in settings.items()
        if isinstance(each.value, dict) and ("optimizer" in each.value or "type" in each.value)
    }
    if "type" not in settings and wrapped:
        return {name: _numbers(each) for name, each in wrapped.items() if isinstance(each.value, dict)}
    return {"optimizer": _numbers(place)}


def _numbers(settings: Located) -> dict[str, object]:
    plain: dict[str, object] = {}
    for name, each in settings.value.items():
        value = each.value
        if isinstance(value, list):
            value = [item.value for item in value]
        if isinstance(value, str | int | float) or (
            isinstance(value, list) and all(isinstance(item, int | float) for item in value)
        ):
            plain[name] = value
    return plain
