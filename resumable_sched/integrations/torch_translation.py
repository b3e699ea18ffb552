"""Say which schedules here have the values of a torch scheduler, from what its state dict holds; builds nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from resumable_sched.schedule.importable import function_argument

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "Planned",
    "milestones_of",
    "recognise",
    "translate",
]

ParamGroups = list[dict[str, Any]]

CHAINABLE = frozenset(
    {
        "MultiplicativeLR",
        "StepLR",
        "MultiStepLR",
        "ConstantLR",
        "LinearLR",
        "ExponentialLR",
        "PolynomialLR",
        "CosineAnnealingLR",
    }
)
"""What changes the present value, and so composes in a chain as here. The others set one of their own."""

RESTARTABLE = (CHAINABLE | {"LambdaLR", "CosineAnnealingWarmRestarts"}) - {"MultiplicativeLR"}
"""What begins from the base again in a SequentialLR. MultiplicativeLR goes on from the present value."""


class Planned(NamedTuple):
    """Be a schedule to build or to compare with.

    Attributes:
        family: Its family, such as "Step".
        param_name: "lr" or "momentum".
        arguments: Its fields; what they do not name is not known, or is the default.
    """

    family: str
    param_name: str
    arguments: dict[str, Any]

    @property
    def class_name(self) -> str:
        """Return the name of the class.

        >>> Planned("Step", "lr", {}).class_name, Planned("Cyclic", "momentum", {}).class_name
        ('StepLR', 'CyclicMomentum')
        """
        return self.family + ("LR" if self.param_name == "lr" else "Momentum")


def recognise(state: Mapping[str, Any]) -> str:
    """Return the torch class that a state dict comes from, by its keys; "" if it is none of them.

    A ``MultiplicativeLR`` has the keys of a ``LambdaLR``, and is called that.

    >>> recognise({"gamma": 0.1, "step_size": 3, "last_epoch": 7}), recognise({"last_epoch": 7})
    ('StepLR', '')
    """
    for kind, keys in _KEYS.items():
        if keys <= state.keys():
            return kind
    return ""


_KEYS = {
    "SequentialLR": {"_schedulers", "_milestones"},
    "ChainedScheduler": {"_schedulers"},
    "ReduceLROnPlateau": {"num_bad_epochs", "cooldown_counter", "patience"},
    "OneCycleLR": {"_schedule_phases", "total_steps"},
    "CyclicLR": {"max_lrs", "step_ratio"},
    "CosineAnnealingWarmRestarts": {"T_0", "T_mult"},
    "CosineAnnealingLR": {"T_max", "eta_min"},
    "MultiStepLR": {"milestones", "gamma"},
    "StepLR": {"step_size", "gamma"},
    "LambdaLR": {"lr_lambdas"},
    "LinearLR": {"start_factor", "end_factor", "total_iters"},
    "ConstantLR": {"factor", "total_iters"},
    "PolynomialLR": {"power", "total_iters"},
    "ExponentialLR": {"gamma"},
}


def translate(
    kind: str, attributes: Mapping[str, Any], groups: ParamGroups | None = None, begin: int = 0
) -> list[Planned] | None:
    """Say which schedules have the values of a torch scheduler.

    Args:
        kind: The name of its class.
        attributes: Its attributes, or its state dict, where functions are None. ``_schedulers`` may be pairs of kind
            and attributes.
        groups: The param groups of its optimizer; None if they are not known.
        begin: The tick at which it begins.

    Returns:
        None if there is no closed form of the same values.
    """
    if kind not in _TRANSLATIONS:
        return None
    return _TRANSLATIONS[kind](attributes, groups, begin)


def milestones_of(counts: Mapping[Any, int]) -> list[int]:
    """Return the milestones in order, from how often each of them is there.

    >>> milestones_of({"11": 1, "8": 2})  # after JSON, keys are strings
    [8, 8, 11]
    """
    return sorted(int(each) for each, count in counts.items() for _ in range(int(count)))


# ---------------------------------------------------------------------- one for each class
def _step(attributes: Mapping[str, Any], _: ParamGroups | None, begin: int) -> list[Planned] | None:
    return _one("Step", begin, step_size=attributes["step_size"], gamma=attributes["gamma"])


def _multi_step(attributes: Mapping[str, Any], _: ParamGroups | None, begin: int) -> list[Planned] | None:
    milestones = milestones_of(attributes["milestones"])
    if milestones and milestones[0] < 0:
        return None
    return _one("MultiStep", begin, milestones=milestones, gamma=attributes["gamma"])


def _constant(attributes: Mapping[str, Any], _: ParamGroups | None, begin: int) -> list[Planned] | None:
    return _one("Constant", begin, factor=attributes["factor"], end=begin + attributes["total_iters"] + 1)


def _linear(attributes: Mapping[str, Any], _: ParamGroups | None, begin: int) -> list[Planned] | None:
    factors = {name: attributes[name] for name in ("start_factor", "end_factor")}
    return _one("Linear", begin, **factors, end=begin + attributes["total_iters"] + 1)


def _exponential(attributes: Mapping[str, Any], _: ParamGroups | None, begin: int) -> list[Planned] | None:
    return _one("Exponential", begin, gamma=attributes["gamma"])


def _polynomial(attributes: Mapping[str, Any], _: ParamGroups | None, begin: int) -> list[Planned] | None:
    return _one("Poly", begin, power=attributes["power"], end=begin + attributes["total_iters"] + 1)


def _cosine(attributes: Mapping[str, Any], _: ParamGroups | None, begin: int) -> list[Planned] | None:
    whole = _whole(attributes["T_max"])
    return None if whole is None else _one("CosineAnnealing", begin, T_max=whole, eta_min=float(attributes["eta_min"]))


def _warm_restarts(attributes: Mapping[str, Any], _: ParamGroups | None, begin: int) -> list[Planned] | None:
    fields = {name: attributes[name] for name in ("T_0", "T_mult", "eta_min")}
    return _one("CosineAnnealingWarmRestarts", begin, **fields)


def _cyclic(attributes: Mapping[str, Any], _: ParamGroups | None, begin: int) -> list[Planned] | None:
    up = _whole(attributes["total_size"] * attributes["step_ratio"])
    total = _whole(attributes["total_size"])
    if up is None or total is None or total <= up:
        return None
    fields: dict[str, Any] = {"step_size_up": up, "mode": attributes["mode"], "gamma": attributes["gamma"]}
    if total != 2 * up:
        fields["step_size_down"] = total - up
    custom = attributes.get("_scale_fn_custom")
    if custom is not None:
        if not _importable([custom]):
            return None
        fields |= {"scale_fn": custom, "scale_mode": attributes["scale_mode"]}
    base, peak = (_numbers(attributes[name]) for name in ("base_lrs", "max_lrs"))
    planned = _one("Cyclic", begin, base_lr=_collapse(base), max_lr=_collapse(peak), **fields)
    if attributes["cycle_momentum"]:
        low, high = (_collapse(_numbers(attributes[name])) for name in ("base_momentums", "max_momentums"))
        planned += _one("Cyclic", begin, "momentum", base_lr=high, max_lr=low, **fields)
    return planned


def _one_cycle(attributes: Mapping[str, Any], groups: ParamGroups | None, begin: int) -> list[Planned] | None:
    total, phases = attributes["total_steps"], attributes["_schedule_phases"]
    if phases[0]["end_step"] <= 0.0:
        return None  # the peer divides by zero, or by what is nearly so
    fields: dict[str, Any] = {
        "total_steps": total,
        "pct_start": _simplest(
            (phases[0]["end_step"] + 1.0) / total, lambda share: float(share * total) - 1.0 == phases[0]["end_step"]
        ),
        "anneal_strategy": attributes.get("_anneal_func_type", "cos"),
        "three_phase": len(phases) > 2,  # noqa: PLR2004 - there are two or three
    }
    names = ("lr", *(("momentum",) if attributes["cycle_momentum"] else ()))
    planned: list[Planned] = []
    for name in names:
        peaks = None if groups is None else _peaks(groups, name)
        if groups is not None and peaks is None:
            return None
        planned += _one("OneCycle", begin, name, **fields, **(peaks or {}))
    return planned


def _peaks(groups: ParamGroups, name: str) -> dict[str, Any] | None:
    """Return peak and divisors as torch has left them in the param groups; None if the divisors differ by group."""
    if name == "lr":
        keys = [(group["initial_lr"], group["max_lr"], group["min_lr"]) for group in groups]
    else:  # the momentum goes down where the learning rate goes up, and comes back
        keys = [(group["max_momentum"], group["base_momentum"], group["max_momentum"]) for group in groups]
    rows = [_numbers(row) for row in keys]
    if any(0.0 in row for row in rows):
        return None
    first = {_quotient(peak, low) for low, peak, _ in rows}
    last = {_quotient(low, end) for low, _, end in rows}
    if len(first) > 1 or len(last) > 1:
        return None
    return {"eta_max": _collapse([row[1] for row in rows]), "div_factor": first.pop(), "final_div_factor": last.pop()}


def _lambda(family: str) -> Callable[[Mapping[str, Any], ParamGroups | None, int], list[Planned] | None]:
    def plan(attributes: Mapping[str, Any], groups: ParamGroups | None, begin: int) -> list[Planned] | None:
        functions = attributes["lr_lambdas"]
        if groups is None:
            return _one(family, begin)  # a state does not hold them
        if not _importable(functions):
            return None
        same = all(each is functions[0] for each in functions)
        return _one(family, begin, lr_lambda=functions[0] if same else list(functions))

    return plan


def _plateau(attributes: Mapping[str, Any], _: ParamGroups | None, begin: int) -> list[Planned] | None:
    fields = {name: attributes[name] for name in ("factor", "patience", "threshold", "cooldown", "eps")}
    fields["rule"] = "less" if attributes["mode"] == "min" else "greater"
    fields["threshold_rule"] = attributes["threshold_mode"]
    return _one("ReduceOnPlateau", begin, **fields, min_value=_collapse(_numbers(attributes["min_lrs"])))


def _chained(attributes: Mapping[str, Any], groups: ParamGroups | None, begin: int) -> list[Planned] | None:
    planned: list[Planned] = []
    for kind, inner in _parts(attributes):
        found = translate(kind, inner, groups, begin) if kind in CHAINABLE or kind == "LambdaLR" else None
        if found is None or (kind == "LambdaLR" and groups is not None):
            return None
        planned += found
    return planned


def _sequential(attributes: Mapping[str, Any], groups: ParamGroups | None, begin: int) -> list[Planned] | None:
    """Let warm-ups that have arrived at the base be followed by something else; nothing else simply follows."""
    parts, milestones = _parts(attributes), attributes["_milestones"]
    starts = [0, *milestones]
    if any(later <= earlier for earlier, later in zip(starts, milestones, strict=False)):
        return None
    planned: list[Planned] = []
    for index, (kind, inner) in enumerate(parts):
        if kind not in RESTARTABLE:
            return None
        if index < len(milestones):
            arrives = kind == "ConstantLR" or (kind == "LinearLR" and inner["end_factor"] == 1.0)
            if not arrives or not 0 < inner["total_iters"] <= milestones[index] - starts[index]:
                return None
        found = translate(kind, inner, groups, begin + starts[index])
        if found is None:
            return None
        planned += found
    return planned


_TRANSLATIONS: dict[str, Callable[[Mapping[str, Any], ParamGroups | None, int], list[Planned] | None]] = {
    "StepLR": _step,
    "MultiStepLR": _multi_step,
    "ConstantLR": _constant,
    "LinearLR": _linear,
    "ExponentialLR": _exponential,
    "PolynomialLR": _polynomial,
    "CosineAnnealingLR": _cosine,
    "CosineAnnealingWarmRestarts": _warm_restarts,
    "CyclicLR": _cyclic,
    "OneCycleLR": _one_cycle,
    "LambdaLR": _lambda("Lambda"),
    "MultiplicativeLR": _lambda("Multiplicative"),
    "ReduceLROnPlateau": _plateau,
    "ChainedScheduler": _chained,
    "SequentialLR": _sequential,
}


# ---------------------------------------------------------------------- what they share
def _one(family: str, begin: int, param_name: str = "lr", /, **arguments: Any) -> list[Planned]:  # noqa: ANN401
    return [Planned(family, param_name, {**arguments, "begin": begin} if begin else arguments)]


def _parts(attributes: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [each if isinstance(each, tuple) else (recognise(each), each) for each in attributes["_schedulers"]]


def _numbers(values: Sequence[Any]) -> list[float]:
    return [float(value) for value in values]


def _collapse(values: list[float]) -> float | list[float]:
    """Return one number for all where they are the same."""
    return values[0] if len(set(values)) == 1 else values


def _whole(value: float) -> int | None:
    """Return the integer that *value* is but for rounding.

    >>> _whole(30.000000000000004), _whole(2.5)
    (30, None)
    """
    return round(value) if math.isclose(value, round(value), rel_tol=1e-12) else None


def _simplest(value: float, same: Callable[[float], bool]) -> float:
    """Return the number with the fewest digits that does what *value* does.

    >>> _simplest(0.30000000000000004, lambda share: share * 100.0 - 1.0 == 29.0)
    0.3
    """
    return next((short for digits in range(1, 17) if same(short := float(f"{value:.{digits}g}"))), value)


def _quotient(one: float, other: float) -> float:
    """Return the simplest number that *one* is divided by to give *other*.

    >>> _quotient(0.3, 0.3 / 25.0)
    25.0
    """
    return _simplest(one / other, lambda by: one / by == other)


def _importable(functions: Sequence[Any]) -> bool:
    try:
        for each in functions:
            function_argument("lr_lambda", each, restored=False)
    except (TypeError, ValueError):
        return False
    return True
