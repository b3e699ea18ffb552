"""Let a group become the one that writes what its schedules act on, from the beginning."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from resumable_sched.schedule.composition import Composition, needs_chain
from resumable_sched.schedule.ledger import Ledger, ledger_of, ledgers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from resumable_sched.schedule.layer import Layer
    from resumable_sched.schedule.scheduler import ParamScheduler
    from resumable_sched.schedule.targets import HasParamGroups
    from resumable_sched.schedule.timeline import ParameterKey

__all__ = ["check_chain", "take_over"]


def take_over(
    owner: object,
    optimizers: Mapping[str, HasParamGroups],
    schedulers: Sequence[tuple[ParameterKey, ParamScheduler]],
    length_for: Callable[[ParamScheduler, str], int | None],
) -> dict[ParameterKey, Ledger]:
    """Make *owner* the one that drives *schedulers*, put them to the beginning, and write.

    Args:
        owner: Who drives them from now on; whoever did is not asked any more.
        optimizers: The optimizers by name.
        schedulers: The schedules in list order, each with its hyper-parameter.
        length_for: Tells how long training lasts on the clock of a schedule.

    Returns:
        The ledger of each hyper-parameter, with the composition of its schedules.

    Raises:
        ValueError: Schedules overlap that count samples and cannot be computed.
    """
    ledgers = {key: ledger_of(optimizers[key[0]], key[1]) for key, _ in schedulers}
    before = {key: ledger for key, ledger in ledgers.items() if _take_as_built(ledger)}
    changed = {key for key, each in schedulers if each.restart(ledgers[key], length_for(each, key[0]))}
    for key, ledger in ledgers.items():
        layers = [scheduler.layer for own, scheduler in schedulers if own == key]
        if key in before and key not in changed and _is_composed(ledger, layers):
            check_chain(key[1], ledger.composition)
            ledger.record_base()  # the values are written already
        else:
            amendments = ledger.composition.amendments if key in before else []
            ledger.composition = Composition(layers, ledger.composition.base)
            ledger.composition.amendments = amendments
            check_chain(key[1], ledger.composition)
            ledger.adopt_groups()
        ledger.owner = weakref.ref(owner)
    _leave_the_others(optimizers, ledgers)
    return ledgers


def _take_as_built(ledger: Ledger) -> bool:
    """Stop whoever drives the schedules of *ledger*, and tell whether it shows them as they were built.

    What was changed since is meant, and becomes an amendment; but a second group on the same schedules starts anew.
    """
    ledger.composition.release()
    if not ledger.composition.layers:
        ledger.begin()
        return False
    if ledger.owner is not None:
        return False
    ledger.check(0)
    return True


def _is_composed(ledger: Ledger, layers: Sequence[Layer]) -> bool:
    """Return whether *ledger* has *layers* in this order, each acting on the param groups that it chooses now."""
    return layers == ledger.composition.layers and all(each.acts_on == each.schedule.selection() for each in layers)


def _leave_the_others(optimizers: Mapping[str, HasParamGroups], ledgers: Mapping[ParameterKey, Ledger]) -> None:
    """Let what only a schedule that was replaced had moved go back to its base."""
    for name, optimizer in optimizers.items():
        for parameter, ledger in ledgers_of(optimizer).items():
            if (name, parameter) not in ledgers and ledger.composition.layers:
                ledger.composition = Composition((), ledger.composition.base)
                ledger.adopt_groups()


def check_chain(name: str, composition: Composition) -> None:
    """Refuse a chain on a clock that jumps: its value would depend on the size of each update.

    Raises:
        ValueError: It is one.
    """
    jumping = sorted({layer.schedule.clock_unit for layer in composition.layers} & {"sample", "token"})
    if jumping and needs_chain(composition.layers):
        raise ValueError(
            f"`schedulers` of `{name}` must follow each other where one counts {jumping[0]}s and one has a floor or a "
            "value of its own, but their windows may overlap, so that the value would depend on how large each update "
            "was. Let the windows follow each other, on one clock."
        )
