"""Rules of a request: hidden items, thresholds, boosts, pins and caps."""

from collections import Counter
from typing import Any

import pytest

from stream.clock import DAY_MS
from tests.support.serving_loop import NOW, LiveLoop, assert_problem, list_item_ids, make_event

QUIET: dict[str, Any] = {"explore": False, "log": False}


@pytest.fixture(scope="module")
def shop(shared_loop: LiveLoop) -> LiveLoop:
    """Sixteen items of two creators and four categories; u1 has a history. No test changes it."""
    loop = shared_loop
    for n in range(16):
        fields = {"categories": [f"c{n % 4}"], "creator": "big" if n < 12 else "small", "size": n % 3}
        loop.put_items(f"i{n:02}", price=n + 1.0, **fields)
    loop.send_events(*(make_event(user_id=f"p{n}", item_id=f"i{n % 7:02}") for n in range(42)))
    for n, kind in enumerate(["view", "click", "cart", "purchase", "dislike"]):
        loop.send_events(make_event(user_id="u1", item_id=f"i{n:02}", type=kind, ts=NOW - 10 * DAY_MS, value=9.5))
    loop.run_until_idle()
    return loop


def recommend(shop: LiveLoop, user: str = "nobody", **fields: Any) -> dict[str, Any]:
    return shop.recommend(user, **QUIET | {"k": 16} | fields)


def test_answer_without_rules_does_not_speak_of_them(shop: LiveLoop) -> None:
    assert "rules_applied" not in recommend(shop)


@pytest.mark.parametrize(
    ("hide", "hidden"),
    [
        ([], {"i04"}),
        (["purchase"], {"i03", "i04"}),
        (["purchase", "cart"], {"i02", "i03", "i04"}),
        ([{"types": ["view", "click"]}], {"i00", "i01", "i04"}),
        ([{"types": ["click"], "max_age": 9 * 86400}], {"i04"}),
        ([{"types": ["click"], "max_age": 11 * 86400}], {"i01", "i04"}),
    ],
    ids=["nothing", "bought", "bought or in the cart", "seen", "clicked in nine days", "clicked in eleven days"],
)
def test_hide_selects_actions_by_type_and_age(shop: LiveLoop, hide: list[Any], hidden: set[str]) -> None:
    response = recommend(shop, "u1", hide=hide)

    assert {f"i{n:02}" for n in range(16)} - set(list_item_ids(response)) == hidden
    assert response["rules_applied"] == {"hide": len(hidden)}


def test_acknowledged_actions_are_hidden_at_once(loop: LiveLoop) -> None:
    loop.put_items("a", "b")
    loop.send_events(make_event(type="purchase", value=1.0))

    assert list_item_ids(loop.recommend(hide=["purchase"], **QUIET)) == ["b"]


def test_candidates_are_hidden_by_request_only(shop: LiveLoop) -> None:
    candidates = ["i03", "i05"]

    assert set(list_item_ids(recommend(shop, "u1", candidates=candidates))) == {"i03", "i05"}
    assert list_item_ids(recommend(shop, "u1", candidates=candidates, hide=["purchase"])) == ["i05"]


def test_min_probability_leaves_out_poor_items_and_says_so(shop: LiveLoop) -> None:
    items = recommend(shop, explain=True)["items"]
    probabilities = sorted(item["probability"] for item in items)
    threshold = (probabilities[-4] + probabilities[-5]) / 2

    response = recommend(shop, min_probability=threshold)

    expected = {item["item_id"] for item in items if item["probability"] > threshold}
    assert set(list_item_ids(response)) == expected
    assert f"{len(expected)} of 16 candidates reach min_probability" in response["reason"]
    assert recommend(shop, min_probability=1)["items"] == []


def test_boost_multiplies_probability(shop: LiveLoop) -> None:
    before = {item["item_id"]: item for item in recommend(shop, explain=True)["items"]}
    boosts = [{"filters": {"creators": ["small"]}, "factor": 1.5}, {"filters": {"max_price": 1}, "factor": 0.001}]

    response = recommend(shop, explain=True, rules={"boosts": boosts})

    after = {item["item_id"]: item for item in response["items"]}
    assert response["rules_applied"] == {"boosts": 5}
    assert list_item_ids(response)[-1] == "i00"
    for item_id in ("i12", "i13"):
        p = before[item_id]["probability"]
        expected = (1.5 * p / (1 - 1.5 * p)) / (p / (1 - p))
        assert 2.718281828 ** (after[item_id]["score"] - before[item_id]["score"]) == pytest.approx(expected, rel=1e-3)
        assert after[item_id]["probability"] == p


@pytest.mark.parametrize(
    ("caps", "most"),
    [
        ({"creator": 3}, {"creator": 3}),
        ({"categories": 1}, {"categories": 1}),
        ({"category": 2, "creator": 3}, {"categories": 2, "creator": 3}),
        ({"size": 2}, {"size": 2}),
        ({"color": 1}, {}),
    ],
    ids=["creator", "category", "two fields", "number", "field that no item has"],
)
def test_cap_limits_items_with_the_same_value(shop: LiveLoop, caps: dict[str, int], most: dict[str, int]) -> None:
    response = recommend(shop, rules={"caps": caps}, fields=["creator", "categories", "size"])

    for name, cap in most.items():
        counts = Counter(str(item["fields"][name]) for item in response["items"])
        assert max(counts.values()) == cap
    assert response["rules_applied"] == {"caps": 16 - len(response["items"])}


def test_pins_have_their_positions_and_propensity_one(shop: LiveLoop) -> None:
    pins = [{"position": 0, "item_id": "i15"}, {"position": 3, "item_id": "i14"}]

    response = recommend(shop, k=5, rules={"pins": pins})

    items = response["items"]
    assert (items[0]["item_id"], items[3]["item_id"]) == ("i15", "i14")
    assert [item["source"] == "pinned" for item in items] == [True, False, False, True, False]
    assert items[0]["propensity"] == items[3]["propensity"] == 1
    assert response["rules_applied"] == {"pins": 2}


def test_pins_count_in_caps(shop: LiveLoop) -> None:
    rules = {"pins": [{"position": 2, "item_id": "i15"}], "caps": {"creator": 1}}

    ids = list_item_ids(recommend(shop, k=5, rules=rules))

    assert len(ids) == 2
    assert ids[1] == "i15"
    assert ids[0] < "i12"


PINNED = {"rules": {"pins": [{"position": 1, "item_id": "i03"}]}}


@pytest.mark.parametrize(
    ("user", "fields", "texts"),
    [
        ("u1", PINNED, ("'i03' at position 1", "the user's earlier actions hide it")),
        ("u1", PINNED | {"hide": ["purchase"]}, ("'i03' at position 1", "hide excludes it")),
        ("nobody", PINNED | {"filters": {"creators": ["small"]}}, ("'i03'", "filters do not let it pass")),
        ("nobody", PINNED | {"exclude": ["i03"]}, ("rules.pins and exclude", "'i03'")),
        ("nobody", PINNED | {"candidates": ["i01", "i02"]}, ("'i03'", "candidates does not name it")),
        ("nobody", PINNED | {"k": 1}, ("position 1", "below the 1 items")),
        ("nobody", {"rules": {"pins": [{"position": 0, "item_id": "x"}]}}, ("'x'", "no available item has this id")),
        ("nobody", {"rules": {"pins": PINNED["rules"]["pins"] * 2}}, ("position 1 2 times", "each once")),
        ("nobody", {"rules": {"pin": []}}, ("unknown field `pin`", "'pins'")),
        ("nobody", {"rules": {"caps": {"creator": 0}}}, ("caps", "1")),
        ("nobody", {"rules": {"boosts": [{"filters": {}, "factor": -1}]}}, ("factor", ">= 0.001")),
        ("nobody", {"hide": ["bought"]}, ("hide", "bought")),
        ("nobody", {"min_probability": 2}, ("min_probability", "<= 1")),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_contradictory_rules_are_refused(
    shop: LiveLoop, user: str, fields: dict[str, Any], texts: tuple[str, ...]
) -> None:
    response = shop.http.post("/v1/recommendations", json={"user_id": user} | QUIET | fields)

    assert_problem(response, 422)
    for text in texts:
        assert text in response.json()["detail"]


def test_query_has_rules_as_json(shop: LiveLoop) -> None:
    query = {"user_id": "u1", "hide": "purchase", "rules": '{"caps": {"creator": 1}}', "log": "false"}
    response = shop.http.get("/v1/recommendations", params=query)

    assert response.status_code == 200, response.text
    assert response.json()["rules_applied"]["hide"] == 2


def test_applied_rules_are_counted(shop: LiveLoop) -> None:
    recommend(shop, rules={"pins": [{"position": 0, "item_id": "i15"}]})

    assert 'headrace_rules_applied_total{rule="pins"}' in shop.http.get("/metrics").text
