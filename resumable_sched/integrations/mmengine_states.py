"""Continue where MMEngine's own schedulers were saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from resumable_sched import schedule
from resumable_sched.errors import StateFormatError
from resumable_sched.integrations.recovered import Plateau, base_lines, field_lines, recover, settle
from resumable_sched.integrations.torch_translation import milestones_of

if TYPE_CHECKING:
    from resumable_sched.integrations.recovered import Policy, Recovered
    from resumable_sched.schedule import ParamScheduler, SchedulerGroup

__all__ = ["import_mmengine_state"]

_FAMILIES: Final = {  # by a key that no family above has
    "monitor": "ReduceOnPlateau",
    "eta_max": "OneCycle",
    "periods": "CosineRestart",
    "T_max": "CosineAnnealing",
    "milestones": "MultiStep",
    "step_size": "Step",
    "start_factor": "Linear",
    "power": "Poly",
    "gamma": "Exponential",
    "factor": "Constant",
}

_COMMON: Final = frozenset({"param_name", "begin", "end", "by_epoch", "last_step", "_global_step"})


def import_mmengine_state(
    group: SchedulerGroup,
    states: Any,  # noqa: ANN401 - a list of state dicts, or a dict of such by optimizer
    *,
    optimizer_state: Any = None,  # noqa: ANN401
    iteration: int | None = None,
    epoch: int | None = None,
    on_mismatch: Policy = "error",
) -> None:
    """Bring *group* to where MMEngine's schedulers were when they were saved.

    The group has the same schedules in the same order, as they were given to MMEngine or built from the same
    configuration. Load files with weights_only, which MMEngine's own history of logs does not pass by itself::

        with torch.serialization.safe_globals(checkpoint_globals()):  # resumable_sched.integrations.mmengine
            checkpoint = torch.load(path, weights_only=True)
        import_mmengine_state(group, checkpoint["param_schedulers"], optimizer_state=checkpoint["optimizer"])

    Args:
        group: The group; its optimizers are written.
        states: The entry ``param_schedulers`` of a checkpoint; for several optimizers a dict of lists by their names.
        optimizer_state: Its entry ``optimizer``. Needed only where the values depend on the way that led there, as with
            a plateau, and several schedules were at work.
        iteration: Completed updates (``checkpoint["meta"]["iter"]``), where no schedule counts them and an
            `epoch_length` does not tell them either.
        epoch: The same of epochs.
        on_mismatch: What to do about a schedule or an initial value that differs: "error", or "adopt" the group's own
            at the saved position, or at *iteration* and *epoch*.

    Raises:
        StateFormatError: It is no state of MMEngine's schedulers.
        ScheduleMismatchError: The schedules differ, or the states are not of one checkpoint.
        ValueError: The position or a value is not known; the message says which argument tells it.
    """
    recovered = recover(group, states, _take)
    settle(group, recovered, optimizer_state=optimizer_state, iteration=iteration, epoch=epoch, on_mismatch=on_mismatch)


def _take(
    group: SchedulerGroup,
    state: Any,  # noqa: ANN401
    name: str,
    ours: list[ParamScheduler],
    recovered: Recovered,
) -> None:
    """Compare *state* with the first of *ours*, take it off, and note the position."""
    family, mine = _recognise(state), (ours.pop(0) if ours else None)
    recovered.ticks.append(("epoch" if state["by_epoch"] else "iteration", int(state["_global_step"])))
    values = [float(each) for each in state["_last_value"]]
    recovered.values.setdefault((name, state["param_name"]), []).append(values)
    if family == "ReduceOnPlateau":
        worse = state.get("rule_worse")
        best = None if state["best"] is None or state["best"] == worse else float(state["best"])
        plateau = Plateau(
            best, int(state["num_bad_epochs"]), int(state["cooldown_counter"]), int(state["last_step"]) + 1
        )
        recovered.plateaus.setdefault(name, []).append(plateau)
    if not isinstance(mine, getattr(schedule, f"{family}ParamScheduler")):
        now = "absent" if mine is None else type(mine).__name__
        recovered.lines.append(f"There was a {family} schedule of `{name}` when it was saved, but it is {now} now.")
        return
    recovered.lines += field_lines(group, mine, type(mine).__name__, _fields(state, family, mine))
    recovered.lines += base_lines(mine, "base_values", state.get("base_values", ()))


def _recognise(state: Any) -> str:  # noqa: ANN401 - that is the question
    if isinstance(state, Mapping) and state.keys() >= _COMMON:
        found = next((family for key, family in _FAMILIES.items() if key in state), None)
        if found is not None:
            return found
    if isinstance(state, Mapping) and state.get("kind") == "ParamScheduler":
        raise StateFormatError(
            "`states` must hold state dicts of MMEngine's schedulers, but one is this package's own, as its schedulers "
            "save it in MMEngine's Runner. Resume with register_in_mmengine, and go on from there."
        )
    shown = ", ".join(map(repr, state)) if isinstance(state, Mapping) else repr(state)
    raise StateFormatError(f"`states` must hold state dicts of MMEngine's schedulers, but one holds {shown} instead.")


def _fields(state: Mapping[str, Any], family: str, ours: ParamScheduler) -> dict[str, Any]:
    """Return the fields of *ours* as *state* has them."""
    config = ours.configuration()
    fields = {key: state[key] for key in config if key in state}
    fields["unit"] = "epoch" if state["by_epoch"] else "iteration"
    if family == "MultiStep":
        fields["milestones"] = milestones_of(state["milestones"])
    if family == "ReduceOnPlateau":
        fields["min_value"] = list(state["min_values"])
    if family == "OneCycle":
        phases, total = state["_schedule_phases"], state["total_steps"]
        fields |= {"pct_start": (phases[0]["end_step"] + 1.0) / total, "three_phase": len(phases) > 2}  # noqa: PLR2004
    for length in ("T_max", "total_steps"):
        if length in fields and config[length] is None and state[length] == state["end"] - state["begin"]:
            del fields[length]  # in both it is the length of the window
    if ours.open_ended:
        del fields["end"]  # the length of training, which may change
    return fields
