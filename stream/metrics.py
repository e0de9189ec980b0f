"""What `headrace stream` tells Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

from stream.records.batches import EventType

events = Counter("headrace_events", "Events applied, by type", ["type"])
events_duplicate = Counter("headrace_events_duplicate", "Events skipped because their event_id was known")
dead_letter = Counter("headrace_dead_letter", "Events refused, by reason", ["reason"])
events_quarantined = Counter("headrace_events_quarantined", "Events held back as poison, by detector", ["detector"])
alarms = Counter("headrace_alarms", "Alarms raised, by depth, kind and detector", ["depth", "kind", "detector"])
impressions_duplicate = Counter("headrace_impressions_duplicate", "Impressions whose impression_id was open already")
impressions_open = Gauge("headrace_impressions_open", "Impressions whose attribution window is open", ["partition"])
actions_joined = Counter("headrace_actions_joined", "Actions joined to the impression that earned them")
actions_unmatched = Counter(
    "headrace_actions_unmatched", "Actions naming an impression that is not open: late or forged"
)
user_store_writes = Counter("headrace_user_store_writes", "User records written to the store")
batch_duration_seconds = Histogram(
    "headrace_stream_batch_duration_seconds", "Time to take one micro-batch from records to published examples"
)
lag = Gauge("headrace_stream_lag_records", "Records of the events topic not yet taken", ["partition"])
watermark = Gauge(
    "headrace_watermark_timestamp_seconds", "Event time before which nothing more is expected", ["partition"]
)


def count_events(event_type: int, count: int) -> None:
    events.labels(EventType(event_type).name).inc(count)
