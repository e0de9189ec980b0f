"""What `headrace serve` tells Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

_LATENCY_BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0)

recommendations = Counter("headrace_recommendations", "Questions answered")
recommendation_duration_seconds = Histogram(
    "headrace_recommendation_duration_seconds",
    "From a question to its answer, inside the process",
    buckets=_LATENCY_BUCKETS,
)
stage_duration_seconds = Histogram(
    "headrace_recommendation_stage_duration_seconds",
    "Of questions answered together, by stage",
    ["stage"],
    buckets=_LATENCY_BUCKETS,
)
fallbacks = Counter("headrace_recommendation_fallbacks", "Answers made without a part that was away", ["component"])
http_errors = Counter("headrace_http_errors", "Requests refused or failed, by status", ["status"])
recommendations_shed = Counter(
    "headrace_recommendations_shed", "Questions turned away with 503 because too many were waiting"
)
candidates_ranked = Counter("headrace_candidates_ranked", "Candidates ranked, of all channels together")
slate_items = Counter("headrace_slate_items", "Places filled, by the channel that found the item", ["source"])
slate_items_explored = Counter("headrace_slate_items_explored", "Places given to a fresh item by chance")
slate_categories = Counter("headrace_slate_categories", "Different first categories, summed over slates")
exploration_candidates = Gauge("headrace_exploration_candidates", "Items that are weighed for the places to explore")
exploration_expected_regret = Gauge(
    "headrace_exploration_expected_regret_clicks", "Clicks that exploring was expected to cost, per 1,000 places"
)
propensity_log_evidence = Gauge(
    "headrace_propensity_log_evidence", "Log of the evidence that items do not come as often as their propensities say"
)
events_accepted = Counter("headrace_events_accepted", "Events accepted over HTTP, repeats among them")
impressions_lost = Counter("headrace_impressions_lost", "Impressions that could not be logged")
log_append_duration_seconds = Histogram(
    "headrace_log_append_duration_seconds", "Time to make accepted events durable", buckets=_LATENCY_BUCKETS
)
model_epoch = Gauge("headrace_model_epoch", "Epoch of the model that answers")
model_step = Gauge("headrace_model_step", "Step of the model that answers")
update_blocked = Gauge(
    "headrace_serve_update_blocked", "1 while a newer state is there that may not answer, 0 otherwise"
)
lag = Gauge("headrace_lag_events", "Acknowledged events that are not yet in the answers")
catalog_items = Gauge("headrace_catalog_items", "Items in the catalogue")

# A series that is not there cannot be told from one that is 0.
for _component in ("store", "record", "updates"):
    fallbacks.labels(_component)
for _status in ("500", "503"):
    http_errors.labels(_status)
