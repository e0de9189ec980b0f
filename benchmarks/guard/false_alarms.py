"""How often detectors are wrong where nothing happens, each by itself, beside dummies that know nothing."""

import math
from collections import Counter
from collections.abc import Iterator

DETECTORS = {
    "actor": ("flood", "forged", "speed", "producer"),
    "stream": (
        "silence",
        "pumping",
        "event_rate",
        "features",
        "clock_skew",
        "missing_fields",
        "repeats",
        "items",
    ),
    "learner": (
        "label_flip",
        "gradient_norm",
        "update_norm",
        "non_finite",
        "calibration",
        "loss",
        "auc",
        "tastes",
    ),
    "service": ("click_through",),
}
_DUMMIES = {"always": 1, "never": 0, "every 60th minute": 60}  # fire in every n-th minute


def at_most(n: int, sure: float = 0.95) -> float:
    """The greatest mean of a Poisson count that does not make n or fewer as unlikely as that (Garwood 1936).

    >>> round(at_most(0), 2), round(at_most(1), 2)
    (3.0, 4.74)
    """
    low, high = 0.0, 10.0 * (n + 1)
    for _ in range(60):
        mean = (low + high) / 2
        so_few = sum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(n + 1))
        low, high = (mean, high) if so_few > 1 - sure else (low, mean)
    return high


def table(found: Counter[str], days: float) -> Iterator[str]:
    """Lines of the table; `found`: false alarms by detector."""
    yield "| detector | depth | false alarms | a day | at most a day (95 %) |"
    yield "|---|---|---|---|---|"
    for depth, names in DETECTORS.items():
        yield from (_line(name, depth, found[name], days) for name in names)
    known = {name for names in DETECTORS.values() for name in names}
    yield from (_line(name, "?", found[name], days) for name in sorted(found.keys() - known))
    yield _line("all together", "", found.total(), days)
    for name, n in _DUMMIES.items():
        yield _line(name, "dummy", int(1_440 * days / n) if n else 0, days)


def _line(name: str, depth: str, found: int, days: float) -> str:
    return f"| {name} | {depth} | {found:,} | {found / days:.2f} | {at_most(found) / days:.2f} |"
