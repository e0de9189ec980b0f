"""State of everything that learns: tables by key, item counters and scratch arrays."""
