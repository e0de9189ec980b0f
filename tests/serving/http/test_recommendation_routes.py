"""Routes of events and recommendations: outcomes of lists, warnings, empty answers."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream.config import EventsSettings, ItemsSettings
from stream.topics import EVENTS
from tests.support.serving_loop import NOW, LiveLoop, list_item_ids, make_event


class TestListStatus:
    @pytest.mark.parametrize(
        ("n_valid", "n_invalid", "status"),
        [(2, 0, "accepted"), (1, 1, "partial"), (0, 2, "refused"), (0, 0, "accepted")],
    )
    def test_list_of_events_says_if_nothing_was_accepted(
        self, shared_loop: LiveLoop, n_valid: int, n_invalid: int, status: str
    ) -> None:
        events = [make_event() for _ in range(n_valid)] + [make_event(type="glance") for _ in range(n_invalid)]

        assert shared_loop.send_events(*events)["status"] == status

    def test_list_of_repeats_is_accepted(self, shared_loop: LiveLoop) -> None:
        event = make_event()
        shared_loop.send_events(event)

        result = shared_loop.send_events(event)
        assert (result["status"], result["repeated"]) == ("accepted", 1)

    @pytest.mark.parametrize(
        ("items", "status"),
        [([{"item_id": "a"}], "accepted"), ([{"item_id": "a"}, {}], "partial"), ([{}, 1], "refused"), ([], "accepted")],
    )
    def test_list_of_items_says_if_nothing_was_accepted(
        self, shared_loop: LiveLoop, items: list[Any], status: str
    ) -> None:
        response = shared_loop.http.post("/v1/items", json=items)

        assert (response.status_code, response.json()["status"]) == (202, status)

    def test_problem_of_a_single_event_keeps_its_http_status(self, shared_loop: LiveLoop) -> None:
        problem = shared_loop.http.post("/v1/events", json=make_event(type="glance")).json()

        assert (problem["status"], problem["accepted"], len(problem["refused"])) == (422, 0, 1)


class TestTimes:
    @pytest.mark.parametrize(
        ("ts", "unit"), [(NOW // 1000, "seconds"), (NOW * 1000, "microseconds"), (NOW * 10**6, "nanoseconds")]
    )
    def test_recommendation_for_a_time_that_events_may_not_have_gets_422(
        self, shared_loop: LiveLoop, ts: int, unit: str
    ) -> None:
        body: dict[str, Any] = {"user_id": "u1", "ts": ts}
        for response in (
            shared_loop.http.post("/v1/recommendations", json=body),
            shared_loop.http.get("/v1/recommendations", params=body),
        ):
            assert response.status_code == 422
            assert response.json()["field"] == "ts"
            assert f"looks like {unit}; ts is in milliseconds" in response.json()["detail"]
        unlogged = shared_loop.http.post("/v1/recommendations", json=body | {"log": False})
        assert unlogged.status_code == (422 if unit == "nanoseconds" else 200)  # beyond what JSON readers keep exact

    @pytest.mark.parametrize("ts", ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", str(NOW), NOW])
    def test_time_of_a_recommendation_is_that_of_its_impression(self, loop: LiveLoop, ts: int | str) -> None:
        loop.put_items("a")
        loop.recommend("u1", ts=ts)
        loop.run_until_idle()

        [impression] = loop.read_values(EVENTS)
        assert msgspec.json.decode(impression)["ts"] == NOW
        assert loop.http.get("/v1/recommendations", params={"user_id": "u1", "ts": ts}).status_code == 200

    @pytest.mark.parametrize("ts", ["now", "-5", ""])
    @pytest.mark.parametrize("log", [True, False])
    def test_text_that_is_no_time_gets_422(self, shared_loop: LiveLoop, ts: str, log: bool) -> None:
        response = shared_loop.http.post("/v1/recommendations", json={"user_id": "u1", "ts": ts, "log": log})

        assert response.status_code == 422
        assert "expected a time in milliseconds" in response.json()["detail"]

    @pytest.mark.parametrize(
        ("ts", "unit"), [(NOW // 1000, "seconds"), (NOW * 1000, "microseconds"), (NOW * 10**6, "nanoseconds")]
    )
    def test_refusal_names_the_unit(self, shared_loop: LiveLoop, ts: int, unit: str) -> None:
        detail = shared_loop.http.post("/v1/events", json=make_event(ts=ts)).json()["detail"]

        assert f"looks like {unit}; ts is in milliseconds" in detail

    def test_accepted_seconds_get_a_warning(self, tmp_path: Path) -> None:
        with LiveLoop(tmp_path, events=EventsSettings(max_age=0)) as loop:
            result = loop.send_events(make_event(ts=NOW // 1000), make_event(ts=NOW - 10**12), make_event())

            assert result["accepted"] == 3
            assert len(result["warnings"]) == 1
            assert "1 of 3 events have a ts that looks like seconds" in result["warnings"][0]
            assert "warnings" not in loop.send_events(make_event())


class TestEmptySlates:
    def test_reason_is_absent_with_items(self, loop: LiveLoop) -> None:
        loop.put_items("a")

        assert "reason" not in loop.recommend()

    def test_reason_names_the_cause(self, loop: LiveLoop) -> None:
        assert "no items are known" in loop.recommend()["reason"]
        loop.put_items("gone", available=False)
        assert loop.recommend()["reason"] == "no item of the catalog is available"
        loop.put_items("a", "b", price=5.0, categories=["tea"])
        for fields, reason in (
            ({"filters": {"max_price": 1}}, "none of 2 available items passes filters"),
            ({"filters": {"categories": ["cups"]}}, "none of 2 available items passes filters"),
            ({"filters": {"attributes": {"prise": 1}}}, "no item has the attribute 'prise'; the nearest is 'price'"),
            ({"exclude": ["a", "b"]}, "exclude names each of the 2 items"),
            ({"candidates": []}, "candidates has no item"),
            ({"candidates": ["a"], "exclude": ["a"]}, "candidates has no item"),
            ({"candidates": ["a"], "filters": {"max_price": 1}}, "none of the candidates passes filters"),
        ):
            response = loop.recommend(**fields)
            assert (response["items"], reason in response["reason"]) == ([], True), response

    def test_reason_names_the_setting_that_hides_named_items(self, tmp_path: Path) -> None:
        with LiveLoop(tmp_path, items=ItemsSettings(catalog_only=True)) as loop:
            loop.send_events(make_event())
            loop.run_until_idle()

            assert "items.catalog_only" in loop.recommend()["reason"]

    def test_reason_names_the_history(self, loop: LiveLoop) -> None:
        loop.put_items("a")
        loop.send_events(make_event(item_id="a"))
        loop.run_until_idle()

        assert "set repeats to true" in loop.recommend()["reason"]
        assert list_item_ids(loop.recommend(repeats=True)) == ["a"]

    def test_similar_items_have_a_reason_too(self, loop: LiveLoop) -> None:
        loop.put_items("a", "b")

        response = loop.http.get("/v1/items/a/similar")
        assert (response.status_code, response.json()["items"]) == (200, [])
        assert "in common" in response.json()["reason"]
