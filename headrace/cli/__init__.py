"""The command line: one module per group of commands."""

from headrace.cli.application import app, main

__all__ = ["app", "main"]
