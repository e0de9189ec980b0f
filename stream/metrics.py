"""Prometheus metrics of `headrace stream`, some of which other processes report too."""

import platform
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from prometheus_client import Counter, Gauge, Histogram

from stream.records.batches import EventType

build_info = Gauge(
    "headrace_build_info", "Always 1; the labels are the versions", ["version", "python"], multiprocess_mode="livemax"
)
heartbeat = Gauge(
    "headrace_heartbeat_timestamp_seconds",
    "Time of the last completed round of the process's main loop, 0 until the first",
    ["process"],
    multiprocess_mode="livemin",
)
events = Counter("headrace_events", "Events applied, by type", ["type"])
events_duplicate = Counter("headrace_events_duplicate", "Events skipped because their event_id is known")
items_invalid = Counter("headrace_items_invalid", "Invalid records of the items topic that were skipped")
events_forgotten = Counter(
    "headrace_events_forgotten", "Events skipped because they are from before their user was forgotten"
)
users_merged = Counter("headrace_users_merged", "Anonymous users whose history joined an account")
events_without_consent = Counter(
    "headrace_events_without_consent", "Events dropped because they, or their user, do not consent"
)
events_retracted = Counter("headrace_events_retracted", "Actions that were taken back")
retractions_waiting = Counter(
    "headrace_retractions_waiting", "Retractions of an action that had not arrived, or does not exist"
)
dead_letter = Counter("headrace_dead_letter", "Events rejected, by reason", ["reason"])
events_quarantined = Counter("headrace_events_quarantined", "Events quarantined as poison, by detector", ["detector"])
alarms = Counter("headrace_alarms", "Alarms raised, by depth, kind and detector", ["depth", "kind", "detector"])
impressions_duplicate = Counter(
    "headrace_impressions_duplicate", "Impressions skipped because their impression_id is open"
)
impressions_open = Gauge("headrace_impressions_open", "Impressions in their attribution window", ["partition"])
actions_joined = Counter("headrace_actions_joined", "Actions joined to their impression")
actions_unmatched = Counter(
    "headrace_actions_unmatched", "Actions whose impression is not open, because they are late or forged"
)
user_store_writes = Counter("headrace_user_store_writes", "User records written to the user store")
batch_duration_seconds = Histogram(
    "headrace_stream_batch_duration_seconds", "Time to process one micro-batch, from records to the commit"
)
records_lost = Counter(
    "headrace_stream_records_lost",
    "Records of the events topic that were deleted by retention before they were processed",
)
lag = Gauge("headrace_stream_lag_records", "Records of the events topic that are not yet processed", ["partition"])
watermark = Gauge(
    "headrace_watermark_timestamp_seconds", "Event time before which no more events are expected", ["partition"]
)


def count_events(types: np.ndarray) -> None:
    """Count applied events by type, (n,) uint8."""
    for event_type, count in enumerate(np.bincount(types).tolist()):
        if count:
            events.labels(EventType(event_type).name).inc(count)


def _read_version() -> str:
    try:
        return version("headrace")
    except PackageNotFoundError:
        return "unknown"


build_info.labels(_read_version(), platform.python_version()).set(1)
