"""Random numbers: every generator goes on exactly where it was."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import torch

from resumable_sched.checkpoint.tree import flatten, unflatten
from resumable_sched.distributed import RNGState, seed_all
from resumable_sched.errors import StateFormatError

if TYPE_CHECKING:
    from collections.abc import Callable

_BIT_GENERATORS = [np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64]


def _through_a_file(state: dict[str, Any]) -> Any:
    tree, tensors = flatten(state)
    return unflatten(msgspec.json.decode(msgspec.json.encode(tree)), {key: it.clone() for key, it in tensors.items()})


def _draw(own: torch.Generator, other: np.random.Generator) -> list[Any]:
    """Draw from everything, an odd number of times: half-used normal pairs are state too."""
    return [
        random.random(),  # noqa: S311
        random.gauss(0, 1),
        random.sample(range(100), 5),
        np.random.rand(3).tolist(),  # noqa: NPY002
        np.random.randn(),  # noqa: NPY002
        torch.randn(3).tolist(),
        torch.randperm(7).tolist(),
        torch.rand(2, generator=own).tolist(),
        other.normal(size=3).tolist(),
        int(other.integers(10**6, dtype=np.int32)),
    ]


@pytest.mark.parametrize("kind", _BIT_GENERATORS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("before", [0, 1, 3])
def test_every_generator_goes_on_exactly(kind: Callable[[int], Any], before: int) -> None:
    """Python's, numpy's, torch's and generators of one's own continue as if nothing had happened."""
    seed_all(7)
    own, other = torch.Generator().manual_seed(1), np.random.Generator(kind(2))
    for _ in range(before):
        _draw(own, other)
    state = RNGState(own=own, other=other).state_dict()
    expected = [_draw(own, other) for _ in range(3)]

    seed_all(8)
    fresh, another = torch.Generator().manual_seed(9), np.random.Generator(kind(9))
    RNGState(own=fresh, other=another).load_state_dict(_through_a_file(state))

    assert [_draw(fresh, another) for _ in range(3)] == expected


@pytest.mark.parametrize("before", [0, 1])
def test_a_generator_of_python_goes_on_exactly(before: int) -> None:
    """Half of a pair of normal numbers is state, too; one of another kind is refused."""
    own = random.Random(1)  # noqa: S311
    for _ in range(before):
        own.gauss(0, 1)
    state = _through_a_file(RNGState(own=own).state_dict())
    expected = [own.gauss(0, 1) for _ in range(3)]

    fresh = random.Random(9)  # noqa: S311
    RNGState(own=fresh).load_state_dict(state)

    assert [fresh.gauss(0, 1) for _ in range(3)] == expected
    with pytest.raises(StateFormatError, match=r"'own' must be the saved random\.Random of version 3, but is torch"):
        RNGState(own=torch.Generator()).load_state_dict(state)


def test_drawing_does_not_change_a_state_that_was_taken() -> None:
    """The state is a copy, although nothing asks for one."""
    generator = np.random.Generator(np.random.MT19937(1))
    rng = RNGState(mine=generator)
    state = rng.state_dict()
    before = flatten(_through_a_file(state))[0], [it.tolist() for it in flatten(state)[1].values()]

    _draw(torch.Generator(), generator)

    assert (flatten(_through_a_file(state))[0], [it.tolist() for it in flatten(state)[1].values()]) == before


class _FakeCuda:
    """The part of torch.cuda that matters, with generators on the host."""

    def __init__(self, devices: int) -> None:
        self.generators = [torch.Generator().manual_seed(device) for device in range(devices)]

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(self.generators))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(self.generators))
        monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [it.get_state() for it in self.generators])
        monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: self.generators[device].set_state(state))

    def draw(self) -> list[list[float]]:
        return [torch.rand(2, generator=it).tolist() for it in self.generators]


def test_every_cuda_device_goes_on_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each device has a generator of its own, and gets its own state back."""
    cuda = _FakeCuda(3)
    cuda.install(monkeypatch)
    cuda.draw()
    state = _through_a_file(RNGState().state_dict())
    expected = cuda.draw()

    RNGState().load_state_dict(state)

    assert cuda.draw() == expected


@pytest.mark.parametrize(("saved", "present"), [(2, 1), (1, 0), (0, 1), (1, 2)])
def test_another_number_of_devices_is_refused_and_nothing_changes(
    monkeypatch: pytest.MonkeyPatch, saved: int, present: int
) -> None:
    """A device without a state, or a state without a device, is named before any generator is set."""
    _FakeCuda(saved).install(monkeypatch)
    state = RNGState().state_dict()
    _FakeCuda(present).install(monkeypatch)
    random.seed(1)
    before = random.getstate()

    with pytest.raises(
        StateFormatError, match=f"state of {saved} CUDA devices was saved, but this process sees {present}"
    ):
        RNGState().load_state_dict(state)
    assert random.getstate() == before


def test_generators_that_are_missing_unknown_or_of_another_kind_are_refused() -> None:
    """The names are in the error."""
    state = RNGState(a=torch.Generator(), b=np.random.default_rng(1)).state_dict()

    with pytest.raises(StateFormatError, match=r"\['c'\] were not saved, and \['a', 'b'\] were saved but"):
        RNGState(c=torch.Generator()).load_state_dict(state)
    with pytest.raises(StateFormatError, match=r"'a' must be the saved torch.Generator with 5056 .* is .*PCG64"):
        RNGState(a=np.random.default_rng(1), b=np.random.default_rng(1)).load_state_dict(state)
    with pytest.raises(StateFormatError, match=r"'b' must be the saved .* PCG64, but is .* MT19937"):
        RNGState(a=torch.Generator(), b=np.random.Generator(np.random.MT19937())).load_state_dict(state)


def test_names_and_things_that_are_no_generators_are_refused() -> None:
    """At construction, by name."""
    with pytest.raises(ValueError, match="must not be called one of python, numpy, torch, cuda, but is 'torch'"):
        RNGState(torch=torch.Generator())
    with pytest.raises(TypeError, match=r"`mine` must be a torch\.Generator,.* but is RandomState"):
        RNGState(mine=np.random.RandomState())  # type: ignore[arg-type]


def test_each_rank_keeps_its_own() -> None:
    """Generators differ between ranks on purpose."""
    assert RNGState.per_rank is True
