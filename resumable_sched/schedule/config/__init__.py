"""Build schedules from configs: from Python, and from files that are read and never executed."""

from resumable_sched.schedule.config.build import build_schedulers
from resumable_sched.schedule.config.files import load_config
from resumable_sched.schedule.config.located import Config
from resumable_sched.schedule.config.registry import register_scheduler

__all__ = ["Config", "build_schedulers", "load_config", "register_scheduler"]
