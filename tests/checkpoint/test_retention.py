"""Retention: a pure function from what is there to what may go."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumable_sched.checkpoint.manifest import Folder
from resumable_sched.checkpoint.retention import Candidate, Retention

_metric = st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1.0, 2.0])
_candidates = st.lists(
    st.tuples(st.integers(0, 40), st.booleans(), st.dictionaries(st.just("loss"), _metric)), max_size=12
).map(
    lambda drawn: [
        Candidate(Folder(iteration, "000001-0123456789ab", attempt), eligible, metrics)
        for attempt, (iteration, eligible, metrics) in enumerate(sorted(drawn, key=lambda it: it[0]))
    ]
)
_retentions = st.builds(
    Retention,
    keep_last=st.integers(1, 4),
    keep_every=st.none() | st.integers(1, 10),
    keep_best=st.none() | st.tuples(st.just("loss"), st.sampled_from(["min", "max"]), st.integers(1, 3)),
)


@given(_retentions, _candidates)
def test_the_newest_that_counts_are_always_kept(retention: Retention, candidates: list[Candidate]) -> None:
    """The last `keep_last` eligible ones are never doomed, whatever else is there."""
    newest = [it.folder for it in candidates if it.eligible][-retention.keep_last :]

    assert not set(newest) & set(retention.doomed(candidates))


@given(_retentions, _candidates)
def test_what_is_doomed_is_kept_by_no_rule(retention: Retention, candidates: list[Candidate]) -> None:
    """Each doomed one is a candidate, oldest first, no milestone, and no better than a kept one of its kind."""
    doomed = retention.doomed(candidates)

    assert doomed == [it.folder for it in candidates if it.folder in set(doomed)]
    assert not retention.keep_every or all(folder.iteration % retention.keep_every for folder in doomed)
    if retention.keep_best:
        sign = 1 if retention.keep_best[1] == "min" else -1
        scores = [
            (sign * it.metrics["loss"], it.folder.iteration, it.folder.attempt)
            for it in candidates
            if it.eligible and not math.isnan(it.metrics.get("loss", math.nan))
        ]
        for _, _, attempt in sorted(scores)[: retention.keep_best[2]]:
            assert attempt not in {folder.attempt for folder in doomed}


@given(_retentions, _candidates)
def test_retention_is_settled_after_one_pass(retention: Retention, candidates: list[Candidate]) -> None:
    """What was kept once is kept when nothing new has come."""
    doomed = set(retention.doomed(candidates))

    assert retention.doomed([it for it in candidates if it.folder not in doomed]) == []


@given(_retentions, _candidates)
def test_milestones_of_a_branch_that_was_left_are_kept(retention: Retention, candidates: list[Candidate]) -> None:
    """Going back to an older checkpoint is no wish to lose the milestones beyond it; the rest of the branch goes."""
    doomed = set(retention.doomed(candidates))

    for it in candidates:
        if not it.eligible:
            milestone = retention.keep_every is not None and it.folder.iteration % retention.keep_every == 0
            assert (it.folder in doomed) != milestone


def test_ties_go_to_the_earlier_and_nan_is_never_best() -> None:
    """Of equal metrics the earlier checkpoint is the better one."""
    claim = "000001-0123456789ab"
    scores = [math.nan, 1.0, 1.0, 2.0]
    candidates = [Candidate(Folder(i, claim, i), metrics={"loss": score}) for i, score in enumerate(scores)]

    assert [it.iteration for it in Retention(1, keep_best=("loss", "min", 1)).doomed(candidates)] == [0, 2]
    assert [it.iteration for it in Retention(1, keep_best=("loss", "max", 1)).doomed(candidates)] == [0, 1, 2]


@pytest.mark.parametrize(
    "arguments",
    [
        {"keep_last": 0},
        {"keep_last": True},
        {"keep_last": 1.0},
        {"keep_every": 0},
        {"keep_best": ("loss", "least", 1)},
        {"keep_best": ("loss", "min", 0)},
        {"keep_best": ("loss", "min")},
        {"keep_best": "loss"},
        {"keep_best": (1, "min", 1)},
    ],
)
def test_rules_that_mean_nothing_are_refused(arguments: dict[str, Any]) -> None:
    """The error names the argument and its value."""
    with pytest.raises(ValueError, match=rf"`{next(iter(arguments))}` must .* instead"):
        Retention(**arguments)
