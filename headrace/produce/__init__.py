"""`headrace produce`: write files to the log and report the outcome."""
