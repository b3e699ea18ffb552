"""The manager in one process: everything that has a state comes back to the last bit, in place, or nothing changes."""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import os
import random
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel
from torchdata.stateful_dataloader import StatefulDataLoader

from resumable_sched.checkpoint import CheckpointManager, LocalStorage, Retention, Storage, load
from resumable_sched.distributed import RNGState
from resumable_sched.errors import IncompleteCheckpointError, StateFormatError, StateMismatchError, UnstorableError
from resumable_sched.testing import FaultyStorage, SimulatedCrash
from tests.checkpoint.exact import bits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from resumable_sched.checkpoint.storage import Buffer


def _model(seed: int = 0) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 2)
    )


class _Run:
    """A small training in which model, buffers, optimizer, schedule, generators and data position all matter."""

    def __init__(self, seed: int = 0) -> None:
        self.model = _model(seed)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [3, 5])
        self.shuffle = torch.Generator().manual_seed(seed)
        self.state: dict[str, Any] = {
            "model": self.model,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "rng": RNGState(shuffle=self.shuffle),
            "step": 0,
        }

    def train(self, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            noise = random.random() + float(np.random.rand())  # noqa: NPY002, S311 - the global ones are the case
            batch = torch.randn(6, 4, generator=self.shuffle) * noise
            loss = self.model(batch).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            self.state["step"] += 1
            losses.append(loss.item())
        return losses

    def bits(self) -> Any:
        states = {name: it.state_dict() for name, it in self.state.items() if name != "step"}
        return bits([self.state["step"], *(dict(it) for it in states.values())])


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("stop", [0, 1, 4])
def test_a_run_that_was_restored_goes_on_bit_for_bit(tmp_path: Path, stop: int, *, asynchronous: bool) -> None:
    """Losses and the final state equal the uninterrupted run's; the training goes on while the save does."""
    whole = _Run()
    _seed(5)
    losses = whole.train(7)

    run = _Run()
    _seed(5)
    run.train(stop)
    with CheckpointManager(tmp_path, run.state, asynchronous=asynchronous) as manager:
        manager.save(stop)
        run.train(2)

    again = _Run(seed=99)
    _seed(77)
    with CheckpointManager(tmp_path, again.state) as manager:
        restored = manager.restore()
    rest = again.train(7 - stop)

    assert restored is not None
    assert restored.iteration == stop
    assert rest == losses[stop:]
    assert again.bits() == whole.bits()


def test_to_restore_twice_or_into_a_run_that_has_trained_changes_nothing(tmp_path: Path) -> None:
    """Whatever the objects have been through, after a restore they are what was saved."""
    run = _Run()
    run.train(3)
    with CheckpointManager(tmp_path, run.state) as manager:
        manager.save(3)
        manager.wait()
        expected = run.bits()
        run.train(2)
        manager.restore()
        once = run.bits()
        manager.restore()

    assert once == expected
    assert run.bits() == expected


def test_restoring_writes_into_the_live_tensors(tmp_path: Path) -> None:
    """Parameters, buffers and the moments of a stepped optimizer stay where they are in memory."""
    run = _Run()
    run.train(2)
    with CheckpointManager(tmp_path, run.state, asynchronous=False) as manager:
        manager.save(2)
        run.train(1)
        tensors = [*run.model.parameters(), *run.model.buffers()]
        moments = [entry["exp_avg"] for entry in run.optimizer.state.values()]
        places = [it.data_ptr() for it in (*tensors, *moments)]
        manager.restore()

    after = [*run.model.parameters(), *run.model.buffers(), *(it["exp_avg"] for it in run.optimizer.state.values())]
    assert [it.data_ptr() for it in after] == places
    assert [it.grad is None for it in run.model.parameters()] == [False] * len(list(run.model.parameters()))


class _Counter:
    """A user's own object with awkward state."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.window: tuple[Any, ...] = ()

    def state_dict(self) -> dict[Any, Any]:
        return {"seen": self.seen, "window": self.window, 7: [float("nan"), -0.0, b"x"]}

    def load_state_dict(self, state: dict[Any, Any]) -> None:
        self.seen, self.window = state["seen"], state["window"]


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata 0.11 calls it
def test_everything_that_has_a_state_can_be_saved(tmp_path: Path) -> None:
    """A scaler, an average, a loader in mid-epoch, the user's own object and plain values come back."""
    model = _model()
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    average = AveragedModel(model)
    loader = StatefulDataLoader(list(range(10)), batch_size=2)
    own = _Counter()
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
        "average": AveragedModel(_model(1)),
        "loader": StatefulDataLoader(list(range(10)), batch_size=2),
        "own": _Counter(),
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
    saved, target = _Run(), _Run(seed=1)
    saved.train(2 * stepped)
    target.train(3 * target_stepped)
    with CheckpointManager(tmp_path, {"optimizer": saved.optimizer}) as manager:
        manager.save(0)

    load(tmp_path, {"optimizer": target.optimizer})

    assert bits(target.optimizer.state_dict()) == bits(saved.optimizer.state_dict())


def test_tensor_learning_rates_are_restored(tmp_path: Path) -> None:
    """A learning rate that is a tensor stays one, with its value."""
    model = _model()
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.25, dtype=torch.float32))
    with CheckpointManager(tmp_path, {"optimizer": optimizer}) as manager:
        manager.save(0)
    other = torch.optim.Adam(_model().parameters(), lr=torch.tensor(0.5, dtype=torch.float32))

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


def test_names_are_stored_without_the_wrappers_of_compilation(tmp_path: Path) -> None:
    """A compiled model, or one compiled inside, saves and loads as the plain one does, in both directions."""
    plain = _model()
    compiled = torch.compile(_model(), backend="eager")
    partly = _model()
    partly[0] = cast("torch.nn.Module", torch.compile(partly[0], backend="eager"))
    with CheckpointManager(tmp_path / "compiled", {"model": compiled}) as manager:
        manager.save(0)
    with CheckpointManager(tmp_path / "plain", {"model": plain}) as manager:
        manager.save(0)

    targets: list[torch.nn.Module] = [_model(1), torch.compile(_model(1), backend="eager"), partly]  # type: ignore[list-item]
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


class _Odd(torch.nn.Module):
    """A model of one given parameter."""

    def __init__(self, parameter: torch.Tensor, name: str = "w") -> None:
        super().__init__()
        self.register_parameter(name, torch.nn.Parameter(parameter))


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
    with CheckpointManager(tmp_path, {"a": _Odd(torch.zeros(4)), "model": _Odd(saved), "n": 1}) as manager:
        manager.save(0)
    state: dict[str, Any] = {"a": _Odd(torch.ones(4)), "model": _Odd(live), "n": 2}
    before = bits([dict(state["a"].state_dict()), dict(state["model"].state_dict()), state["n"]])

    for strict in (True, False):
        with CheckpointManager(tmp_path, state) as manager, pytest.raises(StateMismatchError, match=says):
            manager.restore(strict=strict)

    assert bits([dict(state["a"].state_dict()), dict(state["model"].state_dict()), state["n"]]) == before


def test_an_objects_own_check_runs_before_anything_is_touched(tmp_path: Path) -> None:
    """An object that refuses the saved state keeps all others from being touched."""
    with CheckpointManager(tmp_path, {"a": _Odd(torch.zeros(4)), "rng": RNGState(x=torch.Generator())}) as manager:
        manager.save(0)
    model = _Odd(torch.ones(4))

    with pytest.raises(StateFormatError, match=r"\['y'\] were not saved"):
        load(tmp_path, {"a": model, "rng": RNGState(y=torch.Generator())})

    assert torch.equal(model.state_dict()["w"], torch.ones(4))


def test_missing_and_unexpected_names_are_listed(tmp_path: Path) -> None:
    """Strictly they are an error with both lists, else a warning; what fits is restored then."""
    with CheckpointManager(tmp_path, {"m": _Odd(torch.zeros(1), "old"), "same": 1, "gone": 2}) as manager:
        manager.save(0)
    state: dict[str, Any] = {"m": _Odd(torch.ones(1), "new"), "same": 0, "added": 5}

    with CheckpointManager(tmp_path, state) as manager:
        with pytest.raises(StateMismatchError) as caught:
            manager.restore()
        assert state["same"] == 0
        with pytest.warns(UserWarning, match=r"Expected, but not saved: added, m/new.* not restored: gone, m/old"):
            manager.restore(strict=False)

    assert caught.value.missing == ("added", "m/new")
    assert caught.value.unexpected == ("gone", "m/old")
    assert (state["same"], state["added"], state["m"].new.item()) == (1, 5, 1.0)


def test_only_restores_the_named_and_leaves_the_others(tmp_path: Path) -> None:
    """Names that are left out are neither loaded nor expected."""
    with CheckpointManager(tmp_path, {"a": 1, "b": 2}) as manager:
        manager.save(0)
    state = {"a": 0, "c": 0}

    with CheckpointManager(tmp_path, state) as manager:
        manager.restore(only=["a"])
        with pytest.raises(ValueError, match="`only` must be among"):
            manager.restore(only=["b"])
        with pytest.raises(TypeError, match="must be a list of names"):
            manager.restore(only="a")

    assert state == {"a": 1, "c": 0}


def test_what_cannot_be_stored_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    """The path and type are in the error, and the URL stays empty: not even a claim."""
    state = {"model": _model(), "loader": {"worker": [0, 1, 2, {3}]}}

    with (
        CheckpointManager(tmp_path, state) as manager,
        pytest.raises(UnstorableError, match=r'state\["loader"\]\["worker"\]\[3\] .* builtins.set'),
    ):
        manager.save(0)

    assert LocalStorage(tmp_path).list() == {}


def test_a_second_writing_manager_is_refused(tmp_path: Path) -> None:
    """One process has one writer per URL, however it is spelled, until that one is closed."""
    first = CheckpointManager(tmp_path, {"a": 1})
    with pytest.raises(RuntimeError, match="already has an open manager"):
        CheckpointManager(f"file://{tmp_path}/", {"a": 1})
    CheckpointManager(tmp_path, {"a": 1}, read_only=True).close()
    first.close()

    second = CheckpointManager(tmp_path, {"a": 1})
    del second
    gc.collect()
    CheckpointManager(tmp_path, {"a": 1}).close()


def test_a_read_only_manager_writes_nothing(tmp_path: Path) -> None:
    """It restores, even past a damaged checkpoint, and the listing is the same byte for byte; it refuses to save."""
    with CheckpointManager(tmp_path, {"a": 1, "t": torch.zeros(3)}) as manager:
        manager.save(1)
        manager.save(2)
    (shard,) = tmp_path.glob("*-0002/*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x55")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    with CheckpointManager(tmp_path, {"a": 0, "t": torch.ones(3)}, read_only=True) as manager:
        restored = manager.restore()
        for refused in (lambda: manager.save(3), lambda: manager.record(1, {})):
            with pytest.raises(RuntimeError, match="read_only=True"):
                refused()

    assert restored is not None
    assert restored.iteration == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


class _Interposed:
    """A storage with something in between each write and the disk."""

    def __init__(self, storage: Storage, before_write: Callable[[str], None]) -> None:
        self._storage = storage
        self.url = storage.url
        self.read, self.read_into, self.list = storage.read, storage.read_into, storage.list
        self.delete, self.delete_folder = storage.delete, storage.delete_folder
        self.before_write = before_write

    def write(self, key: str, parts: Iterable[Buffer], size: int) -> None:
        self.before_write(key)
        self._storage.write(key, parts, size)


def _wait_for(event: threading.Event) -> Callable[[str], None]:
    def hook(_: str) -> None:
        event.wait()

    return hook


def _fail_on_second(kind: str) -> Callable[[str], None]:
    seen: list[str] = []

    def hook(key: str) -> None:
        if key.endswith(kind):
            seen.append(key)
            if len(seen) == 2:
                raise OSError(28, "No space left on device")

    return hook


@pytest.mark.parametrize("kind", [".safetensors", "manifest.json"])
@pytest.mark.parametrize("call", ["save", "wait", "close", "restore", "record", "handle"])
def test_an_error_in_the_background_is_raised_at_the_next_call_once(tmp_path: Path, kind: str, call: str) -> None:
    """A failed save is not forgotten, whatever is called next; then the manager goes on."""
    state = {"a": 1}
    manager = CheckpointManager(_Interposed(LocalStorage(tmp_path), _fail_on_second(kind)), state)
    manager.save(1).wait()
    handle = manager.save(2)
    calls: dict[str, Callable[[], object]] = {
        "save": lambda: manager.save(3),
        "wait": manager.wait,
        "close": manager.close,
        "restore": manager.restore,
        "record": lambda: manager.record(1, {}),
        "handle": handle.wait,
    }

    with pytest.raises(OSError, match="No space left"):
        calls[call]()

    assert handle.done
    if call == "handle":
        with pytest.raises(OSError, match="No space left"):
            manager.wait()
    if call != "close":
        manager.save(4).wait()
    manager.close()
    assert [it.iteration for it in manager.checkpoints() if it.status == "complete"] == [
        1,
        *([4] if call != "close" else []),
    ]


def test_a_shard_that_could_not_be_written_gives_its_room_back(tmp_path: Path) -> None:
    """On a full disk the parts of a failed save would keep the next one from succeeding."""
    manager = CheckpointManager(
        _Interposed(LocalStorage(tmp_path), _fail_on_second(".safetensors")), {"a": 1}, asynchronous=False
    )
    manager.save(1)
    with pytest.raises(OSError, match="No space left"):
        manager.save(2)
    manager.close()

    assert {it.iteration for it in manager.checkpoints()} == {1}
    assert len(list(tmp_path.glob("ckpt-*"))) == 1


def test_the_training_may_change_everything_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    """The checkpoint has the values of the call, although tensors and containers change before a byte is written."""
    go = threading.Event()
    inner: dict[str, Any] = {"list": [1, 2], "tensor": torch.zeros(3), "array": np.zeros(3)}
    state: dict[str, Any] = {"model": _Odd(torch.zeros(3)), "inner": inner, "n": 0}
    storage = _Interposed(LocalStorage(tmp_path), lambda _: None)
    manager = CheckpointManager(storage, state)
    manager.save(0).wait()
    storage.before_write = _wait_for(go)

    handle = manager.save(1)
    with torch.no_grad():
        state["model"].w.fill_(7)
    inner["list"].append(3)
    inner["tensor"].fill_(7)
    inner["array"].fill(7)
    state["n"] = 7
    assert not handle.done
    go.set()
    manager.close()

    target: dict[str, Any] = {"model": _Odd(torch.ones(3)), "inner": None, "n": None}
    load(tmp_path, target, 1)
    assert bits(target["inner"]) == bits({"list": [1, 2], "tensor": torch.zeros(3), "array": np.zeros(3)})
    assert (target["model"].w.sum().item(), target["n"]) == (0.0, 0)


def test_an_interrupt_while_waiting_does_not_forget_the_save_under_way(tmp_path: Path) -> None:
    """After Ctrl-C in a save that waits for the one before, another save still waits: the copy is not overwritten."""
    go = threading.Event()
    state: dict[str, Any] = {"t": torch.zeros(4)}
    storage = _Interposed(LocalStorage(tmp_path), lambda _: None)
    manager = CheckpointManager(storage, state)
    manager.restore()
    storage.before_write = _wait_for(go)
    manager.save(1)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)  # whenever it comes, the save below cannot have got past the wait
    with pytest.raises(KeyboardInterrupt):
        manager.save(2)
    signal.signal(signal.SIGALRM, previous)
    state["t"] = torch.ones(4)
    releaser = threading.Timer(0.05, go.set)
    releaser.start()
    manager.save(3)
    manager.close()

    for iteration, value in ((1, 0.0), (3, 1.0)):
        load(tmp_path, target := {"t": None}, iteration)
        assert target["t"] is not None
        assert target["t"].tolist() == [value] * 4


@pytest.mark.parametrize("half_written", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("crash_after", range(18))
def test_a_crash_leaves_the_last_acknowledged_checkpoint(
    tmp_path: Path, crash_after: int, *, asynchronous: bool, half_written: bool
) -> None:
    """Whichever write is the last one to succeed, a new process gets what was acknowledged last, or newer and whole."""
    acknowledged = 0
    for _ in range(2):  # the second process dies too, at the same write of its own
        storage = FaultyStorage(LocalStorage(tmp_path), fail_after=crash_after, half_written=half_written)
        state: dict[str, Any] = {"t": torch.zeros(5), "n": 0}
        manager = CheckpointManager(storage, state, retention=Retention(keep_last=1), asynchronous=asynchronous)
        with contextlib.suppress(SimulatedCrash, IncompleteCheckpointError):
            manager.restore()
            assert state["n"] >= acknowledged
            for _ in range(5):
                state["n"] += 1
                state["t"].fill_(state["n"])
                manager.save(state["n"]).wait()
                acknowledged = state["n"]
        with contextlib.suppress(SimulatedCrash):
            manager.close()

        fresh: dict[str, Any] = {"t": torch.full((5,), -1.0), "n": -1}
        try:
            found = load(tmp_path, fresh)
        except IncompleteCheckpointError:
            # Nothing was acknowledged yet. Where a storage leaves half a manifest, a restart says so, too.
            assert acknowledged == 0
            continue
        assert acknowledged <= found.iteration <= acknowledged + 1
        assert fresh["t"].tolist() == [fresh["n"]] * 5
        assert fresh["n"] == found.iteration


def test_metrics_are_kept_recorded_and_decide_what_is_best(tmp_path: Path) -> None:
    """Metrics of the save and later ones are listed; NaN is never best; numpy and tensor numbers count as numbers."""
    retention = Retention(keep_last=1, keep_best=("loss", "min", 1))
    with CheckpointManager(tmp_path, {"a": 1}, retention=retention, asynchronous=False) as manager:
        manager.save(1, {"loss": float("nan")})
        manager.save(2, {"loss": np.float32(0.5), "accuracy": torch.tensor(0.25)})  # type: ignore[dict-item]
        manager.save(3, {"loss": math.inf})
        manager.record(3, {"loss": 0.75})
        manager.record(3, {"loss": 0.625})
        manager.save(4)
        restored = manager.restore()
        listed = {it.iteration: dict(it.metrics) for it in manager.checkpoints()}

        assert listed == {2: {"loss": 0.5, "accuracy": 0.25}, 4: {}}
        assert restored is not None
        manager.record(4, {"loss": 0.25})
        assert manager.checkpoints()[-1].metrics == {"loss": 0.25}
        with pytest.raises(IncompleteCheckpointError, match="no complete checkpoint of iteration 9"):
            manager.record(9, {"loss": 1.0})


@pytest.mark.parametrize("value", ["3", None, [1.0], torch.ones(2), 10**400, object()])
def test_metrics_that_are_no_numbers_are_refused(tmp_path: Path, value: Any) -> None:
    """The name is in the error, and nothing is written."""
    with CheckpointManager(tmp_path, {"a": 1}) as manager:
        with pytest.raises(TypeError, match=r"`metrics\['loss'\]` must be a number"):
            manager.save(1, {"loss": value})
        with pytest.raises(TypeError, match="A name in `metrics` must be a string"):
            manager.save(1, {1: 1.0})  # type: ignore[dict-item]

    assert manager.checkpoints() == []


def test_nothing_there_yet_is_no_error(tmp_path: Path) -> None:
    """The first start restores None; to ask for an iteration, or to load, is an error."""
    with CheckpointManager(tmp_path, {"a": 1}) as manager:
        assert manager.restore() is None
        with pytest.raises(IncompleteCheckpointError, match="iteration 3, but has none instead"):
            manager.restore(3)
    with pytest.raises(IncompleteCheckpointError):
        load(tmp_path, {"a": 1})


@pytest.mark.parametrize("iteration", [-1, 1.5, "1", None, 10**12])
def test_iterations_that_are_no_counts_are_refused(tmp_path: Path, iteration: Any) -> None:
    """The error names the argument and its value."""
    with CheckpointManager(tmp_path, {"a": 1}) as manager, pytest.raises(ValueError, match="`iteration` must be"):
        manager.save(iteration)


@pytest.mark.parametrize("state", [{}, {"": 1}, {1: 1}, {"$x": 1}, {"__x": 1}, {"rank-00000": 1}])
def test_names_that_would_clash_with_the_format_are_refused(tmp_path: Path, state: Any) -> None:
    """Names that the format uses itself are refused at construction."""
    with pytest.raises(ValueError, match="`state` must"):
        CheckpointManager(tmp_path, state)


def test_storage_options_go_with_urls_only(tmp_path: Path) -> None:
    """Options beside a ready storage would be ignored, so they are refused."""
    with pytest.raises(ValueError, match="`storage_options` must be empty"):
        CheckpointManager(LocalStorage(tmp_path), {"a": 1}, storage_options={"anon": True})


def test_a_closed_manager_and_a_forked_one_refuse_to_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After close, or in a forked process, saving and restoring are errors that say what to do."""
    manager = CheckpointManager(tmp_path, {"a": 1})
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", lambda: -1)
        with pytest.raises(RuntimeError, match="which this one is a fork"):
            manager.save(1)
    manager.close()
    manager.close()

    for call in (lambda: manager.save(1), manager.restore, lambda: manager.record(1, {})):
        with pytest.raises(RuntimeError, match="is closed"):
            call()


def test_the_error_that_ends_the_block_is_the_one_that_is_raised(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If the last save failed too, that goes to the log."""
    storage = _Interposed(LocalStorage(tmp_path), _fail_on_second(".safetensors"))

    def fail() -> None:
        with CheckpointManager(storage, {"a": 1}) as manager:
            manager.save(1)
            manager.save(2)
            raise ZeroDivisionError

    with caplog.at_level(logging.ERROR), pytest.raises(ZeroDivisionError):
        fail()

    assert "The last save did not end well either" in caplog.text
    assert "No space left" in caplog.text


def test_a_retention_that_fails_does_not_fail_the_save(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The checkpoint is committed; the next save tries to delete again."""

    def refuse(key: str) -> None:
        del key
        raise PermissionError(1, "Operation not permitted")

    storage = _Interposed(LocalStorage(tmp_path), lambda _: None)
    delete = storage.delete
    storage.delete = refuse
    with CheckpointManager(storage, {"a": 1}, retention=Retention(keep_last=1), asynchronous=False) as manager:
        for iteration in range(3):
            manager.save(iteration)
        assert [it.iteration for it in manager.checkpoints()] == [0, 1, 2]
        storage.delete = delete
        manager.save(3)

    assert "could not be deleted" in caplog.text
    assert [it.iteration for it in manager.checkpoints()] == [3]


def test_summaries_are_listed(tmp_path: Path) -> None:
    """What an object says of itself is in the listing, for people."""

    class Group(_Counter):
        def summary(self) -> dict[str, Any]:
            return {"position": (1, 2), "values": [0.1]}

    with CheckpointManager(tmp_path, {"schedule": Group(), "n": 1}) as manager:
        manager.save(1)
        manager.wait()

        assert manager.checkpoints()[0].summaries == {"schedule": {"position": (1, 2), "values": [0.1]}}


def test_a_checkpoint_that_vanishes_while_it_is_read_is_passed_over(tmp_path: Path) -> None:
    """If another job's retention deletes the newest one meanwhile, the listing is made again."""
    with CheckpointManager(tmp_path, {"t": torch.zeros(2), "n": 1}, asynchronous=False) as manager:
        manager.save(1)
        manager.save(2)
    storage = _Interposed(LocalStorage(tmp_path), lambda _: None)
    read = storage.read

    def vanish(key: str) -> bytes:
        content = read(key)
        if key.endswith("-0002/manifest.json"):
            LocalStorage(tmp_path).delete_folder(Path(key).parent.name)
        return content

    storage.read = vanish

    assert load(storage, {"t": torch.ones(2)}).iteration == 1


def test_no_note_is_left_in_a_checkpoint_that_vanished(tmp_path: Path) -> None:
    """What another job deletes while it is read is not damaged, and nothing is written into its folder again."""
    with CheckpointManager(tmp_path, {"t": torch.zeros(2), "n": 1}, asynchronous=False) as manager:
        manager.save(1)
        manager.save(2)
    storage = _Interposed(LocalStorage(tmp_path), lambda _: None)
    read = storage.read_into

    def vanish(key: str, offset: int, target: memoryview) -> int:
        if "-0002/" in key:
            LocalStorage(tmp_path).delete_folder(Path(key).parent.name)
        return read(key, offset, target)

    storage.read_into = vanish
    with CheckpointManager(storage, {"t": torch.ones(2), "n": 0}) as manager:
        restored = manager.restore()

    assert restored is not None
    assert restored.iteration == 1
    assert [it.iteration for it in manager.checkpoints()] == [1]


def test_generators_are_set_last(tmp_path: Path) -> None:
    """An object that draws while it is loaded does not move a generator that was restored, wherever it stands."""

    class Draws(_Counter):
        def load_state_dict(self, state: dict[Any, Any]) -> None:
            super().load_state_dict(state)
            torch.rand(5)

    with CheckpointManager(tmp_path, {"rng": RNGState(), "own": Draws()}) as manager:
        manager.save(0)
    expected = torch.rand(3)

    load(tmp_path, {"rng": RNGState(), "own": Draws()})

    assert torch.equal(torch.rand(3), expected)


def test_an_object_that_is_listed_for_ever_but_not_there_ends_in_an_error(tmp_path: Path) -> None:
    """A storage whose listing is wrong does not make a restore run for ever."""
    with CheckpointManager(tmp_path, {"n": 1}, asynchronous=False) as manager:
        manager.save(1)
    storage = _Interposed(LocalStorage(tmp_path), lambda _: None)

    def missing(key: str) -> bytes:
        raise FileNotFoundError(2, "No such file", key)

    storage.read = missing

    with pytest.raises(IncompleteCheckpointError, match="listed, but reading it says that it is not there"):
        load(storage, {"n": 0})
