"""Learning from the fields of items, users and requests."""
