"""For tests: exact recordings of a training and how to compare them, what every storage must do, and one that fails."""

from resumable_sched.testing.recording import Difference, Recorder, Recording, digest, digests, first_difference
from resumable_sched.testing.storage import FaultyStorage, SimulatedCrash, StorageSuite

__all__ = [
    "Difference",
    "FaultyStorage",
    "Recorder",
    "Recording",
    "SimulatedCrash",
    "StorageSuite",
    "digest",
    "digests",
    "first_difference",
]
