"""Everything that has a state comes back to the last bit, and what does not fit is refused before it is touched."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel
from torchdata.stateful_dataloader import StatefulDataLoader

from resumable_sched.checkpoint import CheckpointManager, load
from resumable_sched.checkpoint.envelope import seal, unseal
from resumable_sched.checkpoint.manifest import Manifest
from resumable_sched.distributed import RNGState
from resumable_sched.errors import StateFormatError, StateMismatchError
from tests.checkpoint.exact import bits
from tests.checkpoint.states import Awkward, OneParameter, Run, small_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata 0.11 calls it
def test_everything_that_has_a_state_can_be_saved(tmp_path: Path) -> None:
    """A scaler, an average, a loader in mid-epoch, the user's own object and plain values come back."""
    model = small_model()
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    average = AveragedModel(model)
    loader = StatefulDataLoader(list(range(10)), batch_size=2)
    own = Awkward()
    own.seen.update("abca")
    own.window = (1, np.float32(2.5), np.arange(3), torch.ones(2, dtype=torch.bfloat16))
    batches = iter(loader)
    next(batches)
    next(batches)
    values = {"number": 3, "text": "é", "pair": (1, None), "tensor": torch.eye(2), "big": 2**100, "array": np.ones(2)}
    state: dict[str, Any] = {"scaler": scaler, "average": average, "loader": loader, "own": own, **values}
    with CheckpointManager(tmp_path, state) as manager:
        manager.save(1)

    fresh: dict[str, Any] = {
        "scaler": torch.amp.GradScaler("cpu"),
        "average": AveragedModel(small_model(1)),
        "loader": StatefulDataLoader(list(range(10)), batch_size=2),
        "own": Awkward(),
        **dict.fromkeys(values),
    }
    load(tmp_path, fresh)

    assert fresh["scaler"].get_scale() == 4.0
    assert bits(dict(fresh["average"].state_dict())) == bits(dict(average.state_dict()))
    assert [it.tolist() for it in fresh["loader"]] == [[4, 5], [6, 7], [8, 9]]
    assert bits(fresh["own"].state_dict()) == bits(own.state_dict())
    assert bits({name: fresh[name] for name in values}) == bits(values)


@pytest.mark.parametrize("stepped", [False, True])
@pytest.mark.parametrize("target_stepped", [False, True])
def test_optimizers_are_restored_fresh_or_stepped(tmp_path: Path, *, stepped: bool, target_stepped: bool) -> None:
    """Saved before or after its first step, loaded into one before or after its own: the state is the saved one."""
    saved, target = Run(), Run(seed=1)
    saved.train(2 * stepped)
    target.train(3 * target_stepped)
    with CheckpointManager(tmp_path, {"optimizer": saved.optimizer}) as manager:
        manager.save(0)

    load(tmp_path, {"optimizer": target.optimizer})

    assert bits(target.optimizer.state_dict()) == bits(saved.optimizer.state_dict())


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("stepped", [False, True])
def test_an_optimizer_over_other_parameters_is_refused_before_anything_is_touched(
    tmp_path: Path, *, stepped: bool, momentum: float
) -> None:
    """Another order shows in the shapes, also where the target, or what was saved, has no state of its own yet."""

    def build(*, swapped: bool = False) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        model = torch.nn.Linear(3, 1)
        parameters = list(model.parameters())
        return model, torch.optim.SGD(parameters[::-1] if swapped else parameters, lr=0.1, momentum=momentum)

    model, optimizer = build()
    if stepped:
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    with CheckpointManager(tmp_path, {"optimizer": optimizer, "model": model}, require_rng=False) as manager:
        manager.save(0)
    other, swapped = build(swapped=True)
    before = bits([dict(other.state_dict()), swapped.state_dict()])

    says = r"parameter 0 of optimizer.param_groups\[0\] was saved with shape \[1, 3\], but has shape \[1\] here"
    with pytest.raises(StateMismatchError, match=says):
        load(tmp_path, {"optimizer": swapped, "model": other})

    assert bits([dict(other.state_dict()), swapped.state_dict()]) == before


def test_a_checkpoint_without_the_shapes_of_an_optimizer_is_restored(tmp_path: Path) -> None:
    """Those that were written before the shapes were kept are still good."""
    run, again = Run(), Run(seed=1)
    run.train(1)
    with CheckpointManager(tmp_path, {"optimizer": run.optimizer}) as manager:
        manager.save(0)
    _rewrite(tmp_path, lambda manifest: manifest.state["optimizer"].pop("shapes"))

    load(tmp_path, {"optimizer": again.optimizer})

    assert bits(again.optimizer.state_dict()) == bits(run.optimizer.state_dict())


def test_tensor_learning_rates_are_restored(tmp_path: Path) -> None:
    """A learning rate that is a tensor stays one, with its value."""
    model = small_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.25, dtype=torch.float32))
    with CheckpointManager(tmp_path, {"optimizer": optimizer}) as manager:
        manager.save(0)
    other = torch.optim.Adam(small_model().parameters(), lr=torch.tensor(0.5, dtype=torch.float32))

    load(tmp_path, {"optimizer": other})

    assert bits(other.param_groups[0]["lr"]) == bits(torch.tensor(0.25))


class _WideMomentum(torch.optim.SGD):
    """An optimizer that keeps float32 state for bfloat16 parameters."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        super().__init__(parameters, lr=0.1, momentum=0.9)
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["momentum_buffer"] = torch.full(parameter.shape, 1 / 3, dtype=torch.float32)


@pytest.mark.parametrize("fresh", [False, True])
def test_optimizer_state_keeps_its_own_dtype(tmp_path: Path, *, fresh: bool) -> None:
    """A float32 moment of a bfloat16 parameter is not rounded on the way, as torch's own loading does."""
    parameters = [torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))]
    with CheckpointManager(tmp_path, {"optimizer": (saved := _WideMomentum(parameters))}) as manager:
        manager.save(0)
    target = _WideMomentum([torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))])
    if fresh:
        target.state.clear()

    load(tmp_path, {"optimizer": target})

    assert bits(target.state_dict()) == bits(saved.state_dict())


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("stepped", [False, True])
def test_another_default_device_changes_nothing(tmp_path: Path, *, asynchronous: bool, stepped: bool) -> None:
    """Under ``torch.set_default_device`` what is copied and read lands in host memory still."""
    saved, target = Run(), Run(seed=1)
    saved.train(2)
    target.train(stepped)
    strided = torch.arange(8.0).view(2, 4).t()  # neither is copied, nor read into, as it lies in memory
    for run, values in ((saved, strided), (target, torch.zeros(2, 4).t())):
        run.state |= {"value": values, "odd": OneParameter(values), "array": np.ones(2)}

    torch.set_default_device("meta")
    try:
        with CheckpointManager(tmp_path, saved.state, asynchronous=asynchronous) as manager:
            manager.save(2)
        load(tmp_path, target.state)
    finally:
        torch.set_default_device(None)

    assert target.bits() == saved.bits()


def test_names_are_stored_without_the_wrappers_of_compilation(tmp_path: Path) -> None:
    """A compiled model, or one compiled inside, saves and loads as the plain one does, in both directions."""
    plain = small_model()
    compiled = torch.compile(small_model(), backend="eager")
    partly = small_model()
    partly[0] = cast("torch.nn.Module", torch.compile(partly[0], backend="eager"))
    with CheckpointManager(tmp_path / "compiled", {"model": compiled}) as manager:
        manager.save(0)
    with CheckpointManager(tmp_path / "plain", {"model": plain}) as manager:
        manager.save(0)

    targets: list[torch.nn.Module] = [small_model(1), torch.compile(small_model(1), backend="eager"), partly]  # type: ignore[list-item]
    for source in ("compiled", "plain"):
        for target in targets:
            for parameter in target.parameters():
                parameter.data.zero_()
            load(tmp_path / source, {"model": target})
            assert [bits(it) for it in target.state_dict().values()] == [bits(it) for it in plain.state_dict().values()]


def test_tied_weights_and_extra_state_come_back(tmp_path: Path) -> None:
    """Two names for one tensor, and what a module gives through get_extra_state."""

    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = torch.nn.Linear(3, 3, bias=False)
            self.b = torch.nn.Linear(3, 3, bias=False)
            self.b.weight = self.a.weight
            self.extra: Any = None

        def get_extra_state(self) -> Any:
            return {"extra": self.extra, "tensor": torch.ones(2)}

        def set_extra_state(self, state: Any) -> None:
            self.extra = state["extra"]

    model, target = Tied(), Tied()
    model.extra = (1, "x")
    with CheckpointManager(tmp_path, {"model": model}) as manager:
        manager.save(0)

    load(tmp_path, {"model": target})

    assert torch.equal(target.a.weight, model.a.weight)
    assert target.b.weight is target.a.weight
    assert target.extra == (1, "x")


@pytest.mark.parametrize(
    ("saved", "live", "says"),
    [
        (
            torch.zeros(2, 3),
            torch.ones(3, 2),
            r"model/w was saved as float32 of shape \[2, 3\], but is .* \[3, 2\] here",
        ),
        (torch.zeros(2), torch.ones(2).double(), "was saved as float32 .* but is float64"),
        (torch.zeros(2), torch.ones(1).expand(2), "is expanded here"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_touched(
    tmp_path: Path, saved: torch.Tensor, live: torch.Tensor, says: str
) -> None:
    """Another shape or dtype anywhere is an error that names it, and every live byte stays as it was."""
    with CheckpointManager(
        tmp_path, {"a": OneParameter(torch.zeros(4)), "model": OneParameter(saved), "n": 1}
    ) as manager:
        manager.save(0)
    state: dict[str, Any] = {"a": OneParameter(torch.ones(4)), "model": OneParameter(live), "n": 2}
    before = bits([dict(state["a"].state_dict()), dict(state["model"].state_dict()), state["n"]])

    for strict in (True, False):
        with CheckpointManager(tmp_path, state) as manager, pytest.raises(StateMismatchError, match=says):
            manager.restore(strict=strict)

    assert bits([dict(state["a"].state_dict()), dict(state["model"].state_dict()), state["n"]]) == before


def _parameters() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.zeros(2))]


_KINDS: dict[str, tuple[Callable[[], Any], str, str]] = {
    "module": (lambda: torch.nn.Linear(1, 1), "a module", "Linear"),
    "optimizer": (lambda: torch.optim.SGD(_parameters(), lr=0.1), "an optimizer", "SGD"),
    "object": (lambda: torch.amp.GradScaler("cpu"), "an object with a state_dict()", "GradScaler"),
    "generators": (RNGState, "an object with a state_dict()", "RNGState"),
    "number": (lambda: 5, "a plain value", "int"),
    "nothing": (lambda: None, "a plain value", "NoneType"),
    "look-alike": (lambda: {"state": {}, "versions": {}, "type": "SGD"}, "a plain value", "dict"),
}
_PAIRS = [pair for pair in itertools.permutations(_KINDS, 2) if _KINDS[pair[0]][1] != _KINDS[pair[1]][1]]


def _refused(root: Path, live: str, says: str) -> None:
    """Check that it cannot be loaded, not even with strict=False, and that nothing is touched."""
    now, kind, class_name = _KINDS[live]
    state = {"a": OneParameter(torch.ones(4)), "x": now()}

    with pytest.raises(StateMismatchError) as caught:
        load(root, state, strict=False)

    assert f'state["x"] was saved as {says}' in str(caught.value)
    assert f", but is {kind} ({class_name}) here" in str(caught.value)
    assert torch.equal(state["a"].state_dict()["w"], torch.ones(4))
    assert type(state["x"]) is type(now())


@pytest.mark.parametrize(("saved", "live"), _PAIRS)
def test_an_object_of_another_kind_is_refused_before_anything_is_touched(tmp_path: Path, saved: str, live: str) -> None:
    """The error names the object and both kinds."""
    was, kind, class_name = _KINDS[saved]
    with CheckpointManager(tmp_path, {"a": OneParameter(torch.zeros(4)), "x": was()}, require_rng=False) as manager:
        manager.save(0)

    _refused(tmp_path, live, f"{kind} ({class_name})")


@pytest.mark.parametrize(
    ("saved", "live"), [pair for pair in _PAIRS if pair[1] in ("module", "optimizer") and pair[0] != "look-alike"]
)
def test_a_checkpoint_without_kinds_is_refused_where_its_content_shows_them(
    tmp_path: Path, saved: str, live: str
) -> None:
    """In those that were written before kinds were kept, what is no module's or optimizer's state is seen as such."""
    with CheckpointManager(
        tmp_path, {"a": OneParameter(torch.zeros(4)), "x": _KINDS[saved][0]()}, require_rng=False
    ) as manager:
        manager.save(0)
    _rewrite(tmp_path, lambda manifest: manifest.kinds.clear())

    _refused(tmp_path, live, "something else")


def _rewrite(root: Path, change: Callable[[Manifest], object]) -> None:
    """Change the manifest of the only checkpoint."""
    (path,) = root.glob("ckpt-*/manifest.json")
    manifest = unseal("manifest.json", "manifest", path.read_bytes(), Manifest)
    change(manifest)
    path.write_bytes(seal("manifest", manifest))


def test_an_objects_own_check_runs_before_anything_is_touched(tmp_path: Path) -> None:
    """An object that refuses the saved state keeps all others from being touched."""
    with CheckpointManager(
        tmp_path, {"a": OneParameter(torch.zeros(4)), "rng": RNGState(x=torch.Generator())}
    ) as manager:
        manager.save(0)
    model = OneParameter(torch.ones(4))

    with pytest.raises(StateFormatError, match=r"\['y'\] were not saved"):
        load(tmp_path, {"a": model, "rng": RNGState(y=torch.Generator())})

    assert torch.equal(model.state_dict()["w"], torch.ones(4))


def test_missing_and_unexpected_names_are_listed(tmp_path: Path) -> None:
    """Strictly they are an error with both lists, else a warning; what fits is restored then."""
    with CheckpointManager(tmp_path, {"m": OneParameter(torch.zeros(1), "old"), "same": 1, "gone": 2}) as manager:
        manager.save(0)
    state: dict[str, Any] = {"m": OneParameter(torch.ones(1), "new"), "same": 0, "added": 5}

    with CheckpointManager(tmp_path, state) as manager:
        with pytest.raises(StateMismatchError) as caught:
            manager.restore()
        assert state["same"] == 0
        with pytest.warns(UserWarning, match=r"Expected, but not saved: added, m/new.* not restored: gone, m/old"):
            manager.restore(strict=False)

    assert caught.value.missing == ("added", "m/new")
    assert caught.value.unexpected == ("gone", "m/old")
    assert (state["same"], state["added"], state["m"].new.item()) == (1, 5, 1.0)


def test_summaries_are_listed(tmp_path: Path) -> None:
    """What an object says of itself is in the listing, for people."""

    class Group(Awkward):
        def summary(self) -> dict[str, Any]:
            return {"position": (1, 2), "values": [0.1]}

    with CheckpointManager(tmp_path, {"schedule": Group(), "n": 1}) as manager:
        manager.save(1)
        manager.wait()

        assert manager.checkpoints()[0].summaries == {"schedule": {"position": (1, 2), "values": [0.1]}}


@pytest.mark.parametrize("value", [torch.ones(2), np.ones(2), [torch.ones(())]])
def test_a_summary_with_tensors_is_refused_before_a_byte_is_written(tmp_path: Path, value: Any) -> None:
    """It is for people, and is read with the listing; the error names the object and the place."""

    class Told(Awkward):
        def summary(self) -> dict[str, Any]:
            return {"norm": value}

    with CheckpointManager(tmp_path, {"own": Told()}) as manager:  # noqa: SIM117
        with pytest.raises(TypeError, match=r'`summary\(\)` of state\["own"\] must give plain .* own/summary/norm'):
            manager.save(1)

    assert list(tmp_path.iterdir()) == []


def test_generators_are_set_last(tmp_path: Path) -> None:
    """An object that draws while it is loaded does not move a generator that was restored, wherever it stands."""

    class Draws(Awkward):
        def load_state_dict(self, state: dict[Any, Any]) -> None:
            super().load_state_dict(state)
            torch.rand(5)

    with CheckpointManager(tmp_path, {"rng": RNGState(), "own": Draws()}) as manager:
        manager.save(0)
    expected = torch.rand(3)

    load(tmp_path, {"rng": RNGState(), "own": Draws()})

    assert torch.equal(torch.rand(3), expected)
