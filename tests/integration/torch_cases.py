"""What tests of conversions and of imported states build: torch schedulers of every kind, and a user's own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import lr_scheduler as peer

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BESIDE", "CLOSED", "PLATEAUS", "Ending", "Hill", "Weighty", "build_optimizer", "falling", "scale"]


def scale(tick: int) -> float:
    """Return a factor near 1."""
    return 0.95 + 0.01 * (tick % 5)


def falling(tick: float) -> float:
    """Return a factor that falls."""
    return 1.0 / (1.0 + 0.1 * tick)


def power(tick: int, *, exponent: float) -> float:
    """Return a factor that has an argument."""
    return float((1.0 + tick) ** -exponent)


def build_optimizer(kind: str = "SGD") -> torch.optim.Optimizer:
    """Return an optimizer of two param groups with different learning rates."""
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups: list[dict[str, Any]] = [{"params": [weights[0]]}, {"params": [weights[1]], "lr": 0.5}]
    if kind == "SGD":
        return torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    return torch.optim.AdamW(groups, lr=0.1)


class Hill(peer.LRScheduler):
    """Be a user's own: it goes on from the present value, and remembers what it has seen."""

    def __init__(self, optimizer: torch.optim.Optimizer, top: int, steps: list[float]) -> None:
        self.top = top
        self.steps = {"up": steps[0], "down": steps[1]}
        self.highest = 0.0
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        """Rise to the top, then fall, the more so the higher the top was."""
        if self.last_epoch == 0:
            return [group["lr"] for group in self.optimizer.param_groups]
        factor = self.steps["up"] if self.last_epoch <= self.top else self.steps["down"] / (1.0 + self.highest)
        values = [group["lr"] * factor for group in self.optimizer.param_groups]
        self.highest = max([self.highest, *values])
        return values


class Ending(peer.LRScheduler):
    """Be a user's own that ends."""

    def get_lr(self) -> list[Any]:
        """Refuse to go on."""
        if self.last_epoch > 5:
            raise IndexError("The table has 6 values.")
        return [0.9**self.last_epoch * base for base in self.base_lrs]


class Weighty(peer.LRScheduler):
    """Be a user's own that moves two hyper-parameters."""

    def get_lr(self) -> list[Any]:
        """Move the weight decay too."""
        for group in self.optimizer.param_groups:
            group["weight_decay"] = 0.01 * (1 + self.last_epoch)
        return [0.9**self.last_epoch * base for base in self.base_lrs]


def _warm(optimizer: torch.optim.Optimizer, after: peer.LRScheduler, at: int = 10) -> peer.LRScheduler:
    return peer.SequentialLR(optimizer, [peer.LinearLR(optimizer, 0.1, total_iters=10), after], [at])


CLOSED: dict[str, Callable[[Any], peer.LRScheduler]] = {
    "lambda": lambda o: peer.LambdaLR(o, scale),
    "lambda for each group": lambda o: peer.LambdaLR(o, [scale, falling]),
    "multiplicative": lambda o: peer.MultiplicativeLR(o, scale),
    "step": lambda o: peer.StepLR(o, 7, 0.3),
    "multi-step": lambda o: peer.MultiStepLR(o, [20, 5, 20, 41], 0.3),
    "constant": lambda o: peer.ConstantLR(o, 0.25, total_iters=9),
    "constant for no time": lambda o: peer.ConstantLR(o, 0.25, total_iters=0),
    "linear": lambda o: peer.LinearLR(o, 0.2, 0.7, total_iters=12),
    "exponential": lambda o: peer.ExponentialLR(o, 0.93),
    "polynomial": lambda o: peer.PolynomialLR(o, total_iters=30, power=1.7),
    "cosine": lambda o: peer.CosineAnnealingLR(o, T_max=50, eta_min=0.01),
    "cosine that rises again": lambda o: peer.CosineAnnealingLR(o, T_max=13),
    "warm restarts": lambda o: peer.CosineAnnealingWarmRestarts(o, T_0=7, T_mult=2, eta_min=0.003),
    "cyclic": lambda o: peer.CyclicLR(o, 0.01, 0.2, 7, cycle_momentum=False),
    "cyclic with everything": lambda o: peer.CyclicLR(
        o, [0.01, 0.02], [0.2, 0.3], 7, 11, mode="exp_range", gamma=0.97, base_momentum=0.7, max_momentum=0.95
    ),
    "cyclic with a function": lambda o: peer.CyclicLR(o, 0.01, 0.2, 7, scale_fn=falling, scale_mode="iterations"),
    "one-cycle": lambda o: peer.OneCycleLR(o, 0.5, total_steps=70),
    "one-cycle with everything": lambda o: peer.OneCycleLR(
        o,
        [0.5, 0.7],
        epochs=7,
        steps_per_epoch=10,
        pct_start=0.21,
        anneal_strategy="linear",
        base_momentum=0.8,
        max_momentum=0.9,
        div_factor=7.0,
        final_div_factor=30.0,
        three_phase=True,
    ),
    "chained": lambda o: peer.ChainedScheduler(
        [peer.StepLR(o, 9), peer.ExponentialLR(o, 0.97), peer.LinearLR(o, 0.1, total_iters=6)]
    ),
    "chained with a floor": lambda o: peer.ChainedScheduler(
        [peer.CosineAnnealingLR(o, 40, eta_min=0.02), peer.ConstantLR(o, 0.5, total_iters=6)]
    ),
    "a warm-up and a cosine": lambda o: _warm(o, peer.CosineAnnealingLR(o, 50, eta_min=0.002)),
    "a warm-up and a function, later": lambda o: _warm(o, peer.LambdaLR(o, falling), 14),
    "a warm-up and warm restarts": lambda o: _warm(o, peer.CosineAnnealingWarmRestarts(o, 8)),
    "three in sequence": lambda o: peer.SequentialLR(
        o,
        [peer.ConstantLR(o, 0.1, total_iters=5), peer.LinearLR(o, 0.1, total_iters=8), peer.MultiStepLR(o, [6, 20])],
        [5, 15],
    ),
}
"""What has a closed form here."""

BESIDE: dict[str, Callable[[Any], peer.LRScheduler]] = {
    "a user's own": lambda o: Hill(o, 12, [1.04, 0.97]),
    "a user's own in sequence": lambda o: _warm(o, Hill(o, 12, [1.04, 0.97])),
    "a function with arguments": lambda o: peer.LambdaLR(o, partial(power, exponent=0.3)),
    "a warm-up that is cut": lambda o: _warm(o, peer.ExponentialLR(o, 0.9), 4),
    "a fall and a fall": lambda o: peer.SequentialLR(o, [peer.ExponentialLR(o, 0.9), peer.StepLR(o, 5)], [20]),
    "a multiplicative one in sequence": lambda o: _warm(o, peer.MultiplicativeLR(o, scale)),
    "chained after a function": lambda o: peer.ChainedScheduler([peer.LambdaLR(o, falling), peer.StepLR(o, 5)]),
    "a sequence in a chain": lambda o: peer.ChainedScheduler([_warm(o, peer.StepLR(o, 5)), peer.ExponentialLR(o, 0.9)]),
    "a one-cycle in sequence": lambda o: _warm(o, peer.OneCycleLR(o, 0.5, total_steps=70)),
    "a one-cycle to no momentum": lambda o: peer.OneCycleLR(o, 0.5, total_steps=70, base_momentum=0.0),
    "a cycle of half ticks": lambda o: peer.CyclicLR(o, 0.01, 0.2, 7.5, 3.25),  # type: ignore[arg-type]
}
"""What is run beside training, and has the peer's values to the last bit."""

PLATEAUS: dict[str, Callable[[Any], peer.ReduceLROnPlateau]] = {
    "plateau": lambda o: peer.ReduceLROnPlateau(o, factor=0.5, patience=1, cooldown=2),
    "plateau of a maximum": lambda o: peer.ReduceLROnPlateau(
        o, "max", 0.3, 2, threshold=0.01, threshold_mode="abs", min_lr=[0.01, 0.2], eps=1e-6
    ),
}
