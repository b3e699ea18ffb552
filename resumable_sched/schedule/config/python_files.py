"""Follow config files in MMEngine's Python style from statement to statement; nothing in them is ever executed."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, Final

from resumable_sched.errors import ConfigError
from resumable_sched.schedule.config.located import Located, Unreadable
from resumable_sched.schedule.config.python_values import HARMLESS_CALLS, RULE, Imported, Values, source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["BASE", "read_python"]

BASE: Final = "_base_"
"""The name of the files that a config is based on; in a Python file then also of what they hold."""

_NAMING: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)


def read_python(
    text: str,
    file: str,
    read_bases: Callable[[Located], Located] | None = None,
    read_module: Callable[[str], Mapping[str, Located]] | None = None,
) -> dict[str, Located]:
    """Return what each name of a module is assigned last, `Unreadable` where that is not known.

    Args:
        text: The module.
        file: Its file, for places.
        read_bases: Gives what the files hold that ``_base_`` names: what that name stands for from there on, as in
            MMEngine, so that the module may look there and change it.
        read_module: Gives what the module holds that is imported ``with read_base():``.

    Raises:
        ConfigError: *text* is not Python, or a base cannot be read.
    """
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise ConfigError(f"This is not valid Python: {error.msg}.", file=file, line=error.lineno) from None
    except (ValueError, RecursionError, MemoryError) as error:
        reason = str(error) or "it is nested too deeply"
        raise ConfigError(f"This cannot be read as Python: {reason}.", file=file) from None
    module = _Module(file, read_bases, read_module)
    for statement in tree.body:
        try:
            module.take(statement)
        except RecursionError:
            raise ConfigError("This is nested too deeply to be read.", file=file, line=statement.lineno) from None
    return module.names


class _Module:
    """Follow the top level of a module from statement to statement."""

    def __init__(
        self,
        file: str,
        read_bases: Callable[[Located], Located] | None,
        read_module: Callable[[str], Mapping[str, Located]] | None,
    ) -> None:
        self.file = file
        self.names: dict[str, Located] = {}
        self._values = Values(file, self.names)
        self._put_in: list[Any] = []  # what was put into lists and dicts
        self._read_bases = read_bases
        self._read_module = read_module

    def take(self, statement: ast.stmt) -> None:
        """Note what *statement* assigns; what it might change in a way that is not followed becomes unreadable."""
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name == BASE and self._read_bases is not None:
                self._doubt_calls(value, statement)
                self.names[BASE] = self._read_bases(self._values.read(value))
            case ast.Assign(targets=targets, value=value):
                self._assign(targets, value, statement)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._assign([target], value, statement)
            case ast.AugAssign(target=target, op=op, value=value) if self._is_number(target):
                self._assign([target], ast.copy_location(ast.BinOp(target, op, value), statement), statement)
            case ast.Delete(targets=targets):
                self._delete(targets, statement)
            case ast.Import() | ast.ImportFrom():
                self._import(statement)
            case ast.With(items=[ast.withitem(context_expr=ast.Call(func=ast.Name(id="read_base"), args=[]))]):
                self._import_bases(statement)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self._doubt(self.names, statement.name, statement)
            case _:
                self._doubt_all(statement, statement)

    # ------------------------------------------------------------------ assignments
    def _assign(self, targets: list[ast.expr], value: ast.expr, statement: ast.stmt) -> None:
        self._doubt_calls(value, statement)
        found = self._values.read(value)
        for target in targets:
            place = self._place(target)
            if place is None or id(place[0]) in _containers(found.value):
                self._doubt_all(statement, statement)
                continue
            container, key = place
            container[key] = Located(found.value, self.file, statement.lineno)
            if container is not self.names:
                self._put_in.append(found.value)

    def _delete(self, targets: list[ast.expr], statement: ast.stmt) -> None:
        for target in targets:
            place = self._place(target)
            if place is None or self._values.at(place) is None:
                self._doubt_all(target, statement)
            else:
                del place[0][place[1]]

    def _place(self, target: ast.expr) -> tuple[Any, Any] | None:
        """Return where *target* is; None where it is not known, or not known where else that is.

        MMEngine's dicts copy some of what is put into them, so that a later change there may be one elsewhere, or not.
        """
        place = self._values.place(target)
        put_in = {each for value in self._put_in for each in _containers(value)}
        return None if place is None or id(place[0]) in put_in else place

    def _is_number(self, target: ast.expr) -> bool:
        """Return whether changing *target* changes nothing else, as it does for a list that has other names."""
        place = self._place(target)
        found = None if place is None else self._values.at(place)
        return found is not None and isinstance(found.value, int | float)

    # ------------------------------------------------------------------ names of elsewhere
    def _import(self, statement: ast.Import | ast.ImportFrom) -> None:
        """Let an imported name stand for its path: ``type=LinearLR`` after ``from ... import LinearLR``."""
        for alias in statement.names:
            if isinstance(statement, ast.Import):
                name = alias.asname or alias.name.partition(".")[0]
                path = alias.name if alias.asname else name
            else:
                name, path = alias.asname or alias.name, f"{_module(statement)}.{alias.name}"
            reason = f"{RULE}, but is imported: {path}. Write the values here, or name their file in `{BASE}`."
            self.names[name] = Located(Imported(reason, path), self.file, statement.lineno)

    def _import_bases(self, statement: ast.With) -> None:
        """Take what modules hold that are imported ``with read_base():``, MMEngine's newer way to say ``_base_``."""
        for each in statement.body:
            held = None
            if isinstance(each, ast.ImportFrom) and self._read_module is not None:
                held = self._read_module(_module(each))
            if held is None or not isinstance(each, ast.ImportFrom):
                self._doubt_all(each, each)
                continue
            for alias in each.names:
                if alias.name == "*":
                    self.names.update({name: value for name, value in held.items() if not name.startswith("_")})
                elif alias.name in held:
                    self.names[alias.asname or alias.name] = held[alias.name]
                else:
                    self._doubt(self.names, alias.asname or alias.name, each)

    # ------------------------------------------------------------------ doubts
    def _doubt_calls(self, value: ast.expr, statement: ast.stmt) -> None:
        """Doubt what the calls in *value* might change, as ``last = param_scheduler.pop()`` does."""
        for node in ast.walk(value):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            harmless = called in HARMLESS_CALLS and called not in self.names
            if isinstance(node, ast.Call | ast.NamedExpr) and not harmless:
                self._doubt_all(node, statement)

    def _doubt_all(self, part: ast.AST, statement: ast.stmt) -> None:
        """Doubt every name that *part* assigns, and every list or dict that it mentions."""
        nodes = list(ast.walk(part))
        self._doubt_mentioned(nodes, statement)
        for node in nodes:
            if (name := _assigned(node)) is not None:
                self._doubt(self.names, name, statement)

    def _doubt_mentioned(self, nodes: list[ast.AST], statement: ast.stmt) -> None:
        base, (keys, whole) = self._base(), self._of_base(nodes)
        names = {node.id for node in nodes if isinstance(node, ast.Name) and (node.id != BASE or whole)}
        values = [self.names[name] for name in names & self.names.keys()]
        values += [base[key] for key in keys.keys() & base.keys()]
        changed = {each for value in values for each in _containers(value.value)}
        whole = whole or id(base) in changed
        for holder in (self.names, base):
            for name, other in list(holder.items()):
                mentioned = holder is base or name != BASE or whole
                if mentioned and changed & _containers(other.value):
                    self._doubt(holder, name, statement)
        for key in [key for key, written in keys.items() if written]:
            self._doubt(base, key, statement)

    def _base(self) -> dict[str, Located]:
        """Return what the files hold that this one is based on; empty if there are none, or nobody knows any more."""
        base: Any = self.names[BASE].value if BASE in self.names and self._read_bases is not None else None
        return base if isinstance(base, dict) else {}

    def _of_base(self, nodes: list[ast.AST]) -> tuple[dict[str, bool], bool]:
        """Return the keys of ``_base_`` that are mentioned, each with whether it is written; and whether all are."""
        keys: dict[str, bool] = {}
        mentions = sum(isinstance(node, ast.Name) and node.id == BASE for node in nodes)
        for node in nodes:
            match node:
                case (
                    ast.Attribute(value=ast.Name(id=name), attr=str() as key, ctx=context)
                    | ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str() as key), ctx=context)
                ) if name == BASE and not (isinstance(node, ast.Attribute) and hasattr({}, key)):
                    mentions -= 1
                    keys[key] = keys.get(key, False) or not isinstance(context, ast.Load)
        return keys, mentions > 0

    def _doubt(self, holder: dict[str, Located], name: str, statement: ast.stmt) -> None:
        reason = f"{RULE}, but `{name}` may be changed by `{source(statement)}`. Write the values themselves."
        holder[name] = Located(Unreadable(reason), self.file, statement.lineno)


def _module(statement: ast.ImportFrom) -> str:
    """Return what follows ``from``."""
    return "." * statement.level + (statement.module or "")


def _assigned(node: ast.AST) -> str | None:
    """Return the name that *node* gives a value to, or takes it from."""
    if isinstance(node, ast.Name):
        return None if isinstance(node.ctx, ast.Load) else node.id
    if isinstance(node, ast.alias):
        return node.asname or node.name.partition(".")[0]
    return node.name if isinstance(node, _NAMING) else None


def _containers(value: object, known: frozenset[int] | set[int] = frozenset()) -> set[int]:
    """Return the identities of *value* and all lists and dicts inside it."""
    found = set(known)
    if isinstance(value, dict | list) and id(value) not in found:
        found.add(id(value))
        for each in value.values() if isinstance(value, dict) else value:
            found = _containers(each.value, found)
    return found
