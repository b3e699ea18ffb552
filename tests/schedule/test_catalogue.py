"""The catalogue of schedules follows rules; each test states one rule for all of them."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from typing import Any

import pytest

from resumable_sched import schedule
from resumable_sched.schedule import ParamScheduler

FAMILIES = (
    "Constant",
    "CosineAnnealing",
    "CosineAnnealingWarmRestarts",
    "CosineRestart",
    "Cyclic",
    "Exponential",
    "HalfLife",
    "InverseSqrt",
    "Lambda",
    "Linear",
    "MultiStep",
    "Multiplicative",
    "OneCycle",
    "Piecewise",
    "Poly",
    "PolyRestart",
    "QuadraticWarmup",
    "ReduceOnPlateau",
    "Sequential",
    "Step",
    "Tanh",
    "TriStage",
    "WarmupStableDecay",
)
WINDOW = {"begin": 0, "end": 10**9, "by_epoch": True, "unit": None, "last_step": -1, "verbose": False}
ALL = [f"{family}{suffix}" for family in FAMILIES for suffix in ("LR", "Momentum", "ParamScheduler")]


def named(name: str) -> type[ParamScheduler]:
    """Return a public schedule by its name."""
    found: type[ParamScheduler] = getattr(schedule, name)
    assert issubclass(found, ParamScheduler)
    return found


def test_the_catalogue_is_what_the_package_exports() -> None:
    """Nothing else in the package is a schedule, and every name is in `__all__`."""
    exported = {
        name
        for name in schedule.__all__
        if isinstance(getattr(schedule, name), type) and issubclass(getattr(schedule, name), ParamScheduler)
    }

    assert exported == {*ALL, "ParamScheduler"}


@pytest.mark.parametrize("name", ALL)
def test_a_schedule_is_a_frozen_dataclass_with_its_own_name_and_words(name: str) -> None:
    """Each class can be found by its qualified name, by pickle too, and says what it is."""
    cls = named(name)

    assert dataclasses.is_dataclass(cls)
    assert cls.__qualname__ == name
    assert pickle.loads(pickle.dumps(cls)) is cls  # noqa: S301 - our own bytes
    assert cls.__doc__
    assert not cls.__doc__.startswith(f"{name}(")  # what dataclasses put there where nobody wrote one


@pytest.mark.parametrize("name", ALL)
def test_windows_are_keywords_with_the_defaults_of_the_peers(name: str) -> None:
    """Every schedule takes the same window, by keyword only."""
    parameters = inspect.signature(named(name)).parameters

    window = {each: parameters[each] for each in WINDOW}
    assert {each: parameter.default for each, parameter in window.items()} == WINDOW
    assert {parameter.kind for parameter in window.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert window["last_step"].annotation == "int"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_variant_pins_the_name_of_its_parameter_and_nothing_else(family: str) -> None:
    """The signature of a variant is that of its family without `param_name`."""
    whole = dict(inspect.signature(named(f"{family}ParamScheduler")).parameters)
    name = whole.pop("param_name")

    assert name.default is inspect.Parameter.empty
    for suffix in ("LR", "Momentum"):
        assert _shape(inspect.signature(named(family + suffix)).parameters) == _shape(whole)
        assert issubclass(named(family + suffix), named(f"{family}ParamScheduler"))


@pytest.mark.parametrize("name", ALL)
def test_every_public_method_has_words(name: str) -> None:
    """help() explains each public attribute of each class."""
    for each in dir(named(name)):
        if not each.startswith("_") and callable(getattr(named(name), each)):
            assert inspect.getdoc(getattr(named(name), each)), each


def _shape(parameters: Any) -> list[tuple[str, Any, Any]]:
    return [(each, parameter.default, parameter.kind) for each, parameter in dict(parameters).items()]
