"""Ranks: the fake and the single process behave alike, and an error of one rank is an error of all."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from resumable_sched import errors
from resumable_sched.distributed import FakeRanks, SingleProcess
from resumable_sched.distributed.ranks import from_rank_zero, gather

if TYPE_CHECKING:
    from collections.abc import Callable

    from resumable_sched.distributed.ranks import Ranks


def _single(world_size: int, work: Callable[[Ranks], Any]) -> list[Any]:
    assert world_size == 1
    return [work(SingleProcess())]


@pytest.fixture(params=["single", "fake-1", "fake-2", "fake-5"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[Ranks], Any]], list[Any]]:
    """Return what runs a function on all ranks of one kind."""
    kind, _, size = request.param.partition("-")

    def on_all(work: Callable[[Ranks], Any]) -> list[Any]:
        outcomes: list[Any] = _single(1, work) if kind == "single" else FakeRanks.run(int(size), work)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return outcomes

    return on_all


def test_every_rank_gets_all_payloads_in_order(run: Any) -> None:
    """Payloads of different lengths, empty ones and zeros at the end arrive as they were, many times in a row."""

    def work(ranks: Ranks) -> list[list[bytes]]:
        return [ranks.all_gather(bytes([ranks.rank, 0]) * (turn * ranks.rank)) for turn in range(20)]

    outcomes = run(work)

    expected = [[bytes([rank, 0]) * (turn * rank) for rank in range(len(outcomes))] for turn in range(20)]
    assert outcomes == [expected] * len(outcomes)


def test_every_rank_gets_what_rank_zero_sends(run: Any) -> None:
    """Only rank 0's payload counts."""
    outcomes = run(lambda ranks: [ranks.broadcast(b"%d-%d" % (ranks.rank, turn) * turn) for turn in range(3)])

    assert outcomes == [[b"", b"0-1", b"0-20-2"]] * len(outcomes)


def test_all_ranks_hear_the_same_answer(run: Any) -> None:
    """A flag on any rank is an answer on all."""

    def work(ranks: Ranks) -> list[bool]:
        flags = [False, ranks.rank == ranks.world_size - 1, True, ranks.rank == 0]
        return [ranks.start_any(flag).result() for flag in flags]

    outcomes = run(work)

    assert outcomes == [[False, True, True, True]] * len(outcomes)


def test_a_fork_is_a_channel_of_its_own(run: Any) -> None:
    """Another thread talks on the fork while this one talks on the original, in any interleaving."""

    def work(ranks: Ranks) -> tuple[list[bytes], list[bytes]]:
        other = ranks.fork()
        heard: list[list[bytes]] = []

        def talk() -> None:
            heard.extend(other.all_gather(b"other %d %d" % (turn, ranks.rank)) for turn in range(50))

        thread = threading.Thread(target=talk)
        thread.start()
        for turn in range(50):
            last = ranks.all_gather(b"main %d %d" % (turn, ranks.rank))
        thread.join()
        return last, heard[-1]

    outcomes = run(work)

    size = len(outcomes)
    main, other = ([b"%s 49 %d" % (name, rank) for rank in range(size)] for name in (b"main", b"other"))
    assert outcomes == [(main, other)] * size


def _raise(error: Exception) -> Callable[[], bytes]:
    def work() -> bytes:
        raise error

    return work


_ERRORS = [
    errors.StateMismatchError("no fit", missing=["a", "b"], unexpected=["c"]),
    errors.FencedError("s3://b", host="h", pid=3, command="c", started="now"),
    errors.CorruptCheckpointError("file", "reason"),
    errors.IncompleteCheckpointError("nothing there"),
    errors.UnstorableError('state["x"]', "set", "Do this."),
    errors.RankError(1, "differs"),
    errors.ScheduleMismatchError("changed", ["one", "two"]),
    errors.StateFormatError("odd"),
    errors.CheckpointError("not written"),
]


@pytest.mark.parametrize("error", _ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("zero_only", [False, True])
def test_our_errors_arrive_with_type_message_and_fields(error: Exception, *, zero_only: bool) -> None:
    """An error of this package is raised on all ranks as itself; then all can still talk."""
    failing = 0 if zero_only else 1

    def work(ranks: Ranks) -> tuple[Exception, int]:
        job = _raise(error) if ranks.rank == failing else bytes
        try:
            (from_rank_zero if zero_only else gather)(ranks, job)
        except Exception as caught:  # noqa: BLE001 - it is the result
            return caught, len(ranks.all_gather(b"still here"))
        pytest.fail("nothing was raised")

    for rank, outcome in enumerate(FakeRanks.run(3, work)):
        assert not isinstance(outcome, BaseException)
        caught, size = outcome
        assert (caught is error) == (rank == failing)
        assert type(caught) is type(error)
        assert str(caught) == str(error)
        assert vars(caught) == vars(error)
        assert size == 3


class RankError(Exception):
    """A user's own class that is called as one of ours, with a field that JSON cannot say."""

    def __init__(self) -> None:
        super().__init__("mine")
        self.field = object()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device", "file"), "OSError: [Errno 28] No space left on device: 'file'"),
        (ValueError("\ud800 odd"), "ValueError: \ud800 odd"),
        (RankError(), "RankError: mine"),
    ],
)
def test_errors_of_others_arrive_as_rank_errors(error: Exception, message: str) -> None:
    """The rank that failed raises its own error, the others one that says which rank and what."""

    def work(ranks: Ranks) -> None:
        gather(ranks, _raise(error) if ranks.rank == 1 else bytes)

    first, own, last = FakeRanks.run(3, work)

    assert own is error
    for other in (first, last):
        assert isinstance(other, errors.RankError)
        assert other.rank == 1
        assert str(other) == f"Rank 1: {message}"


def test_an_error_with_unsayable_fields_still_reaches_the_others() -> None:
    """A field that JSON has no word for does not leave the other ranks waiting."""
    error = errors.CorruptCheckpointError("file", "reason")
    error.extra = object()  # type: ignore[attr-defined]

    outcomes = FakeRanks.run(2, lambda ranks: gather(ranks, _raise(error) if ranks.rank == 0 else bytes))

    assert outcomes[0] is error
    assert isinstance(outcomes[1], errors.CorruptCheckpointError)
    assert outcomes[1].file == "file"


def test_the_first_failing_rank_is_the_one_that_others_hear_of() -> None:
    """Each failing rank raises its own error; the rest raise that of the lowest."""
    own = [None, KeyError("one"), KeyError("two")]

    outcomes = FakeRanks.run(3, lambda ranks: gather(ranks, _raise(it) if (it := own[ranks.rank]) else bytes))

    assert outcomes[1:] == own[1:]
    assert isinstance(outcomes[0], errors.RankError)
    assert outcomes[0].rank == 1


def test_a_fake_rank_that_dies_does_not_leave_the_others_waiting() -> None:
    """The death of a thread is an error of those who wait for it."""

    def work(ranks: FakeRanks) -> None:
        if ranks.rank == 1:
            raise ZeroDivisionError
        ranks.all_gather(b"")

    first, second = FakeRanks.run(2, work)

    assert isinstance(first, errors.RankError)
    assert isinstance(second, ZeroDivisionError)
