"""Evaluate recommendations and policies on recorded logs."""
