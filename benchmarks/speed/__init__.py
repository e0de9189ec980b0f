"""Speed, memory and latency, each subject beside its budget."""
