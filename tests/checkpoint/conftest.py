"""Hypothesis draws the same examples in every run, few enough for two cores."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "checkpoint",
    derandomize=True,
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("checkpoint")
