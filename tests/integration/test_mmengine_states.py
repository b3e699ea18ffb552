"""A state of MMEngine's schedulers brings a group to where they were: the values that follow are the peer's."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch

from resumable_sched import LinearLR, MultiStepMomentum, SchedulerGroup, StepLR, errors, schedule
from resumable_sched.integrations.mmengine import checkpoint_globals
from resumable_sched.integrations.mmengine_states import import_mmengine_state
from resumable_sched.schedule.preview import preview_group
from tests.integration import test_mmengine_parity as parity
from tests.integration.test_mmengine_parity import ITERATIONS, TOLERANCE, case, sgd, step_all

pytestmark = pytest.mark.filterwarnings(
    "ignore:Detected call of `scheduler.step\\(\\)` before `optimizer.step\\(\\)`:UserWarning"
)

peer: Any = parity.__dict__["peer"]  # imported there, with its warnings silenced

SEEDS = [range(start, start + 20) for start in range(0, 160, 20)]


def saved(state: Any) -> Any:
    """Return *state* as it comes out of a checkpoint."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    with torch.serialization.safe_globals(checkpoint_globals()):
        return torch.load(file, weights_only=True)


def values(optimizer: torch.optim.Optimizer) -> list[float]:
    """Return what is scheduled."""
    return [float(group["lr"]) for group in optimizer.param_groups]


def check(seed: int) -> int:
    """Run the peer, save it everywhere, and continue with ours from some of the states; tell from how many."""
    r, length, specs = case(seed)
    theirs = sgd()
    base = values(theirs)
    peers = [getattr(peer, f"{family}LR")(theirs, **config) for family, config in specs]
    checkpoints, seen, metrics = [], [], {}
    try:
        for iteration in range(ITERATIONS):
            seen.append(values(theirs))
            states = [each.state_dict() for each in peers]
            checkpoints.append(saved({"param_schedulers": states, "optimizer": theirs.state_dict()}))
            step_all(peers, by_epoch=False)
            if (iteration + 1) % length == 0:
                step_all(peers, by_epoch=True)
                metrics[iteration] = {"loss": r.choice([1.0, 0.9, 1.1]) / (1 + iteration % 11)}
                for each in peers:
                    if getattr(each, "need_val_args", False):
                        each.step(metrics[iteration])
    except ValueError:  # the peer refuses to step beyond a cycle
        pass

    stops = range(0, len(seen), 7)
    for stop in stops:
        mine = sgd()
        ours = [getattr(schedule, f"{family}LR")(mine, **config) for family, config in specs]
        group = SchedulerGroup(mine, ours, epoch_length=length)
        checkpoint = checkpoints[stop]
        import_mmengine_state(
            group, checkpoint["param_schedulers"], optimizer_state=checkpoint["optimizer"], iteration=stop
        )
        assert (group.iteration, group.epoch) == (stop, stop // length)
        for iteration in range(stop, len(seen)):
            for one, other, initial in zip(values(mine), seen[iteration], base, strict=True):
                assert abs(one - other) <= TOLERANCE * max(abs(other), initial), (seed, stop, iteration, specs)
            group.step()
            if iteration in metrics:
                group.step_epoch()
                group.observe(metrics[iteration])
    return len(stops)


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
def test_random_lists_go_on_as_mmengine_would_have(seeds: range) -> None:
    """By iteration, by epoch and mixed, in windows that follow, leave gaps and overlap, with floors and plateaus."""
    continued = [check(seed) for seed in seeds]

    assert sum(continued) > 5 * len(seeds)


def build(gamma: float = 0.5, milestone: int = 3) -> tuple[SchedulerGroup, torch.optim.Optimizer]:
    """Return a group on two clocks and two hyper-parameters."""
    optimizer = sgd()
    schedulers = [
        LinearLR(optimizer, 0.1, end=8, by_epoch=False),
        StepLR(optimizer, 2, gamma),
        MultiStepMomentum(optimizer, [milestone], by_epoch=False),
    ]
    return SchedulerGroup(optimizer, schedulers, epoch_length=4), optimizer


def states() -> list[dict[str, Any]]:
    """Return the states of the same with MMEngine, after 6 iterations."""
    optimizer = sgd()
    schedulers = [
        peer.LinearLR(optimizer, 0.1, end=8, by_epoch=False),
        peer.StepLR(optimizer, 2, 0.5),
        peer.MultiStepMomentum(optimizer, [3], by_epoch=False),
    ]
    for _ in range(6):
        step_all(schedulers, by_epoch=False)
    step_all(schedulers, by_epoch=True)
    return saved([each.state_dict() for each in schedulers])  # type: ignore[no-any-return]


def test_differences_are_an_error_that_names_them_and_changes_nothing() -> None:
    """Fields, classes, counts; and "adopt" takes the position all the same."""
    cases = [
        (build(0.4), states(), "StepLR: `gamma` was 0.5 when the state was saved, but is 0.4 now"),
        (build(milestone=5), states(), r"MultiStepMomentum: `milestones` was \[3\]"),
        (build(), states()[:2], "MultiStepMomentum of `optimizer` has no state"),
        (
            build(),
            states()[::-1],
            "There was a MultiStep schedule of `optimizer` when it was saved, but it is LinearLR",
        ),
        (build(), [{**states()[0], "base_values": [1.0, 2.0, 3.0]}, *states()[1:]], "`base_values` were"),
    ]
    for (group, _), given, message in cases:
        with pytest.raises(errors.ScheduleMismatchError, match=message):
            import_mmengine_state(group, given)
        assert group.iteration == 0
        import_mmengine_state(group, given, on_mismatch="adopt")
        assert (group.iteration, group.epoch, group.iteration_in_epoch) == (6, 1, 2)


def test_what_is_no_state_of_mmengines_is_refused() -> None:
    """Also this package's own, which MMEngine's Runner saves after `register_in_mmengine`."""
    optimizer = sgd()
    own = StepLR(optimizer, 2).state_dict()
    for given, message in ((own, "one is this package's own"), ({"last_epoch": 3}, "but one holds 'last_epoch'")):
        with pytest.raises(errors.StateFormatError, match=message):
            import_mmengine_state(build()[0], [given])
    with pytest.raises(ValueError, match='`on_mismatch` must be "error" or "adopt"'):
        import_mmengine_state(build()[0], states(), on_mismatch="keep")  # type: ignore[arg-type]
    with pytest.raises(errors.ScheduleMismatchError, match="at different iterations: 6, 7"):
        import_mmengine_state(build()[0], states(), iteration=7)


def test_what_a_plateau_has_reached_is_that_of_one_whose_window_is_open() -> None:
    """One that comes first in the list and later in training has done nothing yet."""

    def build_with(library: Any) -> tuple[Any, list[Any]]:
        optimizer = sgd()
        later = library.ReduceOnPlateauLR(optimizer, "loss", begin=5, end=9, patience=0, factor=0.1)
        now = library.ReduceOnPlateauLR(optimizer, "loss", end=9, patience=0, factor=0.5)
        return optimizer, [later, now]

    optimizer, theirs = build_with(peer)
    for loss in (1.0, 2.0, 3.0):
        for each in theirs:
            each.step()
        for each in theirs:
            each.step({"loss": loss})
    ours, members = build_with(schedule)
    group = SchedulerGroup(ours, members, epoch_length=2)

    import_mmengine_state(group, saved([each.state_dict() for each in theirs]), optimizer_state=optimizer.state_dict())

    expected = [each["lr"] for each in optimizer.param_groups]
    assert group.values()["lr"] == pytest.approx(expected, rel=1e-12)
    assert expected != [each["initial_lr"] for each in optimizer.param_groups]


def test_an_import_says_nothing_of_values_that_stay_and_draws_no_past(caplog: pytest.LogCaptureFixture) -> None:
    """What a plateau had reached before is not in the peer's state."""

    def build_with(library: Any) -> tuple[Any, Any]:
        optimizer = sgd()
        return optimizer, library.ReduceOnPlateauLR(optimizer, "loss", patience=0, factor=0.5)

    optimizer, theirs = build_with(peer)
    for loss in (1.0, 2.0, 3.0):
        theirs.step()
        theirs.step({"loss": loss})
    ours, member = build_with(schedule)
    group = SchedulerGroup(ours, [member], epoch_length=2, max_epochs=9)

    import_mmengine_state(group, saved([theirs.state_dict()]), optimizer_state=optimizer.state_dict())

    assert group.values()["lr"] == [each["lr"] for each in optimizer.param_groups]
    assert [each for each in caplog.messages if "moves" in each] == []
    assert preview_group(group).trace.iterations == range(6, 18)
