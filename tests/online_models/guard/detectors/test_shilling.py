"""Accounts that act repeatedly on an item that they were not shown are shilling."""

from dataclasses import replace

import numpy as np
import pytest

from online_models.guard.detectors.shilling import ShillingDetector
from online_models.guard.findings import Finding, RemoveEvents
from stream.records.batches import EventType, Kind
from tests.support.batches import ITEMS, START, make_batch, make_lists, make_queries
from tests.support.observations import new_rows

TARGET = 7


class Visitors:
    """Users who act on items that they were not shown; each has a history."""

    def __init__(self) -> None:
        self.detector, self.findings, self.n = ShillingDetector(), list[Finding](), 0
        self.actions: dict[int, tuple[int, int]] = {}  # user and item, by offset
        self._histories: dict[int, list[int]] = {}

    def act(self, user: int, item: int, kind: EventType = EventType.click, opens_bin: bool = False) -> None:
        self.n += 1
        history, ts = self._histories.setdefault(user, []), np.array([START + 2_000 * self.n])
        queries = replace(make_queries(1, [history[-64:]], ts), user=np.array([user], "u8"))
        batch = make_batch([Kind.action], queries, make_lists([[item]], [[1.0]]), np.zeros(1, np.uint64))
        batch = replace(batch, offset=np.array([self.n]), type=np.array([kind], np.uint8))
        self.findings += self.detector.update(new_rows(batch, opens_bin=opens_bin))
        self.actions[self.n] = user, item
        history.append(item)

    def act_normally(self, n_actions: int = 1_200) -> None:
        rng = np.random.default_rng(0)
        for n in range(n_actions):
            self.act(1_000 + n % 300, int(rng.integers(20, 200)))


@pytest.fixture
def visitors() -> Visitors:
    """Visitors with many interests."""
    visitors = Visitors()
    visitors.act_normally()
    return visitors


def test_groups_with_camouflage_are_found_with_all_their_actions(visitors: Visitors) -> None:
    rng = np.random.default_rng(1)
    for n in range(240):
        visitors.act(n % 12, TARGET if rng.random() < 0.5 else int(rng.integers(20, 200)))
        visitors.act(1_000 + n % 300, int(rng.integers(20, 200)))
    finding = visitors.findings[0]

    assert {finding.subject for finding in visitors.findings} == {f"{int(ITEMS[TARGET]):016x}"}
    assert finding.evidence["accounts"] == 12
    assert finding.evidence["share"] > 0.9
    assert finding.evidence["actions"] >= 50
    assert finding.evidence["other_actions"] >= 20
    assert isinstance(finding.remedy, RemoveEvents)
    actions = [visitors.actions[offset] for _, offset in finding.remedy.events]
    target_users = {user for user, item in actions if item == TARGET}
    assert target_users == {user for user, item in actions if item != TARGET} == finding.remedy.user_keys
    assert sum(item == TARGET for _, item in actions) == finding.evidence["actions"]


def test_items_that_many_visitors_look_for_once_raise_nothing() -> None:
    visitors = Visitors()
    visitors.act_normally(1_500)
    for n in range(400):
        visitors.act(1_000 + n % 300 if n % 4 else 5_000 + n, TARGET)

    assert visitors.findings == []


def test_new_visitors_who_follow_a_link_raise_nothing() -> None:
    visitors = Visitors()
    visitors.act_normally(1_500)
    for n in range(300):
        for kind in (EventType.view, EventType.cart, EventType.purchase)[: 1 + n % 3]:
            visitors.act(5_000 + n, TARGET, kind)

    assert visitors.findings == []


def test_two_fans_of_an_item_are_no_group(visitors: Visitors) -> None:
    for n in range(200):
        visitors.act(n % 2, TARGET)

    assert visitors.findings == []


def test_actions_expire_after_an_hour(visitors: Visitors) -> None:
    for n in range(40):
        visitors.act(n % 10, TARGET)
    visitors.n += 3_600
    for n in range(40):
        visitors.act(n % 10, TARGET, opens_bin=n == 39)

    assert visitors.findings == []
