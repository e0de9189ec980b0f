"""Errors of the command line."""


class UsageError(ValueError):
    """The command line is invalid: the process ends with exit code 2."""
