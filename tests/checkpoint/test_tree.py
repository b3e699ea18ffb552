"""State trees: what goes in comes out, bit for bit; what cannot is refused by its path."""

from __future__ import annotations

import enum
import random
from collections import Counter, OrderedDict, UserDict, defaultdict, deque, namedtuple
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resumable_sched.checkpoint.tree import flatten, rename, tensor_names, unflatten
from resumable_sched.errors import StateFormatError, UnstorableError
from tests.checkpoint.exact import bits

_NUMPY_DTYPES = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
]


def _through_json(state: object) -> Any:
    """Store and load *state* as a checkpoint does, but for the files."""
    tree, tensors = flatten(state, "state")
    assert tensor_names(tree) == list(tensors)
    stored = {name: tensor.clone() for name, tensor in tensors.items()}
    return unflatten(msgspec.json.decode(msgspec.json.encode(tree)), stored)


def _array(dtype: str, content: bytes) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = np.frombuffer(content, dtype="uint8" if dtype == "bool" else dtype)
    return (array % 2).astype(dtype) if dtype == "bool" else array.copy()


_floats = st.floats().map(lambda x: float("nan") if x != x else x)  # noqa: PLR0124 - a NaN's payload is not kept
_arrays = st.builds(_array, st.sampled_from(_NUMPY_DTYPES), st.binary(min_size=0, max_size=3).map(lambda b: b * 16))
_keys = (
    st.text(st.characters(codec=None), max_size=4)
    | st.integers()
    | st.booleans()
    | st.none()
    | st.floats(allow_nan=False)
    | st.binary(max_size=3)
    | st.sampled_from(["$tensor", "$tuple", "$", "~", "a/b", "a~1b", "1", "__metadata__", "\ud800", "\\ud800"])
    | st.tuples(st.integers(), st.text(max_size=2))
)
_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | _floats
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters(codec=None))
    | st.binary()
    | _arrays
    | _arrays.filter(len).map(lambda array: array[0])
    | _arrays.map(torch.from_numpy)
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(_keys, inner, max_size=4)
        | st.dictionaries(_keys, inner, max_size=4).map(OrderedDict)
        | st.dictionaries(_keys, st.integers(), max_size=3).map(Counter)
    )


@given(st.recursive(_leaves, _containers, max_leaves=12))
@settings(max_examples=400)
def test_every_storable_state_comes_back_bit_for_bit(state: Any) -> None:
    """Types, orders, keys and bits survive JSON, whatever is nested in whatever."""
    assert bits(_through_json(state)) == bits(state)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        float("-inf"),
        -0.0,
        5e-324,
        1e16,
        0.1 + 0.2,
        2**63 - 1,
        2**63,
        -(2**63) - 1,
        10**5000,
        -(10**5000),
        complex(float("nan"), -0.0),
        b"\x00\xff",
        "\ud800",
        "\x00",
        torch.Size([2, 3]),
        {1: "a", "1": "b", False: "c"},
        {"$tensor": "a"},
        {"$tuple": [1]},
        {"a": {}, "b": [], "c": (), "d": OrderedDict()},
        np.float32(0.1),
        np.True_,
        np.array(3.0),
        np.zeros((2, 0, 3), dtype=np.int16),
        np.arange(6).reshape(2, 3).T,
        np.arange(6)[::-2],
    ],
    ids=lambda value: repr(value)[:20] if not isinstance(value, int) or abs(value) < 2**70 else "huge",
)
def test_special_values_survive(value: Any) -> None:
    """What JSON has no word for comes back as it was."""
    expected = tuple(value) if isinstance(value, torch.Size) else value

    assert bits(_through_json([value])) == bits([expected])


def test_keys_that_look_alike_keep_their_tensors() -> None:
    """The keys 1 and "1", and a lone surrogate and its escape, do not share a tensor."""
    state = {1: torch.tensor(1), "1": torch.tensor(2), (1,): [torch.tensor(3)]}
    odd = {"\ud800": torch.tensor(4), "\\ud800": torch.tensor(5), "a/b": torch.tensor(6), "a": {"b": torch.tensor(7)}}

    assert bits(_through_json([state, odd])) == bits([state, odd])


def test_tensors_are_not_copied() -> None:
    """Flattening refers to the live memory, also of parameters and buffers."""
    weight = torch.nn.Parameter(torch.zeros(3))

    _, tensors = flatten({"weight": weight, "buffer": torch.nn.Buffer(torch.zeros(2))}, "model")

    assert tensors["model/weight"].data_ptr() == weight.data_ptr()
    assert not tensors["model/weight"].requires_grad


class _Subclass(torch.Tensor):
    """A tensor that is more than its values, as DTensor is."""


class _Colour(enum.IntEnum):
    RED = 1


class _Text(str):
    __slots__ = ()


_Pair = namedtuple("_Pair", ["a", "b"])  # noqa: PYI024 - the untyped kind is a case of its own


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({1, 2}, "set"),
        (frozenset(), "frozenset"),
        (len, "builtin_function_or_method"),
        (lambda: 0, "function"),
        (object(), "object"),
        (_Colour.RED, "_Colour"),
        (_Text("x"), "_Text"),
        (_Pair(1, 2), "_Pair"),
        (UserDict(), "UserDict"),
        (defaultdict(int), "defaultdict"),
        (deque([1]), "deque"),
        (torch.float32, "dtype"),
        (torch.device("cpu"), "device"),
        (torch.zeros(2).as_subclass(_Subclass), "_Subclass"),
        (torch.eye(2).to_sparse(), "sparse"),
        (torch.zeros(2, device="meta"), "meta"),
        (torch.empty(2, dtype=vars(torch)["int4"]), "torch.int4"),
        (np.array([None]), "object"),
        (np.array(["a"]), "<U1"),
        (np.zeros(1, dtype=">f4"), ">f4"),
        (np.zeros(1, dtype=[("a", "f4")]), "f4"),
        (np.datetime64("2020-01-01"), "datetime64"),
        (np.ma.array([1.0], mask=[True]), "MaskedArray"),
        (np.zeros(2, dtype=np.longdouble), "128"),
        (torch.nn.Linear(1, 1), "Linear"),
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_what_cannot_be_stored_is_refused_by_path_and_type(value: Any, kind: str) -> None:
    """The message says where in the state it is, as Python would write it, and what it is."""
    with pytest.raises(UnstorableError) as caught:
        flatten({"worker": [0, 1, 2, value]}, "loader")

    assert caught.value.path == 'state["loader"]["worker"][3]'
    assert kind in caught.value.kind
    assert str(caught.value).startswith('state["loader"]["worker"][3] must be a tensor')
    assert caught.value.kind in str(caught.value)


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (torch.Generator(), r"RNGState\(name=generator\)"),
        (np.random.default_rng(1), r"RNGState\(name=generator\)"),
        (random.Random(1), r"RNGState\(name=generator\)"),  # noqa: S311
        (deque([1]), r"list\(\.\.\.\)"),
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_what_can_be_stored_otherwise_is_refused_with_the_way(value: Any, remedy: str) -> None:
    """Generators belong into an RNGState, and a deque is a list."""
    with pytest.raises(UnstorableError, match=remedy):
        flatten(value, "mine")


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_tensors_are_refused_by_path(layout: torch.layout) -> None:
    """They have no shape that could be stored."""
    nested = torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)], layout=layout)

    with pytest.raises(UnstorableError, match=r'state\["x"\]\["a"\] must be a tensor.* but is a .*[nN]ested'):
        flatten({"a": nested}, "x")


def test_a_refused_key_is_named() -> None:
    """A key that is no plain value is refused too."""
    with pytest.raises(UnstorableError, match=r'state\["a"\]\[frozenset\(\)\]'):
        flatten({frozenset(): 1}, "a")
    with pytest.raises(UnstorableError, match="key tensor"):
        flatten({torch.tensor(1): 1}, "a")


def test_containers_that_contain_themselves_are_refused() -> None:
    """A cycle ends in an error, not in a recursion."""
    cycle: dict[str, Any] = {"a": []}
    cycle["a"].append(cycle)

    with pytest.raises(UnstorableError, match=r'state\["x"\]\["a"\]\[0\] .* contains itself'):
        flatten(cycle, "x")


def test_one_object_at_two_places_is_no_cycle() -> None:
    """Sharing is not kept, but it is no error."""
    shared = [1]

    assert _through_json({"a": shared, "b": (shared, shared)}) == {"a": [1], "b": ([1], [1])}


def test_what_can_be_written_can_be_read_however_deep() -> None:
    """Nesting is refused before the way back would exhaust Python's stack."""
    state: Any = 1
    for _ in range(99):
        state = ({1: state},) if isinstance(state, int) else [{1: state}][0]
    assert _through_json(state) == state

    for _ in range(50):
        state = [state]
    with pytest.raises(UnstorableError, match="nested too deeply"):
        flatten(state, "x")


def test_unknown_tags_and_missing_tensors_are_refused() -> None:
    """A tree of a newer version, or without its tensors, is not loaded by guessing."""
    with pytest.raises(StateFormatError, match=r"'\$new' is not a tag"):
        unflatten({"$new": 1}, {})
    with pytest.raises(StateFormatError, match="'model/w', which was not stored"):
        unflatten([{"$tensor": "model/w"}], {})


@given(st.recursive(_leaves, _containers, max_leaves=8))
def test_renaming_changes_the_names_and_nothing_else(state: Any) -> None:
    """A renamed tree with renamed tensors is the same state."""
    tree, tensors = flatten(state, "x")

    renamed = rename(tree, "rank/")

    assert tensor_names(renamed) == [f"rank/{name}" for name in tensors]
    assert bits(unflatten(renamed, {f"rank/{name}": it for name, it in tensors.items()})) == bits(state)
