"""Follow config files in MMEngine's Python style from statement to statement; nothing in them is ever executed."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, Final

from resumable_sched.errors import ConfigError
from resumable_sched.schedule.config.located import Located, Unreadable
from resumable_sched.schedule.config.python_values import (
    BASE,
    HARMLESS_CALLS,
    RULE,
    Imported,
    Values,
    is_method,
    source,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["read_python"]

_REACH_ALL: Final = frozenset({"eval", "exec", "globals", "locals", "vars"})
"""Functions that can change any name."""
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
        self._put_in: set[int] = set()  # the lists and dicts that were put into others
        self._kept: list[Any] = []  # them, so that no other gets their identity
        self._functions: list[ast.AST] = []  # what is in the functions of the file, which any call may run
        self._modules: dict[str, Mapping[str, Located]] = {}
        self._read_bases = read_bases
        self._read_module = read_module

    def take(self, statement: ast.stmt) -> None:  # noqa: C901 - a case for each kind of statement
        """Note what *statement* assigns; what it might change in a way that is not followed becomes unreadable."""
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name == BASE and self._read_bases is not None:
                if BASE in self.names:
                    reason = "must be assigned once, but is assigned twice. Name all files in one list."
                    raise ConfigError(reason, path=BASE, file=self.file, line=statement.lineno)
                self._doubt_calls(value, statement)
                self.names[BASE] = self._read_bases(self._values.read(value))
            case ast.Assign(targets=targets, value=value):
                self._assign(targets, value, statement)
            case ast.AnnAssign(target=target, annotation=annotation, value=ast.expr() as value):
                self._doubt_calls(annotation, statement)
                self._assign([target], value, statement)
            case ast.AugAssign(target=target, op=op, value=value) if self._is_number(target):
                self._assign([target], ast.copy_location(ast.BinOp(target, op, value), statement), statement)
            case ast.Delete(targets=targets):
                self._delete(targets, statement)
            case ast.Import() | ast.ImportFrom():
                self._import(statement)
            case ast.With(items=[ast.withitem(context_expr=ast.Call(func=ast.Name(id="read_base"), args=[]))]):
                self._import_bases(statement)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                for part in (statement.args, *statement.decorator_list):
                    self._doubt_all(part, statement, calls=bool(statement.decorator_list))
                self._functions += [node for each in statement.body for node in ast.walk(each)]
                self._doubt(self.names, statement.name, statement)
            case _:
                self._doubt_all(statement, statement)

    # ------------------------------------------------------------------ assignments
    def _assign(self, targets: list[ast.expr], value: ast.expr, statement: ast.stmt) -> None:
        self._doubt_calls(value, statement)
        found = self._values.read(value)
        for target in targets:
            self._doubt_calls(target, statement)
            place = self._place(target)
            if place is None or id(place[0]) in _containers([found.value]) or self._names_base(target):
                self._doubt_all(statement, statement)
                continue
            container, key = place
            container[key] = Located(found.value, self.file, statement.lineno)
            if container is not self.names:
                self._put_in |= _containers([found.value])
                self._kept.append(found.value)

    def _names_base(self, target: ast.expr) -> bool:
        return isinstance(target, ast.Name) and target.id == BASE and self._read_bases is not None

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
        return None if place is None or id(place[0]) in self._put_in else place

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
            self.names[name] = Located(Imported(reason, path=path), self.file, statement.lineno)

    def _import_bases(self, statement: ast.With) -> None:
        """Take what modules hold that are imported ``with read_base():``, MMEngine's newer way to say ``_base_``."""
        for each in statement.body:
            if not isinstance(each, ast.ImportFrom) or self._read_module is None:
                self._doubt_all(each, each)
                continue
            module = _module(each)
            held = self._modules[module] = self._modules.get(module) or self._read_module(module)
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
            elif isinstance(node, ast.Lambda):
                self._functions += ast.walk(node.body)

    def _doubt_all(self, part: ast.AST, statement: ast.stmt, *, calls: bool = False) -> None:
        """Doubt every name that *part* assigns, and every list or dict that it mentions.

        If it *calls* something, any function of the file may run, so that what these mention is doubted as well.
        """
        own = nodes = list(ast.walk(part))
        if calls or any(isinstance(node, ast.Call) for node in own):
            nodes = own + self._functions
            if any(isinstance(node, ast.Name) and node.id in _REACH_ALL for node in nodes):
                for name in {*self.names, *HARMLESS_CALLS}:
                    self._doubt(self.names, name, statement)
        if any(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) for node in own):
            self._functions += own
        self._doubt_mentioned(nodes, statement)
        assigned = {each for node in own if (each := _assigned(node)) is not None}
        assigned |= {each for node in nodes if isinstance(node, ast.Global) for each in node.names}
        for each in assigned:
            self._doubt(self.names, each, statement)

    def _doubt_mentioned(self, nodes: list[ast.AST], statement: ast.stmt) -> None:
        base, written = self._base(), self._written_in_base(nodes)
        changed = _containers([each.value for each in self._values.mentioned(nodes)])
        unchanged: set[int] = set()
        for holder in (self.names, base):
            for name, other in list(holder.items()):
                whole = holder is base or name != BASE or id(base) in changed
                if whole and not isinstance(other.value, Unreadable) and _reaches(other.value, changed, unchanged):
                    self._doubt(holder, name, statement)
        for key in written:
            self._doubt(base, key, statement)

    def _base(self) -> dict[str, Located]:
        """Return what the files hold that this one is based on; empty if there are none, or nobody knows any more."""
        base: Any = self.names[BASE].value if BASE in self.names and self._read_bases is not None else None
        return base if isinstance(base, dict) else {}

    def _written_in_base(self, nodes: list[ast.AST]) -> set[str]:
        """Return the keys of ``_base_`` that are assigned or deleted."""
        keys: set[str] = set()
        for node in nodes:
            match node:
                case (
                    ast.Attribute(value=ast.Name(id=name), attr=str() as key, ctx=ast.Store() | ast.Del())
                    | ast.Subscript(
                        value=ast.Name(id=name), slice=ast.Constant(value=str() as key), ctx=ast.Store() | ast.Del()
                    )
                ) if name == BASE and not (isinstance(node, ast.Attribute) and is_method(key)):
                    keys.add(key)
        return keys

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
    if isinstance(node, ast.MatchMapping):
        return node.rest
    return node.name if isinstance(node, _NAMING) else None


def _inside(value: object) -> list[Any]:
    """Return what is directly inside a list or dict, or what an unreadable value is made of."""
    if isinstance(value, Unreadable):
        return list(value.shares)
    if isinstance(value, dict):
        return [each.value for each in value.values()]
    return [each.value for each in value] if isinstance(value, list) else []


def _containers(values: list[Any]) -> set[int]:
    """Return the identities of all lists and dicts in *values*, at any depth."""
    found: set[int] = set()
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list | Unreadable) and id(value) not in found:
            found.add(id(value))
            waiting += _inside(value)
    return found


def _reaches(value: object, changed: set[int], unchanged: set[int]) -> bool:
    """Return whether *value* is or has one of *changed*; what has none is added to *unchanged*."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if not isinstance(each, dict | list) or id(each) in seen or id(each) in unchanged:
            continue
        if id(each) in changed:
            return True
        seen.add(id(each))
        waiting += _inside(each)
    unchanged |= seen
    return False
