"""`CheckpointManager`: save and restore everything that a run is made of."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast, final

import msgspec
import torch.distributed as dist

from resumable_sched.checkpoint.arguments import (
    require_generators,
    require_iteration,
    require_known,
    require_names,
    require_position,
    summary_tree,
)
from resumable_sched.checkpoint.catalog import (
    Checkpoint,
    Problem,
    describe,
    examine,
    facts,
    listed,
    metrics_of,
    plain_metrics,
    record_metrics,
)
from resumable_sched.checkpoint.deletion import give_back, retire
from resumable_sched.checkpoint.lineage import claim_url, eligible, require_newest, tell_resumed
from resumable_sched.checkpoint.loaders import require_in_step
from resumable_sched.checkpoint.manifest import Folder, save_manifest, survey
from resumable_sched.checkpoint.objects import adapt
from resumable_sched.checkpoint.restoring import Request, Restored, restore
from resumable_sched.checkpoint.saving import About, Prepared, Report, assemble, prepare, write
from resumable_sched.checkpoint.staging import HostCopy, Save, Writer, direct
from resumable_sched.checkpoint.storage import Storage, open_storage
from resumable_sched.checkpoint.tree import flatten, unflatten
from resumable_sched.distributed.ranks import Ranks, current_ranks, from_rank_zero, gather, shared_ranks
from resumable_sched.errors import IncompleteCheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
    from types import TracebackType

    from typing_extensions import Self

    from resumable_sched.checkpoint.retention import Retention
    from resumable_sched.checkpoint.shards import Content

__all__ = ["CheckpointManager", "load"]

_log = logging.getLogger(__name__)
_writers: weakref.WeakValueDictionary[tuple[int, str, int], CheckpointManager] = weakref.WeakValueDictionary()
_writers_lock: Final = threading.Lock()


@final
class CheckpointManager:
    """Save a run's state at a URL, and restore it after any interruption.

    ::

        state = {"model": model, "optimizer": optimizer, "schedule": group, "rng": RNGState(), "loader": loader}
        with CheckpointManager("s3://bucket/run", state, retention=Retention(keep_last=3)) as manager:
            manager.restore()
            ...
            manager.save(group.iteration)

    A checkpoint exists when its manifest does, which is written last. A restore takes the newest one that verifies on
    all ranks. A start of the job that was replaced by a newer one commits nothing any more (`FencedError`).

    All ranks make the manager and call `save`, `restore`, `wait`, `record` and `close` together.

    Args:
        url: A local path, any URL that fsspec knows, or a `Storage`. One URL is for one run.
        state: What to save, by name: anything with ``state_dict`` and ``load_state_dict`` (modules, DDP modules,
            optimizers, schedulers, scalers, loaders, your own), and plain values, which a restore puts back into this
            dict. An object's attribute ``per_rank`` says whether each rank has its own state (True) or all have the
            same (False); see ``docs/checkpoints.md`` for those without. A ``summary()`` is stored for people to read.
        retention: Which checkpoints to keep; None keeps all.
        storage_options: What the fsspec file system takes.
        process_group: Which ranks take part; None for all.
        asynchronous: Copy the state and write it in the background. Errors are raised at the next call.
        read_only: Never write anything: no claim, no save.
        require_rng: What to do about a *state* with a module and an optimizer but no `RNGState`, with which a run would
            not go on as it was, or with a sampler whose generator is in none: True refuses it, None warns. False says
            that nothing draws from the global generators, or that an object of your own saves them.

    Raises:
        ValueError: If the URL or the names in *state* are not usable, or an `RNGState` is missing where it is required.
        RuntimeError: If this process already has an open manager that writes to this URL.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | Storage,
        state: MutableMapping[str, Any],
        *,
        retention: Retention | None = None,
        storage_options: Mapping[str, Any] | None = None,
        process_group: dist.ProcessGroup | Ranks | None = None,
        asynchronous: bool = True,
        read_only: bool = False,
        require_rng: bool | None = None,
    ) -> None:
        require_names(state)
        if require_rng is not False and not read_only:
            require_generators(state, refuse=require_rng is True)
        self._state = state
        self._storage = _storage_of(url, storage_options)
        self._ranks = _ranks_of(process_group)
        self._retention = retention
        self._asynchronous = asynchronous
        self._read_only = read_only
        self._claim: str | None = None
        self._attempt = 0
        self._parent: str | None = None
        self._resumed = False
        self._restored: int | None = None
        self._process = os.getpid()
        self._writer = Writer()
        self._host_copy = HostCopy()
        self._closed = False
        if not read_only:
            self._register()
            # The writer thread talks to the other ranks on a channel of its own.
            self._writer_ranks = self._ranks.fork()

    def _register(self) -> None:
        key = (self._process, self._storage.url, self._ranks.rank)
        with _writers_lock:
            other = _writers.get(key)
            if other is not None and not other._closed:  # noqa: SLF001 - of its own class
                raise RuntimeError(
                    f"{self._storage.url} already has an open manager in this process that writes to it. Close that "
                    "one first, or pass read_only=True to look only."
                )
            _writers[key] = self

    @property
    def url(self) -> str:
        """Return where the checkpoints are."""
        return self._storage.url

    def save(self, iteration: int, metrics: Mapping[str, float] | None = None, *, block: bool = False) -> Save:
        """Save the state; a collective.

        A save that is still under way is waited for first.

        Args:
            iteration: How many optimizer updates are done. The same iteration may be saved again.
            metrics: Numbers about it, for `Retention.keep_best` and for listings; rank 0's count.
            block: Return only when the checkpoint is committed.

        Returns:
            A handle with ``wait()`` and ``done``.

        Raises:
            UnstorableError: If the state holds what cannot be stored without pickle; nothing was written.
            RankError: If the ranks' states do not agree, or another rank failed.
            FencedError: If a newer start of the job has taken over the URL.
            Exception: Whatever stopped the save before this one.
            ValueError: If *iteration* is not usable.
            TypeError: If a metric is not a number, or a ``summary()`` has a tensor.
        """
        self._require_writable()
        self._writer.settle()
        adapters = {name: adapt(name, self._state) for name in self._state}
        prepared = prepare(self._ranks, adapters, partial(self._about, iteration, metrics))
        if self._claim is None:
            self._claim = from_rank_zero(self._ranks, lambda: claim_url(self._storage).encode()).decode()
        self._attempt += 1
        folder = Folder(prepared.about.iteration, self._claim, self._attempt)
        save = Save(folder.iteration)
        finish = partial(self._write_and_commit, folder, prepared, self._stage(prepared))
        if self._asynchronous:
            self._writer.start(save, finish, partial(self._write_and_commit, folder, prepared))
        else:
            save.run(finish)
        if block or not self._asynchronous:
            self._writer.settle()
            save.wait()
        return save

    def _about(self, iteration: int, metrics: Mapping[str, float] | None) -> About:
        value = require_iteration(iteration)
        summaries = self._summaries()
        require_position(value, summaries)
        require_in_step(self._state, value, self._restored)
        trees = {name: summary_tree(name, summary) for name, summary in summaries.items()}
        return About(value, flatten(plain_metrics(metrics), "metrics")[0], trees)

    def _summaries(self) -> dict[str, Any]:
        if self._ranks.rank != 0:
            return {}
        found = {name: getattr(value, "summary", None) for name, value in self._state.items()}
        return {name: summary() for name, summary in found.items() if callable(summary)}

    def _stage(self, prepared: Prepared) -> Content | Exception:
        """Return what gives the bytes of each piece, or why this rank cannot; the other ranks must hear of that."""
        if not self._asynchronous:
            return direct(prepared.tensors)
        try:
            self._host_copy.fill(prepared.layout, prepared.tensors)
        except Exception as error:  # noqa: BLE001 - such as no memory; raised by the writer, on all ranks
            return error
        return self._host_copy.content

    def _write_and_commit(self, folder: Folder, prepared: Prepared, content: Content | Exception) -> None:
        ranks = self._writer_ranks

        def write_shard() -> bytes:
            if isinstance(content, Exception):
                raise content
            if ranks.rank == 0:  # a job that was replaced need not write gigabytes to learn of it
                require_newest(self._storage, folder.claim)
            with self._fenced(folder.claim):
                return msgspec.json.encode(write(self._storage, folder, ranks.rank, prepared, content))

        try:
            replies = gather(ranks, write_shard)
        except Exception:
            # All ranks have ended. On a full disk the next save needs the room that this attempt has taken.
            if ranks.rank == 0:
                with contextlib.suppress(Exception):
                    self._storage.delete_folder(folder.name)
            raise

        from_rank_zero(ranks, partial(self._commit, folder, prepared, replies))
        self._parent = folder.save_id
        if ranks.rank == 0 and self._retention is not None:
            try:
                retire(self._storage, folder, self._retention)
            except Exception:  # noqa: BLE001 - any error raised on rank 0 alone leaves the others waiting for it
                # The checkpoint is committed, and that is what the caller asked for; the next save tries again.
                _log.exception("Old checkpoints of %s could not be deleted.", self.url)

    def _commit(self, folder: Folder, prepared: Prepared, replies: list[bytes]) -> bytes:
        reports = [msgspec.json.decode(reply, type=Report) for reply in replies]
        manifest = assemble(folder, prepared, reports, parent=self._parent, resumed=self._resumed)
        require_newest(self._storage, folder.claim)
        try:
            save_manifest(self._storage, folder, manifest)
        except OSError as error:
            if not isinstance(error, (TimeoutError, ConnectionError)):  # then it may still arrive
                give_back(self._storage, folder)
            raise
        # A job that claimed before the manifest was there may not have seen it, and goes on from an older one.
        require_newest(self._storage, folder.claim)
        return b""

    def restore(
        self, iteration: int | None = None, *, strict: bool = True, only: Iterable[str] | None = None
    ) -> Checkpoint | None:
        """Restore the newest checkpoint that verifies on all ranks; a collective.

        Tensors are read in place into the live ones. Nothing is touched before it is known that the state fits, and no
        object is loaded before every rank has verified all that it read.

        Args:
            iteration: Restore this iteration instead; later checkpoints no longer count then.
            strict: Raise if something was saved and is not restored, or is expected and was not saved; False warns.
            only: Restore these names only, and leave the other objects as they are.

        Returns:
            What was restored; None if there is no sign that anything was ever committed here.

        Raises:
            StateMismatchError: If the saved state does not fit; nothing was changed.
            IncompleteCheckpointError: If there are checkpoints, or were, but none verifies, or none of *iteration*.
            FencedError: If a newer start of the job has taken over the URL meanwhile.
            ValueError: If *only* has a name that is not in the state.
        """
        self._require_open()
        self._writer.settle()
        names = list(self._state) if only is None else require_known(only, self._state)
        if not self._read_only:
            self._claim = from_rank_zero(self._ranks, lambda: claim_url(self._storage).encode()).decode()
            self._attempt, self._parent, self._resumed = 0, None, False
        request = Request(
            adapters={name: adapt(name, self._state) for name in names},
            iteration=None if iteration is None else require_iteration(iteration),
            strict=strict,
            whole=only is None,
            read_only=self._read_only,
        )
        restored = restore(self._storage, self._ranks, request)
        if not self._read_only:
            from_rank_zero(self._ranks, lambda: self._note(None if restored is None else restored.folder))
            self._resumed = True
        if restored is None:
            return None
        self._parent = restored.manifest.save_id
        self._restored = restored.folder.iteration
        return self._checkpoint(restored)

    def _note(self, pick: Folder | None) -> bytes:
        assert self._claim is not None
        seen: list[Folder] = []
        if pick is not None:
            current = eligible(self._storage, survey(self._storage))
            seen = [it for it in current if it.order <= pick.order and it.iteration <= pick.iteration]
        with self._fenced(self._claim):
            tell_resumed(self._storage, self._claim, pick, seen)
        require_newest(self._storage, self._claim)  # now, and not after the training until the first save
        return b""

    @contextlib.contextmanager
    def _fenced(self, claim: str) -> Iterator[None]:
        """Raise that a newer start has taken over, where its retention has cleared an unfinished file away."""
        try:
            yield
        except FileNotFoundError:
            require_newest(self._storage, claim)
            raise

    def _checkpoint(self, restored: Restored) -> Checkpoint:
        folder, manifest = restored.folder, restored.manifest

        def metrics() -> bytes:
            return msgspec.json.encode(flatten(metrics_of(self._storage, folder, manifest))[0])

        return Checkpoint(
            **listed(folder),
            status="complete",
            rejected=restored.rejected,
            **facts(manifest, unflatten(msgspec.json.decode(from_rank_zero(self._ranks, metrics)), {})),
        )

    def record(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Add metrics to a checkpoint that is there already, such as those of a later validation; a collective.

        Raises:
            IncompleteCheckpointError: If there is no complete checkpoint of that iteration.
            FencedError: If a newer start of the job has taken over the URL.
            TypeError: If a metric is not a number.
        """
        self._require_writable()
        self._writer.settle()

        def note() -> bytes:
            if self._claim is not None:
                require_newest(self._storage, self._claim)
            matching = [it for it in eligible(self._storage, survey(self._storage)) if it.iteration == iteration]
            if not matching:
                raise IncompleteCheckpointError(
                    f"{self.url} has no complete checkpoint of iteration {iteration}.", iteration=iteration
                )
            record_metrics(self._storage, matching[-1], plain_metrics(metrics))
            return b""

        from_rank_zero(self._ranks, note)

    def checkpoints(self) -> list[Checkpoint]:
        """Return every checkpoint at the URL, oldest first, partial and damaged ones too; any rank may ask."""
        return describe(self._storage)

    def verify(self, iteration: int | None = None, *, on_read: Callable[[int], None] = lambda _: None) -> list[Problem]:
        """Read every byte at the URL and return each damaged or missing file; any rank may ask.

        Args:
            iteration: Only the checkpoints of this iteration.
            on_read: Told the number of bytes after each read, to show progress.
        """
        return list(examine(self._storage, iteration, on_read))

    def wait(self) -> None:
        """Wait for the save under way, and raise what went wrong with it."""
        self._writer.settle()

    def close(self) -> None:
        """Wait for the save under way, raise what went wrong with it, and let go of the URL."""
        try:
            self._writer.settle()
        finally:
            self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        try:
            self.close()
        except Exception:  # noqa: BLE001 - the error that ends the block is the one to raise
            _log.exception("The last save did not end well either.")

    def _require_open(self) -> None:
        if self._closed:
            raise RuntimeError(f"The manager of {self.url} is closed. Make a new one.")
        if os.getpid() != self._process:
            raise RuntimeError(
                f"The manager of {self.url} was made in process {self._process}, of which this one is a fork: "
                "its claim and its writer thread are the parent's. Make a new one."
            )

    def _require_writable(self) -> None:
        self._require_open()
        if self._read_only:
            raise RuntimeError(f"The manager of {self.url} was made with read_only=True, so it does not write.")


def load(
    url: str | os.PathLike[str] | Storage,
    state: MutableMapping[str, Any],
    iteration: int | None = None,
    *,
    strict: bool = True,
    storage_options: Mapping[str, Any] | None = None,
    process_group: dist.ProcessGroup | Ranks | None = None,
) -> Checkpoint:
    """Load the objects in *state* from a checkpoint and write nothing: for evaluation, or from somebody else's run.

    If there are several ranks, all of them call it.

    Args:
        url: Where the checkpoints are.
        state: What to load, by the name it was saved under; what else was saved is left alone.
        iteration: Which one; None for the newest that verifies.
        strict: Raise if an object does not fit in every name; False warns.
        storage_options: What the fsspec file system takes.
        process_group: Which ranks take part; None for all.

    Raises:
        StateMismatchError: If the saved state does not fit; nothing was changed.
        IncompleteCheckpointError: If there is no complete checkpoint.
    """
    ranks = shared_ranks(process_group) if process_group is None else process_group
    manager = CheckpointManager(url, state, storage_options=storage_options, process_group=ranks, read_only=True)
    checkpoint = manager.restore(iteration, strict=strict, only=list(state))
    if checkpoint is None:
        raise IncompleteCheckpointError(f"{manager.url} has no complete checkpoint.")
    return checkpoint


def _storage_of(url: str | os.PathLike[str] | Storage, options: Mapping[str, Any] | None) -> Storage:
    if not hasattr(url, "read_into"):
        return open_storage(cast("str", url), options)
    if options:
        raise ValueError(f"`storage_options` must be empty for a Storage, but is {dict(options)!r} instead.")
    return cast("Storage", url)


def _ranks_of(group: dist.ProcessGroup | Ranks | None) -> Ranks:
    if group is None or isinstance(group, dist.ProcessGroup):
        return current_ranks(group)
    return group
