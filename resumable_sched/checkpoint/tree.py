"""State as tensors and JSON, and back.

A state dict is flattened into named tensors and a JSON tree that refers to them. What JSON cannot say is tagged: a
dict with one key that starts with ``$``. Whatever has no tag is refused by its path, so that nothing is stored in
part or pickled.

======================  =========================================================
``{"$tensor": name}``   a `torch.Tensor`
``{"$array": name}``    a `numpy.ndarray` of numbers or booleans
``{"$scalar": [d, h]}`` a numpy scalar: its dtype and its bytes in hexadecimal
``{"$tuple": [...]}``   a tuple
``{"$dict": [[k, v]]}`` a dict with keys that are not plain strings
``{"$ordered": [...]}`` a `collections.OrderedDict`, as pairs
``{"$counter": [...]}`` a `collections.Counter`, as pairs (torch's MultiStepLR has one)
``{"$float": "nan"}``   ``nan``, ``inf`` or ``-inf``
``{"$int": "0x10..."}`` an integer beyond 64 bits, in hexadecimal: Python refuses long decimal ones
``{"$complex": [r, i]}`` a complex number
``{"$bytes": "..."}``   bytes, in base64
``{"$text": "..."}``    a string that is not valid Unicode, in base64
======================  =========================================================
"""

from __future__ import annotations

import base64
import math
import random
import re
from collections import Counter, OrderedDict, deque
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import torch
from torch.nn.parameter import Buffer

from resumable_sched.errors import StateFormatError, UnstorableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["JSON", "flatten", "join", "rename", "tensor_names", "unflatten"]

JSON: TypeAlias = Any
"""What `json` can write and read back unchanged."""

_TENSOR_TAGS: Final = ("$tensor", "$array")  # no other dict has such a key: `flatten` writes it as pairs
_PLAIN_TENSORS: Final = (torch.Tensor, torch.nn.Parameter, Buffer)
_DEEPEST: Final = 100
"""Containers in containers; Python's own stack holds about three times as many."""
_PAIRS: Final[Mapping[type, str]] = {dict: "$dict", OrderedDict: "$ordered", Counter: "$counter"}
_LESS_THAN_A_BYTE: Final = re.compile(r"torch\.u?int[1-7]")


def join(*parts: object) -> str:
    """Return the stored name of a tensor: the keys on its path, escaped as in a JSON pointer (RFC 6901).

    >>> join("optimizer", "state", 0, "exp_avg"), join("a/b", "c~d")
    ('optimizer/state/0/exp_avg', 'a~1b/c~0d')
    """
    name = "/".join(str(part).replace("~", "~0").replace("/", "~1") for part in parts)
    return name.encode("utf-8", "backslashreplace").decode()  # a lone surrogate cannot be written to any file


def flatten(state: object, *path: str) -> tuple[JSON, dict[str, torch.Tensor]]:
    """Take *state* apart into a JSON tree and the tensors that it refers to, which are not copied.

    Args:
        state: The tree: tensors, arrays, numbers, strings, bytes, None, in dicts, lists and tuples.
        path: The names that lead to it, such as the key in the manager's state.

    Returns:
        The tree, and the tensors by stored name: the `join` of the path.

    Raises:
        UnstorableError: If there is anything else in it; nothing was written then.

    >>> flatten({"step": 3, "lr": (0.1, float("inf"))}, "schedule")
    ({'step': 3, 'lr': {'$tuple': [0.1, {'$float': 'inf'}]}}, {})
    """
    tensors: dict[str, torch.Tensor] = {}
    return _Flattener(tensors).encode(state, tuple(path)), tensors


def unflatten(tree: JSON, tensors: Mapping[str, torch.Tensor]) -> Any:  # noqa: ANN401 - any state
    """Put a state together again; the inverse of `flatten`.

    Args:
        tree: The JSON tree.
        tensors: What it refers to. They are used, not copied.

    Raises:
        StateFormatError: If the tree has an unknown tag or refers to a tensor that is not there.

    >>> unflatten({"lr": {"$tuple": [0.1, {"$float": "inf"}]}}, {})
    {'lr': (0.1, inf)}
    """
    if isinstance(tree, list):
        return [unflatten(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    tag = next(iter(tree), "")
    if not tag.startswith("$"):
        return {key: unflatten(item, tensors) for key, item in tree.items()}
    if tag not in _DECODERS or len(tree) != 1:
        raise StateFormatError(
            f"{tag!r} is not a tag of this format; the state is from a newer version or was damaged."
        )
    try:
        return _DECODERS[tag](tree[tag], tensors)
    except KeyError as error:
        raise StateFormatError(f"The state refers to the tensor {error}, which was not stored.") from None


def tensor_names(tree: JSON) -> list[str]:
    """Return the names of all tensors that *tree* refers to, in its order.

    >>> tensor_names([{"$tensor": "a"}, {"x": {"$array": "b"}}])
    ['a', 'b']
    """
    if isinstance(tree, dict):
        if (tag := next(iter(tree), "")) in _TENSOR_TAGS:
            return [tree[tag]]
        tree = list(tree.values())
    return [name for item in tree for name in tensor_names(item)] if isinstance(tree, list) else []


def rename(tree: JSON, prefix: str) -> JSON:
    """Return *tree* with *prefix* before the name of each tensor that it refers to.

    >>> rename([{"$tensor": "a"}, {"x": {"$array": "b"}}], "own/")
    [{'$tensor': 'own/a'}, {'x': {'$array': 'own/b'}}]
    """
    if isinstance(tree, list):
        return [rename(item, prefix) for item in tree]
    if not isinstance(tree, dict):
        return tree
    tag = next(iter(tree), "")
    return {tag: prefix + tree[tag]} if tag in _TENSOR_TAGS else {key: rename(it, prefix) for key, it in tree.items()}


class _Flattener:
    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self._tensors = tensors
        self._open: set[int] = set()

    def encode(self, value: object, path: tuple[object, ...]) -> JSON:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind in _ENCODERS:
            return _ENCODERS[kind](value)
        if kind in (dict, list, tuple, OrderedDict, Counter):
            return self._container(value, path)
        if isinstance(value, torch.Tensor):
            return {"$tensor": self._keep(_plain(value, path), path)}
        if isinstance(value, np.ndarray):
            return {"$array": self._keep(_from_array(value, path), path)}
        if isinstance(value, np.generic) and value.dtype.kind in "biufc":
            return {"$scalar": [value.dtype.str, value.tobytes().hex()]}
        raise UnstorableError(_show(path), f"{kind.__module__}.{kind.__qualname__}", _remedy(value))

    def _keep(self, tensor: torch.Tensor, path: tuple[object, ...]) -> str:
        name = join(*path)
        while name in self._tensors:  # keys 1 and "1" of one dict; no escaped name ends in a tilde
            name += "~"
        self._tensors[name] = tensor
        return name

    def _container(self, value: Any, path: tuple[object, ...]) -> JSON:  # noqa: ANN401
        if id(value) in self._open or len(path) > _DEEPEST:
            raise UnstorableError(_show(path), "container that contains itself or is nested too deeply")
        self._open.add(id(value))
        try:
            if isinstance(value, (list, tuple)):
                items = [self.encode(item, (*path, index)) for index, item in enumerate(value)]
                return {"$tuple": items} if isinstance(value, tuple) else items
            if type(value) is dict and all(map(_is_plain_key, value)):
                return {key: self.encode(item, (*path, key)) for key, item in value.items()}
            tag = _PAIRS[type(value)]
            return {tag: [[self._key(key, path), self.encode(item, (*path, key))] for key, item in value.items()]}
        finally:
            self._open.discard(id(value))

    def _key(self, key: object, path: tuple[object, ...]) -> JSON:
        if isinstance(key, (torch.Tensor, np.ndarray)):  # would change identity, and identity is what they are keys by
            raise UnstorableError(f"The key {key!r} of {_show(path)}", type(key).__qualname__)
        return self.encode(key, (*path, key))


def _is_plain_key(key: object) -> bool:
    return type(key) is str and not key.startswith("$") and isinstance(_encode_text(key), str)


def _show(path: tuple[object, ...]) -> str:
    return "state" + "".join(f'["{part}"]' if isinstance(part, str) else f"[{part!r}]" for part in path)


def _remedy(value: object) -> str:
    if isinstance(value, torch.utils.data.DataLoader):
        return "It has no state; use torchdata.stateful_dataloader.StatefulDataLoader, which has."
    if isinstance(value, (torch.Generator, np.random.Generator, random.Random)):
        return 'Let an RNGState save it, by a name: state["rng"] = RNGState(name=generator).'
    if isinstance(value, deque):
        return "Store list(...) of it."
    if hasattr(value, "state_dict"):
        return "It has a state_dict(): give it a name of its own in the manager's state, or store its state_dict()."
    if callable(value):
        return "Functions have no state; leave it out, and build it again when the run starts."
    return ""


def _plain(tensor: torch.Tensor, path: tuple[object, ...]) -> torch.Tensor:
    if type(tensor) not in _PLAIN_TENSORS:
        raise UnstorableError(_show(path), type(tensor).__qualname__, "Store its plain local tensor.")
    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized or tensor.device.type == "meta":
        form = "nested" if tensor.is_nested else f"{tensor.layout} {tensor.dtype}"
        what = "meta tensor" if tensor.device.type == "meta" else f"{form} tensor"
        raise UnstorableError(_show(path), what, "Store its dense parts.")
    if _LESS_THAN_A_BYTE.fullmatch(str(tensor.dtype)):
        raise UnstorableError(_show(path), f"{tensor.dtype} tensor", "Store it as torch.uint8.")
    return tensor.detach()


def _from_array(array: np.ndarray[Any, Any], path: tuple[object, ...]) -> torch.Tensor:
    if type(array) is not np.ndarray or array.dtype.kind not in "biufc" or not array.dtype.isnative:
        raise UnstorableError(
            _show(path), f"{type(array).__name__} of {array.dtype}", "Store an array of native numbers."
        )
    try:
        return torch.from_numpy(array.copy())
    except TypeError:
        raise UnstorableError(_show(path), f"array of {array.dtype}") from None


def _encode_int(value: int) -> JSON:
    return value if -(2**63) <= value < 2**63 else {"$int": hex(value)}


def _encode_float(value: float) -> JSON:
    return value if math.isfinite(value) else {"$float": repr(value)}


def _encode_text(value: str) -> JSON:
    try:
        value.encode()
    except UnicodeEncodeError:
        return {"$text": base64.b64encode(value.encode("utf-8", "surrogatepass")).decode()}
    return value


_ENCODERS: Final[Mapping[type, Callable[[Any], JSON]]] = {
    int: _encode_int,
    float: _encode_float,
    str: _encode_text,
    bytes: lambda value: {"$bytes": base64.b64encode(value).decode()},
    complex: lambda value: {"$complex": [_encode_float(value.real), _encode_float(value.imag)]},
    torch.Size: lambda value: {"$tuple": list(value)},
}

_DECODERS: Final[Mapping[str, Callable[[Any, Mapping[str, torch.Tensor]], Any]]] = {
    "$tensor": lambda name, tensors: tensors[name],
    "$array": lambda name, tensors: tensors[name].numpy(),
    "$scalar": lambda pair, _: np.frombuffer(bytes.fromhex(pair[1]), dtype=np.dtype(pair[0]))[0],
    "$tuple": lambda items, tensors: tuple(unflatten(item, tensors) for item in items),
    "$dict": lambda pairs, tensors: {unflatten(k, tensors): unflatten(v, tensors) for k, v in pairs},
    "$ordered": lambda pairs, tensors: OrderedDict((unflatten(k, tensors), unflatten(v, tensors)) for k, v in pairs),
    "$counter": lambda pairs, tensors: Counter({unflatten(k, tensors): unflatten(v, tensors) for k, v in pairs}),
    "$float": lambda text, _: float(text),
    "$int": lambda text, _: int(text, 16),
    "$complex": lambda parts, _: complex(unflatten(parts[0], {}), unflatten(parts[1], {})),
    "$bytes": lambda text, _: base64.b64decode(text, validate=True),
    "$text": lambda text, _: base64.b64decode(text, validate=True).decode("utf-8", "surrogatepass"),
}
