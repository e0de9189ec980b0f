"""Prometheus series of three healthy hours, and cases in which each alert fires.

Values use the promtool notation, one per minute: `0+5x9` starts at 0 and grows by 5 nine times; `1x9` is 1 and nine
more times 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_CLICK_THROUGH_ALARM = {"depth": "service", "kind": "poison", "detector": "click_through"}
_FLOOD = {"depth": "actor", "kind": "poison", "detector": "flood"}
_INSTANCES = {"serve": ("a", "b"), "stream": ("s",), "learn": ("l",)}
_ALL_INSTANCES = [(job, instance) for job, instances in _INSTANCES.items() for instance in instances]


def _series(job: str, name: str, values: str, **labels: str) -> dict[str, str]:
    """Series of all instances of a job."""
    return {_name(job, instance, name, **labels): values for instance in _INSTANCES[job]}


def _name(job: str, instance: str, name: str, **labels: str) -> str:
    pairs = {"job": job, "instance": instance, **labels}.items()
    selector = ", ".join(f'{label}="{value}"' for label, value in pairs)
    return f"{name}{{{selector}}}"


def _instance_series(job: str, instance: str, name: str, values: str, **labels: str) -> dict[str, str]:
    return {_name(job, instance, name, **labels): values}


def _latencies(name: str, n_fast: int, bounds: Sequence[str] = ("0.005", "1.0", "+Inf")) -> dict[str, str]:
    """Histogram of 600 values a minute: `n_fast` below the first bound, all below the second."""
    merged: dict[str, str] = {}
    for bound, count in zip(bounds, (n_fast, 600, 600), strict=True):
        merged |= _series("serve", f"headrace_{name}_duration_seconds_bucket", f"0+{count}x180", le=bound)
    return merged


HEALTHY: Mapping[str, str] = {
    **{_name(job, instance, "up"): "1x180" for job, instance in _ALL_INSTANCES},
    **{_name(job, instance, "process_start_time_seconds"): "9x180" for job, instance in _ALL_INSTANCES},
    **{
        _name(job, instance, "headrace_heartbeat_timestamp_seconds", process=job): "0+60x180"
        for job, instance in _ALL_INSTANCES
    },
    # Every process exports this gauge; one that has no such loop exports 0 or nothing.
    **_instance_series("serve", "a", "headrace_heartbeat_timestamp_seconds", "0x180", process="learn"),
    **_series("serve", "headrace_recommendations_total", "0+600x180"),
    **_series("serve", "headrace_log_append_duration_seconds_count", "0+600x180"),
    **_series("serve", "headrace_http_errors_total", "0+9x180", status="404"),
    **_series("serve", "headrace_http_errors_total", "0x180", status="500"),
    **_series("serve", "headrace_recommendations_shed_total", "0x180"),
    **_series("serve", "headrace_recommendation_fallbacks_total", "0x180", component="store"),
    **_series("serve", "headrace_recommendation_fallbacks_total", "0x180", component="updates"),
    **_series("serve", "headrace_recommendation_fallbacks_total", "0+1x180", component="record"),
    **_series("serve", "headrace_impressions_lost_total", "0x180"),
    **_series("serve", "headrace_propensity_log_evidence", "-0.5x180"),
    **_latencies("recommendation", 600),
    **_latencies("log_append", 600),
    **_series("serve", "headrace_lag_events", "3x180"),
    **_series("serve", "headrace_model_step", "0+60x180"),
    **_series("serve", "headrace_model_epoch", "1x180"),
    **_series("stream", "headrace_stream_lag_records", "2x180", partition="0"),
    **_series("stream", "headrace_watermark_timestamp_seconds", "-10+60x180", partition="0"),
    **_series("stream", "headrace_events_total", "0+600x180", type="impression"),
    **_series("stream", "headrace_events_total", "0+60x180", type="click"),
    **_series("stream", "headrace_actions_joined_total", "0+60x180"),
    **_series("stream", "headrace_actions_unmatched_total", "0+1x180"),
    **_series("stream", "headrace_dead_letter_total", "0+1x180", reason="bad_ts"),
    **_series("learn", "headrace_learn_lag_blocks", "1x180"),
    **_series("learn", "headrace_learn_steps_total", "0+60x180"),
    **_series("learn", "headrace_checkpoints_total", "0+1x180"),
    **_series("learn", "headrace_checkpoints_failed_total", "0x180"),
    **_series("learn", "headrace_learn_log_loss", "0.2x180", objective="click"),
    **_series("learn", "headrace_learn_auc", "0.75x180", objective="click"),
    **_series("learn", "headrace_learn_calibration_ratio", "1.05x180", objective="click"),
    **_series("learn", "headrace_learn_skipped_updates_total", "0x180"),
    **_series("learn", "headrace_learn_gradient_norm", "1.5x180"),
    **_series("learn", "headrace_learn_update_norm", "0.05x180", component="slate_ranker"),
    **_series("learn", "headrace_learn_update_norm", "0.001x180", component="click_head"),
    **_series("learn", "headrace_item_coverage_ratio", "0.4x180"),
    **_series("learn", "headrace_quarantine_events", "5x180"),
    **_series("learn", "headrace_rollbacks_total", "0x180"),
    **_series("learn", "headrace_learn_serving_blocked", "0x180"),
    **_series("stream", "headrace_alarms_total", "2x180", **_FLOOD),
    **_series("learn", "headrace_alarms_total", "0x180", **_CLICK_THROUGH_ALARM),
    **_series("serve", "headrace_serve_update_blocked", "0x180"),
}


@dataclass(frozen=True)
class Case:
    """Series that differ from the healthy ones, and the labels of the expected alert."""

    series: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)


_A, _B = {"job": "serve", "instance": "a"}, {"job": "serve", "instance": "b"}
_LEARN = {"job": "learn", "instance": "l"}


def _fallbacks(component: str) -> Case:
    name = "headrace_recommendation_fallbacks_total"
    return Case(_instance_series("serve", "a", name, "0x170 0+5x9", component=component))


def _quality(name: str, values: str) -> Case:
    series = _series("learn", f"headrace_learn_{name}", values, objective="click")
    return Case(series, {**_LEARN, "objective": "click"})


CASES: Mapping[str, Sequence[Case]] = {
    "ServeGone": [Case(_series("serve", "up", "1x170 0x9"))],
    "TargetDown": [Case(_instance_series("serve", "b", "up", "1x170 0x9"), _B)],
    "Restarting": [Case(_instance_series("serve", "a", "process_start_time_seconds", "9x170 20x2 30x2 40x9"), _A)],
    "ProcessHangs": [
        Case(
            _series("stream", "headrace_heartbeat_timestamp_seconds", "0+60x170 10200x9", process="stream"),
            {"job": "stream", "instance": "s", "process": "stream"},
        )
    ],
    "RequestsFail": [Case(_instance_series("serve", "a", "headrace_http_errors_total", "0x170 0+60x9", status="500"))],
    "AnswersShed": [Case(_instance_series("serve", "b", "headrace_recommendations_shed_total", "0x170 0+5x9"))],
    "AnswersSlow": [Case(_latencies("recommendation", 500))],
    "StoreAway": [
        Case(
            _instance_series("serve", "a", "headrace_recommendation_fallbacks_total", "0x170 0+5x9", component="store")
        )
    ],
    "ImpressionsLost": [Case(_instance_series("serve", "a", "headrace_impressions_lost_total", "0x177 0+1x2"))],
    "AppendsSlow": [Case(_latencies("log_append", 500))],
    "StreamGone": [Case(_series("stream", "up", "1x170 0x9"))],
    "EventsPileUp": [Case(_instance_series("serve", "b", "headrace_lag_events", "3x170 20000x9"))],
    "RecordsStale": [Case(_series("serve", "headrace_recommendation_fallbacks_total", "0+60x180", component="record"))],
    "StreamBehind": [Case(_series("stream", "headrace_stream_lag_records", "2x170 60000x9", partition="0"))],
    "RecordsLost": [
        Case(_series("stream", "headrace_stream_records_lost_total", "0x175 40x4")),
        Case(_series("learn", "headrace_learn_blocks_lost_total", "0x175 40x4")),
    ],
    "LearnBehind": [Case(_series("learn", "headrace_learn_lag_blocks", "1x170 600x9"))],
    "ReplicasDisagree": [
        Case(_instance_series("serve", "b", "headrace_model_step", "0+60x150 9000x29")),
        Case(_instance_series("serve", "b", "headrace_model_epoch", "1x170 2x9")),
    ],
    "UpdatesNotFollowed": [
        Case(
            _instance_series(
                "serve", "a", "headrace_recommendation_fallbacks_total", "0x170 0+5x9", component="updates"
            )
        )
    ],
    "EventsStopped": [
        Case(
            _series("stream", "headrace_events_total", "0+600x150 90000x29", type="impression")
            | _series("stream", "headrace_events_total", "0+60x150 9000x29", type="click")
        )
    ],
    "EventTimeOff": [
        Case(_series("stream", "headrace_watermark_timestamp_seconds", "-10+60x150 8990x29", partition="0")),
        Case(_series("stream", "headrace_watermark_timestamp_seconds", "120+60x180", partition="0")),
    ],
    "LearnGone": [Case(_series("learn", "up", "1x170 0x9"))],
    "LearnStuck": [Case(_series("learn", "headrace_learn_steps_total", "0+60x150 9000x29"))],
    "CheckpointsFail": [
        Case(_series("learn", "headrace_checkpoints_failed_total", "0x177 0+1x2")),
        Case(_series("learn", "headrace_checkpoints_total", "0+1x150 150x29")),
    ],
    "QualityFalls": [_quality("log_loss", "0.2x150 0.3x29"), _quality("auc", "0.75x150 0.65x29")],
    "CalibrationOff": [
        _quality("calibration_ratio", "1.05x140 1.8x39"),
        _quality("calibration_ratio", "1.05x140 0.5x39"),
    ],
    "UpdatesNotFinite": [Case(_series("learn", "headrace_learn_skipped_updates_total", "0x177 0+1x2"))],
    "GradientsLong": [Case(_series("learn", "headrace_learn_gradient_norm", "1.5x155 20x24"), _LEARN)],
    "UpdatesLong": [
        Case(
            _series("learn", "headrace_learn_update_norm", "0.05x155 1x24", component="slate_ranker"),
            {**_LEARN, "component": "slate_ranker"},
        )
    ],
    "ClickThroughFalls": [Case(_series("stream", "headrace_actions_joined_total", "0+60x120 7212+12x59"))],
    "PropensitiesLie": [Case(_instance_series("serve", "b", "headrace_propensity_log_evidence", "-0.5x170 9.5x9"))],
    "SlatesNarrow": [Case(_series("learn", "headrace_item_coverage_ratio", "0.4x120 0.1x59"), _LEARN)],
    "ActionsUnmatched": [Case(_series("stream", "headrace_actions_unmatched_total", "0+1x140 170+30x39"))],
    "EventTypeGone": [
        Case(_series("stream", "headrace_events_total", "0+60x100 6000x79", type="click"), {"type": "click"})
    ],
    "EventsRefused": [Case(_series("stream", "headrace_dead_letter_total", "0+1x160 220+60x19", reason="bad_ts"))],
    "ProducerWrong": [
        Case(
            _series("stream", "headrace_dead_letter_total", "0x175 5x4", reason="wrong_partition"),
            {"reason": "wrong_partition"},
        )
    ],
    "AlarmRaised": [
        Case(_series("stream", "headrace_alarms_total", "2x175 3x4", **_FLOOD), _FLOOD),
        Case(_series("learn", "headrace_alarms_total", "0x175 1x4", **_CLICK_THROUGH_ALARM), _CLICK_THROUGH_ALARM),
    ],
    "QuarantineGrows": [Case(_series("learn", "headrace_quarantine_events", "5x175 9x4"), _LEARN)],
    "ModelRefused": [
        Case(_instance_series("serve", "b", "headrace_serve_update_blocked", "0x150 1x29")),
        Case(_instance_series("learn", "l", "headrace_learn_serving_blocked", "0x150 1x29")),
    ],
    "VersionWorse": [Case(_series("learn", "headrace_alarms_total", "0x175 1x4", **_CLICK_THROUGH_ALARM))],
    "RolledBack": [Case(_series("learn", "headrace_rollbacks_total", "0x175 1x4"))],
}
