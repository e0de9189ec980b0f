"""The guard: scenarios, false alarms, and detectors beside others."""
