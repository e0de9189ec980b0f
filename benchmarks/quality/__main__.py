"""`python -m benchmarks.quality`: rankings on recorded logs."""

from benchmarks.quality.recorded_logs import main

main()
