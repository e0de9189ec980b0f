"""What the benchmarks share: services, load, runs, charts."""
