"""The random number generators of one rank, as state."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias, final

import numpy as np
import torch

from resumable_sched.errors import StateFormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Generator", "RNGState", "seed_all"]

Generator: TypeAlias = torch.Generator | np.random.Generator | random.Random
"""What an `RNGState` can save beside the global generators."""

_GLOBAL: Final = ("python", "numpy", "torch", "cuda")


def seed_all(seed: int) -> None:
    """Seed python's, numpy's and torch's global generators, on the CPU and on every CUDA device.

    Args:
        seed: From 0 to ``2**32 - 1``; usually another one on each rank.

    >>> seed_all(3)
    >>> first = random.random()
    >>> seed_all(3)
    >>> random.random() == first
    True
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global generator is what users draw from
    torch.manual_seed(seed)


@final
class RNGState:
    """Save and restore python's, numpy's and torch's global generators, on the CPU and on every CUDA device.

    They differ from rank to rank, so each rank keeps its own.

    Args:
        generators: Further generators that the training draws from, by name: ``RNGState(shuffle=torch.Generator())``.

    Raises:
        TypeError: If one of *generators* is no `torch.Generator`, `numpy.random.Generator` or `random.Random`.
        ValueError: If a name of *generators* is one of ``python``, ``numpy``, ``torch``, ``cuda``.
    """

    per_rank: ClassVar[bool] = True

    def __init__(self, **generators: Generator) -> None:
        for name, generator in generators.items():
            if name in _GLOBAL:
                raise ValueError(f"A generator must not be called one of {', '.join(_GLOBAL)}, but is {name!r}.")
            if not isinstance(generator, (torch.Generator, np.random.Generator, random.Random)):
                raise TypeError(
                    f"`{name}` must be a torch.Generator, a numpy.random.Generator or a random.Random, but is "
                    f"{type(generator).__name__} instead."
                )
        self._generators = generators

    @property
    def generators(self) -> Mapping[str, Generator]:
        """Return the further generators, by name."""
        return dict(self._generators)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every generator; drawing from them afterwards does not change it."""
        own = {name: _state_of(generator) for name, generator in self._generators.items()}
        return {
            "python": random.getstate(),
            "numpy": np.random.get_state(legacy=False),  # noqa: NPY002 - the global generator is what users draw from
            "torch": torch.get_rng_state(),
            # The generators of all devices live on the host; asking for them makes no CUDA context.
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            **own,
        }

    def check_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raise what `load_state_dict` would raise, and change nothing.

        Raises:
            StateFormatError: If a generator is missing, unknown or of another kind, or CUDA devices came or went.
        """
        expected, saved = {*_GLOBAL, *self._generators}, set(state)
        if expected != saved:
            missing, unknown = sorted(expected - saved), sorted(saved - expected)
            raise StateFormatError(
                f"The generators must be the saved ones, but {missing} were not saved, and {unknown} were saved but "
                "are not given now. Give the same ones by the same names, or restore without them: restore(only=[...])."
            )
        present = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if len(state["cuda"]) != present:
            raise StateFormatError(
                f"The state of {len(state['cuda'])} CUDA devices was saved, but this process sees {present}. Make the "
                "same devices visible, or restore without the generators: restore(only=[...])."
            )

        for name, generator in self._generators.items():
            here, there = _kind(_state_of(generator)), _kind(state[name])
            if here != there:
                raise StateFormatError(f"The generator {name!r} must be the saved {there}, but is {here} instead.")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set every generator to where it was.

        Raises:
            StateFormatError: As `check_state_dict`; nothing was changed then.
        """
        self.check_state_dict(state)
        random.setstate(state["python"])
        np.random.set_state(state["numpy"])  # noqa: NPY002
        torch.set_rng_state(state["torch"])
        for device, cuda_state in enumerate(state["cuda"]):
            torch.cuda.set_rng_state(cuda_state, device)
        for name, generator in self._generators.items():
            if isinstance(generator, torch.Generator):
                generator.set_state(state[name])
            elif isinstance(generator, random.Random):
                generator.setstate(state[name])
            else:
                generator.bit_generator.state = state[name]


def _state_of(generator: Generator) -> torch.Tensor | tuple[Any, ...] | dict[str, Any]:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    return dict(generator.bit_generator.state)


def _kind(state: torch.Tensor | tuple[Any, ...] | Mapping[str, Any]) -> str:
    """Return what tells the states of different generators apart."""
    if isinstance(state, tuple):
        return f"random.Random of version {state[0]}"
    if isinstance(state, torch.Tensor):
        return f"torch.Generator with {state.numel()} bytes of state"
    return f"numpy.random.Generator of {state['bit_generator']}"
