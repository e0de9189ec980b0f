"""Who acts again and again on one item that nobody showed them pumps it, whatever else they do; a crowd does not."""

from dataclasses import replace

import numpy as np

from online_models.guard.detectors.shilling import ShillingAttack, ShillingDetector
from online_models.training.step import TrainingBatch
from stream.records.batches import EventType, Kind
from tests.support.batches import ITEMS, START, batch_of, lists, questions

TARGET = 7


class Street:
    """People who act on items that they were not shown; each has a history."""

    def __init__(self) -> None:
        self.pumping, self.histories, self.found, self.n = (
            ShillingDetector(),
            dict[int, list[int]](),
            list[ShillingAttack](),
            0,
        )

    def act(self, user: int, item: int, kind: EventType = EventType.click) -> None:
        self.n += 1
        history = self.histories.setdefault(user, [])
        asked = replace(questions(1, [history[-64:]], np.array([START + 2_000 * self.n])), user=np.array([user], "u8"))
        batch = batch_of([Kind.action], asked, lists([[item]], [[1.0]]), np.zeros(1, np.uint64))
        batch = replace(batch, offset=np.array([self.n]), type=np.array([kind], np.uint8))
        self.found += self.pumping.update(TrainingBatch(batch, np.zeros(1, np.int64)), np.ones(1, np.bool_))
        history.append(item)


def street(acts: int = 1_200) -> Street:
    """A street on which people walk who do many things."""
    made, rng = Street(), np.random.default_rng(0)
    for n in range(acts):
        made.act(1_000 + n % 300, int(rng.integers(20, 200)))
    return made


def test_a_group_that_also_does_other_things_is_found_with_all_that_it_did_to_the_item() -> None:
    here, rng = street(), np.random.default_rng(1)
    for n in range(240):
        here.act(n % 12, TARGET if rng.random() < 0.5 else int(rng.integers(20, 200)))
        here.act(1_000 + n % 300, int(rng.integers(20, 200)))
    pumped = here.found[0]

    assert {one.item for one in here.found} == {int(ITEMS[TARGET])}
    assert pumped.accounts == 12
    assert pumped.share > 0.9
    assert len(pumped.suspects) >= 50
    assert {one.user for one in pumped.other_actions} == {one.user for one in pumped.suspects}
    assert len(pumped.other_actions) >= 20


def test_an_item_that_many_look_for_once_is_not_pumped() -> None:
    here = street(1_500)
    for n in range(400):
        here.act(1_000 + n % 300 if n % 4 else 5_000 + n, TARGET)

    assert here.found == []


def test_newcomers_who_follow_a_link_to_an_item_are_no_group_whatever_they_do_with_it_once() -> None:
    here = street(1_500)
    for n in range(300):
        for kind in (EventType.view, EventType.cart, EventType.purchase)[: 1 + n % 3]:
            here.act(5_000 + n, TARGET, kind)

    assert here.found == []


def test_two_fans_of_an_item_are_no_group() -> None:
    here = street()
    for n in range(200):
        here.act(n % 2, TARGET)

    assert here.found == []


def test_what_is_an_hour_old_is_forgotten() -> None:
    here = street()
    for n in range(40):
        here.act(n % 10, TARGET)
    here.n += 3_600
    for n in range(40):
        here.act(n % 10, TARGET)
    here.pumping.expire()

    assert here.found == []
