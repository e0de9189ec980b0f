"""Exploration while serving: items that may be drawn, their probabilities, and the cost."""
