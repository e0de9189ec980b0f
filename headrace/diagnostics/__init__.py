"""Checks of an installation: each one reports a problem and how to fix it."""
