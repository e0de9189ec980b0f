"""Bandits: what their rewards say about each arm, and how old rewards lose weight."""
