"""Describe a schedule: frozen configuration, a window, and the map at each tick. Nothing here moves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass, field, fields
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Final, final

import msgspec

from resumable_sched.schedule import derived
from resumable_sched.schedule.arguments import check_choice, whole
from resumable_sched.schedule.configuration import configuration_of
from resumable_sched.schedule.conversion import DURATION, FOREVER, POINTS
from resumable_sched.schedule.curves import Affine
from resumable_sched.schedule.layer import UNITS, Unit
from resumable_sched.schedule.selection import GroupChoice, chosen, group_choice
from resumable_sched.schedule.shares import has_share, resolve_shares

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resumable_sched.schedule.targets import HasParamGroups

__all__ = ["Description"]

_TIMES: Final = frozenset({DURATION["convert"], POINTS["convert"]})
"""What the metadata of fields say that may be shares of training."""
_UNKNOWN_LENGTH: Final[Mapping[Unit, int]] = {"epoch": FOREVER, "iteration": FOREVER, "sample": 10**18, "token": 10**18}
"""How long training is taken to be until somebody says."""


@cache
def _times(cls: type[Any]) -> tuple[str, ...]:
    """Return the names of the fields that may be shares of training."""
    return tuple(each.name for each in fields(cls) if each.metadata.get("convert") in _TIMES)


@dataclass(frozen=True, eq=False)
class Description(ABC):
    """Be all of a schedule that does not change; a `ParamScheduler` adds the clock.

    The arguments are documented there.
    """

    optimizer: HasParamGroups = field(repr=False)
    param_name: str
    _: KW_ONLY
    begin: int = field(default=0, metadata=DURATION)
    end: int = field(default=FOREVER, metadata=DURATION)
    by_epoch: bool = True
    unit: Unit | None = field(default=None, repr=False)
    groups: GroupChoice = field(default=None, repr=False)

    need_val_args: ClassVar[bool] = False
    """Whether `step` takes the metrics of a validation; MMEngine's hook asks."""

    rebases_only_as_first: ClassVar[bool] = False
    """Whether the base that `split_base` gives for later schedules holds only where this is the first in the list."""

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401 - passed on
        super().__init_subclass__(**kwargs)
        derived.complete(cls, Description)

    # ------------------------------------------------------------------ what a subclass says
    @abstractmethod
    def at(self, t: int, base: float) -> Affine:
        """Return the map of the incoming value at local tick *t*; pure: it reads fields and arguments only.

        Args:
            t: Ticks since `begin`, from 0 to :attr:`span`. It may jump.
            base: The initial value of the param group.
        """

    def maps(self, ticks: Sequence[int], base: float) -> tuple[Sequence[float], Sequence[float]]:
        """Return the scales and the offsets of :meth:`at` at many local ticks, to the last bit.

        A family may do the same arithmetic in fewer calls; a preview of a million iterations is made of this.

        Args:
            ticks: Local ticks, each from 0 to :attr:`span`.
            base: The initial value of the param group.
        """
        found = [self.at(t, base) for t in ticks]
        return [each.scale for each in found], [each.offset for each in found]

    @property
    def multiplicative(self) -> bool:
        """Return whether :meth:`at` has offset 0 throughout and its factor depends on *t* alone, not on *base*.

        False is always right. True lets the schedule overlap others in closed form.
        """
        return False

    def same_for_every_base(self, last: int) -> bool:  # noqa: ARG002 - the family's
        """Return whether :meth:`at` gives the same map for every base, at each local tick up to *last*.

        False is always right. True lets many param groups with values of their own share one computation; then
        :meth:`increment` must not depend on the base either, but where its scale is 0.
        """
        return self.multiplicative

    def increment(self, t: int, base: float) -> Affine:
        """Return the map from the value at local tick ``t - 1`` to that at *t*, for a chain.

        A chain is where schedules overlap that are not multiplicative. This is the quotient of the two maps; where
        nothing of the value before is left to scale, the value starts again from *base*.
        """
        now = self.at(t, base)
        if t == 0:
            return now
        before = self.at(t - 1, base)
        if before.scale == 0.0:
            return Affine(0.0, now(base))
        ratio = now.scale / before.scale
        return Affine(ratio, now.offset - ratio * before.offset)

    def increments(self, ticks: range, base: float) -> tuple[Sequence[float], Sequence[float]]:
        """Return the scales and the offsets of :meth:`increment` at successive local ticks, to the last bit.

        A family may do the same arithmetic in fewer calls, as for :meth:`maps`.

        Args:
            ticks: Local ticks, each one more than the last, from 0 to :attr:`span`.
            base: The initial value of the param group.
        """
        if type(self).increment is Description.increment and ticks.start > 0:
            scales, offsets = self.maps(range(ticks.start - 1, ticks.stop), base)
            if 0.0 not in scales:
                ratios = [now / before for before, now in pairwise(scales)]
                return ratios, [
                    now - ratio * before for ratio, (before, now) in zip(ratios, pairwise(offsets), strict=True)
                ]
        found = [self.increment(t, base) for t in ticks]
        return [each.scale for each in found], [each.offset for each in found]

    def validate(self) -> None:  # noqa: B027 - a family without parameters has nothing to check
        """Check the fields of the family, and normalise their types (a list becomes a tuple).

        Raises:
            TypeError: A field is of a wrong type.
            ValueError: A field is out of its range.
        """

    def split_base(self, base: Sequence[float]) -> tuple[list[float], list[float]]:
        """Return the base that :meth:`at` receives, and the one for later schedules; one-cycle changes them."""
        return list(base), list(base)

    # ------------------------------------------------------------------ windows
    @final
    @property
    def clock_unit(self) -> Unit:
        """Return what a tick is."""
        return self.unit  # type: ignore[return-value]  # `prepare` has set it

    @final
    @property
    def open_ended(self) -> bool:
        """Return whether `end` was not given, so that the window closes when training ends."""
        return self.end is FOREVER

    @final
    @property
    def span(self) -> int:
        """Return the ticks from the first to the last one of the window, ``end - begin - 1``."""
        end = self.end
        return (self._length if end is FOREVER else end) - self.begin - 1

    @final
    @property
    def _length(self) -> int:
        """Return the ticks of training, or what they are taken to be."""
        known = self.__dict__
        return known.get("_training_length") or known.get("_assumed_length") or _UNKNOWN_LENGTH[self.clock_unit]

    @final
    @property
    def is_restored(self) -> bool:
        """Return whether the schedule is built from a saved configuration, and not by the program."""
        return bool(self.__dict__.get("_restored"))

    @final
    @property
    def has_shares(self) -> bool:
        """Return whether a duration was given as a share of training."""
        return bool(self.__dict__["_shares"])

    @final
    @property
    def shares(self) -> Mapping[str, Any]:
        """Return all durations as they were given, if one is a share of training: what follows from it is not there."""
        shares: Mapping[str, Any] = self.__dict__["_shares"]
        return shares

    @final
    def selection(self) -> list[bool] | None:
        """Return for each param group whether the schedule acts on it; None if on all.

        Raises:
            ValueError: `groups` does not fit the optimizer's.
        """
        return chosen("groups", self.groups, self.optimizer.param_groups)

    @final
    def configuration(self) -> dict[str, Any]:
        """Return the configuration as plain JSON, to be saved, compared and shown."""
        fresh: dict[str, Any] = msgspec.to_builtins(self.known_configuration())
        return fresh

    @final
    def known_configuration(self) -> dict[str, Any]:
        """Return the :meth:`configuration` itself, to be read only: it is the same one each time."""
        known: dict[str, Any] | None = self.__dict__.get("_configuration")
        if known is None:
            known = self.__dict__["_configuration"] = configuration_of(self)
        return known

    # ------------------------------------------------------------------ inside
    @final
    def prepare(self) -> None:
        """Check and normalise all configuration; touches nothing else."""
        derived.require_fields(self)
        if not isinstance(self.param_name, str):
            raise TypeError(f"`param_name` must be the key of a hyper-parameter, but is {self.param_name!r} instead.")
        if self.unit is not None:
            check_choice("unit", self.unit, UNITS)
        if not isinstance(self.by_epoch, int) or self.by_epoch not in (True, False):
            raise TypeError(f"`by_epoch` must be True or False, but is {self.by_epoch!r} instead.")
        own = self.__dict__
        own.pop("_configuration", None)
        unit = own["unit"] = self.unit or ("epoch" if self.by_epoch else "iteration")
        own["by_epoch"] = unit == "epoch"
        if self.end == FOREVER and unit in ("epoch", "iteration"):  # MMEngine's INF, written by hand
            own["end"] = FOREVER
        if self.groups is not None:
            own["groups"] = group_choice("groups", self.groups, restored=self.is_restored)
        times = {name: getattr(self, name) for name in _times(type(self))}
        own["_shares"] = times if any(map(has_share, times.values())) else {}
        if self.has_shares and "_training_length" not in own:
            self._fit_unknown_length()
        else:
            self._fit()
        self.known_configuration()  # refuses what cannot be saved

    @final
    def _fit_unknown_length(self) -> None:
        """Fit shares into some length that suits the plain numbers beside them, until the real one is known."""
        refused: ValueError | None = None
        for length in (_UNKNOWN_LENGTH[self.clock_unit], *(10**power for power in range(2, 18))):
            self.__dict__["_assumed_length"] = length
            try:
                self._fit()
            except ValueError as error:
                refused = refused or error
            else:
                return
        assert refused is not None
        raise refused

    @final
    def _fit(self) -> None:
        """Check and normalise what may depend on the length of training."""
        for name, value in self.shares.items():
            self._set(name, resolve_shares(name, value, self._length))
        self._set("begin", whole("begin", self.begin, minimum=0))
        if not self.open_ended:
            self._set("end", whole("end", self.end))
        open_end = self._length if self.has_shares else _UNKNOWN_LENGTH[self.clock_unit]
        if (open_end if self.open_ended else self.end) <= self.begin:
            raise ValueError(
                f"`end` must be greater than `begin` (end should be larger than begin), but is {self.end} instead, "
                f"and `begin` is {self.begin}."
            )
        self.validate()

    @final
    def _window_is_given(self) -> bool:
        """Return whether the length of the window is known at build, and not the length of training."""
        return not self.open_ended

    @final
    def _set(self, name: str, value: object) -> None:
        """Set a field while the schedule is being built."""
        self.__dict__.pop("_configuration", None)
        self.__dict__[name] = value

    @final
    def check_training_length(self, ticks: int | None) -> None:
        """Raise where training, *ticks* long, is too short for the window, or where it must be known and is not.

        Raises:
            ValueError: That is so.
        """
        if ticks is None and self.has_shares:
            name = {"epoch": "max_epochs", "iteration": "max_iters"}.get(self.clock_unit, f"max_{self.clock_unit}s")
            shares = ", ".join(f"{each}={value!r}" for each, value in self.shares.items() if has_share(value))
            raise ValueError(
                f"`{name}` must be given where durations are shares of training, as in "
                f"{type(self).__name__}({shares}), but nobody says how long it is."
            )
        if ticks is not None and self.open_ended and ticks <= self.begin and not self.has_shares:
            raise ValueError(
                f"`begin` of {type(self).__name__} must be less than the length of training, {ticks} "
                f"{self.clock_unit}s, but is {self.begin} instead."
            )
