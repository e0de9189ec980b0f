"""Code that benchmarks share: runs, services, load and charts."""
