"""What a sample draws follows from seed, epoch and index; from nothing else."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from resumable_sched import RNGState, SeededDataset
from resumable_sched.distributed import seed_all


class Drawn(Dataset[Any]):
    """Give what the three generators give."""

    def __getitem__(self, index: int) -> torch.Tensor:
        numpy = float(np.random.rand())  # noqa: NPY002 - as transforms do
        return torch.tensor([index, random.random(), numpy, float(torch.rand(()))], dtype=torch.float64)  # noqa: S311

    def __len__(self) -> int:
        return 12


def samples(seed: int = 0, epochs: int = 1, **settings: Any) -> list[torch.Tensor]:
    """Return what each epoch gives."""
    dataset = SeededDataset(Drawn(), seed)
    loader = DataLoader(dataset, 4, **settings)
    found = []
    for epoch in range(epochs):
        dataset.set_epoch(epoch)
        found.append(torch.cat(list(loader)))
    return found


@pytest.mark.parametrize(
    "settings",
    [{"num_workers": 1}, {"num_workers": 2}, {"num_workers": 2, "persistent_workers": True}],
    ids=lambda it: "-".join(map(str, it.values())),
)
def test_samples_are_the_same_in_every_process(settings: dict[str, Any]) -> None:
    """Workers, as many as there are, and those that stay, draw what the training process would."""
    seed_all(1)
    here = samples(epochs=3)
    seed_all(2)
    there = samples(epochs=3, **settings)

    assert all(torch.equal(*pair) for pair in zip(here, there, strict=True))


def test_samples_differ_by_seed_epoch_and_index() -> None:
    """Each of the three makes other numbers."""
    (first, second), (other,) = samples(epochs=2), samples(seed=1)

    drawn = torch.cat([first, second, other])[:, 1:]
    assert len(set(drawn.flatten().tolist())) == drawn.numel()


def test_the_generators_of_the_training_process_are_left_alone() -> None:
    """Also if the sample fails."""
    seed_all(3)
    before = RNGState().state_dict()
    dataset = SeededDataset(TensorDataset(torch.zeros(3)))

    dataset[1]
    with pytest.raises(IndexError):
        dataset[7]

    after = RNGState().state_dict()
    assert before["python"] == after["python"]
    assert before["numpy"]["state"]["key"].tolist() == after["numpy"]["state"]["key"].tolist()
    assert torch.equal(before["torch"], after["torch"])


def test_an_index_may_be_of_any_kind_of_integer() -> None:
    """Samplers give Python's, numpy's and torch's."""
    dataset = SeededDataset(Drawn())
    kinds: list[Any] = [3, np.int64(3), torch.tensor(3)]

    assert len({tuple(dataset[each].tolist()) for each in kinds}) == 1


def test_an_index_that_has_no_value_of_its_own_is_refused() -> None:
    """What is written with its address would be another one in the next process."""
    kept = SeededDataset({("a", 1): 5, "b": 6})
    assert (kept["a", np.int64(1)], kept["b"]) == (5, 6)
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        kept[object()]


def test_what_is_no_map_style_dataset_is_refused() -> None:
    """A stream has no indices to seed by."""
    wrong: Any
    for wrong in (iter([]), 5):
        with pytest.raises(TypeError, match="`dataset` must have __getitem__ and __len__"):
            SeededDataset(wrong)
    with pytest.raises(TypeError):
        SeededDataset(Drawn(), seed=0.5)  # type: ignore[arg-type]
