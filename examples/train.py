"""Fit a small network in one process. Kill it anywhere, start it again, and it goes on as if it had never stopped.

python examples/train.py --checkpoint-url /tmp/run
"""

import argparse
import sys

import torch
from torch import nn

from resumable_sched import CheckpointManager, Retention, RNGState
from resumable_sched.distributed import EXIT_PREEMPTED, PreemptionGuard, seed_all
from resumable_sched.schedule import CosineAnnealingLR, LinearLR, SchedulerGroup

ITERATIONS = 2000
WARM_UP = 100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint-url", required=True, help="where checkpoints go: a folder, or any fsspec URL")
    parser.add_argument("--save-every", type=int, default=100, metavar="ITERATIONS")
    args = parser.parse_args()

    seed_all(0)
    model = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Dropout(0.1), nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedulers = [
        LinearLR(optimizer, start_factor=0.01, by_epoch=False, end=WARM_UP),
        CosineAnnealingLR(optimizer, T_max=ITERATIONS - WARM_UP, by_epoch=False, begin=WARM_UP, end=ITERATIONS),
    ]
    schedule = SchedulerGroup(optimizer, schedulers, max_iters=ITERATIONS)
    state = {"model": model, "optimizer": optimizer, "schedule": schedule, "rng": RNGState()}

    with PreemptionGuard() as guard, CheckpointManager(args.checkpoint_url, state, retention=Retention()) as manager:
        manager.restore()
        print(f"starts after iteration {schedule.iteration}", flush=True)
        while schedule.iteration < ITERATIONS:
            inputs = torch.rand(64, 2) * 4 - 2
            loss = nn.functional.mse_loss(model(inputs), (inputs[:, :1] * inputs[:, 1:]).sin())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step(samples=len(inputs))
            if guard.should_stop():
                manager.save(schedule.iteration, block=True)
                return EXIT_PREEMPTED
            if schedule.iteration % args.save_every == 0:
                manager.save(schedule.iteration)
                lr = schedule.values()["lr"][0]
                print(f"iteration {schedule.iteration}: loss {loss.item():.5f}, learning rate {lr:.2e}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
