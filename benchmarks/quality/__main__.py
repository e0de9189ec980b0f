"""`python -m benchmarks.quality`: evaluate all recorded logs."""

from benchmarks.quality.recorded_logs import main

main()
