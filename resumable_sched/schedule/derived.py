"""Look at each class that is derived from a schedule, so that what its author left out does not go wrong in silence.

What a family says for the sake of speed follows from its map; a class with a map of its own must not inherit it. And
what is no field of the dataclass is neither saved nor compared.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from resumable_sched.schedule.curves import Affine

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["complete", "require_fields"]

_WORKED_OUT_FROM: Final = {
    "maps": "at",
    "multiplicative": "at",
    "same_for_every_base": "at",
    "increment": "at",
    "increments": "increment",
}
"""What a family may say in a better way than the default, and what it must agree with."""
_MAPS: Final = ("at", "increment")
_NEVER_CALLED: Final = {"__post_init__": "validate", "_get_value": "at", "get_lr": "at"}
"""What an author who comes from dataclasses, MMEngine or torch may write, and what it is called here."""
_REMEDY: Final = (
    "Decorate the class with @dataclass(frozen=True, eq=False), and let it have fields and no other attributes"
)


def complete(cls: type[Any], root: type[Any]) -> None:
    """Make a class that was derived from *root* a schedule that holds together.

    It inherits nothing that another class has worked out of another map, and the maps that it gives are checked.

    Raises:
        TypeError: It has slots, or says in another library's words what would not be asked.
    """
    if cls.__dict__.get("__slots__"):
        raise TypeError(f"{cls.__name__} must be a dataclass without slots=True: more than its fields is kept.")
    for derived, source in _WORKED_OUT_FROM.items():
        if _place(cls, source) < _place(cls, derived):
            setattr(cls, derived, root.__dict__[derived])
    if _is_ours(cls):
        return
    for wrong, right in _NEVER_CALLED.items():
        if wrong in cls.__dict__:
            raise TypeError(f"`{wrong}` of {cls.__name__} must be called `{right}` here; see ParamScheduler.")
    for name in _MAPS:
        method = inspect.getattr_static(cls, name)
        if inspect.isfunction(method) and not _is_ours(method) and not getattr(method, "gives_floats", False):
            if cls.need_val_args:
                raise TypeError(
                    f"`{name}` of {cls.__name__} must not be given: a schedule that waits for metrics has no map."
                )
            setattr(cls, name, _checked(name, method))


def require_fields(scheduler: Any) -> None:  # noqa: ANN401 - a schedule, whose module is built on this one
    """Check that all that a schedule knows is in its fields.

    Raises:
        TypeError: Something is not.
    """
    cls = type(scheduler)
    if _is_ours(cls):
        return
    known = {each.name for each in fields(cls)}
    for name in known & scheduler.__dict__.keys():
        if isinstance(value := scheduler.__dict__[name], (list, dict)):
            scheduler.__dict__[name] = copy.deepcopy(value)  # a list that its owner changes later is another schedule
    lost = [*_undeclared(cls), *(name for name in scheduler.__dict__ if name not in known and not name.startswith("_"))]
    if lost:
        raise TypeError(
            f"`{lost[0]}` of {cls.__name__} must be a field, so that it is saved and compared, but is none. {_REMEDY}."
        )


def _is_ours(defined: Any) -> bool:  # noqa: ANN401 - a class or a function
    return bool(defined.__module__.startswith("resumable_sched."))


def _place(cls: type[Any], name: str) -> int:
    """Return how far up among the ancestors of *cls* the class is that says *name*."""
    return next(place for place, ancestor in enumerate(cls.__mro__) if name in ancestor.__dict__)


def _undeclared(cls: type[Any]) -> list[str]:
    """Return what has an annotation as a field would, in a class that was not made a dataclass."""
    return [
        name
        for ancestor in cls.__mro__
        if hasattr(ancestor, "__dataclass_fields__") and "__dataclass_fields__" not in ancestor.__dict__
        for name, kind in inspect.get_annotations(ancestor).items()
        if "ClassVar" not in str(kind)
    ]


def _checked(name: str, method: Callable[[Any, int, float], object]) -> Callable[[Any, int, float], Affine]:
    """Let *method*, which is called *name*, give an `Affine` of two floats, whatever numbers it gives, or raise."""

    @functools.wraps(method)
    def checked(self: Any, t: int, base: float) -> Affine:  # noqa: ANN401
        found: Any = None
        try:
            found = method(self, t, base)
            scale, offset = map(float, found)
        except AttributeError as error:
            if error.obj is not self:
                raise
            raise TypeError(
                f"`{error.name}` of {type(self).__name__} must be a field, but is none, or not yet. {_REMEDY}."
            ) from error
        except (TypeError, ValueError) as error:
            if found is None and error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                raise  # from inside of it
            raise TypeError(
                f"`{name}` of {type(self).__name__} must give an Affine, such as Affine(0.5, 0.0), but gave "
                f"{found!r} at local tick {t} instead."
            ) from error
        if math.isnan(scale) or math.isnan(offset):
            raise ValueError(f"`{name}` of {type(self).__name__} must give numbers, but gave NaN at local tick {t}.")
        if offset and name == "at" and self.multiplicative:
            raise ValueError(
                f"`multiplicative` of {type(self).__name__} must be False where `{name}` gives an offset, "
                f"but that is {offset!r} at local tick {t}."
            )
        return Affine(scale, offset)

    checked.gives_floats = True  # type: ignore[attr-defined]
    return checked
