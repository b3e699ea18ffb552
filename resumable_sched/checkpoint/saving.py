"""The write half: what each rank writes, and the commit.

Three exchanges per save, however many tensors there are: one before anything is written, in which the ranks make sure
that they mean the same checkpoint, and two after, in which rank 0 learns what was written and says what came of it.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import torch
import xxhash

from resumable_sched._version import __version__
from resumable_sched.checkpoint.lineage import now
from resumable_sched.checkpoint.manifest import Folder, Manifest, TensorRecord
from resumable_sched.checkpoint.objects import Adapter, Collected, Sharing
from resumable_sched.checkpoint.shards import (
    Chunk,
    FileRecord,
    Layout,
    Piece,
    TensorSpec,
    bytes_of,
    deal,
    dtype_of,
    plain_copy,
    write_shard,
)
from resumable_sched.checkpoint.tree import rename
from resumable_sched.distributed.ranks import gather
from resumable_sched.errors import CheckpointError, RankError, ResumableSchedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resumable_sched.checkpoint.shards import Content
    from resumable_sched.checkpoint.storage import Storage
    from resumable_sched.distributed.ranks import Ranks

__all__ = ["About", "Prepared", "Report", "assemble", "prepare", "write"]


class Report(msgspec.Struct, frozen=True):
    """What a rank tells rank 0 after writing its shard."""

    file: str
    record: FileRecord
    chunks: list[tuple[str, Chunk]]
    own_state: dict[str, Any]
    own_tensors: list[tuple[str, str, tuple[int, ...]]]
    """Name, dtype and shape of the tensors of its own state."""


class _Greeting(msgspec.Struct, frozen=True):
    """What ranks compare before a save."""

    iteration: int
    sharing: dict[str, str]
    digests: dict[str, str]
    """Of each object's state; for a replicated one without the values of its tensors, which would cost too much."""


@dataclass(frozen=True)
class About:
    """What is saved beside the state."""

    iteration: int
    metrics: Any
    """A JSON tree, as is `summaries`; rank 0's count."""
    summaries: Any


@dataclass(frozen=True)
class Prepared:
    """One rank's part of a save."""

    about: About
    layout: Layout
    tensors: Mapping[str, torch.Tensor]
    """The tensors that its pieces are cut from."""
    shared: Mapping[str, Any]
    """The JSON trees of the objects that all ranks share."""
    own: Mapping[str, Any]
    """The JSON trees of this rank's own objects."""
    kinds: Mapping[str, tuple[str, str]]
    """What each object is, and its class."""
    own_specs: tuple[TensorSpec, ...]
    plan: tuple[tuple[Piece, ...], ...]
    """By rank, the pieces of the shared tensors that it writes; the same on all ranks."""


def prepare(ranks: Ranks, adapters: Mapping[str, Adapter], describe: Callable[[], About]) -> Prepared:
    """Collect the state, agree on it, and plan who writes what; a collective, with nothing written yet.

    Args:
        ranks: Who saves.
        adapters: What is saved, by name.
        describe: Says what else is; called where an error of one rank is raised on all.

    Raises:
        UnstorableError: If a value cannot be stored, on all ranks.
        RankError: If the ranks save different iterations or objects, or a replicated object's state differs.
    """
    collected: dict[str, Collected] = {}
    described: list[About] = []

    def greet() -> bytes:
        described.append(describe())
        for name, adapter in adapters.items():
            collected[name] = _collected(name, adapter)
        alone = ranks.world_size == 1  # then there is nothing to compare
        return msgspec.json.encode(
            _Greeting(
                described[0].iteration,
                {name: adapter.sharing.value for name, adapter in adapters.items()},
                {name: "" if alone else _digest(adapters[name], collected[name]) for name in adapters},
            )
        )

    greetings = [msgspec.json.decode(reply, type=_Greeting) for reply in gather(ranks, greet)]
    own = _own_objects(adapters, greetings)
    prefix = f"rank-{ranks.rank:05d}/"
    mine = {name: _renamed(collected[name], prefix) for name in own}
    shared = {name: content for name, content in collected.items() if name not in own}

    dealt = [
        TensorSpec.of(key, tensor)
        for content in shared.values()
        for key, tensor in content.tensors.items()
        if key not in content.rank_zero
    ]
    plan = deal(dealt, ranks.world_size)
    plan[0] += [
        Piece(TensorSpec.of(key, content.tensors[key]))
        for content in shared.values()
        for key in sorted(content.rank_zero)
    ]
    own_specs = tuple(TensorSpec.of(key, tensor) for it in mine.values() for key, tensor in it.tensors.items())
    return Prepared(
        about=described[0],
        layout=Layout([*plan[ranks.rank], *map(Piece, own_specs)]),
        tensors={key: tensor for it in (*shared.values(), *mine.values()) for key, tensor in it.tensors.items()},
        shared={name: content.tree for name, content in shared.items()},
        own={name: content.tree for name, content in mine.items()},
        kinds={name: (adapter.kind, adapter.class_name) for name, adapter in adapters.items()},
        own_specs=own_specs,
        plan=tuple(map(tuple, plan)),
    )


def _collected(name: str, adapter: Adapter) -> Collected:
    try:
        return adapter.collect()
    except (ResumableSchedError, ValueError):
        raise
    except Exception as error:
        raise CheckpointError(f'state["{name}"] could not be saved: {type(error).__name__}: {error}') from error


def _renamed(content: Collected, prefix: str) -> Collected:
    return Collected(rename(content.tree, prefix), {prefix + key: tensor for key, tensor in content.tensors.items()})


def _digest(adapter: Adapter, content: Collected) -> str:
    digest = xxhash.xxh3_128(msgspec.json.encode(content.tree))
    for name, tensor in content.tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if adapter.sharing is Sharing.FOUND_OUT:
            digest.update(bytes_of(plain_copy(tensor)))
    return digest.hexdigest()


def _own_objects(adapters: Mapping[str, Adapter], greetings: list[_Greeting]) -> set[str]:
    """Return the objects that each rank has for itself."""
    first = greetings[0]
    own = set()
    for rank, greeting in enumerate(greetings):
        if greeting.iteration != first.iteration:
            raise RankError(rank, f"it saves iteration {greeting.iteration}, but rank 0 saves {first.iteration}.")
        if list(greeting.digests) != list(first.digests):
            raise RankError(
                rank, f"its state has {list(greeting.digests)}, but that of rank 0 has {list(first.digests)}."
            )
        if greeting.sharing != first.sharing:
            name = next(name for name, sharing in first.sharing.items() if greeting.sharing[name] != sharing)
            raise RankError(
                rank, f'state["{name}"] is {greeting.sharing[name]} there, but {first.sharing[name]} on rank 0.'
            )
    for name, adapter in adapters.items():
        differing = [rank for rank, it in enumerate(greetings) if it.digests[name] != first.digests[name]]
        if adapter.sharing is Sharing.PER_RANK or (adapter.sharing is Sharing.FOUND_OUT and differing):
            own.add(name)
        elif differing:
            raise RankError(
                differing[0],
                f'state["{name}"] differs from that of rank 0, but must be alike on all ranks. Find out where they '
                "part: a value that depends on the rank, or one that was changed on one rank only.",
            )
    return own


def write(
    storage: Storage,
    folder: Folder,
    rank: int,
    prepared: Prepared,
    content: Content,
) -> Report:
    """Write this rank's shard.

    Args:
        storage: Where to.
        folder: The checkpoint.
        rank: This rank.
        prepared: What to write.
        content: Gives the bytes of each piece.
    """
    file = f"rank-{rank:05d}.safetensors"
    record, chunks = write_shard(storage, f"{folder.name}/{file}", prepared.layout, content)
    own_tensors = [(spec.name, str(spec.dtype).removeprefix("torch."), spec.shape) for spec in prepared.own_specs]
    return Report(file, record, chunks, dict(prepared.own), own_tensors)


def assemble(
    folder: Folder, prepared: Prepared, reports: list[Report], *, parent: str | None, resumed: bool
) -> Manifest:
    """Make the manifest out of all reports, after checking that nothing of the plan is missing.

    Raises:
        CheckpointError: If a piece was not written, or one that was not planned.
    """
    shared = {piece.spec.name: piece.spec for hand in prepared.plan for piece in hand}
    own = {name: TensorSpec(name, dtype_of(dtype), shape) for it in reports for name, dtype, shape in it.own_tensors}
    for rank, (hand, report) in enumerate(zip(prepared.plan, reports, strict=True)):
        planned = {(piece.spec.name, piece.start, piece.shape) for piece in hand}
        planned |= {(name, tuple(0 for _ in shape), shape) for name, _, shape in report.own_tensors}
        written = {(name, chunk.start, chunk.shape) for name, chunk in report.chunks}
        if planned != written:
            names = ", ".join(sorted({name for name, *_ in planned ^ written}))
            raise CheckpointError(
                f"Rank {rank} did not write what was planned: {names}. The checkpoint is not committed."
            )
    tensors = {
        name: TensorRecord(str(spec.dtype).removeprefix("torch."), spec.shape, [])
        for name, spec in (shared | own).items()
    }
    for report in reports:
        for name, chunk in report.chunks:
            tensors[name].chunks.append(chunk)
    return Manifest(
        save_id=folder.save_id,
        iteration=folder.iteration,
        claim=folder.claim,
        parent=parent,
        resumed=resumed,
        world_size=len(reports),
        files={report.file: report.record for report in reports},
        tensors=tensors,
        state=dict(prepared.shared),
        rank_state=[report.own_state for report in reports],
        kinds=dict(prepared.kinds),
        metrics=prepared.about.metrics,
        summaries=prepared.about.summaries,
        software={"resumable_sched": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
        created=now(),
    )
