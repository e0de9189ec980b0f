"""Event log, user store and stream worker, and the settings that all processes share."""
