"""The loop counts completed updates, and a training that was stopped anywhere goes on with the same bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, IterableDataset, RandomSampler
from torchdata.stateful_dataloader import StatefulDataLoader
from torchdata.stateful_dataloader.sampler import StatefulDistributedSampler

from resumable_sched import LinearLR, Retention, Runner, SchedulerGroup, StepLR, errors
from resumable_sched.distributed import EXIT_PREEMPTED, seed_all
from resumable_sched.testing import digest
from resumable_sched.training import CheckpointHook, Hook
from tests.training.loops import (
    BATCH,
    CASES,
    COSINE,
    MOMENTUM,
    PLATEAU,
    WARM_UP,
    Events,
    KilledError,
    Memory,
    Net,
    build,
    dataset,
    kill_at,
    scaler,
    stop_at,
    trace_into,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from resumable_sched.training import Run, Update

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata, on torch 2.13


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Keep tests that run beside each other from waiting for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def undisturbed(case: str) -> tuple[Memory, dict[str, Any]]:
    """Train without a checkpoint, and give what was recorded and the state at the end."""
    memory = Memory()
    runner = build(None, trace_into(memory), **CASES[case]())
    runner.train()
    return memory, runner.group.state_dict()


@pytest.mark.parametrize("case", CASES)
def test_a_training_that_was_killed_after_any_update_goes_on_with_the_same_bits(case: str, tmp_path: Path) -> None:
    """Losses, values, parameters, buffers and momenta of every update after the kill are those of one run."""

    def saver(stop: int) -> CheckpointHook:
        return CheckpointHook(tmp_path / str(stop), every=stop - 1, by_epoch=False)

    expected, state = undisturbed(case)
    last = max(expected.lines)
    # 7 and 13: the checkpoint is of the last update of an epoch, whose end is not counted in it.
    for stop in sorted({*range(2, last + 1, 3), 7, 13} & {*range(last + 1)}):
        memory = Memory()
        with pytest.raises(KilledError):
            build(saver(stop), trace_into(memory), Events(after_train_iter=kill_at(stop)), **CASES[case]()).train()
        torch.rand(7)

        again = build(saver(stop), trace_into(memory), **CASES[case]())
        again.train()

        assert memory.lines == expected.lines, f"killed at {stop}"
        assert memory.end == expected.end, f"killed at {stop}"
        assert again.group.state_dict() == state, f"killed at {stop}"


BETWEEN = [
    ("validated", "after_train_epoch"),
    ("validated", "after_val"),
    ("accumulated", "after_train_epoch"),
    ("own generator", "after_train_epoch"),
    ("own sampler", "after_train_epoch"),
    ("no length", "after_train_epoch"),
]


@pytest.mark.parametrize(("case", "event"), BETWEEN)
def test_a_training_that_was_stopped_between_epochs_goes_on_with_the_same_bits(
    case: str, event: str, tmp_path: Path
) -> None:
    """A signal at the end of an epoch, before or after its validation, saves, ends with 75 and changes nothing."""
    expected, state = undisturbed(case)
    memory = Memory()
    events = Events(**{event: stop_at(1)})
    with pytest.raises(SystemExit) as caught:
        build(tmp_path, trace_into(memory), events, **CASES[case]()).train()
    assert caught.value.code == EXIT_PREEMPTED

    again = build(tmp_path, trace_into(memory), **CASES[case]())
    again.train()

    assert memory.lines == expected.lines
    assert memory.end == expected.end
    assert again.group.state_dict() == state


def by_rank() -> StatefulDataLoader[Any]:
    """Shuffle as several ranks would: with a seed of the epoch, and no generator."""
    return StatefulDataLoader(dataset(), BATCH, sampler=DistributedSampler(dataset(), num_replicas=1, rank=0))


@pytest.mark.parametrize("by_epoch", [True, False])
@pytest.mark.parametrize("loader", [None, by_rank])
def test_a_stop_before_a_validation_goes_on_with_the_same_batches(
    by_epoch: bool, loader: Callable[[], Any] | None, tmp_path: Path
) -> None:
    """The next start validates, saves and is killed before it has asked the loader for a batch; so is the third."""

    def run(url: Path | None, memory: Memory, *hooks: Hook) -> Runner:
        settings: dict[str, Any] = {"validated": True, "val_by_epoch": by_epoch, "val_every": 1 if by_epoch else 4}
        if loader is not None:
            settings["loader"] = loader()
        saver = None if url is None else CheckpointHook(url, by_epoch=by_epoch)
        return build(saver, trace_into(memory), *hooks, **settings)

    expected, memory = Memory(), Memory()
    whole = run(None, expected)
    whole.train()
    where = {"after_train_epoch": stop_at(1)} if by_epoch else {"before_train_iter": stop_at(7, "iteration")}
    with pytest.raises(SystemExit):
        run(tmp_path, memory, Events(**where)).train()
    for _ in range(2):
        with pytest.raises(KilledError):
            run(tmp_path, memory, Events(before_train_iter=kill_at(6 if by_epoch else 8))).train()
    again = run(tmp_path, memory)
    again.train()

    assert memory.lines == expected.lines
    assert memory.end == expected.end
    assert again.group.state_dict() == whole.group.state_dict()


def seeded() -> torch.Generator:
    """Return a generator of its own."""
    return torch.Generator().manual_seed(9)


STATEFUL: dict[str, Callable[[], Any]] = {
    "a batch sampler": lambda: StatefulDataLoader(
        dataset(), batch_sampler=BatchSampler(RandomSampler(dataset()), BATCH, drop_last=False)
    ),
    "a batch sampler with a generator": lambda: StatefulDataLoader(
        dataset(), batch_sampler=BatchSampler(RandomSampler(dataset(), generator=seeded()), BATCH, drop_last=False)
    ),
    "a sampler with a generator": lambda: StatefulDataLoader(
        dataset(), BATCH, sampler=RandomSampler(dataset(), generator=seeded())
    ),
    "a stateful sampler": lambda: StatefulDataLoader(
        dataset(), BATCH, sampler=StatefulDistributedSampler(dataset(), 1, 0), generator=seeded()
    ),
}
PLAIN: dict[str, Callable[[], Any]] = {
    "workers that stay": lambda: DataLoader(dataset(), BATCH, shuffle=True, num_workers=1, persistent_workers=True),
    "workers that stay, with a generator": lambda: DataLoader(
        dataset(), BATCH, shuffle=True, num_workers=1, persistent_workers=True, generator=seeded()
    ),
    "a batch sampler with a generator": lambda: DataLoader(
        dataset(), batch_sampler=BatchSampler(RandomSampler(dataset(), generator=seeded()), BATCH, drop_last=False)
    ),
}


@pytest.mark.parametrize("name", STATEFUL)
def test_whatever_samples_it_goes_on_with_the_same_ones(name: str, tmp_path: Path) -> None:
    """Killed after the first update, one in the middle, the last and short one, and in the next epoch."""
    expected = Memory()
    build(None, trace_into(expected), loader=STATEFUL[name]()).train()
    for stop, by_epoch in ((1, False), (3, False), (6, False), (7, False), (8, True), (12, False)):

        def run(memory: Memory, *hooks: Hook, url: Path = tmp_path / str(stop), by_epoch: bool = by_epoch) -> None:
            saver = CheckpointHook(url, by_epoch=by_epoch)
            build(saver, trace_into(memory), *hooks, loader=STATEFUL[name]()).train()

        memory = Memory()
        with pytest.raises(KilledError):
            run(memory, Events(before_train_iter=kill_at(stop)))
        torch.rand(3)
        run(memory)
        assert memory.lines == expected.lines, f"killed at {stop}"


@pytest.mark.parametrize("name", PLAIN)
def test_whatever_a_plain_loader_or_a_validation_draws_it_draws_again(name: str, tmp_path: Path) -> None:
    """Between epochs, and in validations, too."""

    def run(url: Path | None, memory: Memory, *hooks: Hook) -> None:
        hook = None if url is None else CheckpointHook(url)
        settings: dict[str, Any] = {"val_dataloader": PLAIN[name](), "scheduler": [PLATEAU]}
        build(hook, trace_into(memory), *hooks, loader=PLAIN[name](), **settings).train()

    expected, memory = Memory(), Memory()
    run(None, expected)
    with pytest.raises(KilledError):
        run(tmp_path, memory, Events(after_train_iter=kill_at(8)))
    run(tmp_path, memory)

    assert memory.lines == expected.lines
    assert memory.end == expected.end


def test_a_validation_that_failed_is_made_up_for(tmp_path: Path) -> None:
    """A training that dies while validating goes on from before it, and its plateau sees the same metrics."""
    expected, state = undisturbed("validated")
    memory = Memory()
    calls = iter(range(100))

    def dies(model: nn.Module, batch: object) -> dict[str, Any]:
        if next(calls) == 7:  # in the second validation
            raise KilledError
        return {"loss": model(batch)}

    with pytest.raises(KilledError):
        build(tmp_path, trace_into(memory), validated=True, val_step=dies).train()
    again = build(tmp_path, trace_into(memory), validated=True)
    again.train()

    assert memory.lines == expected.lines
    assert again.group.state_dict() == state


def test_events_come_in_the_documented_order() -> None:
    """Each hook hears of the position after the schedules have moved; a validation comes after its epoch."""
    events = Events()
    runner = build(None, events, accumulate=4, validated=True, max_epochs=2, val_every=2)
    runner.train()

    epoch = ["before_train_epoch", "before_train_iter", "after_train_iter", "before_train_iter", "after_train_iter"]
    assert events.events == [
        "before_train 0/0",
        *map(" ".join, zip(epoch, ["0/0", "0/0", "1/0", "1/0", "2/0"], strict=True)),
        "after_train_epoch 2/1",
        *map(" ".join, zip(epoch, ["2/1", "2/1", "3/1", "3/1", "4/1"], strict=True)),
        "after_train_epoch 4/2",
        "after_val 4/2",
        "after_train 4/2",
    ]
    assert runner.metrics_here is not None


def test_the_last_incomplete_update_of_an_epoch_is_the_mean_of_its_batches() -> None:
    """With and without a length the gradient is that of the mean loss of the batches that there were."""
    for length in (True, False):
        batches = [torch.tensor([[float(number)]]) for number in range(1, 6)]
        model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(model.weight)
        loader: Any = batches if length else StatefulDataLoader(Iterated(batches), batch_size=None)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        runner = Runner(
            model, optimizer, loader, max_epochs=1, accumulate=3, train_step=lambda net, batch: net(batch).sum()
        )
        runner.train()

        assert runner.iteration == 2
        assert runner.group.samples == 5
        assert model.weight.item() == pytest.approx(-(1 + 2 + 3) / 3 - (4 + 5) / 2, abs=1e-6)  # float32


class Iterated(IterableDataset[torch.Tensor]):
    """Return batches without a length."""

    def __init__(self, batches: list[torch.Tensor]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Return them."""
        return iter(self._batches)


def test_a_skipped_update_moves_no_clock() -> None:
    """The epochs are as long as their completed updates, and the values follow these."""
    runner = build(None, scaler=scaler())
    runner.train()

    assert runner.skipped_updates == 3  # the sample is met once in each epoch
    assert runner.iteration == 18 - 3
    assert runner.epoch == 3


def test_an_epoch_without_a_completed_update_is_an_error() -> None:
    """Training for `max_iters` would never end."""
    runner = build(None, max_iters=5, scaler=scaler(), train_step=lambda net, batch: net(batch) * float("nan"))
    with pytest.raises(RuntimeError, match="6 batches gave inf or nan gradients"):
        runner.train()
    with pytest.raises(RuntimeError, match="it is empty"):
        build(None, loader=iter(()), max_iters=5, scheduler=None).train()


@pytest.mark.parametrize(("told", "given"), [(3, 2), (2, 3)])
def test_a_loader_whose_length_is_wrong_is_an_error(told: int, given: int) -> None:
    """Schedules were built for the length that it has said."""

    class Liar(list[Any]):
        def __len__(self) -> int:
            return told

    batches = Liar([[torch.ones(2, 3), torch.ones(2, 1)]] * given)
    with pytest.raises(RuntimeError, match="as many batches as its len"):
        build(None, loader=batches, max_epochs=1).train()


def test_metrics_are_weighted_by_samples() -> None:
    """Batches of 5, 5, 5, 5 and 2 count by their size where `val_step` says it, and alike where it does not."""
    mean = dataset().tensors[0].mean().item()

    def weighted(_: nn.Module, batch: list[torch.Tensor]) -> dict[str, Any]:
        return {"mean": batch[0].mean(), "samples": len(batch[0])}

    loader = DataLoader(dataset(), 5)
    runner = build(None, val_dataloader=loader, val_step=weighted, max_epochs=1)
    runner.train()
    assert runner.metrics == {"mean": pytest.approx(mean, abs=1e-6)}  # means of float32

    runner = build(None, val_dataloader=loader, val_step=lambda _, batch: {"size": len(batch[0])}, max_epochs=1)
    runner.train()
    assert runner.metrics == {"size": 22 / 5}


def test_a_validation_leaves_the_modes_of_the_modules_alone() -> None:
    """A BatchNorm that was frozen stays frozen."""
    runner = build(None, validated=True, max_epochs=1)
    frozen = runner.model.get_submodule("body.1").eval()
    runner.train()

    assert runner.model.training
    assert not frozen.training


def test_a_finished_training_has_nothing_to_do(tmp_path: Path) -> None:
    """Started again, it neither trains nor saves; with more epochs it goes on."""
    build(tmp_path, max_epochs=1).train()
    events = Events()
    again = build(tmp_path, events, max_epochs=1)
    again.train()
    assert events.events == ["before_train 6/1", "after_train 6/1"]

    longer = build(tmp_path, max_epochs=2, on_mismatch="adopt")  # the cosine is another one
    longer.train()
    assert longer.iteration == 12


def test_a_changed_number_is_an_error_that_names_it(tmp_path: Path) -> None:
    """The schedule of the checkpoint is compared with the one in the config."""
    build(tmp_path, max_epochs=1).train()
    changed = [{**WARM_UP, "start_factor": 0.3}, COSINE, MOMENTUM]
    with pytest.raises(errors.ScheduleMismatchError, match="start_factor"):
        build(tmp_path, max_epochs=1, scheduler=changed).train()

    adopted = build(tmp_path, max_epochs=1, scheduler=changed, on_mismatch="adopt")
    adopted.train()
    assert adopted.iteration == 6


def test_another_accumulation_is_refused_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    """At the end of an epoch it may change; within one, its updates would be others."""
    with pytest.raises(KilledError):
        build(tmp_path, Events(after_train_iter=kill_at(4)), scheduler=None).train()
    with pytest.raises(errors.StateMismatchError, match="`accumulate` must be the saved 1, but is 2"):
        build(tmp_path, scheduler=None, accumulate=2).train()


class Average(Hook):
    """Keep a number, as an average of weights would."""

    def __init__(self) -> None:
        self.value = 0.0

    def after_train_iter(self, runner: Run, update: Update) -> None:  # noqa: D102
        del runner
        self.value = 0.5 * self.value + update.loss.item()

    def state_dict(self) -> dict[str, float]:
        """Return it."""
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take it."""
        self.value = state["value"]


def test_a_hook_with_a_state_is_restored(tmp_path: Path) -> None:
    """What a hook keeps goes on too, and so does what CheckpointHook is given to save."""
    whole, broken = Average(), Average()
    build(None, whole).train()
    with pytest.raises(KilledError):
        build(tmp_path, broken, Events(after_train_iter=kill_at(9))).train()
    resumed = Average()
    build(tmp_path, resumed).train()

    assert resumed.value == whole.value


def test_checkpoints_come_after_the_validation_with_its_metrics(tmp_path: Path) -> None:
    """So that the best ones can be kept."""
    hook = CheckpointHook(tmp_path, retention=Retention(keep_last=1, keep_best=("loss", "min", 1)))
    runner = build(hook, validated=True)
    runner.train()

    found = hook.manager.checkpoints()
    assert found[-1].iteration == 18
    assert found[-1].metrics == runner.metrics


def test_several_optimizers_are_stepped_together(tmp_path: Path) -> None:
    """One loss, one clock, schedules by the name of the optimizer, and one state."""

    def run(*hooks: Hook) -> Runner:
        seed_all(1)
        torch.manual_seed(1)
        net = Net()
        first, *others = net.parameters()
        optimizers = {"matrix": torch.optim.SGD([first], lr=0.1), "rest": torch.optim.AdamW(others, lr=0.01)}
        scheduler = {"matrix": [WARM_UP], "rest": {"type": "ConstantLR", "factor": 0.5, "end": 2}}
        loader = StatefulDataLoader(dataset(), BATCH, shuffle=True)
        checkpoint = CheckpointHook(tmp_path, by_epoch=False) if hooks else None
        return Runner(net, optimizers, loader, scheduler=scheduler, max_epochs=3, checkpoint=checkpoint, hooks=hooks)

    whole = run()
    whole.train()
    with pytest.raises(KilledError):
        run(Events(after_train_iter=kill_at(8))).train()
    resumed = run(Events())
    resumed.train()

    assert set(resumed.group.values()) == {"matrix", "rest"}
    assert digest(resumed.model.parameters()) == digest(whole.model.parameters())


def test_what_is_built_already_is_taken() -> None:
    """Schedules and groups can be given instead of a config."""
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = DataLoader(dataset(), BATCH)
    group = SchedulerGroup(optimizer, [StepLR(optimizer, 1)])
    assert Runner(model, optimizer, loader, scheduler=group, max_epochs=1).group is group

    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    warm_up = LinearLR(optimizer, by_epoch=False, end=3)
    assert Runner(model, optimizer, loader, scheduler=[warm_up], max_iters=4).group.schedulers == (warm_up,)

    with pytest.raises(ValueError, match="must be a group on `optimizer`"):
        Runner(model, torch.optim.SGD(model.parameters(), lr=0.1), loader, scheduler=group, max_epochs=1)


@pytest.mark.parametrize("generator", [True, False])
def test_a_plain_loader_goes_on_between_epochs(tmp_path: Path, generator: bool) -> None:
    """The generators that shuffle are saved, its own one too."""

    def run(hook: CheckpointHook | None, memory: Memory, *hooks: Hook) -> None:
        own = torch.Generator().manual_seed(4) if generator else None
        loader = DataLoader(dataset(), BATCH, shuffle=True, generator=own)
        build(hook, trace_into(memory), *hooks, loader=loader).train()

    expected, memory = Memory(), Memory()
    run(None, expected)
    with pytest.raises(KilledError):
        run(CheckpointHook(tmp_path), memory, Events(after_train_iter=kill_at(15)))
    run(CheckpointHook(tmp_path), memory)

    assert memory.lines == expected.lines
