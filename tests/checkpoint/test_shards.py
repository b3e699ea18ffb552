"""Shards: an even plan that every rank computes alone, and files that the safetensors library reads too."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
import safetensors
import safetensors.torch
import torch
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from resumable_sched.checkpoint.shards import Chunk, Layout, Piece, TensorSpec, deal, dtype_of, read_chunk, write_shard
from resumable_sched.checkpoint.staging import HostCopy, direct
from resumable_sched.checkpoint.storage import LocalStorage
from resumable_sched.errors import CorruptCheckpointError, StateMismatchError
from tests.checkpoint.exact import bits

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_SHELLS = ("int1", "int2", "int3", "int4", "int5", "int6", "int7", "qint", "quint", "uint1", "uint2")
_DTYPES = sorted(
    {it for it in vars(torch).values() if isinstance(it, torch.dtype)}
    - {it for name, it in vars(torch).items() if isinstance(it, torch.dtype) and name.startswith(_SHELLS)}
    - {vars(torch)[f"uint{n}"] for n in range(3, 8)}
    | {torch.int16, torch.uint16},
    key=str,
)


def _tensor(dtype: torch.dtype, *shape: int, scale: int = 1) -> torch.Tensor:
    """Return a tensor of given bytes, whatever they mean in its dtype."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # complex32 is said to be experimental
        size = math.prod(shape) * dtype.itemsize
        values = torch.arange(size, dtype=torch.int64) % (2 if dtype == torch.bool else 251)
        return (values * scale).to(torch.uint8).view(dtype).reshape(shape)


def _write(folder: Path, tensors: dict[str, torch.Tensor], pieces: Iterable[Piece] | None = None) -> dict[str, Chunk]:
    layout = Layout(list(pieces or (Piece(TensorSpec.of(name, it)) for name, it in tensors.items())))
    record, chunks = write_shard(LocalStorage(folder), "run/shard", layout, direct(tensors))

    content = (folder / "run/shard").read_bytes()
    assert (record.size, record.xxh3_128) == (len(content), xxhash.xxh3_128_hexdigest(content))
    position = record.header_length
    for _, chunk in sorted(chunks, key=lambda it: (it[1].offset, it[1].length)):
        assert chunk.offset == position
        assert xxhash.xxh3_128_hexdigest(content[position : position + chunk.length]) == chunk.xxh3_128
        position += chunk.length
    assert position == record.size
    assert record.header_length % 64 == 0
    return dict(chunks)


@pytest.mark.parametrize("dtype", _DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3), (1,)], ids=str)
def test_every_dtype_and_shape_comes_back(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """The bytes of a tensor of any dtype and shape survive, and its chunks tile the file with the checksums."""
    tensor = _tensor(dtype, *shape)
    chunks = _write(tmp_path, {"x": tensor, "odd": torch.ones(3, dtype=torch.uint8)})
    target = _tensor(dtype, *shape, scale=0)

    read_chunk(LocalStorage(tmp_path), "run", chunks["x"], target)

    assert bits(target) == bits(tensor)
    assert dtype_of(str(dtype).removeprefix("torch.")) is dtype


def test_the_safetensors_library_sees_the_same_tensors(tmp_path: Path) -> None:
    """Every shard is a valid safetensors file; a dtype that the library has no name for is there as raw bytes."""
    tensors = {f"dtype/{str(dtype).removeprefix('torch.')}": _tensor(dtype, 3, 2) for dtype in _DTYPES}
    tensors |= {"empty": torch.zeros(0, 4), "scalar": torch.tensor(1.5), 'odd "näme"\n[0:2]': torch.ones(2)}
    _write(tmp_path, tensors)

    loaded = safetensors.torch.load_file(tmp_path / "run" / "shard")

    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        if loaded[name].dtype == tensor.dtype:
            assert bits(loaded[name]) == bits(tensor)
        else:
            assert bits(loaded[name])[1][2] == bits(tensor)[1][2]


def test_a_shard_of_nothing_is_a_valid_file(tmp_path: Path) -> None:
    """A rank that got nothing to write still writes a file that the library opens."""
    _write(tmp_path, {})

    with safetensors.safe_open(tmp_path / "run" / "shard", framework="pt") as file:
        assert list(file.keys()) == []


def test_a_tensor_that_is_called_like_a_piece_of_another_one_is_kept_apart(tmp_path: Path) -> None:
    """Names in the file are unique even if somebody calls a tensor ``w[0:1]``."""
    tensors = {"w": torch.arange(2.0), "w[0:1]": torch.tensor([7.0])}
    spec = TensorSpec.of("w", tensors["w"])
    pieces = [Piece(spec, (0, 1)), Piece(spec, (1, 2)), Piece(TensorSpec.of("w[0:1]", tensors["w[0:1]"]))]
    _write(tmp_path, tensors, pieces)

    loaded = safetensors.torch.load_file(tmp_path / "run" / "shard")

    assert {name: it.tolist() for name, it in loaded.items()} == {"w[0:1]": [0.0], "w[1:2]": [1.0], "w[0:1]~": [7.0]}


_AWKWARD = {
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "channels_last": torch.arange(48.0).reshape(2, 3, 4, 2).to(memory_format=torch.channels_last),
    "expanded": torch.arange(3.0).expand(4, 3),
    "one of many": torch.arange(10.0)[::5][1:],
    "middle": torch.arange(10.0)[3:7],
    "conj": torch.tensor([1 + 2j, 3 - 4j]).conj(),
    "neg": torch.tensor([1 + 2j, 3 - 4j]).conj().imag,
    "requires grad": torch.arange(3.0, requires_grad=True),
}


@pytest.mark.parametrize("name", _AWKWARD)
@pytest.mark.parametrize("staged", [False, True])
def test_views_of_every_kind_are_stored_by_value(tmp_path: Path, name: str, *, staged: bool) -> None:
    """Strides, conjugations, negations and gradients are nothing of the file's business, written directly or staged."""
    tensor = _AWKWARD[name]
    layout = Layout([Piece(TensorSpec.of("x", tensor))])
    copy = HostCopy()
    copy.fill(layout, {"x": tensor})
    content = copy.content if staged else direct({"x": tensor})

    write_shard(LocalStorage(tmp_path), "shard", layout, content)

    assert torch.equal(safetensors.torch.load_file(tmp_path / "shard")["x"], tensor.resolve_conj().resolve_neg())


@pytest.mark.parametrize("name", sorted(_AWKWARD.keys() - {"expanded"}))
def test_live_tensors_of_every_kind_are_read_into(tmp_path: Path, name: str) -> None:
    """What is read in place arrives by value, whatever the strides and flags of the live tensor."""
    saved = (_AWKWARD[name].detach().clone().resolve_conj().resolve_neg() + 1).contiguous()
    chunks = _write(tmp_path, {"x": saved})
    live = torch.zeros_like(saved).expand(2, *saved.shape).clone()[0]
    if name == "conj":
        live = live.conj()
    elif name == "neg":
        live = torch.zeros(2, dtype=torch.complex64).conj().imag
    elif name in ("transposed", "channels_last", "one of many"):
        live = torch.empty_strided(saved.shape, _AWKWARD[name].stride())

    read_chunk(LocalStorage(tmp_path), "run", chunks["x"], live)

    assert torch.equal(live, saved)


def test_staging_reuses_its_memory() -> None:
    """A second save of the same layout touches no fresh memory, and sees the new values."""
    tensors = {"x": torch.zeros(1000)}
    layout = Layout([Piece(TensorSpec.of("x", tensors["x"]))])
    copy = HostCopy()
    copy.fill(layout, tensors)
    before = copy._memory.data_ptr()
    tensors["x"].fill_(1.0)

    copy.fill(layout, tensors)

    assert copy._memory.data_ptr() == before
    assert bytes(copy.content(*layout.places[0])) == torch.ones(1000).numpy().tobytes()


@pytest.mark.parametrize("length", [0, 1, 11])
def test_bytes_that_are_missing_or_wrong_are_corrupt(tmp_path: Path, length: int) -> None:
    """A short file, and a file with another byte, are named with the place of the damage."""
    chunk = _write(tmp_path, {"x": torch.arange(3.0)})["x"]
    path = tmp_path / "run" / "shard"
    content = path.read_bytes()
    path.write_bytes(content[: chunk.offset + length])
    with pytest.raises(CorruptCheckpointError, match=f"run/shard: it ends {12 - length} bytes too early"):
        read_chunk(LocalStorage(tmp_path), "run", chunk, torch.empty(3))

    path.write_bytes(content[: chunk.offset + length] + b"\xff" + content[chunk.offset + length + 1 :])
    with pytest.raises(CorruptCheckpointError, match=f"run/shard: bytes {chunk.offset} to {chunk.offset + 12} fail"):
        read_chunk(LocalStorage(tmp_path), "run", chunk, torch.empty(3))


_specs = st.lists(
    st.tuples(
        st.lists(st.integers(0, 5), max_size=3) | st.tuples(st.integers(0, 4000), st.integers(1, 500)).map(list),
        st.sampled_from([torch.float32, torch.uint8, torch.complex128]),
    ),
    max_size=8,
).map(lambda drawn: [TensorSpec(f"t{i}", dtype, tuple(shape)) for i, (shape, dtype) in enumerate(drawn)])


@given(_specs, st.integers(1, 9))
def test_dealing_is_complete_disjoint_and_the_same_everywhere(specs: list[TensorSpec], world_size: int) -> None:
    """Every row of every tensor is dealt to exactly one rank, and each rank computes the same hands."""
    hands = deal(specs, world_size)

    assert len(hands) == world_size
    assert deal([TensorSpec(it.name, it.dtype, it.shape) for it in specs], world_size) == hands
    rows: dict[str, list[Any]] = defaultdict(list)
    for piece in (piece for hand in hands for piece in hand):
        rows[piece.spec.name].append(piece.rows)
    assert rows.keys() == {spec.name for spec in specs}
    for spec in specs:
        if rows[spec.name] != [None]:
            edges = sorted(rows[spec.name])
            assert [start for start, _ in edges] == [0, *(stop for _, stop in edges[:-1])]
            assert edges[-1][1] == spec.shape[0]
            assert all(start < stop for start, stop in edges)


@given(_specs, st.integers(1, 9))
def test_dealing_is_even(specs: list[TensorSpec], world_size: int) -> None:
    """No rank gets more than its share and what cannot be split: a row, or a tensor below a megabyte, at each end."""
    hands = deal(specs, world_size)

    share = sum(spec.nbytes for spec in specs) / world_size
    rows = [spec.nbytes if spec.nbytes < 2**20 else spec.nbytes // spec.shape[0] for spec in specs]
    assert max(sum(piece.nbytes for piece in hand) for hand in hands) <= share + 2 * max(rows, default=0)


def test_dtypes_of_another_torch_are_not_guessed() -> None:
    """A dtype that this torch does not have is an error that names it."""
    for name in ("float7", "nn", ""):
        with pytest.raises(StateMismatchError, match=repr(name)):
            dtype_of(name)
