"""Benchmarks of speed, quality and the guard, beside peers and budgets."""
