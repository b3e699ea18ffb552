"""What users get wrong is named, with the remedy, before anything is half done."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import torch

from resumable_sched import CheckpointManager, Retention, RNGState
from resumable_sched.errors import CheckpointError, IncompleteCheckpointError, StateMismatchError

if TYPE_CHECKING:
    from pathlib import Path


def test_what_was_saved_last_is_the_newest_whatever_its_number(tmp_path: Path) -> None:
    """A loop that starts to count again neither loses what it saves nor gets back what it left."""
    state: dict[str, Any] = {"value": 0}
    with CheckpointManager(tmp_path, state, retention=Retention(keep_last=2)) as manager:
        for value, iteration in enumerate((100, 200, 10, 20, 30)):
            state["value"] = value
            manager.save(iteration, block=True)

        assert [it.iteration for it in manager.checkpoints()] == [20, 30]
        restored = manager.restore()

    assert restored is not None
    assert (restored.iteration, state["value"]) == (30, 4)


@pytest.mark.parametrize(
    ("saved", "built"),
    list(itertools.permutations([torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop], 2)),
)
def test_another_optimizer_is_refused_before_anything_is_touched(tmp_path: Path, saved: Any, built: Any) -> None:
    """The error names both classes, and the model keeps its values."""
    model = torch.nn.Linear(2, 1)
    state: dict[str, Any] = {"model": model, "optimizer": saved(model.parameters(), lr=0.1), "rng": RNGState()}
    with CheckpointManager(tmp_path, state) as manager:
        manager.save(4)
    other = torch.nn.Linear(2, 1)
    before = other.weight.clone()
    state |= {"model": other, "optimizer": built(other.parameters(), lr=0.1)}

    with CheckpointManager(tmp_path, state) as manager:  # noqa: SIM117
        with pytest.raises(StateMismatchError, match=rf"saved from a {saved.__name__}, but is a {built.__name__} here"):
            manager.restore()

    assert torch.equal(other.weight, before)


def test_a_training_whose_generators_are_not_saved_is_not_silent(tmp_path: Path) -> None:
    """A model with its optimizer needs an RNGState, or a word that nothing is drawn; what does not train needs none."""
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    both = {"net": model, "opt": optimizer}

    text = r'an RNGState beside "net" and "opt", .* require_rng=False'
    with pytest.warns(UserWarning, match=text):
        CheckpointManager(tmp_path, both).close()
    with pytest.raises(ValueError, match=text):
        CheckpointManager(tmp_path, both, require_rng=True)

    CheckpointManager(tmp_path, both, require_rng=False).close()
    CheckpointManager(tmp_path, both, read_only=True).close()
    for enough in (both | {"rng": RNGState()}, {"net": model}, {"opt": optimizer, "epoch": 1}):
        CheckpointManager(tmp_path, enough).close()


def test_settings_that_the_checkpoint_replaces_are_named(tmp_path: Path) -> None:
    """A changed weight decay does not take effect after a restore, and the user hears of it."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    with CheckpointManager(tmp_path, {"optimizer": torch.optim.SGD([parameter], lr=0.1, weight_decay=0.0)}) as manager:
        manager.save(1)
    changed = torch.optim.SGD([parameter], lr=0.3, weight_decay=0.5)

    with CheckpointManager(tmp_path, {"optimizer": changed}) as manager:  # noqa: SIM117
        with pytest.warns(UserWarning, match=r"param_groups\[0\]\['weight_decay'\] was 0.0 and is built as 0.5"):
            manager.restore()

    assert changed.param_groups[0]["weight_decay"] == 0.0


class Broken:
    """An object of the user's that cannot do one of the two."""

    def __init__(self, *, saves: bool, loads: bool) -> None:
        self._saves, self._loads = saves, loads

    def state_dict(self) -> dict[str, int]:
        """Return something, or fail."""
        if not self._saves:
            raise RuntimeError("boom")
        return {"x": 1}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Take it, or fail."""
        if not self._loads:
            raise KeyError("zzz", sorted(state))


def test_an_object_that_fails_is_named(tmp_path: Path) -> None:
    """Whose `state_dict` or `load_state_dict` it was, what it said, and what was loaded already."""
    good = Broken(saves=True, loads=True)
    with CheckpointManager(tmp_path, {"a": good, "b": Broken(saves=True, loads=False)}) as manager:
        manager.save(1)
        with pytest.raises(
            CheckpointError, match=r'state\["b"\] could not be loaded: KeyError: .*zzz.* Loaded already: a'
        ):
            manager.restore()

    with CheckpointManager(tmp_path, {"a": good, "b": Broken(saves=False, loads=True)}) as manager:  # noqa: SIM117
        with pytest.raises(CheckpointError, match=r'state\["b"\] could not be saved: RuntimeError: boom'):
            manager.save(2)


def test_the_number_must_be_the_schedules(tmp_path: Path) -> None:
    """A loop that forgets to step its schedule, or counts otherwise, hears of it at the first save."""

    class Schedule(Broken):
        def summary(self) -> dict[str, Any]:
            return {"position": {"iteration": 3}}

    with CheckpointManager(tmp_path, {"schedule": Schedule(saves=True, loads=True)}) as manager:
        with pytest.raises(ValueError, match=r'must be that of state\["schedule"\], 3, but is 77'):
            manager.save(77)
        manager.save(3)
        with pytest.raises(ValueError, match="must be an integer, but is True"):
            manager.save(True)  # noqa: FBT003 - the mistake


def test_an_iteration_that_was_left_is_said_to_be(tmp_path: Path) -> None:
    """After going back, what was left is neither restored nor said to be unknown."""
    with CheckpointManager(tmp_path, {"value": 1}) as manager:
        manager.save(5)
        manager.save(7)
        manager.restore(5)

        with pytest.raises(IncompleteCheckpointError, match="was left when an older one was restored"):
            manager.restore(7)


def test_a_group_that_a_launcher_promises_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manager that is made before init_process_group would believe that it is alone."""
    monkeypatch.setenv("WORLD_SIZE", "2")

    with pytest.raises(RuntimeError, match=r"must be initialised first, because WORLD_SIZE is 2"):
        CheckpointManager(tmp_path, {"value": 1})


class _Holder:
    """Have a tensor in a state of its own."""

    def __init__(self, value: torch.Tensor) -> None:
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        """Return the tensor."""
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it."""
        self.value = state["value"]


def test_a_dtype_that_this_torch_lacks_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a newer torch has saved is whole: it is refused, not set aside for an older checkpoint."""
    holder = _Holder(torch.zeros(3))
    with CheckpointManager(tmp_path, {"holder": holder}) as manager:
        manager.save(1)
        holder.value = torch.zeros(3, dtype=torch.float8_e5m2)
        manager.save(2)
    monkeypatch.delattr(torch, "float8_e5m2")

    with CheckpointManager(tmp_path, {"holder": holder}) as manager:  # noqa: SIM117
        with pytest.raises(StateMismatchError, match="but is 'float8_e5m2'; restore with the torch that saved it"):
            manager.restore()

    assert not list(tmp_path.rglob("quarantine*"))
