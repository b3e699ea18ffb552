"""Hypothesis draws the same examples in every run, few enough for two cores."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from resumable_sched.checkpoint import catalog

settings.register_profile(
    "checkpoint",
    derandomize=True,
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("checkpoint")


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody writes beside these tests, so damage need not be looked at again later."""
    monkeypatch.setattr(catalog, "_GRACE", 0.0)
