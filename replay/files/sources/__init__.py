"""Formats of files: bytes to lines, JSON values and tables."""
