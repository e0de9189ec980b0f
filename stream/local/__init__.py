"""Embedded event log and user store on SQLite files."""
