"""Run MMEngine's own scheduler tests against this package, and check that every failure is a documented decision.

    python tests/integration/mmengine_suite.py PATH_TO_MMENGINE_TESTS

*PATH* is a checkout's ``tests/test_optim/test_scheduler`` (v0.10.7), or any folder or file with such tests. The names
in ``mmengine.optim.scheduler`` are replaced by ours before the tests import them. The tests that may fail are named,
with the reason, in ``docs/mmengine-differences.md``: a pattern in backquotes that starts with ``test_``. Exits with 0
if nothing else fails.
"""

from __future__ import annotations

import fnmatch
import re
import sys
import warnings
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "mmengine-differences.md"


class Outcomes:
    """Collect what became of each test."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test that failed in any phase, or passed."""
        if report.failed:
            self.failed.append(report.nodeid)
        elif report.when == "call" and report.passed:
            self.passed.append(report.nodeid)


def documented() -> list[str]:
    """Give the patterns of the tests that fail by decision."""
    return re.findall(r"`(test_[\w*\[\]]+)`", DOCUMENT.read_text(encoding="utf-8"))


def replace_names() -> None:
    """Put our schedules in the place of MMEngine's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mmengine.optim.scheduler as peer  # noqa: PLC0415 - importing this file must not need MMEngine

    from resumable_sched import schedule  # noqa: PLC0415

    for name in schedule.__all__:
        if hasattr(peer, name):
            setattr(peer, name, getattr(schedule, name))
    peer._ParamScheduler = schedule.ParamScheduler


def main(arguments: list[str]) -> int:
    """Run the tests below the given paths and report."""
    if not arguments:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    replace_names()
    outcomes = Outcomes()
    options = ["-q", "--no-header", "--tb=line", "-p", "no:cacheprovider", "-o", "addopts=", "-W", "ignore"]
    pytest.main([*options, "-c", "/dev/null", *arguments], plugins=[outcomes])
    patterns = documented()
    surprising = [
        each
        for each in outcomes.failed
        if not any(fnmatch.fnmatch(each.split("::")[-1], pattern) for pattern in patterns)
    ]
    sys.stdout.write(
        f"\n{len(outcomes.passed)} passed, {len(outcomes.failed) - len(surprising)} fail by a documented decision, "
        f"{len(surprising)} fail otherwise\n"
    )
    for each in surprising:
        sys.stdout.write(f"  {each}\n")
    return 1 if surprising or not outcomes.passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
