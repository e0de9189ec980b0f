"""Serve recommendations over HTTP from a replica of the learner's model."""
