"""Load config files: the only place where schedules read files."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Final

from resumable_sched.errors import ConfigError
from resumable_sched.schedule.config.data_files import read_json, read_toml, read_yaml
from resumable_sched.schedule.config.located import Config, Located
from resumable_sched.schedule.config.python_files import read_python

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

__all__ = ["load_config"]

_READERS: Final[Mapping[str, Callable[[str, str], dict[str, Located]]]] = {
    ".py": read_python,
    ".toml": read_toml,
    ".yaml": read_yaml,
    ".yml": read_yaml,
    ".json": read_json,
}
_SCHEDULERS: Final = ("param_scheduler", "scheduler", "schedulers")
_OPTIMIZERS: Final = ("optim_wrapper", "optimizer")
_BASE: Final = "_base_"
_DELETE: Final = "_delete_"


def load_config(path: str | os.PathLike[str]) -> Config:
    """Read schedules from a file: ``.py`` in MMEngine's style, ``.toml``, ``.yaml`` or ``.json``.

    The schedules are under ``param_scheduler`` (also ``scheduler`` or ``schedulers``). From ``optim_wrapper`` or
    ``optimizer`` the numbers are read that a preview starts from; everything else is ignored. A Python file is read
    as literals and never executed. Files named by ``_base_`` are read first, as in MMEngine: dicts are merged into
    theirs, ``_delete_=True`` and everything else replaces.

    Raises:
        ConfigError: The file cannot be read, or holds no schedules; with file, line and key.
    """
    file = str(path)
    found = _read(FilePath(path), ())
    keys = [key for key in _SCHEDULERS if key in found and found[key].value is not None]
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
            "file of its `_base_`, but is not there. Imports, also under read_base(), are not followed.",
            file=file,
        )
    source = found[keys[0]]
    return Config(file, keys[0], source.plain(keys[0]), _optimizers(found), source)


def _read(path: FilePath, outer: tuple[FilePath, ...]) -> dict[str, Located]:
    """Read a file and the files that it is based on, which come first."""
    file = str(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        kinds = ", ".join(_READERS)
        raise ConfigError(f"A config must be a file of type {kinds}, but ends in {path.suffix!r}.", file=file)
    if path.resolve() in outer:
        raise ConfigError("A config must not be based on itself, but this one is.", path=_BASE, file=file)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"The config cannot be read: {reason}.", file=file) from error
    try:
        own = reader(text, file)
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:  # such as a number of thousands of digits
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"The config cannot be read: {reason}.", file=file) from error
    bases = own.pop(_BASE, None)
    found: dict[str, Located] = {}
    for base in [] if bases is None else _base_files(bases, path.parent):
        for key, value in _read(path.parent / base, (*outer, path.resolve())).items():
            if key in found and key in (*_SCHEDULERS, *_OPTIMIZERS):
                raise ConfigError(
                    f"must be in one of the files in `{_BASE}`, but is in {found[key].file} too.",
                    path=key,
                    file=value.file,
                    line=value.line,
                )
            found[key] = value
    for key, value in own.items():
        relevant = key in found and key in (*_SCHEDULERS, *_OPTIMIZERS)
        found[key] = _merged(found[key], value, key) if relevant else _without_delete(value)
    return found


def _base_files(bases: Located, folder: FilePath) -> list[str]:
    """Return the files that are named, by their paths from *folder*."""
    given = bases.plain(_BASE)
    names: list[str] = [given] if isinstance(given, str) else given
    reason = ""
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        reason = f"must be the path of a file, or a list of them, but is {names!r} instead."
    elif remote := [name for name in names if "::" in name or "://" in name]:
        reason = f"must be paths of local files, but has {remote[0]!r}. Copy that file, and name the copy."
    elif missing := [name for name in names if not (folder / name).is_file()]:
        reason = f"must be paths of files, but there is no {folder / missing[0]}."
    if reason:
        raise ConfigError(reason, path=_BASE, file=bases.file, line=bases.line)
    return names


def _merged(base: Located, own: Located, path: str) -> Located:
    """Merge dicts key by key; everything else, and what says ``_delete_``, replaces."""
    if not isinstance(own.value, dict) or _deletes(own):
        return _without_delete(own)
    if not isinstance(base.value, dict):
        raise ConfigError(
            f"is a dict here, which cannot be merged into what {base.file} has. Put {_DELETE}=True into the dict to "
            "replace that.",
            path=path,
            file=own.file,
            line=own.line,
        )
    merged = dict(base.value)
    for key, value in own.value.items():
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
