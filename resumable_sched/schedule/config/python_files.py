"""Read config files in MMEngine's Python style as literals; nothing in them is ever executed."""

from __future__ import annotations

import ast
import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from resumable_sched.errors import ConfigError
from resumable_sched.schedule.config.located import Located, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["read_python"]

_RULE: Final = (
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
_NAMING: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)
_LARGEST: Final = 2.0**1023
_MOST_DIGITS: Final = 300
_SHOWN: Final = 60


def read_python(text: str, file: str) -> dict[str, Located]:
    """Return what each name of a module is assigned last, `Unreadable` where that is not a literal.

    Raises:
        ConfigError: *text* is not Python.
    """
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise ConfigError(f"This is not valid Python: {error.msg}.", file=file, line=error.lineno) from None
    except (ValueError, RecursionError, MemoryError) as error:
        reason = str(error) or "it is nested too deeply"
        raise ConfigError(f"This cannot be read as Python: {reason}.", file=file) from None
    module = _Module(file)
    for statement in tree.body:
        try:
            module.take(statement)
        except RecursionError:
            raise ConfigError("This is nested too deeply to be read.", file=file, line=statement.lineno) from None
    return module.names


class _Module:
    """Follow the top level of a module from statement to statement."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.names: dict[str, Located] = {}

    def take(self, statement: ast.stmt) -> None:
        """Note what *statement* assigns; what it might change in a way that is not followed becomes unreadable."""
        match statement:
            case ast.Assign(targets=targets, value=value) if all(isinstance(each, ast.Name) for each in targets):
                self._doubt_calls(value, statement)
                found = self.value(value)
                for target in targets:
                    self.names[target.id] = Located(found.value, self.file, statement.lineno)  # type: ignore[attr-defined]
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                self._doubt_calls(value, statement)
                self.names[name] = Located(self.value(value).value, self.file, statement.lineno)
            case ast.AugAssign(target=ast.Name(id=name) as target, op=op, value=value) if self._is_number(name):
                self._doubt_calls(value, statement)
                before = ast.copy_location(ast.Name(name, ast.Load()), target)
                self.names[name] = self.value(ast.copy_location(ast.BinOp(before, op, value), statement))
            case ast.Import() | ast.ImportFrom():
                self._import(statement)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self._doubt(statement.name, statement)
            case _:
                self._doubt_all(statement, statement)

    def _is_number(self, name: str) -> bool:
        """Return whether changing *name* changes nothing else, as it does for a list that has other names."""
        return name in self.names and isinstance(self.names[name].value, int | float)

    def _import(self, statement: ast.Import | ast.ImportFrom) -> None:
        """Let an imported name stand for its path: ``type=LinearLR`` after ``from ... import LinearLR``."""
        module = "." * getattr(statement, "level", 0) + (getattr(statement, "module", None) or "")
        for alias in statement.names:
            if isinstance(statement, ast.Import):
                name = alias.asname or alias.name.partition(".")[0]
                path = alias.name if alias.asname else name
            else:
                name, path = alias.asname or alias.name, f"{module}.{alias.name}"
            reason = f"{_RULE}, but is imported: {path}. Write the values here, or name their file in `_base_`."
            self.names[name] = Located(_Imported(reason, path), self.file, statement.lineno)

    def _doubt_calls(self, value: ast.expr, statement: ast.stmt) -> None:
        """Doubt what the calls in *value* might change, as ``last = param_scheduler.pop()`` does."""
        for node in ast.walk(value):
            harmless = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict"
            if isinstance(node, ast.Call | ast.NamedExpr) and not harmless:
                self._doubt_all(node, statement)

    def _doubt_all(self, part: ast.AST, statement: ast.stmt) -> None:
        """Doubt every name that *part* assigns, and every list or dict that it mentions."""
        nodes = list(ast.walk(part))
        mentioned = {node.id for node in nodes if isinstance(node, ast.Name)} & self.names.keys()
        changed = {each for name in mentioned for each in _containers(self.names[name].value)}
        for name, other in list(self.names.items()):
            if changed & _containers(other.value):
                self._doubt(name, statement)
        for node in nodes:
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                self._doubt(node.id, statement)
            elif isinstance(node, ast.alias):
                self._doubt(node.asname or node.name.partition(".")[0], statement)
            elif isinstance(node, _NAMING) and node.name is not None:
                self._doubt(node.name, statement)

    def _doubt(self, name: str, statement: ast.stmt) -> None:
        reason = f"{_RULE}, but `{name}` may be changed by `{_source(statement)}`. Write the values themselves."
        self.names[name] = Located(Unreadable(reason), self.file, statement.lineno)

    # ------------------------------------------------------------------ expressions
    def value(self, node: ast.expr) -> Located:  # noqa: C901, PLR0911 - one case for each kind of expression
        """Read an expression; never raises."""
        match node:
            case ast.Constant(value=str() | int() | float() | None as value):
                return self._at(node, value)
            case ast.Name(id=name) if name in self.names:
                return self._at(node, self.names[name].value)
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in self.names:
                known = self.names[name].value
                if isinstance(known, _Imported):
                    return self._at(node, _Imported(known.reason, f"{known.path}.{attribute}"))
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return self._list(node, items)
            case ast.Dict(keys=keys, values=values):
                return self._dict(node, list(zip(keys, values, strict=True)))
            case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords) if "dict" not in self.names:
                return self._dict(node, [(None if each.arg is None else _key(each), each.value) for each in keywords])
            case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _SIGNS:
                inner = self.value(operand)
                if isinstance(inner.value, int | float | Unreadable):
                    failed = isinstance(inner.value, Unreadable)
                    return inner if failed else self._at(node, _SIGNS[type(sign)](inner.value))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return self._arithmetic(node, op, self.value(left), self.value(right))
            case _:
                pass
        return self._unreadable(node)

    def _list(self, node: ast.expr, items: list[ast.expr]) -> Located:
        found: list[Located] = []
        for item in items:
            if isinstance(item, ast.Starred):
                inner = self.value(item.value)
                if not isinstance(inner.value, list):
                    return inner if isinstance(inner.value, Unreadable) else self._unreadable(item)
                found += inner.value
            else:
                found.append(self.value(item))
        return self._at(node, found)

    def _dict(self, node: ast.expr, items: list[tuple[ast.expr | None, ast.expr]]) -> Located:
        found: dict[str, Located] = {}
        names = [each.arg for each in node.keywords if each.arg] if isinstance(node, ast.Call) else []
        if twice := next((name for place, name in enumerate(names) if name in names[:place]), None):
            reason = f"The key {twice!r} must be there once, but is there twice."
            raise ConfigError(reason, file=self.file, line=node.lineno)
        for key, value in items:
            inner = self.value(value)
            if key is None:  # **other
                if not isinstance(inner.value, dict):
                    return inner if isinstance(inner.value, Unreadable) else self._unreadable(value)
                found.update(inner.value)
                continue
            name = self.value(key).value
            if not isinstance(name, str | int | float):
                return self._unreadable(key)
            meant = inner.value.path if name == "type" and isinstance(inner.value, _Imported) else inner.value
            found[str(name)] = Located(meant, inner.file, key.lineno)
        return self._at(node, found)

    def _arithmetic(  # noqa: PLR0911 - one for each way in which it may fail
        self, node: ast.expr, op: ast.operator, left: Located, right: Located
    ) -> Located:
        for side in (left, right):
            if isinstance(side.value, Unreadable):
                return side
        one, two = left.value, right.value
        if isinstance(op, ast.Add) and isinstance(one, list) and isinstance(two, list):
            return self._at(node, [*one, *two])
        if not isinstance(one, int | float) or not isinstance(two, int | float):
            return self._unreadable(node)
        if isinstance(op, ast.Pow) and abs(two) > 1 and abs(two) * math.log10(max(abs(one), 1)) > _MOST_DIGITS:
            return self._unreadable(node, "the number is too large")
        try:
            value = _OPERATORS[type(op)](one, two)
        except (ArithmeticError, ValueError) as error:
            return self._unreadable(node, str(error))
        if isinstance(value, complex) or abs(value) > _LARGEST:
            return self._unreadable(node, "the result is not a number that can be used")
        return self._at(node, value)

    def _at(self, node: ast.expr, value: object) -> Located:
        return Located(value, self.file, node.lineno)

    def _unreadable(self, node: ast.expr, why: str = "") -> Located:
        reason = f"{_RULE}, but is `{_source(node)}` instead{': ' + why if why else ''}. Write the value itself."
        return self._at(node, Unreadable(reason))


@dataclass(frozen=True)
class _Imported(Unreadable):
    """Stand for an imported object; only as the `type` of a schedule does its path say something."""

    path: str


def _key(keyword: ast.keyword) -> ast.expr:
    return ast.copy_location(ast.Constant(keyword.arg), keyword)


def _containers(value: object, known: frozenset[int] | set[int] = frozenset()) -> set[int]:
    """Return the identities of *value* and all lists and dicts inside it."""
    found = set(known)
    if isinstance(value, dict | list) and id(value) not in found:
        found.add(id(value))
        for each in value.values() if isinstance(value, dict) else value:
            found = _containers(each.value, found)
    return found


def _source(node: ast.AST) -> str:
    text = ast.unparse(node).partition("\n")[0]
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
