"""Retractions over HTTP: history, counts, own items and co-visits without the action."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.serving_loop import NOW, LiveLoop, assert_problem, list_item_ids, make_event, make_impression

ITEMS = tuple("abcdef")


def visit(loop: LiveLoop, last: dict[str, Any] | None = None) -> None:
    """Four users act on two items, user u1 on a, b, perhaps on c, and then on d."""
    for n in range(4):
        loop.send_events(*(make_event(event_id=f"{n}{item}", user_id=f"v{n}", item_id=item) for item in "ef"))
    loop.send_events(*(make_event(event_id=item, item_id=item, ts=NOW - 9 + i) for i, item in enumerate("ab")))
    if last:
        loop.send_events(last)
    loop.send_events(make_event(event_id="d", item_id="d", ts=NOW - 1))
    loop.run_until_idle()


def describe(loop: LiveLoop) -> dict[str, Any]:
    """Answers about user and items after everything was learned."""
    user = loop.http.get("/v1/users/u1").json()
    counts = {item: loop.http.get(f"/v1/items/{item}").json()["counts"] for item in ITEMS}
    similar = {item: loop.http.get(f"/v1/items/{item}/similar").json()["items"] for item in ITEMS}
    scores = {
        item: {n["item_id"]: pytest.approx(n["score"], abs=1e-4) for n in found} for item, found in similar.items()
    }
    slate = set(list_item_ids(loop.recommend("u1", explore=False, log=False)))
    return {"history": user["history"], "user": user["counts"], "counts": counts, "similar": scores, "slate": slate}


@pytest.fixture
def expected(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Description of a shop in which the action on c has not happened."""
    with LiveLoop(tmp_path / "expected") as loop:
        loop.put_items(*ITEMS)
        visit(loop)
        yield describe(loop)


@pytest.mark.parametrize(
    ("event_type", "retraction"),
    [("purchase", "return"), ("like", "unlike"), ("cart", "remove_from_cart"), ("click", "")],
)
def test_retracted_action_is_as_if_it_had_not_happened(
    loop: LiveLoop, expected: dict[str, Any], event_type: str, retraction: str
) -> None:
    loop.put_items(*ITEMS)
    visit(loop, make_event(event_id="c", item_id="c", type=event_type, ts=NOW - 5))
    assert describe(loop) != expected
    for _ in range(2):
        if retraction:
            loop.send_events(make_event(item_id="c", type=retraction))
        else:
            assert loop.http.delete("/v1/events/c").json() == {"event_id": "c", "status": "accepted"}
        loop.run_until_idle()

        assert describe(loop) == expected


def test_retraction_before_its_action_prevents_it(loop: LiveLoop, expected: dict[str, Any]) -> None:
    loop.put_items(*ITEMS)
    assert loop.http.delete("/v1/events/c", params={"user_id": "u1"}).status_code == 202
    visit(loop, make_event(event_id="c", item_id="c", ts=NOW - 5))

    assert describe(loop) == expected


class TestDelete:
    def test_unknown_event_without_a_user_gets_404(self, loop: LiveLoop) -> None:
        assert_problem(loop.http.delete("/v1/events/never"), 404)

    def test_event_of_another_user_is_refused(self, loop: LiveLoop) -> None:
        loop.send_events(make_event(event_id="e", item_id="a"))

        assert_problem(loop.http.delete("/v1/events/e", params={"user_id": "u2"}), 409)
        loop.send_events(make_event(type="retract", retracted_id="e", user_id="u2", item_id=None))
        loop.run_until_idle()
        assert len(loop.http.get("/v1/users/u1").json()["history"]) == 1

    def test_impression_is_refused(self, loop: LiveLoop) -> None:
        loop.send_events(make_impression(["a"], event_id="shown"))

        assert_problem(loop.http.delete("/v1/events/shown"), 409)

    def test_id_with_other_characters_is_found(self, loop: LiveLoop) -> None:
        loop.send_events(make_event(event_id='a/"é', item_id="a"), make_event(item_id="b"))
        assert loop.http.delete("/v1/events/a%2F%22%C3%A9").status_code == 202
        loop.run_until_idle()

        assert [entry["item_id"] for entry in loop.http.get("/v1/users/u1").json()["history"]] == ["b"]


def test_retracted_click_leaves_its_open_slate_a_negative(loop: LiveLoop) -> None:
    loop.put_items("a", "b")
    loop.send_events(make_impression(["a", "b"]), make_event(event_id="e", impression_id="r1", item_id="a"))
    loop.run_until_idle()
    loop.http.delete("/v1/events/e")
    loop.run_until_idle()
    (impression,) = loop.stream_worker._partitions[0].joiner._open.values()

    assert impression.labels.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"type": "retract"}, "retracted_id"), ({"type": "retract", "retracted_id": ""}, "retracted_id"),
     ({"type": "return", "item_id": None}, "item_id"), ({"type": "purchase", "quantity": 0}, "quantity")],
)  # fmt: skip
def test_invalid_retraction_is_refused_by_field(shared_loop: LiveLoop, fields: dict[str, Any], field: str) -> None:
    (refused,) = shared_loop.send_events(make_event(**fields))["refused"]

    assert field in refused["reason"]
