"""Being told to stop, and stopping together.

A signal handler may do almost nothing safely, least of all a collective. Ours sets a flag; the training loop asks once
per iteration, and all ranks hear the same answer at the same iteration.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final, final

from resumable_sched.distributed.ranks import current_ranks

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    import torch.distributed as dist
    from typing_extensions import Self

    from resumable_sched.distributed.ranks import Pending, Ranks

__all__ = ["EXIT_PREEMPTED", "PreemptionGuard"]

EXIT_PREEMPTED: Final = 75
"""The exit code of a job that saved and stopped because it was told to: ``EX_TEMPFAIL`` of sysexits.h, "try again"."""


@final
class PreemptionGuard:
    """Turn SIGTERM and SIGUSR1 into one agreed stop at an iteration boundary.

    ::

        with PreemptionGuard() as guard:
            for batch in loader:
                ...
                if guard.should_stop():
                    manager.save(group.iteration, block=True)
                    sys.exit(EXIT_PREEMPTED)

    A second signal changes nothing. Outside the ``with`` block the previous handlers are back.

    Args:
        signals: What counts as being told to stop.
        process_group: The ranks that stop together; None for all of them.
        ranks: The same, where they are no process group.

    Raises:
        RuntimeError: On entry, if it is active already.
        ValueError: On entry, where Python does not allow signal handlers: outside the main thread.
    """

    def __init__(
        self,
        signals: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGUSR1),
        *,
        process_group: dist.ProcessGroup | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self._signals = signals
        self._ranks = current_ranks(process_group) if ranks is None else ranks
        self._previous: dict[signal.Signals, signal._HANDLER] = {}
        self._pending: Pending | None = None
        self._agreed = False
        self.received: signal.Signals | None = None
        """The first signal that reached this process; None if there was none."""

    def __enter__(self) -> Self:
        if self._previous:
            raise RuntimeError("A PreemptionGuard must be entered once, but this one is active already.")
        try:
            for number in self._signals:
                self._previous[number] = signal.signal(number, self._handle)
        except BaseException:
            self._restore_handlers()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore_handlers()
        if kind is None and self._pending is not None:  # after an error the other ranks may never answer
            self._pending.result()
            self._pending = None

    def _restore_handlers(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            # None: a handler that was not set from Python, which Python cannot set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.received is None:
            self.received = signal.Signals(number)

    def should_stop(self) -> bool:
        """Return whether the ranks have agreed to stop; a collective, to be called after each iteration.

        The answer is to the question of the previous call, so that no rank waits for the network: a signal is acted
        on at the end of the iteration after the one in which it came. All ranks get the same answer.
        """
        if self._agreed:
            return True
        if self._ranks.world_size == 1:
            self._agreed = self.received is not None
            return self._agreed
        if self._pending is not None:
            self._agreed = self._pending.result()
        self._pending = None if self._agreed else self._ranks.start_any(self.received is not None)
        return self._agreed
