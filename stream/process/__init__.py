"""Lifecycle shared by all processes: signals, locks, log lines, metrics."""
