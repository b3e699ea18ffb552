"""Name functions by their import path, so that a schedule made of one can be saved and compared."""

from __future__ import annotations

import importlib
import sys
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

from resumable_sched.errors import ScheduleMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

__all__ = ["ImportedFunction", "Product", "function_argument"]

_REMEDY: Final = (
    "Define it with `def` at the top level of a module, with its numbers written there as constants; or write a "
    "schedule whose numbers are its fields (docs/schedules.md, 'Your own')."
)

_NAMED: Final[dict[str, Callable[[int], float]]] = {}
"""The functions that this program has named itself. A saved state can choose among them; it cannot import others."""

_STRIDE: Final = 1024


class ImportedFunction(str):
    """Be the import path ``"module:name"`` of a function of a tick, and call it.

    >>> from math import sqrt
    >>> root = ImportedFunction("math:sqrt", sqrt)
    >>> root, root(4)
    ('math:sqrt', 2.0)
    """

    __slots__ = ("function",)

    def __new__(cls, path: str, function: Callable[[int], float]) -> Self:  # noqa: ARG004, D102 - see __init__
        return super().__new__(cls, path)

    def __init__(self, path: str, function: Callable[[int], float]) -> None:  # noqa: ARG002 - str has taken it
        self.function = function

    def __getnewargs__(self) -> tuple[str, Callable[[int], float]]:  # type: ignore[override]
        return str(self), self.function

    def __call__(self, tick: int) -> float:
        """Return the function's value at *tick* as a float."""
        return float(self.function(tick))


class Product(ImportedFunction):
    """Return the product of a function's values from 1 to a tick, remembering some on the way.

    The factors are always multiplied from left to right, so that a value does not depend on what was asked before.

    >>> from math import sqrt
    >>> roots = Product("math:sqrt", sqrt)
    >>> roots(0), roots(1), round(roots(4) ** 2, 9)
    (1.0, 1.0, 24.0)
    """

    __slots__ = ("_last", "_marks")

    def __init__(self, path: str, function: Callable[[int], float]) -> None:
        super().__init__(path, function)
        self._marks = [1.0]  # at every 1,024th tick, so that memory stays small and a jump short
        self._last = (0, 1.0)

    def __call__(self, tick: int) -> float:
        """Return the product at *tick*."""
        known = min(tick // _STRIDE, len(self._marks) - 1)
        at, product = known * _STRIDE, self._marks[known]
        if at <= self._last[0] <= tick:
            at, product = self._last
        for each in range(at + 1, tick + 1):
            product *= float(self.function(each))
            if each == len(self._marks) * _STRIDE:
                self._marks.append(product)
        self._last = (tick, product)
        return product


def function_argument(
    name: str, given: object, kind: type[ImportedFunction] = ImportedFunction, *, restored: bool
) -> ImportedFunction:
    """Check that the argument *name* is a function that can be imported, or the path of one, and give both.

    Args:
        name: The argument.
        given: Its value.
        kind: What to make of it.
        restored: It comes from a saved state, and may only name a function that this program has named already.

    Raises:
        TypeError: It is neither a function nor a path.
        ValueError: It cannot be imported by its name.
        ScheduleMismatchError: It is *restored*, and this program has not named it.
    """
    if isinstance(given, ImportedFunction):
        path, function = str(given), given.function
    elif isinstance(given, str):
        if restored and given not in _NAMED:
            raise ScheduleMismatchError(
                f"The saved schedule cannot be kept: its `{name}` is {given!r}, and no schedule of this program was "
                f"built with that function. A saved state does not import code; build a schedule with it first.",
                [],
            )
        path, function = given, _NAMED[given] if restored else _import(name, given)
    else:
        path, function = _path_of(name, given), given  # type: ignore[assignment]
    _NAMED[path] = function
    return kind(path, function)


def _import(name: str, path: str) -> Callable[[int], float]:
    module, colon, qualified = path.partition(":")
    if not (module and colon and qualified):
        raise ValueError(f'`{name}` must be a function or its path "module:name", but is {path!r} instead.')
    try:
        found = _look_up(importlib.import_module(module), qualified)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"`{name}` must be the path of a function that can be imported, but is {path!r} instead: {error}."
        ) from error
    if not callable(found):
        raise TypeError(f"`{name}` must be the path of a function, but {path!r} is {found!r} instead.")
    function: Callable[[int], float] = found
    return function


def _path_of(name: str, function: object) -> str:
    if not callable(function):
        raise TypeError(f'`{name}` must be a function or its path "module:name", but is {function!r} instead.')
    module, qualified = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if isinstance(module, str) and isinstance(qualified, str):
        try:
            if _look_up(sys.modules.get(module), qualified) is function:
                return f"{module}:{qualified}"
        except AttributeError:
            pass  # a lambda or a nested function: its name leads nowhere
    raise ValueError(
        f"`{name}` must be a function that can be imported, so that it can be saved by its name and compared, but is "
        f"{function!r} instead. {_REMEDY}"
    )


def _look_up(module: object, qualified: str) -> Any:  # noqa: ANN401 - whatever is there
    return reduce(getattr, qualified.split("."), module)
