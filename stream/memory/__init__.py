"""Event log and user store in memory; use them through `stream.testing`."""
