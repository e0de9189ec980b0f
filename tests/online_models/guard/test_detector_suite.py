"""Each monitor tells what it is there for by its name, its kind, and where it began; a clean stream tells nothing."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from online_models.guard.bins import BIN_MS, ITEM_BUCKETS, Bin
from online_models.guard.detector_suite import DetectorSuite
from online_models.guard.findings import Finding
from stream.records.batches import EventType

CALM, LENGTH = 60, 12
PURCHASE, CLICK = (0, int(EventType.purchase)), (0, int(EventType.click))


def usual(n: int, rng: np.random.Generator) -> Bin:
    chance = rng.beta(1, 12, 1_000)
    taken = rng.random(1_000) < chance
    answers = int(rng.poisson(80))
    return Bin(
        first_offsets={0: 1_000 * n}, start=n * BIN_MS, end=(n + 1) * BIN_MS, rows=300, impressions=100,
        action_counts=Counter({CLICK: int(rng.poisson(80)), PURCHASE: int(rng.poisson(20))}),
        late=int(rng.poisson(1)), item_buckets=rng.poisson(10, ITEM_BUCKETS).astype(float), closed_items=1_000,
        log_loss_sum=float(-np.where(taken, np.log(chance), np.log1p(-chance)).sum()),
        expected_clicks=float(chance.sum()), observed_clicks=float(taken.sum()),
        steps=3, slate_clicks=answers, click_rank_sum=float(rng.beta(3, 1, answers).sum()),
        clicks_by_item=Counter(rng.integers(0, 200, answers).tolist()), clicked_slate_offsets={0: [1_000 * n - 2_000] * answers},
    )  # fmt: skip


def told(change: Callable[[Bin, np.random.Generator], None], calm: int = CALM, seed: int = 1) -> list[Finding]:
    rng, monitors, found = np.random.default_rng(seed), DetectorSuite(1.0), []
    for n in range(calm + LENGTH):
        one = usual(n, rng)
        if n >= calm:
            change(one, rng)
        found += monitors.update(one)
    return found


def nothing(one: Bin, rng: np.random.Generator) -> None:
    pass


def break_button(one: Bin, rng: np.random.Generator) -> None:
    one.action_counts[PURCHASE] = 0


def close_shop(one: Bin, rng: np.random.Generator) -> None:
    one.action_counts, one.impressions = Counter(), 0


def flip_labels(one: Bin, rng: np.random.Generator) -> None:
    one.observed_clicks, one.slate_clicks = one.observed_clicks + 50, one.slate_clicks + 80
    one.click_rank_sum += float(rng.random(80).sum())
    one.clicks_by_item.update(rng.integers(0, 200, 80).tolist())


def send_bots(one: Bin, rng: np.random.Generator) -> None:
    """Beside what they do, purchases are rare; there are as many as ever."""
    one.action_counts[CLICK] += 3_000


def go_viral(one: Bin, rng: np.random.Generator) -> None:
    one.observed_clicks, one.slate_clicks = one.observed_clicks + 50, one.slate_clicks + 80
    one.click_rank_sum += float(rng.random(80).sum())
    one.clicks_by_item.update({7: 80})


def please_less(one: Bin, rng: np.random.Generator) -> None:
    one.observed_clicks, one.slate_clicks = round(one.observed_clicks / 3), round(one.slate_clicks / 3)
    one.click_rank_sum /= 3


def skew(one: Bin, rng: np.random.Generator) -> None:
    one.late = 60


def catch_up(one: Bin, rng: np.random.Generator) -> None:
    """In one long step, whose predictions are old."""
    one.rows, one.steps = 2_000, 1
    flip_labels(one, rng)


def load_in_bulk(one: Bin, rng: np.random.Generator) -> None:
    one.late, one.very_late = 290, 285


def lose_surface(one: Bin, rng: np.random.Generator) -> None:
    one.missing_surface = one.impressions


def sell_other_items(one: Bin, rng: np.random.Generator) -> None:
    one.item_buckets = np.where(np.arange(ITEM_BUCKETS) < ITEM_BUCKETS // 2, 0.0, 2 * one.item_buckets)


@pytest.mark.parametrize(
    ("change", "detector", "kind"),
    [
        (break_button, "action_outage", "poison"),
        (flip_labels, "label_flip", "poison"),
        (skew, "clock_skew", "poison"),
        (lose_surface, "missing_fields", "poison"),
        (please_less, "calibration", "drift"),
        (sell_other_items, "item_distribution", "drift"),
    ],
    ids=lambda value: value.__name__ if callable(value) else value,
)
def test_what_changes_is_told_by_its_detector(
    change: Callable[[Bin, np.random.Generator], None], detector: str, kind: str
) -> None:
    found = told(change)

    assert (found[0].detector, found[0].kind) == (detector, kind)
    assert {one.kind for one in found} == {kind}
    assert -4 <= found[0].first_offsets[0] / 1_000 - CALM <= 2


@pytest.mark.parametrize(
    "change", [nothing, close_shop, load_in_bulk, catch_up, go_viral, send_bots], ids=lambda change: change.__name__
)
def test_what_is_no_poison_is_not_told_as_one(change: Callable[[Bin, np.random.Generator], None]) -> None:
    assert "poison" not in {one.kind for one in told(change)}


@pytest.mark.parametrize("change", [break_button, flip_labels, skew, lose_surface], ids=lambda change: change.__name__)
def test_nothing_is_told_before_enough_was_seen(change: Callable[[Bin, np.random.Generator], None]) -> None:
    assert told(change, calm=5) == []


def sell_cheaply(one: Bin, rng: np.random.Generator) -> None:
    """Slates are answered twice as often, with what was predicted as ever."""
    one.observed_clicks, one.slate_clicks, one.click_rank_sum = (
        2 * one.observed_clicks,
        2 * one.slate_clicks,
        2 * one.click_rank_sum,
    )


def test_a_sale_is_no_flip() -> None:
    assert "label_flip" not in {one.detector for one in told(sell_cheaply)}


def test_a_flip_is_left_out_from_the_first_slates_that_it_answers_until_answers_come_as_ever() -> None:
    found = told(flip_labels)
    rng, monitors = np.random.default_rng(2), DetectorSuite(1.0)  # as after a restart
    usual_answers, flipped, sound, empty = found[0].end_condition, usual(1, rng), usual(2, rng), usual(3, rng)
    flip_labels(flipped, rng)
    empty.impressions = 0

    assert found[0].detector == "label_flip"
    assert found[0].first_offsets == {0: 1_000 * CALM - 2_000}
    assert isinstance(usual_answers, float)
    assert [monitors.is_over(usual_answers, one) for one in (flipped, sound, empty)] == [False, True, None]


def test_a_silence_is_over_when_what_was_silent_is_heard() -> None:
    rng, monitors = np.random.default_rng(3), DetectorSuite(1.0)
    for n in range(CALM):
        monitors.update(usual(n, rng))
    silent, heard, empty = usual(CALM, rng), usual(CALM, rng), usual(CALM, rng)
    break_button(silent, rng)
    close_shop(empty, rng)

    assert [monitors.is_over(PURCHASE, one) for one in (silent, heard, empty)] == [False, True, None]
