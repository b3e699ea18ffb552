"""Train a small CNN on handwritten digits with DDP; killed anywhere and started again, it goes on as if never stopped.

torchrun --nproc-per-node 2 examples/distributed/train_ddp.py --checkpoint-url /tmp/digits
"""

import argparse
import os
import sys

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from resumable_sched import CheckpointManager, Retention, RNGState
from resumable_sched.distributed import EXIT_PREEMPTED, PreemptionGuard, seed_all
from resumable_sched.schedule import CosineAnnealingLR, LinearLR, LinearMomentum, SchedulerGroup
from resumable_sched.testing import Recorder, digest, digests


def digits() -> TensorDataset:
    """Return 1,797 real images of 8 x 8 pixels, and which digit each one is."""
    images, labels = load_digits(return_X_y=True)
    return TensorDataset(torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16, torch.tensor(labels))


def build_model() -> nn.Module:
    def block(channels_in: int, channels_out: int, stride: int) -> nn.Module:
        convolution = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU())

    return nn.Sequential(block(1, 16, 1), block(16, 32, 2), nn.Dropout(0.3), nn.Flatten(), nn.Linear(512, 10))


def build_optimizer(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    """Decay weights, but neither biases nor BatchNorm: two param groups."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": 1e-4}, {"params": others, "weight_decay": 0.0, "lr": lr / 2}]
    return torch.optim.SGD(groups, lr=lr, momentum=0.95)


def build_schedule(optimizer: torch.optim.Optimizer, epochs: int, epoch_length: int) -> SchedulerGroup:
    """Warm up by iteration over the first epoch, then a cosine by epoch, converted; momentum the other way round."""
    schedulers = [
        LinearLR(optimizer, start_factor=0.05, by_epoch=False, end=epoch_length),
        CosineAnnealingLR.build_iter_from_epoch(
            optimizer, T_max=epochs - 1, eta_min_ratio=0.01, begin=1, end=epochs, epoch_length=epoch_length
        ),
        LinearMomentum(optimizer, start_factor=0.9, by_epoch=False, end=epochs * epoch_length),
    ]
    return SchedulerGroup(optimizer, schedulers, epoch_length=epoch_length, max_epochs=epochs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint-url", required=True, help="where checkpoints go: a folder, or any fsspec URL")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=32, help="per rank")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--save-every", type=int, default=10, metavar="ITERATIONS")
    parser.add_argument("--record", metavar="DIR", help="write down every iteration, to compare runs bit for bit")
    args = parser.parse_args()

    use_cuda = torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])  # a GPU for each rank, or none at all
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if use_cuda else torch.device("cpu")
    dist.init_process_group("nccl" if use_cuda else "gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    seed_all(100 + rank)  # dropout differs from rank to rank; DDP makes the parameters equal

    dataset = digits()
    sampler: DistributedSampler[tuple[torch.Tensor, ...]] = DistributedSampler(dataset, shuffle=True, drop_last=True)
    # A generator of its own: otherwise every new iterator, so every resume, would draw from the global one.
    loader = StatefulDataLoader(dataset, args.batch_size, sampler=sampler, drop_last=True, generator=torch.Generator())
    model = DistributedDataParallel(build_model().to(device), device_ids=[device] if use_cuda else None)
    optimizer = build_optimizer(model, args.lr)
    schedule = build_schedule(optimizer, args.epochs, len(loader))
    state = {"model": model, "optimizer": optimizer, "schedule": schedule, "rng": RNGState(), "loader": loader}
    recorder = Recorder(f"{args.record}/rank-{rank}.jsonl") if args.record else None

    manager = CheckpointManager(args.checkpoint_url, state, retention=Retention(keep_last=2))
    with PreemptionGuard() as guard, manager:
        manager.restore()
        if rank == 0:
            print(f"starts after iteration {schedule.iteration}", flush=True)
        while schedule.epoch < args.epochs:
            sampler.set_epoch(schedule.epoch)
            for images, labels in loader:
                output = model(images.to(device))
                loss = nn.functional.cross_entropy(output, labels.to(device))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                used = schedule.values()
                optimizer.step()
                schedule.step(samples=len(images) * world_size)
                if recorder is not None:
                    parameters = digest(model.parameters())
                    recorder.record(schedule.iteration, loss=loss.item(), values=used, parameters=parameters)
                if guard.should_stop():
                    manager.save(schedule.iteration, block=True)
                    return EXIT_PREEMPTED
                if schedule.iteration % args.save_every == 0:
                    manager.save(schedule.iteration)
                    if rank == 0:
                        print(f"iteration {schedule.iteration}: loss {loss.item():.4f}", flush=True)
            schedule.step_epoch()
        manager.save(schedule.iteration, block=True)
    if recorder is not None:
        recorder.record_end(state=digests(state))
    dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
