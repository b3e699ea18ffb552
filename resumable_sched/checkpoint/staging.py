"""One host copy that is used again and again, and one thread that writes.

The training thread pays for a copy into memory that is already mapped; the rest happens beside the training. What
goes wrong there is raised at the next call.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from functools import partial
from typing import TYPE_CHECKING, final

import torch

from resumable_sched.checkpoint.shards import Layout, Piece, bytes_of, plain_copy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resumable_sched.checkpoint.shards import Content

__all__ = ["HostCopy", "Save", "Writer", "direct"]


@final
class Save:
    """A save under way, or done.

    Attributes:
        iteration: What is saved.
    """

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration
        self._outcome: Future[None] = Future()

    @property
    def done(self) -> bool:
        """Return whether it has ended, well or not."""
        return self._outcome.done()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the checkpoint is committed.

        Args:
            timeout: In seconds; None to wait for ever.

        Raises:
            Exception: If it was not committed, why.
            TimeoutError: If it has not ended in time; it goes on.
        """
        self._outcome.result(timeout)

    def run(self, work: Callable[[], None]) -> None:
        """Do *work* and keep what comes of it."""
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            self._outcome.set_exception(error)
        else:
            self._outcome.set_result(None)


@final
class Writer:
    """A thread that does one save at a time."""

    def __init__(self) -> None:
        self._current: Save | None = None

    def start(self, save: Save, work: Callable[[], None], give_up: Callable[[Exception], None]) -> None:
        """Do *work* in the background. `settle` must have been called since the last one.

        The thread is not a daemon: a program that ends while it writes ends when it has written.

        Args:
            save: The handle that hears what comes of it.
            work: What to do.
            give_up: Called in this thread instead if no thread can be started, with the reason; it tells the other
                ranks, whose writers wait for this one, and raises.
        """
        thread = threading.Thread(target=save.run, args=(work,), name="resumable_sched-writer")
        self._current = save
        try:
            thread.start()
        except Exception as error:  # noqa: BLE001 - such as too many threads; raised by the next call
            save.run(partial(give_up, error))

    def settle(self) -> None:
        """Wait for the save under way and raise its error, once.

        Raises:
            Exception: Whatever stopped the save.
        """
        if (save := self._current) is None:
            return
        wait_for([save._outcome])  # noqa: SLF001 - of this module; an interrupt here must not forget the save
        self._current = None
        save.wait()


@final
class HostCopy:
    """Memory that a shard's data is copied into, kept from save to save: fresh memory costs ten times the copy."""

    def __init__(self) -> None:
        self._memory = torch.empty(0, dtype=torch.uint8, device="cpu")
        self._events: list[torch.cuda.Event] = []

    def fill(self, layout: Layout, tensors: Mapping[str, torch.Tensor]) -> None:
        """Copy the pieces of *layout* out of *tensors*.

        Copies from CUDA are queued on the device's current stream: what the training queues afterwards runs after them,
        so it may go on at once, and `content` waits for them.
        """
        devices = {tensor.device for tensor in tensors.values() if tensor.device.type == "cuda"}
        if len(self._memory) < layout.data_size or (devices and not self._memory.is_pinned()):
            self._memory = torch.empty(layout.data_size, dtype=torch.uint8, device="cpu", pin_memory=bool(devices))
        with torch.no_grad():
            for piece, offset in layout.places:
                target = self._memory[offset : offset + piece.nbytes].view(piece.spec.dtype).view(piece.shape)
                source = piece.of(tensors[piece.spec.name])
                target.copy_(source, non_blocking=source.is_cuda)  # other devices have no event to wait for
        self._events = []
        for device in devices:
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(device))
            self._events.append(event)

    def content(self, piece: Piece, offset: int) -> memoryview:
        """Return the bytes of a piece, once they have arrived."""
        for event in self._events:
            event.synchronize()
        self._events = []
        return bytes_of(self._memory[offset : offset + piece.nbytes])


def direct(tensors: Mapping[str, torch.Tensor]) -> Content:
    """Return what reads pieces from the live tensors, for a save that the training waits for."""

    def content(piece: Piece, offset: int) -> memoryview:
        del offset
        return bytes_of(plain_copy(piece.of(tensors[piece.spec.name])))

    return content
