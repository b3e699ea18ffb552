"""Small states in which everything matters, for tests of saving and restoring."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import torch

from resumable_sched.distributed import RNGState
from tests.checkpoint.exact import bits

__all__ = ["Awkward", "OneParameter", "Run", "seed_everything", "small_model"]


def small_model(seed: int = 0) -> torch.nn.Sequential:
    """Return a model with buffers and dropout."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 2)
    )


class Run:
    """A small training in which model, buffers, optimizer, schedule, generators and data position all matter."""

    def __init__(self, seed: int = 0) -> None:
        self.model = small_model(seed)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [3, 5])
        self.shuffle = torch.Generator().manual_seed(seed)
        self.state: dict[str, Any] = {
            "model": self.model,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "rng": RNGState(shuffle=self.shuffle),
            "step": 0,
        }

    def train(self, steps: int) -> list[float]:
        """Train and return the losses."""
        losses = []
        for _ in range(steps):
            noise = random.random() + float(np.random.rand())  # noqa: NPY002, S311 - the global ones are the case
            batch = torch.randn(6, 4, generator=self.shuffle) * noise
            loss = self.model(batch).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            self.state["step"] += 1
            losses.append(loss.item())
        return losses

    def bits(self) -> Any:
        """Return what is equal if two runs are the same bit for bit."""
        return bits([dict(it.state_dict()) if hasattr(it, "state_dict") else it for it in self.state.values()])


def seed_everything(seed: int) -> None:
    """Seed all global generators."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


class Awkward:
    """A user's own object with awkward state."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.window: tuple[Any, ...] = ()

    def state_dict(self) -> dict[Any, Any]:
        """Return what JSON cannot say as it is."""
        return {"seen": self.seen, "window": self.window, 7: [float("nan"), -0.0, b"x"]}

    def load_state_dict(self, state: dict[Any, Any]) -> None:
        """Take over what is of use."""
        self.seen, self.window = state["seen"], state["window"]


class OneParameter(torch.nn.Module):
    """A model of one given parameter."""

    def __init__(self, parameter: torch.Tensor, name: str = "w") -> None:
        super().__init__()
        self.register_parameter(name, torch.nn.Parameter(parameter))
