"""Prometheus metrics of `headrace serve`.

Processes that share a port report one value per gauge: the one that deserves attention.
"""

from prometheus_client import Counter, Gauge, Histogram

_LATENCY_BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0)

recommendations = Counter("headrace_recommendations", "Recommendation requests served")
recommendation_duration_seconds = Histogram(
    "headrace_recommendation_duration_seconds",
    "Time from a recommendation request to its response, inside the process",
    buckets=_LATENCY_BUCKETS,
)
stage_duration_seconds = Histogram(
    "headrace_recommendation_stage_duration_seconds",
    "Time of a batch of requests in each stage",
    ["stage"],
    buckets=_LATENCY_BUCKETS,
)
fallbacks = Counter(
    "headrace_recommendation_fallbacks", "Times a component was unavailable and a fallback was used", ["component"]
)
http_errors = Counter("headrace_http_errors", "HTTP requests rejected or failed, by status", ["status"])
recommendations_shed = Counter(
    "headrace_recommendations_shed", "Recommendation requests rejected with 503 because they would have waited too long"
)
candidates_ranked = Counter("headrace_candidates_ranked", "Candidates ranked, over all channels")
slate_items = Counter("headrace_slate_items", "Slate positions filled, by the channel that found the item", ["source"])
slate_items_explored = Counter("headrace_slate_items_explored", "Slate positions filled by exploration")
slate_categories = Counter("headrace_slate_categories", "Distinct first categories, summed over slates")
exploration_candidates = Gauge(
    "headrace_exploration_candidates", "Fresh items that exploration may choose from", multiprocess_mode="livemax"
)
exploration_expected_regret = Gauge(
    "headrace_exploration_expected_regret_clicks",
    "Expected clicks lost to exploration, per 1,000 slate positions",
    multiprocess_mode="livemax",
)
propensity_log_evidence = Gauge(
    "headrace_propensity_log_evidence",
    "Log evidence that item frequencies do not match the logged propensities",
    multiprocess_mode="livemax",
)
events_accepted = Counter("headrace_events_accepted", "Events accepted over HTTP, duplicates included")
impressions_lost = Counter("headrace_impressions_lost", "Impressions that could not be logged")
impressions_failing = Gauge(
    "headrace_impressions_failing",
    "1 while the latest impressions could not be written, else 0",
    multiprocess_mode="livemax",
)
log_append_duration_seconds = Histogram(
    "headrace_log_append_duration_seconds", "Time of one durable append to the log", buckets=_LATENCY_BUCKETS
)
model_epoch = Gauge("headrace_model_epoch", "Epoch of the model that serves", multiprocess_mode="livemin")
model_step = Gauge("headrace_model_step", "Step of the model that serves", multiprocess_mode="livemin")
update_blocked = Gauge(
    "headrace_serve_update_blocked", "1 while a newer model state is blocked, else 0", multiprocess_mode="livemax"
)
lag = Gauge(
    "headrace_lag_events", "Acknowledged events that recommendations do not reflect yet", multiprocess_mode="livemax"
)
users_behind = Gauge(
    "headrace_users_behind_events",
    "Events that the user store has lost and stream has not written again",
    multiprocess_mode="livemax",
)
filter_values_skipped = Counter(
    "headrace_filter_values_skipped", "Values of item fields that filters do not find: beyond 16 of a list, or too long"
)
rules_applied = Counter("headrace_rules_applied", "Items that rules of slates affected, by rule", ["rule"])
pins_skipped = Counter(
    "headrace_pins_skipped", "Pins of the settings that a slate could not have: hidden, filtered or not available"
)
catalog_items = Gauge("headrace_catalog_items", "Items in the catalog", multiprocess_mode="livemin")

# Export zeros from the start: a missing series cannot be distinguished from 0.
for _component in ("store", "record", "updates"):
    fallbacks.labels(_component)
for _status in ("500", "503"):
    http_errors.labels(_status)
