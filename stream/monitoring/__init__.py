"""Signs of life of the processes."""
