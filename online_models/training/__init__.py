"""Training steps, their journal, and rollbacks."""
