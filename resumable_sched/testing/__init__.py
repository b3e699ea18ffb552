"""For tests: exact recordings of a training, and how to compare them."""

from resumable_sched.testing.recording import Difference, Recorder, Recording, digest, digests, first_difference

__all__ = ["Difference", "Recorder", "Recording", "digest", "digests", "first_difference"]
