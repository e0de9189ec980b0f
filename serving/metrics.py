"""What `headrace serve` tells Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

_FINE = (0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0)

answers = Counter("headrace_answers", "Questions answered")
answer_seconds = Histogram(
    "headrace_answer_seconds", "From a question to its answer, inside the process", buckets=_FINE
)
stage_seconds = Histogram(
    "headrace_answer_stage_seconds", "Of questions answered together, by stage", ["stage"], buckets=_FINE
)
fallbacks = Counter("headrace_answer_fallbacks", "Answers made without a part that was away", ["part"])
problems = Counter("headrace_problems", "Requests refused or failed, by status", ["status"])
shed = Counter("headrace_answers_shed", "Questions turned away with 503 because too many were waiting")
candidates = Counter("headrace_candidates", "Candidates ranked, of all channels together")
places = Counter("headrace_places", "Places filled, by the channel that found the item", ["source"])
places_explored = Counter("headrace_places_explored", "Places given to a fresh item by chance")
slate_categories = Counter("headrace_slate_categories", "Different first categories, summed over slates")
fresh_items = Gauge("headrace_fresh_items", "Items that are weighed for the places to explore")
explore_loss = Gauge("headrace_explore_loss_clicks", "Clicks that exploring was expected to cost, per 1,000 places")
propensity_evidence = Gauge(
    "headrace_propensity_evidence", "Log of the evidence that items do not come as often as their propensities say"
)
accepted = Counter("headrace_events_accepted", "Events accepted over HTTP, repeats among them")
impressions_lost = Counter("headrace_impressions_lost", "Impressions that could not be logged")
append_seconds = Histogram("headrace_append_seconds", "Time to make accepted events durable", buckets=_FINE)
model_epoch = Gauge("headrace_model_epoch", "Epoch of the model that answers")
model_step = Gauge("headrace_model_step", "Step of the model that answers")
model_refused = Gauge("headrace_model_refused", "1 while a newer state is there that may not answer, 0 otherwise")
lag = Gauge("headrace_lag_events", "Acknowledged events that are not yet in the answers")
catalogue_items = Gauge("headrace_catalogue_items", "Items in the catalogue")

# A series that is not there cannot be told from one that is 0.
for _part in ("store", "record", "updates"):
    fallbacks.labels(_part)
for _status in ("500", "503"):
    problems.labels(_status)
