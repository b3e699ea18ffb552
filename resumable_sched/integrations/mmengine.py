"""Let MMEngine's own Runner train with the schedules of this package."""

from __future__ import annotations

import importlib
from typing import Any, Final

import numpy as np

from resumable_sched.schedule import ParamScheduler
from resumable_sched.schedule.config.registry import find_scheduler, scheduler_names

__all__ = ["checkpoint_globals", "register_in_mmengine"]

_ASKING: Final = (
    "mmengine.hooks.param_scheduler_hook",
    "mmengine.runner.runner",
    "mmengine.runner._flexible_runner",
    "mmengine._strategy.base",
)
"""The modules that ask whether something is a schedule, of the class `_ParamScheduler` alone."""


def register_in_mmengine() -> list[str]:
    """Put the schedules of this package in the place of MMEngine's in its registry.

    From then on ``param_scheduler`` of a config, unchanged, means ours, and MMEngine's Runner steps, saves and resumes
    them. Schedules that were registered with `register_scheduler` are there too. Calling it again adds those that came
    since.

    MMEngine resumes by building the schedules, asking whether what it has built is a schedule, and loading their
    states. It knows its own base class only, so it is told ours, in the modules that ask.

    Returns:
        The names that are registered.

    Raises:
        ImportError: MMEngine is not installed, or it is a version that works in another way (0.10 is known to work).
    """
    # Its own schedules are registered when they are first asked for; ours must come after them.
    peer: Any = importlib.import_module("mmengine.optim.scheduler")
    registry: Any = importlib.import_module("mmengine.registry").PARAM_SCHEDULERS
    base = peer._ParamScheduler  # noqa: SLF001 - it has no public name
    modules = [importlib.import_module(name) for name in _ASKING]
    for module in modules:
        if not hasattr(module, "_ParamScheduler"):
            raise ImportError(f"mmengine must be of version 0.10, but {module.__name__} has no _ParamScheduler.")
    for module in modules:
        module.__dict__["_ParamScheduler"] = (base, ParamScheduler)  # isinstance takes a tuple
    names = scheduler_names()
    for name in names:
        registry.register_module(name=name, force=True, module=find_scheduler(name))
    return names


def checkpoint_globals() -> list[Any]:
    """Return what torch must be told before it loads a checkpoint of MMEngine's with ``weights_only=True``.

    That is torch's default since 2.6, and MMEngine 0.10.7 cannot resume without this::

        with torch.serialization.safe_globals(checkpoint_globals()):
            runner.train()

    A checkpoint of MMEngine holds the history of its log: numpy arrays, and a class that stores its methods by
    `getattr`; and its one-cycle schedule stores a function in the same way. To allow `getattr` would be to allow
    everything, so this gives one in its place that finds the public methods of that class, and the two functions that
    a one-cycle has, and nothing else.
    """
    history: Any = importlib.import_module("mmengine.logging").HistoryBuffer
    cycle: Any = importlib.import_module("mmengine.optim.scheduler").OneCycleParamScheduler
    arrays: Any = importlib.import_module(
        "numpy._core.multiarray" if np.__version__ >= "2" else "numpy.core.multiarray"  # it was renamed in numpy 2
    )

    def method(owner: object, name: str) -> object:
        if owner is cycle and name in ("_annealing_cos", "_annealing_linear"):
            return getattr(owner, name)
        if owner is not history or name.startswith("_"):
            raise ValueError(f"A checkpoint of MMEngine must get attributes of HistoryBuffer only, but got {name!r}.")
        return getattr(owner, name)

    dtypes = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32)]
    rebuilt = [np.ndarray, np.dtype, arrays._reconstruct, arrays.scalar, *dtypes]  # noqa: SLF001 - named in the file
    return [history, cycle, (method, "builtins.getattr"), *rebuilt]
