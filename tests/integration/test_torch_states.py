"""A state of torch's schedulers brings a group to where they were: the values that follow are the peer's."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.optim import lr_scheduler as peer
from transformers import optimization

from resumable_sched import CosineAnnealingLR, LinearLR, SchedulerGroup, StepLR, errors
from resumable_sched.integrations.torch_lr_scheduler import as_torch_lr_scheduler
from resumable_sched.integrations.torch_schedulers import from_torch
from resumable_sched.integrations.torch_states import import_torch_state
from resumable_sched.schedule import recipes
from tests.integration.torch_cases import BESIDE, CLOSED, PLATEAUS, Hill, build_optimizer, falling

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings(
    "ignore:Detected call of `lr_scheduler.step\\(\\)`:UserWarning",  # the peer is stepped without its optimizer
    "ignore:The epoch parameter in `scheduler.step\\(\\)`:UserWarning",  # torch's SequentialLR warns of itself
)

TOLERANCE = 1e-11
"""Of the larger of value and base: torch goes on from the last value, ours are closed forms."""


def saved(state: Any) -> Any:
    """Return *state* as it comes out of a file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def shown(optimizer: torch.optim.Optimizer) -> list[float]:
    """Return what is scheduled, in each param group."""
    return [float(group[name]) for group in optimizer.param_groups for name in ("lr", "momentum")]


def follow(ours: torch.optim.Optimizer, theirs: torch.optim.Optimizer, *, exact: bool) -> None:
    """Compare present values."""
    for one, two in zip(shown(ours), shown(theirs), strict=True):
        assert one == two if exact else math.isclose(one, two, rel_tol=TOLERANCE, abs_tol=TOLERANCE * 0.1)


def metric(epoch: int) -> float:
    """Return a metric that goes up and down."""
    return math.sin(epoch / 3.0) + epoch % 4 * 0.1


@pytest.mark.parametrize("by_epoch", [False, True], ids=["by iteration", "by epoch"])
@pytest.mark.parametrize("name", [*CLOSED, *BESIDE])
def test_values_go_on_as_torchs_would_have(name: str, *, by_epoch: bool) -> None:
    """From many positions, the values are the peer's from the import on."""
    build = {**CLOSED, **BESIDE}[name]
    theirs = build_optimizer()
    other = build(theirs)
    for stop in range(50):
        if stop in {0, 1, 4, 5, 9, 10, 11, 15, 23, 34, 49}:
            ours = build_optimizer()
            group = SchedulerGroup(ours, from_torch(build(ours), by_epoch=by_epoch), epoch_length=3)
            import_torch_state(group, saved(other.state_dict()))

            assert (group.epoch if by_epoch else group.iteration) == stop
            follow(ours, theirs, exact=name in BESIDE)
            twin = build_optimizer()
            again = build(twin)
            for _ in range(stop):
                again.step()
            for _ in range(7):
                if by_epoch:
                    group.step_epoch()
                else:
                    if group.iteration_in_epoch == 3:
                        group.step_epoch()
                    group.step()
                again.step()
                follow(ours, twin, exact=name in BESIDE)
        other.step()


@pytest.mark.parametrize("name", PLATEAUS)
def test_a_plateau_goes_on_with_what_it_has_seen(name: str) -> None:
    """Best metric, patience, cool-down and the reductions so far."""
    theirs = build_optimizer()
    other = PLATEAUS[name](theirs)
    for stop in range(30):
        ours, twin = build_optimizer(), build_optimizer()
        group = SchedulerGroup(ours, from_torch(PLATEAUS[name](ours)))
        again = PLATEAUS[name](twin)
        import_torch_state(group, saved(other.state_dict()))
        assert group.epoch == stop
        again.load_state_dict(other.state_dict())
        for one, two in zip(twin.param_groups, theirs.param_groups, strict=True):
            one["lr"] = two["lr"]
        for epoch in range(stop, stop + 12):
            follow(ours, twin, exact=False)
            group.step_epoch()
            group.observe({"loss": metric(epoch)})
            again.step(metric(epoch))
        other.step(metric(stop))


def chained(optimizer: torch.optim.Optimizer) -> tuple[peer.LRScheduler, peer.LRScheduler, peer.ReduceLROnPlateau]:
    """Return three schedulers of one optimizer, two by iteration and a plateau by epoch."""
    return (
        peer.LinearLR(optimizer, 0.1, total_iters=10),
        peer.CosineAnnealingLR(optimizer, 40, eta_min=0.01),
        peer.ReduceLROnPlateau(optimizer, factor=0.5, patience=0),
    )


def test_several_states_on_two_clocks_need_the_optimizers_to_say_what_is_current() -> None:
    """A floor below a warm-up depends on the way, and each state knows the value after its own step only."""
    theirs = build_optimizer()
    warm, cosine, plateau = chained(theirs)
    states: dict[int, Any] = {}
    for iteration in range(1, 41):
        warm.step()
        cosine.step()
        if iteration % 5 == 0:
            plateau.step(metric(iteration // 5))
        states[iteration] = saved(
            {
                "schedulers": [each.state_dict() for each in (warm, cosine, plateau)],
                "optimizer": theirs.state_dict(),
                "values": shown(theirs),
            }
        )

    def build() -> tuple[torch.optim.Optimizer, SchedulerGroup]:
        ours = build_optimizer()
        made = [each for one in chained(ours) for each in from_torch(one, by_epoch=False)]
        return ours, SchedulerGroup(ours, made, epoch_length=5)

    for stop, checkpoint in states.items():
        ours, group = build()
        import_torch_state(group, checkpoint["schedulers"], optimizer_state=checkpoint["optimizer"], epoch=stop // 5)
        assert (group.iteration, group.epoch, group.iteration_in_epoch) == (stop, stop // 5, stop % 5)
        for tick in range(stop, 40):
            assert shown(ours) == pytest.approx(states[tick]["values"], rel=TOLERANCE)
            group.step()
            if (tick + 1) % 5 == 0:
                group.step_epoch()
                group.observe({"loss": metric((tick + 1) // 5)})

    _, group = build()
    with pytest.raises(ValueError, match="`optimizer_state` must be given, because `lr` depends on the way"):
        import_torch_state(group, states[40]["schedulers"])
    assert group.iteration == 0


def test_differences_are_an_error_that_names_them_and_changes_nothing() -> None:
    """A field, an initial value, a class, a state too many, one too few; "adopt" takes the position all the same."""
    theirs = build_optimizer()
    other = peer.StepLR(theirs, 3, 0.3)
    for _ in range(7):
        other.step()
    state = other.state_dict()

    def group_of(*kinds: Callable[[Any], Any], lr: float = 0.1) -> SchedulerGroup:
        ours = build_optimizer()
        ours.param_groups[0]["lr"] = lr
        return SchedulerGroup(ours, [kind(ours) for kind in kinds])

    def step(ours: Any) -> Any:
        return StepLR(ours, 4, 0.3, by_epoch=False)

    def cosine(ours: Any) -> Any:
        return CosineAnnealingLR(ours, 10, by_epoch=False)

    cases = [
        (group_of(step), "`step_size` was 3 when the state was saved, but is 4 now"),
        (group_of(cosine), "There was a StepLR when the state was saved, but it is CosineAnnealingLR"),
        (group_of(lambda ours: StepLR(ours, 3, 0.3, by_epoch=False), step), "StepLR of `optimizer` has no state"),
        (group_of(lambda ours: StepLR(ours, 3, 0.3, by_epoch=False), lr=0.2), r"`base_lrs` were \[0.1, 0.5\]"),
    ]
    for group, message in cases:
        with pytest.raises(errors.ScheduleMismatchError, match=message):
            import_torch_state(group, state)
        assert group.iteration == 0
        import_torch_state(group, state, on_mismatch="adopt")
        assert group.iteration == 7

    group = group_of(lambda ours: StepLR(ours, 3, 0.3, by_epoch=False))
    with pytest.raises(errors.ScheduleMismatchError, match=r"There was a StepLR .* absent"):
        import_torch_state(group, [state, state])
    with pytest.raises(errors.ScheduleMismatchError, match="at different iterations: 3, 7"):
        import_torch_state(group, state, iteration=3)
    with pytest.raises(errors.StateFormatError, match="this package's own: use group"):
        import_torch_state(group, group.state_dict())
    with pytest.raises(errors.StateFormatError, match=r"one of torch's own schedulers gave it.*import_torch_state"):
        as_torch_lr_scheduler(group).load_state_dict(state)


def test_a_schedule_of_transformers_tells_the_position_alone() -> None:
    """Its state holds no configuration, so an equivalent is adopted; what is given as the position wins then."""
    theirs, ours = build_optimizer(), build_optimizer()
    other = optimization.get_cosine_schedule_with_warmup(theirs, 10, 100)
    for _ in range(37):
        other.step()
    group = SchedulerGroup(ours, recipes.warmup_cosine(ours, 10, 100))
    import_torch_state(group, saved(other.state_dict()), on_mismatch="adopt")

    for _ in range(20):
        follow(ours, theirs, exact=False)
        group.step()
        other.step()
    import_torch_state(group, saved(other.state_dict()), on_mismatch="adopt", iteration=3)
    assert group.iteration == 3


def test_a_user_class_that_has_changed_is_found_by_its_state() -> None:
    """The private copy is run to the position, and must have there what was saved."""
    other = Hill(build_optimizer(), 12, [1.04, 0.97])
    for _ in range(20):
        other.step()
    ours = build_optimizer()
    group = SchedulerGroup(ours, from_torch(Hill(ours, 12, [1.04, 0.9]), by_epoch=False))

    with pytest.raises(errors.ScheduleMismatchError, match=r"Hill\.steps\.down was 0\.97 .* but is 0\.9"):
        import_torch_state(group, saved(other.state_dict()))


def test_the_other_counter_follows_from_the_epoch_length_or_has_to_be_given() -> None:
    """A position in iterations says nothing of epochs by itself."""

    def build(length: int | None) -> SchedulerGroup:
        ours = build_optimizer()
        made = [LinearLR(ours, 0.1, end=11, by_epoch=False), StepLR(ours, 2)]
        return SchedulerGroup(ours, made, epoch_length=length)

    theirs = build_optimizer()
    others = [peer.LinearLR(theirs, 0.1, total_iters=10), peer.StepLR(theirs, 2)]
    for _ in range(9):
        others[0].step()
    for _ in range(2):
        others[1].step()
    states = [each.state_dict() for each in others]

    group = build(4)
    import_torch_state(group, states)
    assert (group.iteration, group.epoch, group.iteration_in_epoch) == (9, 2, 1)
    group = build(None)
    with pytest.raises(ValueError, match="`epoch` must be given"):
        import_torch_state(group, states[:1], on_mismatch="adopt")
    import_torch_state(group, states[:1], on_mismatch="adopt", epoch=2)
    assert (group.iteration, group.epoch) == (9, 2)
    with pytest.raises(errors.ScheduleMismatchError, match="`epoch_length` is 2, but epoch 2 and iteration 9"):
        import_torch_state(build(2), states)


def test_several_optimizers_have_their_states_by_name() -> None:
    """As they were saved, in one call."""
    theirs = {name: build_optimizer() for name in ("a", "b")}
    others = {"a": peer.StepLR(theirs["a"], 3), "b": peer.LambdaLR(theirs["b"], falling)}
    for _ in range(5):
        for each in others.values():
            each.step()
    states = {name: saved(each.state_dict()) for name, each in others.items()}
    ours = {name: build_optimizer() for name in ("a", "b")}
    made = [*from_torch(peer.StepLR(ours["a"], 3)), *from_torch(peer.LambdaLR(ours["b"], falling))]
    group = SchedulerGroup(ours, made)
    import_torch_state(group, states)

    for name, optimizer in ours.items():
        follow(optimizer, theirs[name], exact=False)
    with pytest.raises(ValueError, match="`states` must be a dict with the names 'a', 'b'"):
        import_torch_state(group, states["a"])
    with pytest.raises(ValueError, match="`optimizer` must be one of 'a', 'b'"):
        as_torch_lr_scheduler(group)
    assert as_torch_lr_scheduler(group, interval="epoch", optimizer="b").optimizer is ours["b"]
