"""Be `python -m resumable_sched`."""

from resumable_sched.cli import main

main()
