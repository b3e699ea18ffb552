"""Errors go to other processes and into copies, with their facts."""

from __future__ import annotations

import copy
import pickle

import pytest

from resumable_sched import errors
from resumable_sched.demo import DemoError

EACH: list[errors.ResumableSchedError] = [
    errors.ConfigError("no such key", path="a.b", file="c.py", line=3),
    errors.ScheduleMismatchError("differs", ["one", "two"]),
    errors.StateFormatError("another kind"),
    errors.UnstorableError('state["x"]', "module.Kind", "Remove it."),
    errors.StateMismatchError("does not fit", missing=["a"], unexpected=["b"]),
    errors.ForeignWriterError("lr", 0, 0.1, 0.2, 4),
    errors.ForeignWriterError("lr", 0, 0.1, float("inf")),
    errors.RankError(1, "failed"),
    errors.FencedError("s3://a", host="h", pid=1, command="c", started="now"),
    errors.CheckpointError("disk"),
    errors.CheckpointError(28, "No space left", "file"),
    errors.CorruptCheckpointError("a/b", "too short"),
    errors.IncompleteCheckpointError("none", iteration=3, damaged=["a/b: too short"]),
    DemoError("no"),
]


def test_every_error_is_here() -> None:
    """The list is that of the module."""
    known = {getattr(errors, name) for name in errors.__all__} - {errors.ResumableSchedError}
    assert {type(each) for each in EACH} == known | {DemoError}


@pytest.mark.parametrize("error", EACH, ids=lambda each: type(each).__name__)
def test_an_error_survives_copy_and_pickle(error: errors.ResumableSchedError) -> None:
    """Class, text and fields are the same."""
    for twin in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301 - our own
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert twin.args == error.args
        assert repr(vars(twin)) == repr(vars(error))
    assert str(error)
