"""Accept events over HTTP and append them durably to the log."""
