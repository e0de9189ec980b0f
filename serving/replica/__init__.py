"""Follow the learner with a read-only copy of its model, below all blocked versions."""
