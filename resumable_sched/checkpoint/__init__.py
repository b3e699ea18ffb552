"""Checkpoints: state in, committed files out, and back."""
