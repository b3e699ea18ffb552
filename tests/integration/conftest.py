"""Programs that tests start are not tests, and some of them import what warns."""

collect_ignore = ["mmengine_job.py"]
