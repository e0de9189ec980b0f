"""Checkpoints on disk: write, verify, list, and decide which may serve."""
