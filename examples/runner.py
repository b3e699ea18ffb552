"""Fit a small network with a `Runner`. Kill it anywhere, start it again, and it goes on as if it had never stopped.

python examples/runner.py --checkpoint-url /tmp/run
"""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from resumable_sched import Retention, Runner
from resumable_sched.distributed import seed_all
from resumable_sched.training import CheckpointHook, ProgressHook


def samples(count: int, seed: int) -> TensorDataset:
    inputs = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * 4 - 2
    return TensorDataset(inputs, (inputs[:, :1] * inputs[:, 1:]).sin())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint-url", required=True, help="where checkpoints go: a folder, or any fsspec URL")
    parser.add_argument("--epochs", type=int, default=12)
    args = parser.parse_args()

    seed_all(0)
    model = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Dropout(0.1), nn.Linear(64, 1))
    runner = Runner(
        model,
        torch.optim.AdamW(model.parameters(), lr=3e-3),
        StatefulDataLoader(samples(6400, seed=1), batch_size=64, shuffle=True),
        scheduler=[
            {"type": "LinearLR", "start_factor": 0.01, "by_epoch": False, "end": 50},
            {"type": "CosineAnnealingLR", "T_max": args.epochs, "convert_to_iter_based": True},
        ],
        max_epochs=args.epochs,
        train_step=lambda model, batch: nn.functional.mse_loss(model(batch[0]), batch[1]),
        val_dataloader=DataLoader(samples(1000, seed=2), batch_size=250),
        val_step=lambda model, batch: {"val_loss": nn.functional.mse_loss(model(batch[0]), batch[1])},
        checkpoint=CheckpointHook(args.checkpoint_url, every=50, by_epoch=False, retention=Retention(keep_last=2)),
        hooks=[ProgressHook()],
    )
    runner.train()


if __name__ == "__main__":
    main()
