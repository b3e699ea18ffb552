"""Run the command line as ``python -m resumable_sched.cli``."""

from resumable_sched.cli import main

main()
