"""Baselines, which every model of an evaluation must beat."""
