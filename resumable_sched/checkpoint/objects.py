"""What can be saved: anything with a state dict, and plain values.

An adapter says of one object what to store, which of its tensors are alike on all ranks, which live tensors can be
read into in place, whether a saved state fits it, and how to load one.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol, cast, final

import torch
from torch.nn.parallel import DataParallel, DistributedDataParallel

from resumable_sched.checkpoint.loaders import check_torchdata, load_loader, loader_state, loads_data
from resumable_sched.checkpoint.shards import dtype_of
from resumable_sched.checkpoint.tree import JSON, flatten, join, tensor_names, unflatten
from resumable_sched.distributed.rng import RNGState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping

    from typing_extensions import Self

    from resumable_sched.checkpoint.manifest import TensorRecord

__all__ = ["Adapter", "Collected", "Fit", "Sharing", "adapt", "misplaced"]

_KINDS: Final = {
    "module": "a module",
    "optimizer": "an optimizer",
    "object": "an object with a state_dict()",
    "value": "a plain value",
}
_TREES: Final[Mapping[str, set[str]]] = {"module": {"state", "versions"}, "optimizer": {"type", "state"}}
"""What the tree of an object of this kind has."""


class Sharing(Enum):
    """Whose an object's state is."""

    REPLICATED = "replicated"
    """All ranks have the same; it is stored once. That they do is checked, but for the values of tensors."""
    PER_RANK = "per rank"
    """Each rank has its own, and gets it back."""
    FOUND_OUT = "found out"
    """Stored once where all ranks have the same, and per rank where not."""


@dataclass(frozen=True)
class Collected:
    """One object's state, ready to be stored."""

    tree: JSON
    tensors: Mapping[str, torch.Tensor]
    rank_zero: frozenset[str] = frozenset()
    """The tensors that differ between ranks although the object is replicated; rank 0's count."""


@dataclass
class Fit:
    """How a saved state and a live object differ."""

    missing: list[str] = field(default_factory=list)
    """Expected, but not saved."""
    unexpected: list[str] = field(default_factory=list)
    """Saved, but with no place to go."""
    wrong: list[str] = field(default_factory=list)
    """Sentences about what cannot be loaded at all."""
    changed: list[str] = field(default_factory=list)
    """Settings that the saved state will overwrite."""

    def __iadd__(self, other: Fit) -> Self:
        self.missing += other.missing
        self.unexpected += other.unexpected
        self.wrong += other.wrong
        self.changed += other.changed
        return self


class Adapter(Protocol):
    """One object of the state, as the checkpoint sees it."""

    kind: str
    """``"module"``, ``"optimizer"``, ``"object"`` (anything else with a state dict) or ``"value"``."""
    class_name: str
    sharing: Sharing
    last: bool
    """Whether it is loaded after all others: nothing may draw from a generator that was set."""

    def collect(self) -> Collected:
        """Return the state now, not copied.

        Raises:
            UnstorableError: If it holds what cannot be stored.
        """

    def live(self) -> Mapping[str, torch.Tensor]:
        """Return the live tensors that a restore may write into, by stored name."""

    def fit(self, tree: JSON, records: Mapping[str, TensorRecord]) -> Fit:
        """Compare a saved state with the object; nothing is changed.

        Raises:
            Exception: Whatever the object's own ``check_state_dict`` raises.
        """

    def apply(self, tree: JSON, tensors: Mapping[str, torch.Tensor]) -> None:
        """Load the state."""


def adapt(name: str, holder: MutableMapping[str, Any]) -> Adapter:
    """Return the adapter of ``holder[name]``."""
    value = holder[name]
    if isinstance(value, torch.nn.Module):
        return _Module(name, value)
    if isinstance(value, torch.optim.Optimizer):
        return _Optimizer(name, value)
    if callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None)):
        return _Stateful(name, value)
    return _Value(name, holder)


def misplaced(name: str, adapter: Adapter, saved: tuple[str, str] | None, tree: JSON) -> str | None:
    """Return a sentence about an object that was saved as one of another kind; None if it was not.

    Args:
        name: Its name in the state.
        adapter: What is there now.
        saved: The kind and the class that the manifest has; None in early ones.
        tree: Its saved state.
    """
    if saved is None and adapter.kind in _TREES:
        known = isinstance(tree, dict) and tree.keys() >= _TREES[adapter.kind]
        saved = (adapter.kind if known else "something else", type(tree).__name__)
    if saved is None or saved[0] == adapter.kind:
        return None
    return (
        f'state["{name}"] was saved as {_KINDS.get(saved[0], saved[0])} ({saved[1]}), but is {_KINDS[adapter.kind]} '
        f"({adapter.class_name}) here; build what was saved, or leave it out with restore(only=[...])"
    )


def _misfits(live: Mapping[str, torch.Tensor], records: Mapping[str, TensorRecord]) -> Iterator[str]:
    for name, tensor in live.items():
        record = records.get(name)
        if record is not None and (record.shape != tuple(tensor.shape) or dtype_of(record.dtype) != tensor.dtype):
            here = f"{str(tensor.dtype).removeprefix('torch.')} of shape {list(tensor.shape)}"
            yield f"{name} was saved as {record.dtype} of shape {list(record.shape)}, but is {here} here"
        elif any(step == 0 and size > 1 for step, size in zip(tensor.stride(), tensor.shape, strict=True)):
            yield f"{name} must have its own memory for each element, but is expanded here; make it contiguous"


@final
class _Module:
    """A module. Names are stored as if neither DDP nor torch.compile were wrapped around it."""

    kind = "module"
    sharing = Sharing.REPLICATED
    last = False

    def __init__(self, name: str, module: torch.nn.Module) -> None:
        self._name = name
        self._module = module
        self.class_name = type(module).__name__
        self._wrappers = sorted(_wrapper_paths(module), key=len, reverse=True)

    def _canonical(self, key: str) -> str:
        for path in self._wrappers:
            if key == path or key.startswith(f"{path}."):
                outer = path.rpartition(".")[0]
                key = f"{outer}{key[len(path) :]}" if outer else key[len(path) + 1 :]
        return key

    def collect(self) -> Collected:
        state = self._module.state_dict()
        tree, tensors = flatten({self._canonical(key): value for key, value in state.items()}, self._name)
        # DDP keeps parameters alike on all ranks. Buffers (BatchNorm's statistics) differ, and evaluation uses rank
        # 0's.
        parameters = {self._canonical(name) for name, _ in self._module.named_parameters(remove_duplicate=False)}
        rank_zero = tensors.keys() - {join(self._name, name) for name in parameters}
        # A state dict carries a version per module, by which torch's modules upgrade older states.
        versions = getattr(state, "_metadata", {})
        canonical = {self._canonical(path): content.get("version") for path, content in versions.items()}
        return Collected({"state": tree, "versions": flatten(canonical)[0]}, tensors, frozenset(rank_zero))

    def live(self) -> Mapping[str, torch.Tensor]:
        return self.collect().tensors

    def fit(self, tree: JSON, records: Mapping[str, TensorRecord]) -> Fit:
        content = self.collect()
        live, saved = content.tree["state"].keys(), tree["state"].keys()
        return Fit(
            missing=[join(self._name, key) for key in live if key not in saved],
            unexpected=[join(self._name, key) for key in saved if key not in live],
            wrong=list(_misfits(content.tensors, records)),
        )

    def apply(self, tree: JSON, tensors: Mapping[str, torch.Tensor]) -> None:
        # The tensors are the module's own, already filled; torch skips copying a tensor onto itself. Loading them still
        # matters: for extra state, for load hooks, and for tensors that could not be filled in place.
        target = self._module.state_dict()
        saved = {key: unflatten(item, tensors) for key, item in tree["state"].items()}
        versions = unflatten(tree["versions"], {})
        for key in list(target):
            target[key] = saved.get(self._canonical(key), target[key])
        for path, content in getattr(target, "_metadata", {}).items():
            if (version := versions.get(self._canonical(path))) is not None:
                content["version"] = version
        self._module.load_state_dict(target)


def _wrapper_paths(module: torch.nn.Module) -> Iterator[str]:
    """Yield the paths of the modules that DDP, DataParallel or torch.compile have wrapped."""
    compiler = sys.modules.get("torch._dynamo.eval_frame")  # to import it takes a second; who compiled has imported it
    compiled: type | None = getattr(compiler, "OptimizedModule", None)
    for path, part in module.named_modules(remove_duplicate=False):
        if isinstance(part, (DistributedDataParallel, DataParallel)):
            yield f"{path}.module" if path else "module"
        elif compiled is not None and isinstance(part, compiled):
            yield f"{path}._orig_mod" if path else "_orig_mod"


@final
class _Optimizer:
    """A torch optimizer, whose state is alike on all ranks and is made by its first step."""

    kind = "optimizer"
    sharing = Sharing.REPLICATED
    last = False

    def __init__(self, name: str, optimizer: torch.optim.Optimizer) -> None:
        self._name = name
        self._optimizer = optimizer
        self.class_name = type(optimizer).__name__

    def collect(self) -> Collected:
        tree, tensors = flatten(self._optimizer.state_dict(), self._name)
        # A fresh optimizer has no state whose shapes could be compared with what was saved, but it has parameters.
        content = {"type": type(self._optimizer).__qualname__, "shapes": self._shapes(), "state": tree}
        return Collected(content, tensors)

    def _shapes(self) -> list[list[list[int]]]:
        return [[list(it.shape) for it in group["params"]] for group in self._optimizer.param_groups]

    def live(self) -> Mapping[str, torch.Tensor]:
        return self.collect().tensors

    def fit(self, tree: JSON, records: Mapping[str, TensorRecord]) -> Fit:
        name, kind = self._name, type(self._optimizer).__qualname__
        if tree["type"] != kind:
            remedy = f"build a {tree['type']}, or leave it out with restore(only=[...])"
            return Fit(wrong=[f"{name} was saved from a {tree['type']}, but is a {kind} here; {remedy}"])
        saved, here = tree["state"]["param_groups"], self._optimizer.state_dict()["param_groups"]
        sizes = [[len(group["params"]) for group in groups] for groups in (saved, here)]
        if sizes[0] != sizes[1]:
            return Fit(wrong=[f"{name} was saved with param groups of {sizes[0]} parameters, but has {sizes[1]} here"])
        if wrong := list(_other_parameters(name, tree.get("shapes"), self._shapes())):
            wrong[-1] += "; build the optimizer over the same parameters in the same order"
            return Fit(wrong=wrong)
        changed = [
            f"{name}.param_groups[{index}][{key!r}] was {before!r} and is built as {now!r}"
            for index, pair in enumerate(zip(saved, here, strict=True))
            for key, before, now in _changed_settings(*pair)
        ]
        return Fit(wrong=list(_misfits(self.live(), records)), changed=changed)

    def apply(self, tree: JSON, tensors: Mapping[str, torch.Tensor]) -> None:
        saved = unflatten(tree["state"], tensors)
        self._optimizer.load_state_dict(saved)
        # torch casts state to the dtype of its parameter, which loses digits of a float32 moment of a bfloat16 one.
        for index, entry in self._optimizer.state_dict()["state"].items():
            for key, value in saved["state"][index].items():
                loaded = entry.get(key)
                if isinstance(value, torch.Tensor) and isinstance(loaded, torch.Tensor) and loaded.dtype != value.dtype:
                    entry[key] = value.to(loaded.device)


def _other_parameters(name: str, saved: list[list[list[int]]] | None, here: list[list[list[int]]]) -> Iterator[str]:
    """Yield a sentence for each parameter that has another shape than the one whose state was saved."""
    for index, groups in enumerate(zip(saved or here, here, strict=True)):  # early checkpoints do not have the shapes
        for number, (before, now) in enumerate(zip(*groups, strict=True)):
            if before != now:
                what = f"parameter {number} of {name}.param_groups[{index}]"
                yield f"{what} was saved with shape {before}, but has shape {now} here"


def _changed_settings(saved: JSON, here: Mapping[str, Any]) -> Iterator[tuple[str, object, object]]:
    """Yield the numbers of a param group that the program builds otherwise now.

    What a schedule writes is its own, and the learning rate is what training code changes by hand.
    """
    for key, now in here.items():
        before = None if key == "lr" else saved.get(key)
        scheduled = f"initial_{key}" in saved or f"initial_{key}" in here or key.startswith("initial_")
        if not scheduled and all(isinstance(it, (bool, int, float)) for it in (before, now)) and before != now:
            yield key, before, now


@final
class _Stateful:
    """Any other object with ``state_dict`` and ``load_state_dict``.

    Its attribute ``per_rank`` says whose its state is: True for each rank's own, False for one that must be alike on
    all ranks. Loaders and samplers are per rank; of anything else it is found out at each save.
    """

    kind = "object"

    def __init__(self, name: str, value: Any) -> None:  # noqa: ANN401 - any object of the user's
        self._name = name
        self._value = value
        self._loads_data = loads_data(value)
        if self._loads_data:
            check_torchdata(f'state["{name}"]', value)
        self.class_name = type(value).__name__
        self.last = isinstance(value, RNGState)
        per_rank = getattr(value, "per_rank", None)
        if per_rank is None:
            self.sharing = Sharing.PER_RANK if self._loads_data else Sharing.FOUND_OUT
        else:
            self.sharing = Sharing.PER_RANK if per_rank else Sharing.REPLICATED

    def collect(self) -> Collected:
        state = loader_state(self._name, self._value) if self._loads_data else self._value.state_dict()
        tree, tensors = flatten(state, self._name)
        return Collected(tree, tensors)

    def live(self) -> Mapping[str, torch.Tensor]:
        return {}  # what state_dict() returns may be a copy, or may be in use by someone else

    def fit(self, tree: JSON, records: Mapping[str, TensorRecord]) -> Fit:
        if callable(check := getattr(self._value, "check_state_dict", None)):
            shapes = {name: records[name] for name in tensor_names(tree)}
            blank = {name: torch.zeros(it.shape, dtype=dtype_of(it.dtype), device="cpu") for name, it in shapes.items()}
            check(unflatten(tree, blank))
        return Fit()

    def apply(self, tree: JSON, tensors: Mapping[str, torch.Tensor]) -> None:
        state = unflatten(tree, tensors)
        if self._loads_data:
            load_loader(self._value, state)
        else:
            self._value.load_state_dict(state)


@final
class _Value:
    """A plain value: a number, a string, a tensor, or a container of these.

    Loading puts it back into the user's dict.
    """

    kind = "value"
    sharing = Sharing.FOUND_OUT
    last = False

    def __init__(self, name: str, holder: MutableMapping[str, Any]) -> None:
        self._name = name
        self._holder = holder
        self.class_name = type(holder[name]).__name__

    def collect(self) -> Collected:
        tree, tensors = flatten(self._holder[self._name], self._name)
        return Collected(tree, tensors)

    def live(self) -> Mapping[str, torch.Tensor]:
        return {}

    def fit(self, tree: JSON, records: Mapping[str, TensorRecord]) -> Fit:
        del tree, records
        return Fit()

    def apply(self, tree: JSON, tensors: Mapping[str, torch.Tensor]) -> None:
        self._holder[self._name] = cast("Any", unflatten(tree, tensors))
