"""Preemption: real signals, one agreed stop, and no trace afterwards."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from resumable_sched.distributed import EXIT_PREEMPTED, FakeRanks, PreemptionGuard, SingleProcess

if TYPE_CHECKING:
    from types import FrameType


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_stops_at_the_next_boundary(number: signal.Signals) -> None:
    """Nothing happens until the loop asks; from then on the answer stays."""
    with PreemptionGuard(ranks=SingleProcess()) as guard:
        before = (guard.should_stop(), guard.received)
        os.kill(os.getpid(), number)

        assert before == (False, None)
        assert guard.should_stop()
        assert guard.should_stop()
        assert guard.received is number


def test_a_second_signal_changes_nothing() -> None:
    """Two signals, of one kind or of two, are one stop; the first one is remembered."""
    with PreemptionGuard(ranks=SingleProcess()) as guard:
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)

        assert guard.should_stop()
        assert guard.received is signal.SIGUSR1


def test_the_previous_handlers_come_back() -> None:
    """Also after an error in the block; the guard can be used again."""
    calls: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        del frame
        calls.append(number)

    previous = signal.signal(signal.SIGUSR1, handler)
    untouched = signal.getsignal(signal.SIGTERM)
    guard = PreemptionGuard(ranks=SingleProcess())
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), guard:
            raise ZeroDivisionError

        assert signal.getsignal(signal.SIGUSR1) is handler
        assert signal.getsignal(signal.SIGTERM) is untouched
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, previous)

    assert calls == [signal.SIGUSR1]
    assert guard.received is None


def test_a_guard_that_cannot_be_entered_leaves_no_handlers() -> None:
    """A signal that cannot be caught is an error, and the others have their handlers back."""
    before = signal.getsignal(signal.SIGUSR1)

    with pytest.raises(OSError, match="Invalid argument"):
        PreemptionGuard((signal.SIGUSR1, signal.SIGKILL), ranks=SingleProcess()).__enter__()

    assert signal.getsignal(signal.SIGUSR1) is before


def test_a_guard_is_entered_once() -> None:
    """To enter an active guard would make its own handler the one to go back to."""
    with (
        PreemptionGuard(ranks=SingleProcess()) as guard,
        pytest.raises(RuntimeError, match="must be entered once"),
    ):
        guard.__enter__()


def test_outside_the_main_thread_it_is_an_error() -> None:
    """Python allows handlers in the main thread only; that is said, not hidden."""
    caught: list[BaseException] = []

    def enter() -> None:
        try:
            PreemptionGuard(ranks=SingleProcess()).__enter__()
        except ValueError as error:
            caught.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()

    assert "main thread" in str(caught[0])


@pytest.mark.parametrize("warned", [0, 2])
@pytest.mark.parametrize("at", [0, 3, 9])
def test_all_ranks_stop_at_the_same_iteration(warned: int, at: int) -> None:
    """One rank is told; all stop together, one iteration later, without waiting for the network in between."""

    def train(ranks: FakeRanks) -> int:
        guard = PreemptionGuard(ranks=ranks)
        for iteration in range(20):
            if ranks.rank == warned and iteration == at:
                guard._handle(signal.SIGTERM, None)  # a thread cannot get a signal
            if guard.should_stop():
                return iteration
        return -1

    assert FakeRanks.run(3, train) == [at + 1] * 3


def test_ranks_that_finish_together_leave_nothing_pending() -> None:
    """At the end of an undisturbed block the last question is answered on all ranks."""

    def train(ranks: FakeRanks) -> bytes:
        guard = PreemptionGuard(ranks=ranks)
        for _ in range(3):
            assert not guard.should_stop()
        guard.__exit__(None, None, None)
        assert guard._pending is None
        return ranks.broadcast(b"in step")

    assert FakeRanks.run(2, train) == [b"in step"] * 2


def test_the_exit_code_says_try_again() -> None:
    """It is EX_TEMPFAIL of sysexits.h, as documented."""
    assert EXIT_PREEMPTED == os.EX_TEMPFAIL
