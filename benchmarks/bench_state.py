"""What building, saving and loading cost: ours, which compares what it loads, and the peers', in one process.

python benchmarks/bench_state.py [--groups 1 10 100 1000] [--quick]

What a run pays is to build, to save (the state as bytes) and to load (from the bytes), each as its library saves:
ours as JSON, the peers' with `torch.save` and `torch.load` in their defaults. That is shown together, as a checkpoint
alone, as a start alone (build, and go on from the bytes), and in its parts; in the parts the peers' `state_dict` and
`load_state_dict` copy a dict, and `torch.save` and `torch.load` do the rest.

The peers' learning rates are part of the optimizer's state, so that loading a peer's schedules writes nothing; ours
writes. What is saved and loaded by the optimizer itself is counted for nobody.
"""

from __future__ import annotations

import argparse
import io
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import mmengine.optim as mm
import msgspec
import torch
from measuring import OURS, in_turns, in_turns_on_new, prepare, sgd, table
from torch.optim import lr_scheduler

from resumable_sched import CosineAnnealingLR, LinearLR, LinearMomentum, SchedulerGroup

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer

    Build = Callable[[Optimizer], Any]

SPAN = 10**8
WARM_UP = 100
EARLY = 2 * WARM_UP  # the same windows have opened as late in training
LATE = 10**7


def cosine_share(t: int) -> float:
    """Return the share of the base after *t* updates."""
    return (1 + math.cos(math.pi * t / SPAN)) / 2


def one_of_ours(optimizer: Optimizer) -> SchedulerGroup:
    """Build a group of a cosine."""
    return SchedulerGroup(optimizer, [CosineAnnealingLR(optimizer, T_max=SPAN, by_epoch=False)])


def three_of_ours(optimizer: Optimizer) -> SchedulerGroup:
    """Build a group of a warm-up, a cosine and a momentum schedule."""
    schedulers = [
        LinearLR(optimizer, start_factor=0.1, end=WARM_UP, by_epoch=False),
        CosineAnnealingLR(optimizer, T_max=SPAN, begin=WARM_UP, by_epoch=False),
        LinearMomentum(optimizer, start_factor=0.5, end=SPAN, by_epoch=False),
    ]
    return SchedulerGroup(optimizer, schedulers)


def two_of_ours(optimizer: Optimizer) -> SchedulerGroup:
    """Build a group of a warm-up and a cosine."""
    schedulers = [
        LinearLR(optimizer, start_factor=0.1, end=WARM_UP, by_epoch=False),
        CosineAnnealingLR(optimizer, T_max=SPAN, begin=WARM_UP, by_epoch=False),
    ]
    return SchedulerGroup(optimizer, schedulers)


def one_of_mmengine(optimizer: Optimizer) -> list[Any]:
    """Build a cosine."""
    return [mm.CosineAnnealingLR(optimizer, T_max=SPAN, by_epoch=False)]


def three_of_mmengine(optimizer: Optimizer) -> list[Any]:
    """Build a warm-up, a cosine and a momentum schedule."""
    return [
        mm.LinearLR(optimizer, start_factor=0.1, end=WARM_UP, by_epoch=False),
        mm.CosineAnnealingLR(optimizer, T_max=SPAN, begin=WARM_UP, by_epoch=False),
        mm.LinearMomentum(optimizer, start_factor=0.5, end=SPAN, by_epoch=False),
    ]


def sequence_of_torch(optimizer: Optimizer) -> lr_scheduler.SequentialLR:
    """Build a warm-up and a cosine."""
    members = [
        lr_scheduler.LinearLR(optimizer, 0.1, total_iters=WARM_UP),
        lr_scheduler.CosineAnnealingLR(optimizer, SPAN),
    ]
    return lr_scheduler.SequentialLR(optimizer, members, [WARM_UP])


ONE: dict[str, Build] = {
    OURS: one_of_ours,
    "torch CosineAnnealingLR": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, SPAN),
    "torch LambdaLR": lambda optimizer: lr_scheduler.LambdaLR(optimizer, cosine_share),
    "MMEngine": one_of_mmengine,
}
THREE: dict[str, Build] = {
    OURS: three_of_ours,
    "resumable_sched, lr only": two_of_ours,
    "torch SequentialLR (lr only)": sequence_of_torch,
    "MMEngine": three_of_mmengine,
}


def state_of(built: Any) -> Any:  # noqa: ANN401 - of whichever library
    """Return the state, of each schedule if there is a list."""
    return [each.state_dict() for each in built] if isinstance(built, list) else built.state_dict()


def load(built: Any, state: Any) -> None:  # noqa: ANN401 - of whichever library
    """Continue from a state."""
    if isinstance(built, list):
        for each, own in zip(built, state, strict=True):
            each.load_state_dict(own)
    else:
        built.load_state_dict(state)


def checkpoint(built: Any) -> bytes:  # noqa: ANN401 - of whichever library
    """Return the bytes that go into a file."""
    if isinstance(built, SchedulerGroup):
        return msgspec.json.encode(state_of(built))  # what the manifest of a checkpoint is written with
    file = io.BytesIO()
    torch.save(state_of(built), file)
    return file.getvalue()


def _read(built: Any, content: bytes) -> Any:  # noqa: ANN401 - of whichever library
    """Return the state that is in the bytes; `torch.load` reads nothing that could run, which is its default."""
    if isinstance(built, SchedulerGroup):
        return msgspec.json.decode(content)
    return torch.load(io.BytesIO(content), weights_only=True)


def build_save_load(build: Build, optimizer: Optimizer) -> Any:  # noqa: ANN401 - of whichever library
    """Build, save to bytes, and load from them."""
    built = build(optimizer)
    load(built, _read(built, checkpoint(built)))
    return built


def start(build: Build, content: bytes, optimizer: Optimizer) -> Any:  # noqa: ANN401 - of whichever library
    """Build, and continue from the bytes of a file."""
    built = build(optimizer)
    load(built, _read(built, content))
    return built


def measure(peers: dict[str, Build], groups: int, *, distinct: bool, quick: bool) -> dict[str, dict[str, float]]:
    """Return the seconds of each operation, for each of *peers*."""
    rounds, calls = (1, 1) if quick else (7, max(3, 50 // groups))
    new = partial(sgd, groups, distinct=distinct)
    ready = {name: build(new()) for name, build in peers.items()}
    for each in ready.values():
        for _ in range(EARLY):
            for scheduler in each if isinstance(each, list) else [each]:
                scheduler.step()
    contents = {name: checkpoint(each) for name, each in ready.items()}
    starts = {name: (new, partial(start, build, contents[name])) for name, build in peers.items()}
    often = 1 if quick else max(20, 2000 // groups)
    states = {name: state_of(each) for name, each in ready.items()}
    return {
        "together: build, save to bytes, load from them": in_turns_on_new(
            {name: (new, partial(build_save_load, build)) for name, build in peers.items()}, rounds=rounds, calls=calls
        ),
        "a checkpoint: the state as bytes": in_turns(
            {name: partial(checkpoint, each) for name, each in ready.items()}, rounds=rounds, calls=often
        ),
        "a start: build, and go on from the bytes": in_turns_on_new(starts, rounds=rounds, calls=calls),
        "a part: build": in_turns_on_new(
            {name: (new, build) for name, build in peers.items()}, rounds=rounds, calls=calls
        ),
        "a part: state_dict": in_turns(
            {name: partial(state_of, each) for name, each in ready.items()}, rounds=rounds, calls=often
        ),
        "a part: load_state_dict": in_turns(
            {name: partial(load, each, states[name]) for name, each in ready.items()}, rounds=rounds, calls=often
        ),
    }


def at(iteration: int, groups: int) -> tuple[SchedulerGroup, dict[str, Any]]:
    """Build our three schedules, set them to *iteration*, and give the state that was used."""
    group = three_of_ours(sgd(groups, distinct=True))
    state = group.state_dict()
    state["position"]["iteration"] = state["position"]["iteration_in_epoch"] = iteration
    group.load_state_dict(state)
    if group.iteration != iteration:
        raise RuntimeError(f"`iteration` must be {iteration}, but is {group.iteration} instead.")
    return group, group.state_dict()


def by_position(groups: int, *, quick: bool) -> dict[str, dict[str, float]]:
    """Return the seconds of everything early and late in training; the second column is compared with the first."""
    rounds, calls = (1, 1) if quick else (7, max(20, 1000 // groups))
    early, early_state = at(EARLY, groups)
    late, late_state = at(LATE, groups)
    names = {"early": f"iteration {EARLY}", "late": f"iteration {LATE:.0e}"}
    rows: dict[str, dict[str, float]] = {}

    def resume(state: dict[str, Any], optimizer: Optimizer) -> SchedulerGroup:
        group = three_of_ours(optimizer)
        group.load_state_dict(state)
        return group

    new = partial(sgd, groups, distinct=True)
    rows["build and load"] = in_turns_on_new(
        {names["early"]: (new, partial(resume, early_state)), names["late"]: (new, partial(resume, late_state))},
        rounds=rounds,
        calls=3,
    )
    rows["save"] = in_turns(
        {names["early"]: partial(checkpoint, early), names["late"]: partial(checkpoint, late)},
        rounds=rounds,
        calls=calls,
    )
    rows["load"] = in_turns(
        {names["early"]: partial(load, early, early_state), names["late"]: partial(load, late, late_state)},
        rounds=rounds,
        calls=calls,
    )
    rows["step"] = in_turns({names["early"]: early.step, names["late"]: late.step}, rounds=rounds, calls=calls * 10)
    return rows


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, nargs="+", default=[1, 10, 100, 1000], help="numbers of param groups")
    parser.add_argument("--quick", action="store_true", help="see that everything runs; the figures mean nothing")
    args = parser.parse_args()
    prepare()
    for title, peers in (("one schedule", ONE), ("warm-up + cosine + momentum", THREE)):
        for distinct in (False, True):
            kind = "all different" if distinct else "equal"
            columns = {n: measure(peers, n, distinct=distinct, quick=args.quick) for n in args.groups}
            for operation in next(iter(columns.values())):
                table(
                    f"{operation}; {title}, learning rates {kind}: microseconds (and ours as a multiple), by groups",
                    {str(n): found[operation] for n, found in columns.items()},
                )
    for groups in args.groups:
        rows = by_position(groups, quick=args.quick)
        early, late = next(iter(rows.values()))
        print(f"\nearly and late in training, {groups} groups: microseconds, and late over early")
        for name, found in rows.items():
            print(f"{name:44}{found[early] * 1e6:14.1f}{found[late] * 1e6:14.1f}{found[late] / found[early]:10.2f} x")


if __name__ == "__main__":
    main()
