"""Disliked items and their like go down, whether a dislike or a low rating says so."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.config import EventsSettings
from tests.support.serving_loop import LiveLoop, list_item_ids, make_event

DISLIKES = ({"type": "dislike"}, {"type": "rating", "value": 1.0})
TEA = [f"tea{n}" for n in range(6)]
CUPS = [f"cup{n}" for n in range(6)]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[LiveLoop]:
    """Users who like either tea or cups; twice as many like cups."""
    with LiveLoop(tmp_path) as loop:
        loop.put_items(*TEA, categories=["tea"])
        loop.put_items(*CUPS, categories=["cups"])
        for n in range(60):
            items = (TEA, CUPS, CUPS)[n % 3]
            loop.send_events(*(make_event(user_id=f"v{n}", item_id=items[(n + i) % 6]) for i in range(4)))
        loop.run_until_idle()
        yield loop


def count_tea(loop: LiveLoop, user: str) -> int:
    """Tea among the first six of a user who has acted on one tea."""
    slate = list_item_ids(loop.recommend(user, k=6, explore=False, log=False))
    return sum(item in TEA for item in slate)


@pytest.mark.parametrize("dislike", DISLIKES, ids=["dislike", "one star"])
def test_dislike_is_not_worth_a_click(shop: LiveLoop, dislike: dict[str, object]) -> None:
    shop.send_events(make_event(user_id="likes", item_id="tea0", type="rating", value=5.0))
    shop.send_events(make_event(user_id="dislikes", item_id="tea0", **dislike))
    shop.run_until_idle()

    assert count_tea(shop, "likes") >= 4
    assert count_tea(shop, "dislikes") <= 2


@pytest.mark.parametrize("dislike", DISLIKES, ids=["dislike", "one star"])
def test_disliked_item_does_not_return_with_repeats(shop: LiveLoop, dislike: dict[str, object]) -> None:
    shop.send_events(make_event(user_id="u", item_id="tea0", **dislike), make_event(user_id="u", item_id="tea1"))
    shop.run_until_idle()
    items = list_item_ids(shop.recommend("u", k=100, repeats=True, log=False))

    assert "tea0" not in items
    assert "tea1" in items


def test_stars_of_a_dislike_are_a_setting(tmp_path: Path) -> None:
    with LiveLoop(tmp_path, events=EventsSettings(disliked_stars=-1)) as loop:
        loop.send_events(make_event(item_id="a", type="rating", value=1.0))
        loop.run_until_idle()

        assert list_item_ids(loop.recommend(repeats=True, log=False)) == ["a"]


def test_low_rating_keeps_its_type_in_the_history(shop: LiveLoop) -> None:
    shop.send_events(make_event(user_id="u", item_id="tea0", type="rating", value=1.0))
    shop.run_until_idle()
    user = shop.http.get("/v1/users/u").json()

    assert user["history"][0]["type"] == "rating"
    assert (user["counts"]["rating"], user["counts"]["dislike"]) == (1, 0)
