"""Guard: scenarios, false alarms and detectors of other libraries."""
