"""Prometheus metrics of `headrace learn`."""

from prometheus_client import Counter, Gauge, Histogram

steps = Counter("headrace_learn_steps", "Micro-batches trained on and published")
examples = Counter("headrace_learn_examples", "Example rows trained on, by kind", ["kind"])
step_duration_seconds = Histogram(
    "headrace_learn_step_duration_seconds", "Time to train on one micro-batch and publish its changes"
)
blocks_lost = Counter(
    "headrace_learn_blocks_lost", "Example blocks that were deleted by retention before they were trained on"
)
lag = Gauge("headrace_learn_lag_blocks", "Example blocks not yet trained on")
learn_paused = Gauge("headrace_learn_paused", "1 while training is paused, 0 otherwise")
rollbacks = Counter("headrace_rollbacks", "Rollbacks carried out")
checkpoints = Counter("headrace_checkpoints", "Checkpoints written")
checkpoints_failed = Counter("headrace_checkpoints_failed", "Checkpoints that failed to write")
checkpoint_failing = Gauge("headrace_checkpoint_failing", "1 while the latest checkpoint failed to write, else 0")
checkpoint_pause_seconds = Gauge("headrace_checkpoint_pause_seconds", "Time that the last checkpoint blocked training")
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
    "headrace_learn_slate_auc", "AUC within clicked slates, predicted before training, decayed average", ["objective"]
)
candidate_auc = Gauge(
    "headrace_learn_candidate_auc",
    "AUC within candidate lists, predicted before training, decayed average",
    ["objective"],
)
unsampled_actions = Counter(
    "headrace_learn_unsampled_actions", "Actions that did not train the candidate ranker: a sample of their batch did"
)
forgotten_lists = Counter(
    "headrace_learn_forgotten_lists",
    "Clicked and closed impressions that did not train: logged without features, and no longer cached",
)
updates_skipped = Counter("headrace_learn_skipped_updates", "Updates skipped because a loss or gradient was not finite")
updates_clipped = Counter("headrace_learn_clipped_updates", "Updates whose gradient norm was clipped")
gradient_norm = Gauge("headrace_learn_gradient_norm", "Maximum gradient norm of the last step, before clipping")
update_norm = Gauge(
    "headrace_learn_update_norm",
    "Root mean square parameter change per update in the last step",
    ["component"],
)
item_table_rows = Gauge("headrace_learn_item_table_rows", "Rows of the item table")
items_left_out = Counter(
    "headrace_learn_items_left_out",
    "Items that events named and that got no row, because events had named 1,000,000 items before",
)
categories_left_out = Counter(
    "headrace_learn_categories_left_out", "Categories of items beyond the first 16, which are not learned from"
)
fields = Gauge("headrace_learn_fields", "Fields of items and users that the model learns from")
field_values_left_out = Counter(
    "headrace_learn_field_values_left_out", "Values of items and users whose field came after `fields.max` others"
)
item_keys_left_out = Counter(
    "headrace_learn_item_keys_left_out",
    "Values and title words of items beyond 32 per item, 12 categories, 8 tags or 12 other attributes",
)
item_coverage_ratio = Gauge(
    "headrace_item_coverage_ratio", "Ratio of items in the item table that were shown at least once in about a day"
)
quarantine_events = Gauge("headrace_quarantine_events", "Quarantined events in the log")
click_through_ratio = Gauge(
    "headrace_click_through_ratio", "Ratio of slates of known versions that were clicked", ["slates"]
)
click_through_drop_log_evidence = Gauge(
    "headrace_click_through_drop_log_evidence",
    "Log evidence that slates of the latest versions are clicked less",
)
preference_shift_log_odds = Gauge(
    "headrace_preference_shift_log_odds",
    "Log odds that the trial history predicts clicks better than the current history",
)
history_truncated = Gauge(
    "headrace_history_truncated", "1 while history from before a preference shift is left out, 0 otherwise"
)
serving_blocked = Gauge("headrace_learn_serving_blocked", "1 while the current state must not be served, 0 otherwise")

# Create every series, because an absent one looks like 0.
for _slates in ("before", "latest"):
    click_through_ratio.labels(_slates)
