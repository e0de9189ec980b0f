"""Keys by scope: who may call which route."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.serving_loop import LiveLoop, assert_problem, make_event

INGEST = [("POST", "/v1/events"), ("POST", "/v1/items"), ("PUT", "/v1/items/a"), ("DELETE", "/v1/items/a")]
RECOMMEND = [
    ("POST", "/v1/recommendations"),
    ("GET", "/v1/recommendations?user_id=u1"),
    ("GET", "/v1/items/a"),
    ("GET", "/v1/items/a/similar"),
    ("GET", "/v1/lag"),
]
USERS = [("GET", "/v1/users/u1"), ("DELETE", "/v1/users/u1")]
ADMIN = [("GET", "/v1/models"), ("POST", "/v1/models/rollback"), ("GET", "/v1/alarms"), ("GET", "/v1/lineage/x")]
OPEN = [("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/"), ("GET", "/docs")]
ROUTES = INGEST + RECOMMEND + USERS + ADMIN


@pytest.fixture(scope="module")
def closed_loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveLoop]:
    """A loop in which each scope has two keys."""
    keys: dict[str, Any] = {"admin_key": "old-admin, new-admin", "ingest_key": "in1,in2", "recommend_key": "rec1 ,réc2"}
    with LiveLoop(tmp_path_factory.mktemp("closed"), **keys) as loop:
        yield loop


def call(loop: LiveLoop, route: tuple[str, str], key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {b"Authorization": f"Bearer {key}".encode()}
    return loop.http.request(*route, headers=headers)


def is_admitted(loop: LiveLoop, route: tuple[str, str], key: str | None = None) -> bool:
    return call(loop, route, key).status_code not in (401, 403)


class TestKeys:
    @pytest.mark.parametrize("route", ROUTES, ids=" ".join)
    def test_closed_route_needs_a_key(self, closed_loop: LiveLoop, route: tuple[str, str]) -> None:
        response = call(closed_loop, route)

        assert_problem(response, 401)
        assert response.headers["www-authenticate"] == "Bearer"
        assert_problem(call(closed_loop, route, "wrong"), 403)

    @pytest.mark.parametrize(
        ("keys", "routes"),
        [
            (["in1", "in2"], INGEST),
            (["rec1", "réc2"], RECOMMEND),
            (["old-admin", "new-admin"], ROUTES),
        ],
        ids=["ingest", "recommend", "admin"],
    )
    def test_key_opens_its_scope_alone(
        self, closed_loop: LiveLoop, keys: list[str], routes: list[tuple[str, str]]
    ) -> None:
        for key in keys:
            assert [route for route in ROUTES if is_admitted(closed_loop, route, key)] == routes

    @pytest.mark.parametrize("route", OPEN, ids=" ".join)
    def test_probes_and_pages_need_no_key(self, closed_loop: LiveLoop, route: tuple[str, str]) -> None:
        assert call(closed_loop, route).status_code == 200

    @pytest.mark.parametrize("key", ["", " ", ",", "in1,in2", "in", "in11", "IN1"])
    def test_part_of_a_key_opens_nothing(self, closed_loop: LiveLoop, key: str) -> None:
        assert not is_admitted(closed_loop, ("POST", "/v1/events"), key)

    def test_keys_stand_in_no_response(self, closed_loop: LiveLoop) -> None:
        texts = [call(closed_loop, route, key).text for route in ROUTES for key in (None, "wrong-key")]

        assert not [text for text in texts if "in1" in text or "rec1" in text or "-admin" in text or "wrong-" in text]


class TestOpenScopes:
    def test_scopes_without_a_key_are_open(self, shared_loop: LiveLoop) -> None:
        admitted = [route for route in ROUTES if is_admitted(shared_loop, route)]

        assert admitted == INGEST + RECOMMEND + USERS

    def test_one_key_closes_its_scope_and_the_users(self, tmp_path: Path) -> None:
        with LiveLoop(tmp_path, ingest_key="in1") as loop:
            assert [route for route in ROUTES if is_admitted(loop, route)] == RECOMMEND
            assert_problem(call(loop, USERS[0], "in1"), 403)
            assert call(loop, USERS[0], "key").status_code == 404

    def test_users_stay_closed_without_an_admin_key(self, tmp_path: Path) -> None:
        with LiveLoop(tmp_path, recommend_key="rec", admin_key="") as loop:
            assert_problem(call(loop, USERS[0]), 401)
            assert_problem(call(loop, USERS[0], "rec"), 403)

    def test_refused_request_changes_nothing(self, closed_loop: LiveLoop) -> None:
        assert_problem(closed_loop.http.post("/v1/events", json=[make_event(event_id="intruder")]), 401)
        assert not [value for value in closed_loop.read_values("events") if b"intruder" in value]
