"""Stream worker: recovery, joins, user updates and retention."""
