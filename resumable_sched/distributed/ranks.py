"""The ranks of a job and the little that they must tell each other.

`Ranks` is the seam: the real process group, a single process and a fake of threads all pass the same tests. Only bytes
travel, so that nothing is pickled on the way.
"""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, final

import torch
import torch.distributed as dist

from resumable_sched import errors

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "FakeRanks",
    "Pending",
    "ProcessGroupRanks",
    "Ranks",
    "SingleProcess",
    "current_ranks",
    "from_rank_zero",
    "gather",
    "shared_ranks",
]

T = TypeVar("T")


class Pending(Protocol):
    """A collective under way."""

    def result(self) -> bool:
        """Wait for it and return what the ranks agreed on."""


class Ranks(Protocol):
    """What this package needs to know of, and ask from, the ranks of a job.

    Every method but the properties is a collective: all ranks call it, in the same order.
    """

    @property
    def rank(self) -> int:
        """Return the number of this process, 0 to ``world_size - 1``."""

    @property
    def world_size(self) -> int:
        """Return how many ranks there are."""

    def all_gather(self, payload: bytes) -> list[bytes]:
        """Return every rank's *payload*, by rank."""

    def broadcast(self, payload: bytes) -> bytes:
        """Return rank 0's *payload*; what the others give does not count."""

    def start_any(self, flag: bool) -> Pending:
        """Start to find out whether *flag* is true on any rank; `Pending.result` waits for the answer."""

    def fork(self) -> Ranks:
        """Return the same ranks on a channel of their own, for use from another thread."""


@final
class _Known:
    """An answer that is there already."""

    def __init__(self, value: bool) -> None:
        self._value = value

    def result(self) -> bool:
        return self._value


@final
class SingleProcess:
    """One process on its own."""

    rank = 0
    world_size = 1

    def all_gather(self, payload: bytes) -> list[bytes]:
        """Return the one payload."""
        return [payload]

    def broadcast(self, payload: bytes) -> bytes:
        """Return the payload."""
        return payload

    def start_any(self, flag: bool) -> Pending:
        """Know the answer at once."""
        return _Known(flag)

    def fork(self) -> SingleProcess:
        """Return itself: there is nobody to talk to."""
        return self


@final
class _Reduction:
    """An asynchronous MAX over the ranks."""

    def __init__(self, work: dist.Work, flag: torch.Tensor) -> None:
        self._work = work
        self._flag = flag

    def result(self) -> bool:
        self._work.wait()
        return bool(self._flag.item())


@final
class ProcessGroupRanks:
    """The ranks of a `torch.distributed` process group.

    A gloo group of its own is made over the same processes: messages are small and live on the host, and they must not
    interleave with the training's collectives. Making it is a collective.

    Args:
        process_group: The group; None for the default one.
        forks: Whether `fork` makes another gloo group; False where everything happens in one thread.
    """

    def __init__(self, process_group: dist.ProcessGroup | None = None, *, forks: bool = True) -> None:
        members = dist.get_process_group_ranks(_world_or(process_group))
        # Local synchronization: ranks outside the group need not take part in making ours.
        self._group = dist.new_group(members, backend="gloo", use_local_synchronization=process_group is not None)
        self._parent = process_group
        self._forks = forks
        self.rank = dist.get_rank(self._group)
        self.world_size = len(members)

    def all_gather(self, payload: bytes) -> list[bytes]:
        """Return every rank's payload, in two collectives: the lengths, then the bytes padded to the longest."""
        length = torch.tensor([len(payload)], dtype=torch.int64, device="cpu")
        lengths = [torch.zeros_like(length) for _ in range(self.world_size)]
        dist.all_gather(lengths, length, group=self._group)
        sizes = [int(n) for n in lengths]
        mine = _as_tensor(payload, max(*sizes, 1))
        parts = [torch.empty_like(mine) for _ in range(self.world_size)]
        dist.all_gather(parts, mine, group=self._group)
        return [part[:size].numpy().tobytes() for part, size in zip(parts, sizes, strict=True)]

    def broadcast(self, payload: bytes) -> bytes:
        """Send rank 0's payload, in two collectives: its length, then its bytes."""
        length = torch.tensor([len(payload)], dtype=torch.int64, device="cpu")
        dist.broadcast(length, group=self._group, group_src=0)
        size = int(length)
        content = _as_tensor(payload if self.rank == 0 else b"", max(size, 1))
        dist.broadcast(content, group=self._group, group_src=0)
        return content[:size].numpy().tobytes()

    def start_any(self, flag: bool) -> Pending:
        """Start an all-reduce that does not hold up the caller."""
        value = torch.tensor([flag], dtype=torch.int32, device="cpu")
        work = dist.all_reduce(value, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        assert work is not None
        return _Reduction(work, value)

    def fork(self) -> ProcessGroupRanks:
        """Make another gloo group over the same processes."""
        return ProcessGroupRanks(self._parent) if self._forks else self


def _as_tensor(payload: bytes, size: int) -> torch.Tensor:
    """Return *payload*, padded with zeros to *size*."""
    content = torch.zeros(size, dtype=torch.uint8, device="cpu")
    if payload:
        content[: len(payload)] = torch.frombuffer(bytearray(payload), dtype=torch.uint8)
    return content


class _Meeting:
    """Where the threads of `FakeRanks` exchange what they have, turn by turn."""

    def __init__(self, world_size: int) -> None:
        self.brought: dict[int, bytes] = {}
        self.turn = 0
        self.outcome: list[bytes] = [b""] * world_size


class _Room:
    """All meetings of one `FakeRanks.run`, by channel."""

    def __init__(self, world_size: int) -> None:
        self._world_size = world_size
        self._changed = threading.Condition()
        self._meetings: dict[tuple[int, ...], _Meeting] = defaultdict(lambda: _Meeting(world_size))
        self._broken = False

    def exchange(self, channel: tuple[int, ...], rank: int, payload: bytes) -> list[bytes]:
        with self._changed:
            meeting = self._meetings[channel]
            turn = meeting.turn
            meeting.brought[rank] = payload
            if len(meeting.brought) == self._world_size:
                meeting.outcome = [meeting.brought[number] for number in range(self._world_size)]
                meeting.brought.clear()
                meeting.turn += 1
                self._changed.notify_all()
            else:
                # A rank that never comes is a test's failure, not its end.
                self._changed.wait_for(lambda: meeting.turn > turn or self._broken, timeout=60)
            if meeting.turn == turn:  # a meeting that took place counts, whoever has died since
                raise errors.RankError(rank, "another rank has died")
            return meeting.outcome  # nobody can hold the next meeting before this rank has come to it

    def abort(self) -> None:
        with self._changed:
            self._broken = True
            self._changed.notify_all()


@final
class FakeRanks:
    """Ranks that are threads of this process, for tests; `run` makes them."""

    def __init__(self, rank: int, world_size: int, room: _Room, channel: tuple[int, ...] = ()) -> None:
        self.rank = rank
        self.world_size = world_size
        self._room = room
        self._channel = channel
        self._forks = 0

    def all_gather(self, payload: bytes) -> list[bytes]:
        """Meet the other threads; a thread that died makes it a `RankError` instead of a wait for ever."""
        return list(self._room.exchange(self._channel, self.rank, payload))

    def broadcast(self, payload: bytes) -> bytes:
        """Return what rank 0 brought to the meeting."""
        return self.all_gather(payload)[0]

    def start_any(self, flag: bool) -> Pending:
        """Meet at once; a fake may wait."""
        return _Known(any(part == b"1" for part in self.all_gather(b"1" if flag else b"0")))

    def fork(self) -> FakeRanks:
        """Return the same threads on a channel of their own."""
        self._forks += 1
        return FakeRanks(self.rank, self.world_size, self._room, (*self._channel, self._forks))

    @classmethod
    def run(cls, world_size: int, work: Callable[[FakeRanks], T]) -> list[T | BaseException]:
        """Call *work* once per rank, each in a thread, and return what each returned or raised."""
        room = _Room(world_size)
        outcomes: list[Any] = [None] * world_size

        def body(rank: int) -> None:
            try:
                outcomes[rank] = work(cls(rank, world_size, room))
            except BaseException as error:  # noqa: BLE001 - the outcome is returned to the test
                outcomes[rank] = error
                room.abort()

        threads = [threading.Thread(target=body, args=(rank,)) for rank in range(world_size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return outcomes


def current_ranks(process_group: dist.ProcessGroup | None = None) -> Ranks:
    """Return the ranks of *process_group*, of the default group, or of this process alone where there is none.

    Raises:
        RuntimeError: If a launcher has started several processes, but their group was not initialised yet.
    """
    return SingleProcess() if _is_alone(process_group) else ProcessGroupRanks(process_group)


def _is_alone(process_group: dist.ProcessGroup | None) -> bool:
    if process_group is not None or (dist.is_available() and dist.is_initialized()):
        return False
    if os.environ.get("WORLD_SIZE", "1") not in ("", "1"):
        raise RuntimeError(
            f"torch.distributed must be initialised first, because WORLD_SIZE is {os.environ['WORLD_SIZE']}, but it is "
            "not. Call torch.distributed.init_process_group() before, or unset WORLD_SIZE for a process on its own."
        )
    return True


def shared_ranks(process_group: dist.ProcessGroup | None = None) -> Ranks:
    """Return the same as `current_ranks`, but always the same channel: for calls that end before they return.

    A group of sockets for each such call would add up in a program that makes many.
    """
    if _is_alone(process_group):
        return SingleProcess()
    parent = _world_or(process_group)
    if parent not in _shared:
        _shared[parent] = ProcessGroupRanks(process_group, forks=False)
    return _shared[parent]


def _world_or(process_group: dist.ProcessGroup | None) -> dist.ProcessGroup:
    """Return the group that is meant; torch takes None for the default one everywhere only since 2.7."""
    meant = dist.group.WORLD if process_group is None else process_group
    assert meant is not None
    return meant


_shared: weakref.WeakKeyDictionary[dist.ProcessGroup, ProcessGroupRanks] = weakref.WeakKeyDictionary()


def gather(ranks: Ranks, work: Callable[[], bytes]) -> list[bytes]:
    """Run *work* on every rank and return all results, or raise on all ranks if any of them raised.

    Raises:
        Exception: Of this rank's *work*. Another rank's error is raised here too if it is one of this package, and as a
            `RankError` otherwise.
    """
    message, failure = _attempt(work)
    replies = ranks.all_gather(message)
    if failure is not None:
        raise failure
    return [_result(rank, reply) for rank, reply in enumerate(replies)]


def from_rank_zero(ranks: Ranks, work: Callable[[], bytes]) -> bytes:
    """Run *work* on rank 0 and return its result on all ranks; its error is raised on all ranks, as `gather` does."""
    message, failure = _attempt(work) if ranks.rank == 0 else (b"", None)
    reply = ranks.broadcast(message)
    if failure is not None:
        raise failure
    return _result(0, reply)


def _attempt(work: Callable[[], bytes]) -> tuple[bytes, Exception | None]:
    try:
        return b"+" + work(), None
    except Exception as error:  # noqa: BLE001 - raised by the caller, after the others know of it
        return b"-" + _encode_error(error), error


def _result(rank: int, reply: bytes) -> bytes:
    if reply[:1] == b"-":
        raise _decode_error(rank, reply[1:])
    return reply[1:]


def _encode_error(error: Exception) -> bytes:
    kind = type(error).__name__
    if type(error) is getattr(errors, kind, None):
        content = {"type": kind, "message": str(error), "fields": vars(error)}
    else:
        content = {"type": "", "message": f"{kind}: {error}", "fields": {}}
    # A field that JSON cannot say must not keep the error from the others.
    return json.dumps(content, default=str).encode()


def _decode_error(rank: int, payload: bytes) -> Exception:
    content = json.loads(payload)
    if not content["type"]:
        return errors.RankError(rank, content["message"])
    kind: type[errors.ResumableSchedError] = getattr(errors, content["type"])
    fields = {name: tuple(it) if isinstance(it, list) else it for name, it in content["fields"].items()}
    return kind.rebuilt(content["message"], fields)
