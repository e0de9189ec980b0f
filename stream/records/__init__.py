"""Records that travel through the log: events, items, examples, dead letters."""
