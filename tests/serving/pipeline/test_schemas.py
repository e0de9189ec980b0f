"""Requests over HTTP: valid fields, and errors that name the invalid one."""

import json
from typing import Any

import msgspec
import pytest

from stream.clock import DAY_MS
from stream.topics import EVENTS
from tests.support.serving_loop import JSON, NOW, LiveLoop, list_item_ids

UNKNOWN_FIELDS = [{"users": 1}, {"K": 5}, {"filters": {"color": "red"}}]


@pytest.mark.parametrize("extra", UNKNOWN_FIELDS, ids=str)
def test_unknown_field_error_names_the_field(shop: LiveLoop, extra: dict[str, Any]) -> None:
    name = next(iter(extra["filters"])) if "filters" in extra else next(iter(extra))
    query = {"user_id": "u1"} | {key: json.dumps(value) for key, value in extra.items()}

    post_response = shop.http.post("/v1/recommendations", json={"user_id": "u1"} | extra)
    get_response = shop.http.get("/v1/recommendations", params=query)

    for response in (post_response, get_response):
        assert response.status_code == 422
        assert response.json()["field"] == name
        assert name in response.json()["detail"]


INVALID_FIELDS: dict[str, Any] = {
    "k of 0": ({"k": 0}, "k"),
    "k of -1": ({"k": -1}, "k"),
    "k of 1001": ({"k": 1001}, "k"),
    "k as text": ({"k": "five"}, "k"),
    "k as a float": ({"k": 1.5}, "k"),
    "ts below 0": ({"ts": -1}, "ts"),
    "a huge ts": ({"ts": 10**30}, "ts"),
    "an empty user_id": ({"user_id": ""}, "user_id"),
    "a long user_id": ({"user_id": "é" * 129}, "user_id"),
    "a control character": ({"user_id": "u\x00"}, "user_id"),
    "an empty candidate": ({"candidates": [""]}, "candidates"),
    "a number to exclude": ({"exclude": [5]}, "exclude"),
    "explore as text": ({"explore": "maybe"}, "explore"),
    "context as a list": ({"context": [1]}, "context"),
    "a long context": ({"context": {"a": "x" * 20_000}}, "context"),
    "a long surface": ({"surface": "x" * 257}, "surface"),
    "too many candidates": ({"candidates": [f"c{n}" for n in range(1001)]}, "candidates"),
}


@pytest.mark.parametrize(("fields", "field"), INVALID_FIELDS.values(), ids=INVALID_FIELDS.keys())
def test_invalid_field_error_names_the_field(shop: LiveLoop, fields: dict[str, Any], field: str) -> None:
    response = shop.http.post("/v1/recommendations", json={"user_id": "u1"} | fields)

    assert response.status_code == 422
    assert response.json()["field"] == field


def test_request_without_a_user_is_answered(shop: LiveLoop) -> None:
    responses = [shop.http.post("/v1/recommendations", json={}), shop.http.get("/v1/recommendations")]

    assert [response.status_code for response in responses] == [200, 200]


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b"[]", 422), (b"1", 422), (b'{"user_id":"\xff"}', 400), (b'{"user_id":"\\ud800"}', 422)],
)
def test_invalid_request_body_is_rejected(shop: LiveLoop, body: bytes, status: int) -> None:
    response = shop.http.post("/v1/recommendations", content=body, headers=JSON)

    assert response.status_code == status


def test_get_and_post_return_the_same_items(shop: LiveLoop) -> None:
    fields: dict[str, Any] = {
        "k": 5,
        "surface": "home",
        "ts": NOW - DAY_MS,
        "exclude": ["item03", "item04"],
        "repeats": True,
        "explore": False,
        "log": False,
        "explain": True,
        "context": {"device": "mobile"},
        "filters": {"categories": ["food"], "max_price": 9},
    }
    query: dict[str, Any] = {"user_id": "u1"} | fields
    query |= {name: json.dumps(fields[name]) for name in ("context", "filters")}

    response = shop.http.get("/v1/recommendations", params=query)

    assert response.status_code == 200
    assert response.json()["items"] == shop.recommend(**fields)["items"] != []
    query = {"user_id": "u1", "candidates": ["item05", "x,y"], "explore": "0"}
    assert sorted(list_item_ids(shop.http.get("/v1/recommendations", params=query).json())) == ["item05", "x,y"]


@pytest.mark.parametrize("ts", [0, NOW - 400 * DAY_MS, NOW + DAY_MS, 1 << 53])
def test_request_may_have_any_timestamp(shop: LiveLoop, ts: int) -> None:
    assert len(list_item_ids(shop.recommend("u1", ts=ts, log=False))) == 10


@pytest.mark.parametrize("context", [{"n": 10**25, "b": True, "l": [1, {"x": None}], "s": "日本"}, {"é\n": "\t"}, {}])
def test_context_may_contain_any_json(loop: LiveLoop, context: dict[str, Any]) -> None:
    loop.put_items("a", "b")

    loop.recommend(context=context)
    loop.run_until_idle()

    assert msgspec.json.decode(loop.read_values(EVENTS)[0])["context"] == context
