"""Detectors report their own change; clean bins and genuine changes are no poison."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from online_models.control import ActionReturns
from online_models.guard.bins import Bin, BinSettings
from online_models.guard.detector_suite import DetectorSuite
from online_models.guard.findings import Finding, PauseUntil
from stream.records.batches import EventType
from stream.testing import MemoryLog

CALM, LENGTH = 60, 12  # bins
BIN_MS, BUCKETS = BinSettings().min_ms, BinSettings().item_buckets
PURCHASE, CLICK = (0, int(EventType.purchase)), (0, int(EventType.click))
Change = Callable[[Bin, np.random.Generator], None]


def make_suite() -> DetectorSuite:
    return DetectorSuite(1.0, MemoryLog())


def normal_bin(n: int, rng: np.random.Generator) -> Bin:
    probability = rng.beta(1, 12, 1_000)
    clicked = rng.random(1_000) < probability
    clicks = int(rng.poisson(80))
    return Bin(
        first_offsets={0: 1_000 * n}, start=n * BIN_MS, end=(n + 1) * BIN_MS, rows=300, impressions=100,
        action_counts=Counter({CLICK: int(rng.poisson(80)), PURCHASE: int(rng.poisson(20))}),
        late=int(rng.poisson(1)), item_buckets=rng.poisson(10, BUCKETS).astype(float), closed_items=1_000,
        log_loss_sum=float(-np.where(clicked, np.log(probability), np.log1p(-probability)).sum()),
        expected_clicks=float(probability.sum()), observed_clicks=float(clicked.sum()),
        steps=3, slate_clicks=clicks, click_rank_sum=float(rng.beta(3, 1, clicks).sum()),
        clicks_by_item=Counter(rng.integers(0, 200, clicks).tolist()),
        clicked_slate_offsets={0: [1_000 * n - 2_000] * clicks},
    )  # fmt: skip


def find(change: Change, calm: int = CALM, seed: int = 1) -> list[Finding]:
    """Findings of normal bins, followed by changed ones."""
    rng, suite, findings = np.random.default_rng(seed), make_suite(), []
    for n in range(calm + LENGTH):
        current = normal_bin(n, rng)
        if n >= calm:
            change(current, rng)
        findings += suite.update_bin(current)
    return findings


def nothing(current: Bin, rng: np.random.Generator) -> None:
    pass


def break_button(current: Bin, rng: np.random.Generator) -> None:
    current.action_counts[PURCHASE] = 0


def close_shop(current: Bin, rng: np.random.Generator) -> None:
    current.action_counts, current.impressions = Counter(), 0


def add_random_clicks(current: Bin, rng: np.random.Generator) -> None:
    current.observed_clicks, current.slate_clicks = current.observed_clicks + 50, current.slate_clicks + 80
    current.click_rank_sum += float(rng.random(80).sum())


def flip_labels(current: Bin, rng: np.random.Generator) -> None:
    add_random_clicks(current, rng)
    current.clicks_by_item.update(rng.integers(0, 200, 80).tolist())


def send_bots(current: Bin, rng: np.random.Generator) -> None:
    """Beside the bots' clicks purchases are rare, but as many as before."""
    current.action_counts[CLICK] += 3_000


def go_viral(current: Bin, rng: np.random.Generator) -> None:
    add_random_clicks(current, rng)
    current.clicks_by_item.update({7: 80})


def lose_interest(current: Bin, rng: np.random.Generator) -> None:
    current.observed_clicks = round(current.observed_clicks / 3)
    current.slate_clicks = round(current.slate_clicks / 3)
    current.click_rank_sum /= 3


def skew_clock(current: Bin, rng: np.random.Generator) -> None:
    current.late = 60


def catch_up(current: Bin, rng: np.random.Generator) -> None:
    """One long step, whose predictions are old."""
    current.rows, current.steps = 2_000, 1
    flip_labels(current, rng)


def load_in_bulk(current: Bin, rng: np.random.Generator) -> None:
    current.late, current.very_late = 290, 285


def lose_surface(current: Bin, rng: np.random.Generator) -> None:
    current.missing_surface = current.impressions


def sell_other_items(current: Bin, rng: np.random.Generator) -> None:
    current.item_buckets = np.where(np.arange(BUCKETS) < BUCKETS // 2, 0.0, 2 * current.item_buckets)


def start_sale(current: Bin, rng: np.random.Generator) -> None:
    """Twice as many clicks, on the items that are predicted best."""
    current.observed_clicks, current.slate_clicks = 2 * current.observed_clicks, 2 * current.slate_clicks
    current.click_rank_sum *= 2


@pytest.mark.parametrize(
    ("change", "detector", "kind"),
    [
        (break_button, "action_outage", "poison"),
        (flip_labels, "label_flip", "poison"),
        (skew_clock, "clock_skew", "poison"),
        (lose_surface, "missing_fields", "poison"),
        (lose_interest, "calibration", "drift"),
        (sell_other_items, "item_distribution", "drift"),
    ],
    ids=lambda value: value.__name__ if callable(value) else value,
)
def test_changes_are_reported_by_their_detector(change: Change, detector: str, kind: str) -> None:
    findings = find(change)

    assert (findings[0].detector, findings[0].kind) == (detector, kind)
    assert {finding.kind for finding in findings} == {kind}
    assert -4 <= findings[0].first_offsets[0] / 1_000 - CALM <= 2


@pytest.mark.parametrize(
    "change", [nothing, close_shop, load_in_bulk, catch_up, go_viral, send_bots], ids=lambda change: change.__name__
)
def test_genuine_changes_are_not_reported_as_poison(change: Change) -> None:
    assert "poison" not in {finding.kind for finding in find(change)}


@pytest.mark.parametrize(
    "change", [break_button, flip_labels, skew_clock, lose_surface], ids=lambda change: change.__name__
)
def test_nothing_is_reported_while_baselines_are_short(change: Change) -> None:
    assert find(change, calm=5) == []


def test_sales_are_no_label_flip() -> None:
    assert "label_flip" not in {finding.detector for finding in find(start_sale)}


def test_label_flips_span_from_the_first_flipped_slate_to_normal_clicks() -> None:
    finding = find(flip_labels)[0]
    rng, suite = np.random.default_rng(2), make_suite()  # as after a restart
    flipped, normal, empty = (normal_bin(n, rng) for n in (1, 2, 3))
    flip_labels(flipped, rng)
    empty.impressions = 0

    assert finding.detector == "label_flip"
    assert finding.first_offsets == {0: 1_000 * CALM - 2_000}
    assert isinstance(finding.remedy, PauseUntil)
    condition = finding.remedy.end_condition
    assert [suite.is_over(condition, current) for current in (flipped, normal, empty)] == [False, True, None]


def test_outages_end_when_the_action_returns() -> None:
    rng, suite = np.random.default_rng(3), make_suite()
    for n in range(CALM):
        suite.update_bin(normal_bin(n, rng))
    silent, normal, empty = (normal_bin(CALM, rng) for _ in range(3))
    break_button(silent, rng)
    close_shop(empty, rng)
    condition = ActionReturns(*PURCHASE)

    assert [suite.is_over(condition, current) for current in (silent, normal, empty)] == [False, True, None]


def test_feature_samples_are_freed_once_bins_are_full() -> None:
    current = normal_bin(0, np.random.default_rng(4))
    current.feature_names, current.feature_sample = ("f0",), [np.zeros((100, 1), np.float32)]
    make_suite().update_bin(current)

    assert current.feature_sample == []
