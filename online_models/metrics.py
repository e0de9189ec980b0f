"""What `headrace learn` tells Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

from stream.metrics import alarms as alarms_by_kind

steps = Counter("headrace_learn_steps", "Micro-batches learnt and published")
examples = Counter("headrace_learn_examples", "Rows learnt, by kind", ["kind"])
step_seconds = Histogram("headrace_learn_step_seconds", "Time to learn one micro-batch and publish what it changed")
lag = Gauge("headrace_learn_lag_blocks", "Blocks of examples not yet learnt")
held = Gauge("headrace_learn_held", "1 while learning is held, 0 otherwise")
rollbacks = Counter("headrace_rollbacks", "Rollbacks carried out")
checkpoints = Counter("headrace_checkpoints", "Checkpoints written")
checkpoints_failed = Counter("headrace_checkpoints_failed", "Checkpoints that could not be written")
checkpoint_pause_seconds = Gauge(
    "headrace_checkpoint_pause_seconds", "How long the last checkpoint kept the learner from learning"
)
progressive = Gauge("headrace_learn_progressive", "Quality of predictions made before learning", ["measure"])
skipped = Counter("headrace_learn_skipped_updates", "Updates left out because a loss or gradient was not finite")
clipped = Counter("headrace_learn_clipped_updates", "Updates whose gradient was longer than allowed and was cut")
gradient_norm = Gauge("headrace_learn_gradient_norm", "Greatest norm of a gradient in the last step, before clipping")
update_norm = Gauge(
    "headrace_learn_update_norm", "How far an update of the last step moved the parameters, root mean square", ["part"]
)
items = Gauge("headrace_learn_item_rows", "Rows of the item table")
items_shown = Gauge(
    "headrace_learn_items_shown_ratio", "Share of the item table's rows that were shown at least once in about a day"
)
alarms = Gauge("headrace_alarms_records", "Alarms raised so far, as the log has them")
quarantined = Gauge("headrace_quarantine_records", "Events put into quarantine so far, as the log has them")
click_through = Gauge(
    "headrace_click_through_ratio", "Slates of known versions of which something was taken", ["slates"]
)
click_through_evidence = Gauge(
    "headrace_click_through_evidence", "Log of the evidence that slates of the latest versions are answered less"
)
past_evidence = Gauge(
    "headrace_past_evidence", "Log of the odds that people are foretold better with the past that is tried"
)
past_left_out = Gauge("headrace_past_left_out", "1 while what people did before a change of tastes is left out, 0 else")
refused = Gauge("headrace_learn_refused", "1 while what is learnt may not be served, 0 otherwise")

# A series that is not there cannot be told from one that is 0.
for _slates in ("before", "latest"):
    click_through.labels(_slates)
for _part in ("orderer", "picker", "tower", "clicks"):
    update_norm.labels(_part)
for _kind in ("poison", "drift"):
    alarms_by_kind.labels("service", _kind, "click_through")
