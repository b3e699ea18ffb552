"""Parameter schedulers for PyTorch, and checkpoints that let a run continue as if it had never stopped."""
