"""Run MMEngine's own tests of schedules against this package, and check that every failure is a documented decision.

    python tests/integration/mmengine_suite.py PATH [PATH ...]

Each *PATH* is a folder or a file of a checkout (v0.10.7), such as ``tests/test_optim/test_scheduler`` and
``tests/test_hooks/test_param_scheduler_hook.py``. The names in ``mmengine.optim.scheduler`` are replaced by ours before
the tests import them, and so are those in MMEngine's registry, from which its Runner builds. The tests that may fail
stand in the last table of ``docs/mmengine-differences.md``, each with the error that it must fail with; another error
is an accident.

A test stops at its first failure, which could hide a second one. So all tests are run again with the documented
decisions set aside (`set_aside`), and then all of them must pass. Exits with 0 if both are so.
"""

from __future__ import annotations

import re
import sys
import unittest
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DOCUMENT = Path(__file__).parents[2] / "docs" / "mmengine-differences.md"
OPTIONS = [
    "-q",
    "--no-header",
    "--tb=line",
    "-p",
    "no:cacheprovider",
    "-o",
    "addopts=",
    "-W",
    "ignore",
    "-c",
    "/dev/null",
]
ROW = re.compile(r"^\| (?P<tests>`test_.+?`) \| (?P<quote>`+)(?P<error>.+?)(?P=quote) \|", re.MULTILINE)


class Outcomes:
    """Collect what became of each test.

    Attributes:
        passed: The tests that passed.
        failed: The tests that did not, each with the first line of its error.
    """

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.failed: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test that failed in any phase, or passed."""
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            self.failed[report.nodeid] = (crash.message if crash else report.longreprtext).partition("\n")[0]
        elif report.when == "call" and report.passed:
            self.passed.append(report.nodeid)


def documented() -> dict[str, str]:
    """Return the tests that fail by decision, each with a part of the error that they fail with.

    >>> documented()["test_step_scheduler_convert_iterbased"]
    'ValueError: `epoch_length` must be a positive integer'
    """
    rows = ROW.finditer(DOCUMENT.read_text(encoding="utf-8"))
    return {test: row["error"] for row in rows for test in re.findall(r"test_\w+", row["tests"])}


def surprises(failed: Mapping[str, str]) -> dict[str, str]:
    """Return the failures that no decision explains.

    >>> surprises({"a.py::Test::test_resume": "KeyError: 'lr'"})
    {'a.py::Test::test_resume': "KeyError: 'lr'"}
    """
    expected = documented()
    names = {test: test.rpartition("::")[2] for test in failed}
    return {
        test: failed[test] for test, name in names.items() if name not in expected or expected[name] not in failed[test]
    }


def replace_names() -> None:
    """Put our schedules in the place of MMEngine's, in its module and in its registry, which its Runner builds from."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mmengine.optim.scheduler as peer  # noqa: PLC0415 - importing this file must not need MMEngine

    from resumable_sched import schedule  # noqa: PLC0415
    from resumable_sched.integrations.mmengine import register_in_mmengine  # noqa: PLC0415

    for name in schedule.__all__:
        if hasattr(peer, name):
            setattr(peer, name, getattr(schedule, name))
    register_in_mmengine()
    peer._ParamScheduler = schedule.ParamScheduler


def set_aside(patch: pytest.MonkeyPatch) -> None:
    """Set each documented decision aside, so that what comes after it in a test is compared too."""
    from resumable_sched.schedule import ParamScheduler  # noqa: PLC0415 - see above
    from resumable_sched.schedule.layer import Layer  # noqa: PLC0415
    from resumable_sched.schedule.ledger import _LEDGERS  # noqa: PLC0415

    # A wrong argument is no AssertionError, and an abstract class no NotImplementedError.
    kinds: dict[object, object] = {AssertionError: (ValueError, TypeError), NotImplementedError: TypeError}
    raises: Callable[..., Any] = unittest.TestCase.assertRaises
    patch.setattr(unittest.TestCase, "assertRaises", lambda self, kind: raises(self, kinds.get(kind, kind)))

    # Nothing warns about the order of optimizer.step().
    patch.setattr(unittest.TestCase, "assertWarnsRegex", lambda _, _kind, _pattern, call: call())

    # The configuration of a state is taken only if asked for; and the tests compare `__dict__`, where ours has objects.
    load: Callable[..., Any] = ParamScheduler.load_state_dict
    patch.setattr(ParamScheduler, "load_state_dict", lambda self, state: load(self, state, "keep"))
    patch.setattr(Layer, "__eq__", lambda one, other: _content(one) == _content(other))

    # `gamma` is a rate for each epoch.
    build: Callable[..., Any] = vars(ParamScheduler)["build_iter_from_epoch"].__func__

    def rate_for_each_iteration(cls: Any, /, *arguments: Any, epoch_length: int, **config: Any) -> object:
        if cls.__name__.startswith("Exponential"):
            config["gamma"] **= epoch_length
        return build(cls, *arguments, epoch_length=epoch_length, **config)

    patch.setattr(ParamScheduler, "build_iter_from_epoch", classmethod(rate_for_each_iteration))

    # With `last_step=` a schedule is composed with those that are there, so they must be gone.
    new_clock: Callable[..., Any] = ParamScheduler._new_clock

    def clock_after_forgetting_the_others(self: Any) -> object:
        if self.__dict__["_last_step_given"] >= 0:
            _LEDGERS.pop(self.optimizer, None)
        return new_clock(self)

    patch.setattr(ParamScheduler, "_new_clock", clock_after_forgetting_the_others)


def _content(layer: Any) -> object:
    return layer.clock, layer.schedule.configuration()


def run(paths: list[str]) -> Outcomes:
    """Run the tests below *paths*."""
    outcomes = Outcomes()
    pytest.main([*OPTIONS, *paths], plugins=[outcomes])
    return outcomes


def main(paths: list[str]) -> int:
    """Run the tests below the given paths, with our decisions and without them, and report."""
    if not paths:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    replace_names()
    strict = run(paths)
    surprising = surprises(strict.failed)
    with pytest.MonkeyPatch.context() as patch:
        set_aside(patch)
        lenient = run(paths)
    sys.stdout.write(
        f"\n{len(strict.passed)} passed, {len(strict.failed) - len(surprising)} fail by a documented decision, "
        f"{len(surprising)} fail otherwise; with the decisions set aside {len(lenient.passed)} passed, "
        f"{len(lenient.failed)} fail\n"
    )
    for test, error in [*surprising.items(), *lenient.failed.items()]:
        sys.stdout.write(f"  {test}: {error}\n")
    return 1 if surprising or lenient.failed or not strict.passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
