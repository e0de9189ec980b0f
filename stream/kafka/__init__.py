"""Event log on Kafka."""
