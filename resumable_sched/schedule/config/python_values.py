"""Say what expressions of a Python config file mean, from literals and names; nothing is ever executed."""

from __future__ import annotations

import ast
import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from resumable_sched.errors import ConfigError
from resumable_sched.schedule.config.located import Located, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, MutableMapping

__all__ = ["BASE", "HARMLESS_CALLS", "RULE", "Imported", "Values", "is_method", "source"]

BASE: Final = "_base_"
"""The name of the files that a config is based on; in a Python file then also of what they hold."""

RULE: Final = (
    "must be made of literals, lists, dict(...), arithmetic on numbers, and names that are assigned above (a config is "
    "read, not executed)"
)
_OPERATORS: Final[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_SIGNS: Final[Mapping[type[ast.unaryop], Callable[[Any], Any]]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
_FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "abs": abs,
    "float": float,
    "int": int,
    "max": max,
    "min": min,
    "round": round,
}
HARMLESS_CALLS: Final = frozenset({"dict", "len", *_FUNCTIONS})
"""The functions that are read; they change nothing."""
_METHODS: Final = frozenset({"deepcopy", "freeze", "merge", "to_dict", "unfreeze"})
_LARGEST: Final = 2.0**1023
_MOST_DIGITS: Final = 300
_LONGEST: Final = 100_000
_SHOWN: Final = 60


@dataclass(frozen=True)
class Imported(Unreadable):
    """Stand for an imported object; only as the `type` of a schedule does its path say something."""

    path: str = ""


class Values:
    """Read expressions of a file, with the values of *names*.

    Lists and dicts are shared as Python shares them: two names may stand for the same one.

    Args:
        file: The file, for places.
        names: What has been assigned so far; it may grow.
    """

    def __init__(self, file: str, names: MutableMapping[str, Located]) -> None:
        self._file = file
        self._names = names

    def read(self, node: ast.expr) -> Located:  # noqa: C901, PLR0911 - one case for each kind of expression
        """Return what *node* means, `Unreadable` where that is unknown."""
        match node:
            case ast.Constant(value=str() | int() | float() | None as value) if not _is_template(value):
                return self._at(node, value)
            case ast.Name(id=name) if name in self._names:
                return self._at(node, self._names[name].value)
            case ast.Attribute() | ast.Subscript():
                return self._part(node)
            case ast.Set(elts=[ast.Set(elts=[ast.Attribute() as named])]):  # MMEngine's {{_base_.name}}
                return self.read(named)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return self._list(node, items)
            case ast.Dict(keys=keys, values=values):
                return self._dict(node, list(zip(keys, values, strict=True)))
            case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords) if "dict" not in self._names:
                return self._dict(node, [(None if each.arg is None else _key(each), each.value) for each in keywords])
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if self._is_function(name):
                return self._call(node, name, [self.read(each) for each in arguments])
            case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _SIGNS:
                inner = self.read(operand)
                if isinstance(inner.value, int | float | Unreadable):
                    failed = isinstance(inner.value, Unreadable)
                    return inner if failed else self._at(node, _SIGNS[type(sign)](inner.value))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return self._arithmetic(node, op, self.read(left), self.read(right))
            case _:
                pass
        return self._unreadable(node)

    def place(self, node: ast.expr) -> tuple[Any, Any] | None:
        """Return the container, and the key in it, that *node* names; None where that is unknown.

        A name is in the dict of names; ``x.key`` is ``x["key"]``, as in MMEngine's configs.
        """
        match node:
            case ast.Name(id=name):
                return self._names, name
            case ast.Attribute(value=inner, attr=key):
                container = self.read(inner).value
                return (container, key) if isinstance(container, dict) and not is_method(key) else None
            case ast.Subscript(value=inner, slice=index):
                container, key = self.read(inner).value, self.read(index).value
                if isinstance(container, dict) and isinstance(key, str):
                    return container, key
                if isinstance(container, list) and isinstance(key, int) and -len(container) <= key < len(container):
                    return container, key
        return None

    @staticmethod
    def at(place: tuple[Any, Any]) -> Located | None:
        """Return what is at a place; None if there is nothing."""
        container, key = place
        found: Located | None = container[key] if isinstance(container, list) else container.get(key)
        return found

    # ------------------------------------------------------------------ kinds of expressions
    def _part(self, node: ast.Attribute | ast.Subscript) -> Located:
        """Read a part of a list or dict, or a name in an imported module."""
        around = self.read(node.value)
        if isinstance(around.value, Imported) and isinstance(node, ast.Attribute):
            return self._at(node, Imported(around.value.reason, path=f"{around.value.path}.{node.attr}"))
        if isinstance(around.value, Unreadable):
            undefined = isinstance(node.value, ast.Name) and node.value.id not in self._names
            return self._unreadable(node) if undefined else around
        found = self.at(self.place(node) or ({}, ""))
        return self._unreadable(node) if found is None else self._at(node, found.value)

    def _is_function(self, name: str) -> bool:
        return name in HARMLESS_CALLS and name not in self._names

    def _call(self, node: ast.expr, name: str, arguments: list[Located]) -> Located:
        """Read a function of numbers, or the length of a list."""
        for each in arguments:
            if isinstance(each.value, Unreadable):
                return each
        given = [each.value for each in arguments]
        if name == "len":
            countable = len(given) == 1 and isinstance(given[0], list | dict | str)
            return self._at(node, len(given[0])) if countable else self._unreadable(node)
        listed = name in ("max", "min") and len(given) == 1 and isinstance(given[0], list)
        numbers = [each.value for each in given[0]] if listed else given
        digits = given[1] if name == "round" and len(given) == len(("number", "digits")) else 0
        if not all(isinstance(each, int | float) for each in numbers) or abs(digits) > _MOST_DIGITS:
            return self._unreadable(node)
        try:
            return self._at(node, _FUNCTIONS[name](numbers) if listed else _FUNCTIONS[name](*numbers))
        except (ArithmeticError, TypeError, ValueError) as error:
            return self._unreadable(node, str(error))

    def _list(self, node: ast.expr, items: list[ast.expr]) -> Located:
        found: list[Located] = []
        for item in items:
            if isinstance(item, ast.Starred):
                inner = self.read(item.value)
                if not isinstance(inner.value, list):
                    return inner if isinstance(inner.value, Unreadable) else self._unreadable(item)
                found += inner.value
            else:
                found.append(self.read(item))
            if len(found) > _LONGEST:
                return self._unreadable(node, "it is too long")
        return self._at(node, found)

    def _dict(self, node: ast.expr, items: list[tuple[ast.expr | None, ast.expr]]) -> Located:
        found: dict[str, Located] = {}
        names = [each.arg for each in node.keywords if each.arg] if isinstance(node, ast.Call) else []
        if twice := next((name for place, name in enumerate(names) if name in names[:place]), None):
            reason = f"The key {twice!r} must be there once, but is there twice."
            raise ConfigError(reason, file=self._file, line=node.lineno)
        for key, value in items:
            inner = self.read(value)
            if key is None:  # **other
                if not isinstance(inner.value, dict):
                    return inner if isinstance(inner.value, Unreadable) else self._unreadable(value)
                found.update(inner.value)
                continue
            name = self.read(key).value
            if not isinstance(name, str):
                return self._unreadable(key)
            meant = inner.value.path if name == "type" and isinstance(inner.value, Imported) else inner.value
            found[name] = Located(meant, inner.file, key.lineno)
        return self._at(node, found)

    def _arithmetic(  # noqa: PLR0911 - one for each way in which it may fail
        self, node: ast.expr, op: ast.operator, left: Located, right: Located
    ) -> Located:
        for side in (left, right):
            if isinstance(side.value, Unreadable):
                return side
        one, two = left.value, right.value
        if isinstance(one, list | str) and (joined := _joined(op, one, two)) is not None:
            return self._at(node, joined)
        if not isinstance(one, int | float) or not isinstance(two, int | float):
            return self._unreadable(node)
        try:
            if isinstance(op, ast.Pow) and abs(two) > 1 and abs(two) * math.log10(max(abs(one), 1)) > _MOST_DIGITS:
                return self._unreadable(node, "the number is too large")
            value = _OPERATORS[type(op)](one, two)
            if isinstance(value, complex) or abs(value) > _LARGEST:
                return self._unreadable(node, "the result is not a number that can be used")
        except (ArithmeticError, ValueError) as error:
            return self._unreadable(node, str(error))
        return self._at(node, value)

    def _at(self, node: ast.expr, value: object) -> Located:
        return Located(value, self._file, node.lineno)

    def _unreadable(self, node: ast.expr, why: str = "") -> Located:
        reason = f"{RULE}, but is `{source(node)}` instead{': ' + why if why else ''}. Write the value itself."
        return self._at(node, Unreadable(reason, tuple(each.value for each in self.mentioned(ast.walk(node)))))

    def mentioned(self, nodes: Iterable[ast.AST]) -> list[Located]:
        """Return what the names among *nodes* stand for; of ``_base_`` only the parts that are named there."""
        found: list[Located] = []
        parts: list[ast.expr] = []
        names: list[ast.Name] = []
        for node in nodes:
            match node:
                case ast.Attribute(value=ast.Name(id=name) as owner, attr=key) if name == BASE and not is_method(key):
                    parts.append(owner)
                    found += self._part_of_base(key)
                case ast.Subscript(value=ast.Name(id=name) as owner, slice=ast.Constant(value=str() as key)) if (
                    name == BASE
                ):
                    parts.append(owner)
                    found += self._part_of_base(key)
                case ast.Name():
                    names.append(node)
        return found + [self._names[each.id] for each in names if each.id in self._names and each not in parts]

    def _part_of_base(self, key: str) -> list[Located]:
        base: Any = self._names[BASE].value if BASE in self._names else None
        return [base[key]] if isinstance(base, dict) and key in base else []


def _joined(op: ast.operator, one: Any, two: Any) -> list[Any] | str | None:  # noqa: ANN401 - whatever there is
    """Put lists or strings together, or repeat a list; None where they cannot be, or become too long."""
    joined: list[Any] | str | None = None
    if isinstance(op, ast.Add) and isinstance(two, type(one)) and len(one) + len(two) <= _LONGEST:
        joined = one + two
    elif (
        isinstance(op, ast.Mult)
        and isinstance(one, list)
        and isinstance(two, int)
        and abs(two) <= _LONGEST // max(len(one), 1)
    ):
        joined = one * two
    return joined


def _is_template(value: object) -> bool:
    """Return whether *value* is a string in which MMEngine replaces ``{{fileDirname}}`` and the like."""
    return isinstance(value, str) and "{{" in value


def is_method(name: str) -> bool:
    """Return whether ``x.name`` is a method of MMEngine's dicts and not the key of that name."""
    return hasattr({}, name) or name in _METHODS


def source(node: ast.AST) -> str:
    """Return the beginning of the source of *node*, for messages."""
    text = ast.unparse(node).partition("\n")[0]
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _key(keyword: ast.keyword) -> ast.expr:
    return ast.copy_location(ast.Constant(keyword.arg), keyword)
