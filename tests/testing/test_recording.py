"""Recordings are exact, survive a kill, and say where two runs part."""

from pathlib import Path

import pytest
import torch

from resumable_sched.testing import Recorder, Recording, digest, digests, first_difference


def record(path: Path, *losses: float, first: int = 1) -> Recording:
    """Record one iteration for each loss."""
    recorder = Recorder(path)
    for iteration, loss in enumerate(losses, first):
        recorder.record(iteration, loss=loss, values={"lr": [0.1, loss]})
    return Recording.read(path)


def test_floats_read_back_to_the_last_bit(tmp_path: Path) -> None:
    """What was recorded is what is read, for any float."""
    losses = [0.1 + 0.2, 5e-324, -0.0, float("inf"), 1 / 3]

    recording = record(tmp_path / "a", *losses)

    assert [repr(facts["loss"]) for _, facts in recording.lines] == [repr(loss) for loss in losses]


def test_a_line_that_a_kill_cut_off_is_dropped_and_the_file_goes_on(tmp_path: Path) -> None:
    """The half line is neither read nor glued to the next one."""
    record(tmp_path / "a", 1.0, 2.0)
    whole = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(whole + b'{"iteration": 3, "lo')

    reading = Recording.read(tmp_path / "a")
    again = record(tmp_path / "a", 2.0, 3.0, first=2)

    assert [iteration for iteration, _ in reading.lines] == [1, 2]
    assert [iteration for iteration, _ in again.lines] == [1, 2, 2, 3]
    assert [index for _, index in again.starts] == [0, 2]
    assert again.last_iteration == 3


@pytest.mark.parametrize(
    ("losses", "first", "iteration", "what"),
    [
        ((1.0, 2.0, 3.0), 1, None, None),
        ((1.0, 2.5, 3.5), 1, 2, "loss"),
        ((1.0, 2.0), 1, 3, "the iteration"),
        ((1.0, 2.0, 3.0, 4.0), 1, 4, "the iteration"),
        ((2.0, 3.0), 2, 1, "the iteration"),
        ((1.0, 2.0, float("nan")), 1, 3, "loss"),
    ],
)
def test_the_first_difference_is_found(
    tmp_path: Path, losses: tuple[float, ...], first: int, iteration: int | None, what: str | None
) -> None:
    """Another value, a missing iteration and one too many are differences, and the earliest is named."""
    expected = record(tmp_path / "a", 1.0, 2.0, 3.0)
    actual = record(tmp_path / "b", *losses, first=first)

    found = first_difference(expected, actual)

    assert (found.iteration if found else None, found.what if found else None) == (iteration, what)


def test_a_repeat_after_a_restart_counts(tmp_path: Path) -> None:
    """An iteration that comes out otherwise when it is done again is a difference, even if its first line was right."""
    expected = record(tmp_path / "a", 1.0, 2.0, 3.0)
    record(tmp_path / "b", 1.0, 2.0)
    actual = record(tmp_path / "b", 2.5, 3.0, first=2)

    found = first_difference(expected, actual)

    assert str(found) == "at iteration 2, loss is 2.5 instead of 2.0"


def test_nan_is_nan_and_minus_zero_is_not_zero(tmp_path: Path) -> None:
    """The comparison is one of bits, not of numbers."""
    nan = record(tmp_path / "a", float("nan"))
    zero, minus_zero = record(tmp_path / "b", 0.0), record(tmp_path / "c", -0.0)

    assert first_difference(nan, nan) is None
    assert first_difference(zero, minus_zero) is not None


def test_the_end_is_compared_too(tmp_path: Path) -> None:
    """Runs whose iterations agree may still end differently, or not at all."""
    for name, end in (("a", "x"), ("b", "y")):
        Recorder(tmp_path / name).record_end(state={"rng": end})
    Recorder(tmp_path / "c")

    expected, other, unfinished = (Recording.read(tmp_path / name) for name in "abc")

    assert str(first_difference(expected, other)) == "at the end, state.rng is 'y' instead of 'x'"
    assert first_difference(expected, unfinished) is not None


def test_digests_see_every_bit_dtype_and_shape() -> None:
    """One flipped bit, another dtype or another shape gives another digest; strides do not matter."""
    tensor = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    flipped = tensor.clone()
    flipped.view(torch.int32)[1, 2] ^= 1

    assert digest([tensor]) == digest([tensor.t().contiguous().t()])
    assert len({digest([it]) for it in (tensor, flipped, tensor.view(3, 2), tensor.view(torch.int32))}) == 4


def test_digests_name_what_changed() -> None:
    """Each tensor of each object has a digest of its own, and the rest of its state one more."""
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = digests({"model": model, "optimizer": optimizer})
    optimizer.param_groups[0]["lr"] = 0.2
    with torch.no_grad():
        model.bias.add_(1)

    after = digests({"model": model, "optimizer": optimizer})

    assert {name for name in before if before[name] != after[name]} == {"model/bias", "optimizer"}
