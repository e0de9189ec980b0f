"""What `headrace learn` tells Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

from stream.metrics import alarms as alarms_by_kind

steps = Counter("headrace_learn_steps", "Micro-batches learnt and published")
examples = Counter("headrace_learn_examples", "Rows learnt, by kind", ["kind"])
step_duration_seconds = Histogram(
    "headrace_learn_step_duration_seconds", "Time to learn one micro-batch and publish what it changed"
)
lag = Gauge("headrace_learn_lag_blocks", "Blocks of examples not yet learnt")
learn_paused = Gauge("headrace_learn_paused", "1 while learning is held, 0 otherwise")
rollbacks = Counter("headrace_rollbacks", "Rollbacks carried out")
checkpoints = Counter("headrace_checkpoints", "Checkpoints written")
checkpoints_failed = Counter("headrace_checkpoints_failed", "Checkpoints that could not be written")
checkpoint_pause_seconds = Gauge(
    "headrace_checkpoint_pause_seconds", "How long the last checkpoint kept the learner from learning"
)
log_loss = Gauge(
    "headrace_learn_log_loss", "Log loss of the last 5,000 shown items, predicted before training", ["objective"]
)
auc = Gauge("headrace_learn_auc", "AUC of the last 5,000 shown items, predicted before training", ["objective"])
calibration_ratio = Gauge(
    "headrace_learn_calibration_ratio",
    "Predicted clicks divided by actual clicks of the last 5,000 shown items",
    ["objective"],
)
slate_auc = Gauge(
    "headrace_learn_slate_auc", "AUC within clicked slates, predicted before training, fading average", ["objective"]
)
candidate_auc = Gauge(
    "headrace_learn_candidate_auc",
    "AUC within candidate lists, predicted before training, fading average",
    ["objective"],
)
updates_skipped = Counter(
    "headrace_learn_skipped_updates", "Updates left out because a loss or gradient was not finite"
)
updates_clipped = Counter(
    "headrace_learn_clipped_updates", "Updates whose gradient was longer than allowed and was cut"
)
gradient_norm = Gauge("headrace_learn_gradient_norm", "Greatest norm of a gradient in the last step, before clipping")
update_norm = Gauge(
    "headrace_learn_update_norm",
    "How far an update of the last step moved the parameters, root mean square",
    ["component"],
)
item_table_rows = Gauge("headrace_learn_item_table_rows", "Rows of the item table")
item_coverage_ratio = Gauge(
    "headrace_item_coverage_ratio", "Share of the item table's rows that were shown at least once in about a day"
)
alarms = Gauge("headrace_alarms_records", "Alarms raised so far, as the log has them")
quarantine_events = Gauge("headrace_quarantine_events", "Events put into quarantine so far, as the log has them")
click_through_ratio = Gauge(
    "headrace_click_through_ratio", "Slates of known versions of which something was taken", ["slates"]
)
click_through_drop_log_evidence = Gauge(
    "headrace_click_through_drop_log_evidence",
    "Log of the evidence that slates of the latest versions are answered less",
)
preference_shift_log_odds = Gauge(
    "headrace_preference_shift_log_odds", "Log of the odds that people are foretold better with the past that is tried"
)
history_truncated = Gauge(
    "headrace_history_truncated", "1 while what people did before a change of tastes is left out, 0 else"
)
serving_blocked = Gauge("headrace_learn_serving_blocked", "1 while what is learnt may not be served, 0 otherwise")

# A series that is not there cannot be told from one that is 0.
for _slates in ("before", "latest"):
    click_through_ratio.labels(_slates)
for _component in ("slate_ranker", "candidate_ranker", "two_tower", "click_head"):
    update_norm.labels(_component)
for _kind in ("poison", "drift"):
    alarms_by_kind.labels("service", _kind, "click_through")
