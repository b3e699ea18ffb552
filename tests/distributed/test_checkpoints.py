"""Checkpoints of several ranks: written once, kept per rank where they differ, and agreed on by all."""

from __future__ import annotations

import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import torch

from resumable_sched.checkpoint import CheckpointManager, LocalStorage, Storage, load
from resumable_sched.checkpoint.catalog import examine
from resumable_sched.checkpoint.manifest import load_manifest, survey
from resumable_sched.distributed import FakeRanks
from resumable_sched.errors import FencedError, RankError, StateMismatchError, UnstorableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from resumable_sched.checkpoint.storage import Buffer

    OnRanks = Callable[[int, Callable[[FakeRanks], Any]], list[Any]]


class _Own:
    """An object whose state differs from rank to rank, unless told otherwise."""

    def __init__(self, value: object, *, per_rank: bool | None = None) -> None:
        self.value = value
        if per_rank is not None:
            self.per_rank = per_rank

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value, "tensor": torch.tensor([hash(self.value) % 100])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]
        assert state["tensor"].tolist() == [hash(self.value) % 100]


def _model(fill: float, running: float = 0.0) -> torch.nn.Sequential:
    model = torch.nn.Sequential(torch.nn.Linear(700, 700), torch.nn.BatchNorm1d(700))
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, fill)
    model[1].running_mean.fill_(running)  # type: ignore[operator]
    return model


def _save(root: Path | Storage, ranks: FakeRanks, step: int, *, asynchronous: bool = True) -> None:
    model = _model(step, running=ranks.rank + 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=step, momentum=0.9)
    for parameter in model.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.full_like(parameter, 2.0 * step)
    state = {
        "model": model,
        "optimizer": optimizer,
        "sampler": _Own(("rank", ranks.rank, step), per_rank=True),
        "found_out": _Own(ranks.rank),
        "alike": _Own(step),
        "n": step,
    }
    with CheckpointManager(root, state, process_group=ranks, asynchronous=asynchronous, require_rng=False) as manager:
        manager.restore(only=[])
        manager.save(step, {"loss": float(ranks.rank)})


def _fresh() -> dict[str, Any]:
    model = _model(-1.0, running=-1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    return {
        "model": model,
        "optimizer": optimizer,
        "sampler": _Own(None, per_rank=True),
        "found_out": _Own(None),
        "alike": _Own(None),
        "n": None,
    }


def _check(state: dict[str, Any], rank: int) -> int:
    """Return the step of a restored state, having seen that all of it is of that step and rank."""
    step: int = state["n"]
    assert all(torch.all(parameter == step) for parameter in state["model"].parameters())
    assert torch.all(state["model"][1].running_mean == 1.0)  # rank 0's, on every rank
    assert all(torch.all(it["momentum_buffer"] == 2 * step) for it in state["optimizer"].state.values())
    assert state["optimizer"].param_groups[0]["lr"] == step
    assert state["sampler"].value == ("rank", rank, step)
    assert state["found_out"].value == rank
    assert state["alike"].value == step
    return step


def _restore(root: Path, ranks: FakeRanks) -> tuple[int, Any]:
    state = _fresh()
    found = load(root, state, process_group=ranks)
    return _check(state, ranks.rank), found


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_every_rank_gets_the_shared_state_and_its_own(
    tmp_path: Path, on_ranks: OnRanks, world_size: int, *, asynchronous: bool
) -> None:
    """Parameters and optimizer state are alike, buffers are rank 0's, and what is per rank comes back per rank."""
    on_ranks(world_size, lambda ranks: _save(tmp_path, ranks, 3, asynchronous=asynchronous))

    outcomes = on_ranks(world_size, lambda ranks: _restore(tmp_path, ranks))

    assert [step for step, _ in outcomes] == [3] * world_size
    assert {found.world_size for _, found in outcomes} == {world_size}
    assert [dict(found.metrics) for _, found in outcomes] == [{"loss": 0.0}] * world_size


def test_shared_tensors_are_written_once_and_evenly(tmp_path: Path, on_ranks: OnRanks) -> None:
    """Two ranks write half of the bytes each, every shard is a valid safetensors file, and large tensors are cut."""
    on_ranks(2, lambda ranks: _save(tmp_path, ranks, 1))

    (folder,) = survey(LocalStorage(tmp_path)).folders
    sizes = [size for name, size in folder.files.items() if name.endswith(".safetensors")]
    assert sum(sizes) < 2 * (700 * 700 + 5 * 700) * 4 + 20_000
    assert max(sizes) - min(sizes) < 20_000
    manifest = load_manifest(LocalStorage(tmp_path), folder)
    assert len(manifest.tensors["model/0.weight"].chunks) + len(manifest.tensors["model/0.bias"].chunks) >= 2
    for file in manifest.files:
        loaded = safetensors.torch.load_file(tmp_path / folder.name / file)
        assert sum(tensor.nbytes for tensor in loaded.values()) > 0
    assert list(examine(LocalStorage(tmp_path))) == []


def _outcomes(state: Callable[[int], dict[str, Any]], root: Path, iteration: Callable[[int], int]) -> list[Any]:
    def work(ranks: FakeRanks) -> None:
        with CheckpointManager(root, state(ranks.rank), process_group=ranks) as manager:
            manager.save(iteration(ranks.rank))

    return FakeRanks.run(3, work)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (lambda rank: {"a": _Own(rank, per_rank=False)}, r'Rank 1: state\["a"\] differs from that of rank 0'),
        (lambda rank: {"a": 1, **({"b": 2} if rank == 2 else {})}, r"Rank 2: its state has \['a', 'b'\]"),
        (lambda rank: {"a": torch.nn.Linear(2 + (rank == 1), 1)}, r'Rank 1: state\["a"\] differs'),
        (lambda rank: {"a": _Own(1, per_rank=rank == 2)}, r'Rank 2: state\["a"\] is per rank there, but replicated'),
    ],
)
def test_ranks_that_differ_where_they_must_not_all_say_so(
    tmp_path: Path, state: Callable[[int], dict[str, Any]], says: str
) -> None:
    """The same error on every rank names the first rank that differs, and nothing is written."""
    outcomes = _outcomes(state, tmp_path, lambda _: 1)

    for outcome in outcomes:
        with pytest.raises(RankError, match=says):
            raise outcome
    assert LocalStorage(tmp_path).list() == {}


def test_ranks_that_save_different_iterations_all_say_so(tmp_path: Path) -> None:
    """Ranks out of step are an error, not a checkpoint."""
    outcomes = _outcomes(lambda _: {"a": 1}, tmp_path, lambda rank: 5 + (rank == 2))

    for outcome in outcomes:
        with pytest.raises(RankError, match="Rank 2: it saves iteration 6, but rank 0 saves 5"):
            raise outcome


class _Summary(_Own):
    def summary(self) -> Any:
        raise ZeroDivisionError


def test_a_mistake_on_one_rank_is_an_error_on_all(tmp_path: Path) -> None:
    """An unstorable value, a bad iteration, a bad metric, a failing summary: nobody waits for the one who failed."""

    def unstorable(rank: int) -> dict[str, Any]:
        return {"a": [0, {1}] if rank == 1 else 1}

    for outcome in _outcomes(unstorable, tmp_path, lambda _: 1):
        with pytest.raises(UnstorableError, match=r'state\["a"\]\[1\]'):
            raise outcome
    for rank, outcome in enumerate(_outcomes(lambda _: {"a": 1}, tmp_path, lambda rank: -1 if rank == 1 else 1)):
        with pytest.raises(ValueError if rank == 1 else RankError, match="`iteration` must be between"):
            raise outcome
    for rank, outcome in enumerate(_outcomes(lambda _: {"a": _Summary(1)}, tmp_path, lambda _: 1)):
        with pytest.raises(RankError if rank else ZeroDivisionError):
            raise outcome
    assert LocalStorage(tmp_path).list() == {}


class _FailsAt:
    """A storage on which some writes fail."""

    def __init__(self, storage: Storage, part: str) -> None:
        self._storage, self._part = storage, part
        self.url = storage.url
        self.read, self.read_into, self.list = storage.read, storage.read_into, storage.list
        self.delete, self.delete_folder = storage.delete, storage.delete_folder

    def write(self, key: str, parts: Iterable[Buffer], size: int) -> None:
        if self._part in key:
            raise OSError(28, "No space left on device")
        self._storage.write(key, parts, size)


@pytest.mark.parametrize("part", ["rank-00000", "rank-00002", "manifest.json", "incarnations"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_rank_that_cannot_write_fails_the_save_on_all(
    tmp_path: Path, on_ranks: OnRanks, part: str, *, asynchronous: bool
) -> None:
    """No rank reports success, nothing is committed, and all restore the checkpoint before."""
    on_ranks(3, lambda ranks: _save(tmp_path, ranks, 1))

    outcomes: list[Any] = FakeRanks.run(
        3, lambda ranks: _save(_FailsAt(LocalStorage(tmp_path), part), ranks, 2, asynchronous=asynchronous)
    )

    for outcome in outcomes:
        with pytest.raises((OSError, RankError), match="No space left"):
            raise outcome
    if part.startswith("rank"):  # what the other ranks have written is gone: the next save may need the room
        assert {folder.iteration for folder in survey(LocalStorage(tmp_path)).folders} == {1}
    assert [step for step, _ in on_ranks(3, lambda ranks: _restore(tmp_path, ranks))] == [1] * 3


def test_a_rank_without_memory_for_its_copy_fails_the_save_on_all(tmp_path: Path) -> None:
    """What goes wrong while the state is copied is raised at the next call of every rank."""

    def work(ranks: FakeRanks) -> None:
        with CheckpointManager(tmp_path, {"t": torch.ones(3)}, process_group=ranks) as manager:
            if ranks.rank == 1:
                manager._host_copy._memory = None  # type: ignore[assignment]
            manager.save(1)

    first, second = FakeRanks.run(2, work)

    assert isinstance(first, RankError)
    assert isinstance(second, TypeError)


def test_a_rank_that_cannot_start_its_writer_fails_the_save_on_all(
    tmp_path: Path, on_ranks: OnRanks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writers of the other ranks do not wait for a thread that never came; then all go on."""
    without_threads: set[int] = set()
    start = threading.Thread.start

    def start_if_possible(thread: threading.Thread) -> None:
        if threading.get_ident() in without_threads:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_if_possible)

    def work(ranks: FakeRanks) -> str:
        with CheckpointManager(tmp_path, {"t": torch.ones(3)}, process_group=ranks) as manager:
            if ranks.rank == 1:
                without_threads.add(threading.get_ident())
            manager.save(1)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                manager.save(2)
            without_threads.clear()
            manager.save(3, block=True)
            return ",".join(str(it.iteration) for it in manager.checkpoints())

    assert on_ranks(3, work) == ["3"] * 3


def test_after_a_failed_save_all_ranks_go_on_together(tmp_path: Path, on_ranks: OnRanks) -> None:
    """The error of a background save surfaces on all ranks at the same call, and the next save works."""
    failing = _FailsAt(LocalStorage(tmp_path), "rank-00001")

    def work(ranks: FakeRanks) -> str:
        with CheckpointManager(failing, {"n": 7, "t": torch.ones(3)}, process_group=ranks) as manager:
            manager.save(1)
            with pytest.raises((OSError, RankError), match="No space left"):
                manager.save(2)
            ranks.all_gather(b"")
            failing._part = "nothing"
            manager.save(3, block=True)
            return ",".join(str(it.iteration) for it in manager.checkpoints() if it.status == "complete")

    assert on_ranks(2, work) == ["3", "3"]


def test_a_replaced_job_is_fenced_on_all_ranks(tmp_path: Path, on_ranks: OnRanks) -> None:
    """Every rank of the old job gets the FencedError with its fields."""

    def work(ranks: FakeRanks) -> None:
        with CheckpointManager(tmp_path, {"n": 1}, process_group=ranks, asynchronous=False) as manager:
            manager.save(1)
            if ranks.rank == 0:
                LocalStorage(tmp_path).write("incarnations/000009-0123456789ab.json", [b""], 0)
            ranks.all_gather(b"")
            with pytest.raises(FencedError, match="was taken over"):
                manager.save(2)

    on_ranks(3, work)


@pytest.mark.parametrize("rank", [0, 1, 2])
@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_all_ranks_fall_back_together(tmp_path: Path, on_ranks: OnRanks, rank: int, damage: str) -> None:
    """One rank's damaged shard sends every rank to the older checkpoint, with the same reason, and no tensor mixed."""
    for step in (1, 2):
        on_ranks(3, lambda ranks, step=step: _save(tmp_path, ranks, step))  # type: ignore[misc]
    (shard,) = tmp_path.glob(f"ckpt-000000000002*/rank-{rank:05d}.safetensors")
    content = shard.read_bytes()
    shard.unlink()
    if damage != "delete":
        shard.write_bytes(content[:-4] + (b"\x55\x55\x55\x55" if damage == "flip" else b""))

    outcomes = on_ranks(3, lambda ranks: _restore(tmp_path, ranks))

    assert [step for step, _ in outcomes] == [1, 1, 1]
    reasons = [tuple(found.rejected.values()) for _, found in outcomes]
    assert len(set(reasons)) == 1
    assert f"rank-{rank:05d}.safetensors" in reasons[0][0]


def test_another_number_of_ranks_is_refused_for_what_is_kept_per_rank(tmp_path: Path, on_ranks: OnRanks) -> None:
    """The error names the objects and both numbers, before anything is touched; the rest can be restored with only."""
    on_ranks(2, lambda ranks: _save(tmp_path, ranks, 4))

    def work(ranks: FakeRanks) -> None:
        state = _fresh()
        with CheckpointManager(tmp_path, state, process_group=ranks, read_only=True) as manager:
            with pytest.raises(StateMismatchError, match=r'state\["sampler"\] is kept per rank and was saved by 2'):
                manager.restore()
            assert state["n"] is None
            assert torch.all(state["model"][0].weight == -1.0)

            manager.restore(only=["model", "optimizer", "alike", "n"])
        assert torch.all(state["model"][0].weight == 4.0)
        assert [state["n"], state["alike"].value, state["sampler"].value] == [4, 4, None]

    for world_size in (1, 3):
        on_ranks(world_size, work)


def test_a_state_that_one_rank_cannot_take_is_refused_on_all(tmp_path: Path, on_ranks: OnRanks) -> None:
    """If the model of one rank has another shape, no rank's tensors are touched."""
    on_ranks(2, lambda ranks: _save(tmp_path, ranks, 4))

    def work(ranks: FakeRanks) -> None:
        state: dict[str, Any] = {"model": _model(-1.0) if ranks.rank == 0 else torch.nn.Linear(2, 2)}
        with warnings.catch_warnings(), pytest.raises(StateMismatchError):
            load(tmp_path, state, process_group=ranks)
        if ranks.rank == 0:
            assert torch.all(state["model"][0].weight == -1.0)

    on_ranks(2, work)


def test_metrics_are_rank_zeros(tmp_path: Path, on_ranks: OnRanks) -> None:
    """Other ranks may pass none."""

    def work(ranks: FakeRanks) -> Any:
        with CheckpointManager(tmp_path, {"n": 1}, process_group=ranks, asynchronous=False) as manager:
            manager.save(1, {"loss": 0.5} if ranks.rank == 0 else None)
            manager.record(1, {"accuracy": 0.25 + ranks.rank})
            ranks.all_gather(b"")
            return dict(manager.checkpoints()[0].metrics)

    assert on_ranks(2, work) == [{"loss": 0.5, "accuracy": 0.25}] * 2
