"""Fuzzed requests: no input causes a server error."""

import json
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.serving_loop import JSON, LiveLoop, make_impression

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


field_names = st.sampled_from(
    ["event_id", "type", "ts", "user_id", "item_id", "items", "propensities", "value", "position", "context",
     "features", "k", "candidates", "exclude", "filters", "explore", "surface", "price", "categories", "created_ts",
     "available"]
)  # fmt: skip


mutated_events = st.builds(lambda fields: make_impression(["a"]) | fields, st.dictionaries(field_names, json_values))


mutated_requests = st.builds(
    lambda fields: {"user_id": "u1"} | fields, st.dictionaries(field_names, json_values, max_size=3)
)


ROUTES = [("POST", "/v1/events"), ("POST", "/v1/recommendations"), ("POST", "/v1/items"), ("PUT", "/v1/items/a")]


fuzz_settings = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@given(
    body=json_values | mutated_events | mutated_requests | st.lists(mutated_events, max_size=3),
    route=st.sampled_from(ROUTES),
)
@fuzz_settings
def test_no_json_body_causes_a_server_error(shared_loop: LiveLoop, body: Any, route: tuple[str, str]) -> None:
    text = json.dumps(body).encode()

    response = shared_loop.http.request(*route, content=text, headers=JSON)

    assert response.status_code in (200, 202, 400, 422)
    if route == ("POST", "/v1/events") and isinstance(body, list):
        assert response.status_code == 202
        assert response.json()["accepted"] + len(response.json()["refused"]) == len(body)


@given(body=st.binary(max_size=60), route=st.sampled_from(ROUTES))
@fuzz_settings
def test_no_byte_sequence_causes_a_server_error(shared_loop: LiveLoop, body: bytes, route: tuple[str, str]) -> None:
    assert shared_loop.http.request(*route, content=body, headers=JSON).status_code in (200, 202, 400, 422)


@given(
    query=st.dictionaries(field_names | st.text(max_size=5), st.text(max_size=10)),
    path=st.text(min_size=1, max_size=30),
)
@fuzz_settings
def test_no_path_or_query_causes_a_server_error(shared_loop: LiveLoop, query: dict[str, str], path: str) -> None:
    try:
        path = quote(path, safe="")
        query = {name: value.encode().decode() for name, value in query.items()}
    except UnicodeEncodeError:
        return
    for response in (
        shared_loop.http.get("/v1/recommendations", params={"user_id": "u1"} | query),
        shared_loop.http.get(f"/v1/items/{path}", params=query),
        shared_loop.http.get(f"/v1/users/{path}/similar"),
        shared_loop.http.get(f"/v1/items/{path}/similar", params=query),
    ):
        assert response.status_code < 500


def test_fuzzed_events_are_learned_without_errors(shared_loop: LiveLoop) -> None:
    shared_loop.run_until_idle()

    assert shared_loop.lag == 0
    shared_loop.recommend("u1")
