"""Read TOML, YAML and JSON with the line of every key; the parsers that everybody uses say what the values are."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any, Final

from resumable_sched.errors import ConfigError
from resumable_sched.schedule.config.located import Located, Path, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["read_json", "read_toml", "read_yaml"]

_NUMBER: Final = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?")
_QUOTES: Final = ('"""', "'''", '"', "'")
_PLAIN_TAGS: Final = ("tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")
_DECODER: Final = json.JSONDecoder()


def read_toml(text: str, file: str) -> dict[str, Located]:
    """Return the keys of a TOML document.

    Raises:
        ConfigError: *text* is not TOML.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else text.rstrip().count("\n") + 1  # else it says "at end of document"
        raise ConfigError(f"This is not valid TOML: {error}.", file=file, line=line) from None
    return _located(content, _TomlLines(text).lines, file)


def read_json(text: str, file: str) -> dict[str, Located]:
    """Return the keys of a JSON document.

    Raises:
        ConfigError: *text* is not JSON, or no object.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"This is not valid JSON: {error.msg}.", file=file, line=error.lineno) from None
    if not isinstance(content, dict):
        raise ConfigError("The file must hold an object with keys, but holds something else.", file=file, line=1)
    return _located(content, _JsonLines(text, file).lines, file)


def read_yaml(text: str, file: str) -> dict[str, Located]:
    """Return the keys of a YAML document; a plain ``1e-3`` is a number, as in YAML 1.2.

    Raises:
        ConfigError: *text* is not YAML, or no mapping, or PyYAML is not installed.
    """
    try:
        import yaml  # noqa: PLC0415 - only where it is needed, and only the extra brings it
    except ImportError:
        raise ConfigError(
            "PyYAML must be installed to read YAML. Run: pip install 'resumable-sched[cli]'", file=file
        ) from None
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError("The file must hold a mapping with keys, but holds something else.", file=file, line=1)
        found: dict[str, Located] = _YamlReader(loader, yaml, file).read(node).value
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        raise ConfigError(f"This is not valid YAML: {error.problem}.", file=file, line=line) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"This is not valid YAML: {error}.", file=file) from None
    finally:
        if loader is not None:
            loader.dispose()
    return found


def _located(content: Mapping[str, Any], lines: Mapping[Path, int], file: str) -> dict[str, Located]:
    """Return every value its line, or that of what is around it."""

    def visit(value: Any, path: Path, line: int | None) -> Located:  # noqa: ANN401
        here = lines.get(path, line)
        if isinstance(value, dict):
            return Located({key: visit(each, (*path, key), here) for key, each in value.items()}, file, here)
        if isinstance(value, list):
            return Located([visit(each, (*path, i), here) for i, each in enumerate(value)], file, here)
        return Located(value, file, here)

    found: dict[str, Located] = visit(content, (), None).value
    return found


class _Lines:
    """Walk over a text that is known to be valid, and note the line of every key and item.

    Attributes:
        lines: The lines found.
    """

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.lines: dict[Path, int] = {}
        self._counted = (0, 1)

    def note(self, path: Path) -> None:
        """Note that *path* is here."""
        before, line = self._counted
        line += self.text.count("\n", before, self.at)
        self._counted = (self.at, line)
        self.lines.setdefault(path, line)

    def skip(self, pattern: str) -> None:
        """Pass over what matches."""
        found = re.compile(pattern).match(self.text, self.at)
        self.at = found.end() if found else self.at

    def items(self, close: str, item: Callable[[int], None], blank: str) -> None:
        """Pass over items with commas between them up to *close*; the opening bracket is next."""
        self.at += 1
        index = 0
        while True:
            self.skip(blank)
            if self.text[self.at] == close:
                break
            item(index)
            index += 1
            self.skip(blank)
            if self.text[self.at] == ",":
                self.at += 1
        self.at += 1


class _JsonLines(_Lines):
    BLANK: Final = r"[ \t\r\n]*"

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text)
        self._file = file
        self.skip(self.BLANK)
        self._value(())

    def _value(self, path: Path) -> None:
        if self.text[self.at] == "{":
            names: set[str] = set()
            self.items("}", lambda _: self._member(path, names), self.BLANK)
        elif self.text[self.at] == "[":
            self.items("]", lambda index: self._item((*path, index)), self.BLANK)
        else:
            self.at = _DECODER.raw_decode(self.text, self.at)[1]

    def _item(self, path: Path) -> None:
        self.note(path)
        self._value(path)

    def _member(self, path: Path, names: set[str]) -> None:
        name, end = _DECODER.raw_decode(self.text, self.at)
        self.note((*path, name))
        if name in names:
            line = self._counted[1]
            raise ConfigError(f"The key {name!r} must be there once, but is there twice.", file=self._file, line=line)
        names.add(name)
        self.at = end
        self.skip(r"[ \t\r\n]*:[ \t\r\n]*")
        self._value((*path, name))


class _TomlLines(_Lines):
    BLANK: Final = r"(?:[ \t\r\n]|#[^\n]*)*"

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._tables: dict[Path, int] = {}
        table: Path = ()
        self.skip(self.BLANK)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self.skip(self.BLANK)

    def _header(self) -> Path:
        many = self.text.startswith("[[", self.at)
        start, self.at = self.at, self.at + 1 + many
        *outer, last = self._key()
        path: Path = ()
        for part in outer:
            path = self._latest((*path, part))
        path = (*path, last)
        self.skip(r"[ \t]*\]\]?")
        end, self.at = self.at, start
        self.note(path)
        if many:
            self._tables[path] = self._tables.get(path, -1) + 1
            path = self._latest(path)
            self.note(path)
        self.at = end
        return path

    def _latest(self, path: Path) -> Path:
        """Go into the last table of an array of tables."""
        return (*path, self._tables[path]) if path in self._tables else path

    def _key(self) -> list[str]:
        parts: list[str] = []
        while True:
            self.skip(r"[ \t]*")
            start = self.at
            if self.text[start] in "\"'":
                self._string()
            else:
                self.skip(r"[A-Za-z0-9_-]+")
            parts.append(next(iter(tomllib.loads(f"{self.text[start : self.at]} = 0"))))
            self.skip(r"[ \t]*")
            if self.text[self.at] != ".":
                return parts
            self.at += 1

    def _pair(self, table: Path) -> None:
        start = self.at
        path: Path = (*table, *self._key())
        end, self.at = self.at, start
        self.note(path)
        self.at = end
        self.skip(r"[ \t]*=[ \t]*")
        self._value(path)

    def _value(self, path: Path) -> None:
        first = self.text[self.at]
        if first == "{":
            self.items("}", lambda _: self._pair(path), self.BLANK)
        elif first == "[":
            self.items("]", lambda index: self._item((*path, index)), self.BLANK)
        elif first in "\"'":
            self._string()
        else:
            self.skip(r"[^,\]}\n#]*")

    def _item(self, path: Path) -> None:
        self.note(path)
        self._value(path)

    def _string(self) -> None:
        quote = next(each for each in _QUOTES if self.text.startswith(each, self.at))
        self.at += len(quote)
        while not self.text.startswith(quote, self.at):
            self.at += 2 if quote[0] == '"' and self.text[self.at] == "\\" else 1
        self.at += len(quote)
        while len(quote) > 1 and self.text.startswith(quote[0], self.at):  # a quote may stand before the closing ones
            self.at += 1


class _YamlReader:
    """Turn the nodes of YAML into values; a node that is there twice, by an alias, is read once."""

    def __init__(self, loader: Any, yaml: Any, file: str) -> None:  # noqa: ANN401 - an optional module
        self._loader, self._yaml, self._file = loader, yaml, file
        self._done: dict[int, Located | None] = {}

    def read(self, node: Any) -> Located:  # noqa: ANN401
        """Read *node* and all that is in it."""
        if id(node) in self._done:
            known = self._done[id(node)]
            if known is None:
                line = node.start_mark.line + 1
                raise ConfigError("This must not contain itself.", file=self._file, line=line)
            return known
        self._done[id(node)] = None
        found = self._done[id(node)] = Located(self._value(node), self._file, node.start_mark.line + 1)
        return found

    def _value(self, node: Any) -> Any:  # noqa: ANN401
        if not isinstance(node, self._yaml.ScalarNode) and node.tag not in _PLAIN_TAGS:
            return Unreadable(f"must be a list or a dict, but has the tag {node.tag!r} instead.")
        if isinstance(node, self._yaml.SequenceNode):
            return [self.read(each) for each in node.value]
        if isinstance(node, self._yaml.MappingNode):
            return self._mapping(node)
        plain = node.style is None and node.tag.endswith(":str")
        if plain and _NUMBER.fullmatch(node.value):
            return float(node.value)
        value = self._loader.construct_object(node)
        if value is None or isinstance(value, str | int | float):
            return value
        return Unreadable(f"must be a number, a string, true or false, but is {value!r} instead.")

    def _mapping(self, node: Any) -> dict[str, Located]:  # noqa: ANN401
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key.value, str) and key.value in seen:
                line = key.start_mark.line + 1
                reason = f"The key {key.value!r} must be there once, but is there twice."
                raise ConfigError(reason, file=self._file, line=line)
            seen.update([key.value] if isinstance(key.value, str) else [])
        self._loader.flatten_mapping(node)  # resolves "<<"
        found: dict[str, Located] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, self._yaml.ScalarNode) else repr(key.value)
            found[name] = Located(self.read(value).value, self._file, key.start_mark.line + 1)
        return found
