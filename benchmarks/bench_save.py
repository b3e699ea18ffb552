"""How long a save holds up the training, and how long it takes; against peers and the physical floor, in one process.

python benchmarks/bench_save.py [--mebibytes 512] [--folder DIR]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file

from resumable_sched import CheckpointManager, Retention

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 5


def median_seconds(work: Callable[[int], object], after: Callable[[], object] = lambda: None) -> float:
    """Return the median duration of *work*, the first (cold) round apart; *after* is not counted."""
    seconds = []
    for round_number in range(ROUNDS + 1):
        began = time.perf_counter()
        work(round_number)
        seconds.append(time.perf_counter() - began)
        after()
    return statistics.median(seconds[1:])


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=512)
    parser.add_argument("--folder", type=Path, default=None)
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp())
    count = max(args.mebibytes // 16, 1)
    model = torch.nn.ParameterDict({f"weight{index}": torch.randn(2**22) for index in range(count)})
    state = dict(model.items())
    size = sum(tensor.nbytes for tensor in state.values())

    warm = {name: torch.empty_like(tensor) for name, tensor in state.items()}
    rows: list[tuple[str, float]] = []

    def copy(_: int) -> None:
        for name, tensor in state.items():
            warm[name].copy_(tensor.detach())

    rows.append(("floor: copy into memory that is already there", median_seconds(copy)))

    def write(_: int) -> None:
        with (folder / "raw").open("wb", buffering=0) as file:
            for tensor in state.values():
                file.write(tensor.detach().numpy().data.cast("B"))

    rows.append(("floor: write() of the same bytes, not flushed", median_seconds(write)))

    manager = CheckpointManager(folder / "async", {"model": model}, retention=Retention(keep_last=1))
    rows.append(("resumable_sched, what the training waits", median_seconds(manager.save, manager.wait)))
    manager.close()
    manager = CheckpointManager(folder / "sync", {"model": model}, retention=Retention(keep_last=1), asynchronous=False)
    rows.append(("resumable_sched, until committed (checksums, fsync)", median_seconds(manager.save)))
    manager.close()
    rows.append(
        ("torch.save (no checksums, no fsync)", median_seconds(lambda _: torch.save(state, folder / "torch.pt")))
    )
    plain = {name: tensor.detach() for name, tensor in state.items()}
    rows.append(
        ("safetensors.save_file (no checksums, no fsync)", median_seconds(lambda _: save_file(plain, folder / "st")))
    )

    def save_dcp(round_number: int) -> None:
        dcp.save(plain, checkpoint_id=folder / f"dcp-{round_number}", no_dist=True)  # type: ignore[attr-defined]

    rows.append(("torch.distributed.checkpoint.save (no checksums)", median_seconds(save_dcp)))
    shutil.rmtree(folder)

    floor = rows[0][1]
    print(f"{size / 2**20:.0f} MiB in {count} tensors, median of {ROUNDS} rounds after a cold one")
    for name, seconds in rows:
        rate = size / seconds / 1e9
        print(f"{name:54} {seconds * 1e3:8.1f} ms {rate:6.2f} GB/s {seconds / floor:6.2f} x copy")


if __name__ == "__main__":
    main()
