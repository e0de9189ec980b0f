"""Regression of each item on the other items of a history."""
