"""False alarm rates of the detectors on clean data, beside dummy detectors."""

import math
from collections import Counter
from collections.abc import Iterator

DETECTORS = {
    "actor": ("flood", "forged_impression", "speed", "producer"),
    "stream": (
        "action_outage",
        "shilling",
        "event_rate",
        "feature_drift",
        "clock_skew",
        "missing_fields",
        "stale_duplicates",
        "item_distribution",
    ),
    "learner": (
        "label_flip",
        "gradient_norm",
        "update_norm",
        "non_finite",
        "calibration",
        "loss",
        "auc",
        "preference_shift",
    ),
    "service": ("click_through",),
}
_DUMMIES = {"always": 1, "never": 0, "every 60th minute": 60}  # fire every n-th minute


def poisson_upper_bound(n: int, confidence: float = 0.95) -> float:
    """Exact one-sided upper confidence bound of a Poisson mean, given a count n (Garwood 1936).

    >>> round(poisson_upper_bound(0), 2), round(poisson_upper_bound(1), 2)
    (3.0, 4.74)
    """
    low, high = 0.0, 10.0 * (n + 1)
    for _ in range(60):
        mean = (low + high) / 2
        tail = sum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(n + 1))
        low, high = (mean, high) if tail > 1 - confidence else (low, mean)
    return high


def format_table(alarm_counts: Counter[str], days: float) -> Iterator[str]:
    """Yield the lines of the table of false alarms by detector."""
    yield "| detector | depth | false alarms | per day | upper bound per day (95 %) |"
    yield "|---|---|---|---|---|"
    for depth, names in DETECTORS.items():
        yield from (_format_row(name, depth, alarm_counts[name], days) for name in names)
    known = {name for names in DETECTORS.values() for name in names}
    yield from (_format_row(name, "?", alarm_counts[name], days) for name in sorted(alarm_counts.keys() - known))
    yield _format_row("all", "", alarm_counts.total(), days)
    for name, n in _DUMMIES.items():
        yield _format_row(name, "dummy", int(1_440 * days / n) if n else 0, days)


def _format_row(name: str, depth: str, count: int, days: float) -> str:
    return f"| {name} | {depth} | {count:,} | {count / days:.2f} | {poisson_upper_bound(count) / days:.2f} |"
