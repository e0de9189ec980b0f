"""Events over HTTP: accepted, rejected with a reason, or duplicates."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from serving.records import IngestResult
from stream.clock import DAY_MS
from stream.ids import partition_for_id
from stream.topics import DEAD_LETTER, EVENTS
from tests.support.faults import UnreachableStore
from tests.support.serving_loop import JSON, NOW, LiveLoop, make_event, make_impression

YEAR = 365 * DAY_MS


def accepted(count: int, repeated: int = 0) -> dict[str, Any]:
    """Response to events that are all accepted."""
    return {"accepted": count, "repeated": repeated, "refused": [], "status": "accepted"}


INVALID_EVENTS = {
    "an unknown type": (make_event(type="glance"), "type"),
    "no event_id": (make_event(event_id=None), "event_id"),
    "no ts": (make_event(ts=None), "ts"),
    "a user_id that is no text": (make_event(user_id=5), "user_id"),
    "a click without item": (make_event(item_id=None), "item_id"),
    "an impression without items": (make_impression([]), "items"),
    "an impression without impression_id": (make_impression(["a"], impression_id=None), "impression_id"),
    "ts as text": (make_event(ts="now"), "ts"),
    "ts as a float": (make_event(ts=1.5), "ts"),
    "user_id as a number": (make_event(user_id=7), "user_id"),
    "items as text": (make_impression(["a"]) | {"items": "a"}, "items"),
    "an empty event_id": (make_event(event_id=""), "event_id"),
    "an empty user_id": (make_event(user_id=""), "user_id"),
    "an empty item_id": (make_event(item_id=""), "item_id"),
    "a user_id of 257 bytes": (make_event(user_id="é" * 128 + "e"), "user_id"),
    "an item_id with a newline": (make_event(item_id="a\nb"), "item_id"),
    "an item_id with a C1 control": (make_event(item_id="a\x85"), "item_id"),
    "an empty id in items": (make_impression(["a", ""]), "items"),
    "a long id in items": (make_impression(["a", "b" * 257]), "items"),
    "a negative value": (make_event(type="rating", value=-1), "value"),
    "a value beyond float32": (make_event(type="purchase", value=1e39), "value"),
    "ts ten minutes ahead": (make_event(ts=NOW + 600_000), "ts"),
    "ts a year ago": (make_event(ts=NOW - YEAR), "ts"),
    "a negative ts": (make_event(ts=-1), "ts"),
    "a huge ts": (make_event(ts=10**30), "ts"),
    "fewer propensities than items": (make_impression(["a", "b"], propensities=[0.5]), "propensities"),
    "more sources than items": (make_impression(["a"], sources=["x", "y"]), "sources"),
    "a propensity of 0": (make_impression(["a"], propensities=[0]), "propensities"),
    "a propensity above 1": (make_impression(["a"], propensities=[1.1]), "propensities"),
    "a scalar propensity of 0": (make_impression(["a"], propensity=0), "propensity"),
    "an item shown twice": (make_impression(["a", "b", "a"]), "items"),
    "a rating without value": (make_event(type="rating"), "value"),
    "a position of -1": (make_impression(["a"], position=-1), "position"),
}


@pytest.mark.parametrize(("invalid_event", "field"), INVALID_EVENTS.values(), ids=INVALID_EVENTS.keys())
def test_rejected_event_names_the_field(shared_loop: LiveLoop, invalid_event: dict[str, Any], field: str) -> None:
    response = shared_loop.http.post("/v1/events", json=invalid_event)

    assert response.status_code == 422
    assert response.headers["content-type"].startswith("application/problem+json")
    assert response.json()["status"] == 422
    assert response.json()["field"] == field


def test_invalid_events_in_a_list_leave_their_neighbors_alone(loop: LiveLoop) -> None:
    events = [make_event()]
    for invalid_event, _ in INVALID_EVENTS.values():
        events += [invalid_event, make_event()]

    result = loop.send_events(*events)

    assert result["accepted"] == len(INVALID_EVENTS) + 1
    assert [rejection["index"] for rejection in result["refused"]] == list(range(1, 2 * len(INVALID_EVENTS), 2))
    assert all(rejection["reason"] for rejection in result["refused"])
    assert len(loop.read_values(EVENTS)) == len(INVALID_EVENTS) + 1


@pytest.mark.parametrize(
    "invalid_element", ["1", "null", '"e"', "[]", "{}", "NaN", "-Infinity", '{"value": NaN}', '"\\ud800"', "1e999"]
)
def test_list_with_an_invalid_element_is_accepted(shared_loop: LiveLoop, invalid_element: str) -> None:
    valid_events = [json.dumps(make_event()) for _ in range(2)]

    body = f" [{valid_events[0]} , {invalid_element},{valid_events[1]}] "
    response = shared_loop.http.post("/v1/events", content=body, headers=JSON)

    assert response.status_code == 202
    assert response.json()["accepted"] == 2
    assert [rejection["index"] for rejection in response.json()["refused"]] == [1]


@pytest.mark.parametrize(
    ("field", "value"), [("value", "NaN"), ("value", "1e999"), ("user_id", '"\\ud800"'), ("ts", "-Infinity")]
)
def test_non_standard_json_error_names_the_field(shared_loop: LiveLoop, field: str, value: str) -> None:
    body = json.dumps(make_event() | {field: "X"}).replace('"X"', value)

    response = shared_loop.http.post("/v1/events", content=body, headers=JSON)

    assert response.status_code == 422
    assert response.json()["field"] == field


@pytest.mark.parametrize(
    "body", [b"", b" ", b"{", b"[", b"[{}", b"[1,]", b"[1] 2", b"[1 2]", b"[NaN,", b"nonsense", b'["\xff"]', b'{"a":']
)
def test_body_that_is_not_json_gets_400(shared_loop: LiveLoop, body: bytes) -> None:
    response = shared_loop.http.post("/v1/events", content=body, headers=JSON)

    assert response.status_code == 400
    assert response.json()["title"] == "Not JSON"


@pytest.mark.parametrize("depth", [100, 100_000])
def test_deep_nesting_causes_no_server_error(shared_loop: LiveLoop, depth: int) -> None:
    response = shared_loop.http.post("/v1/events", content=b"[" * depth + b"]" * depth, headers=JSON)

    assert response.status_code in (202, 400)


@pytest.mark.parametrize("content_type", [None, "text/html", "application/x-www-form-urlencoded"])
def test_wrong_content_type_gets_415(shared_loop: LiveLoop, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    response = shared_loop.http.post("/v1/events", content=b"[]", headers=headers)

    assert response.status_code == 415
    assert response.headers["content-type"].startswith("application/problem+json")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/vnd.shop+json"]
)
def test_any_json_content_type_is_accepted(shared_loop: LiveLoop, content_type: str) -> None:
    assert shared_loop.http.post("/v1/events", content=b"[]", headers={"content-type": content_type}).status_code == 202


def test_empty_list_is_accepted(shared_loop: LiveLoop) -> None:
    assert shared_loop.send_events() == accepted(0)


def test_batch_of_1000_events_is_accepted(loop: LiveLoop) -> None:
    events = [make_event(user_id=f"u{n % 300}", note="x" * 1000) for n in range(1000)]

    assert loop.send_events(*events) == accepted(1000)


def test_oversized_event_leaves_its_neighbors_alone(loop: LiveLoop) -> None:
    result = loop.send_events(make_event(), make_event(note="x" * (1 << 20)), make_event())

    assert result["accepted"] == 2
    assert result["refused"][0]["index"] == 1
    assert len(loop.read_values(DEAD_LETTER)[0]) < 3000


def test_oversized_body_gets_413(shared_loop: LiveLoop) -> None:
    response = shared_loop.http.post("/v1/events", content=b" " * (17 << 20), headers=JSON)

    assert response.status_code == 413
    assert response.headers["content-type"].startswith("application/problem+json")


def test_ids_of_256_bytes_are_accepted(loop: LiveLoop) -> None:
    long_id = "é" * 128

    assert loop.send_events(make_event(event_id=long_id, user_id=long_id, item_id=long_id))["accepted"] == 1


def test_unknown_fields_are_logged_byte_for_byte(loop: LiveLoop) -> None:
    body = json.dumps(make_event()).replace("}", ', "mood" : {"of day": 1.50}}')

    assert loop.http.post("/v1/events", content=body, headers=JSON).status_code == 202
    assert loop.read_values(EVENTS) == [body.encode()]


def test_impressions_may_omit_optional_fields(loop: LiveLoop) -> None:
    single_item = make_event(type="impression", item_id="a", impression_id="r2", propensity=0.5, position=3)

    result = loop.send_events(make_impression(["a", "b"]), single_item)

    assert result == accepted(2)


class TestDuplicates:
    def test_duplicates_in_one_body_are_written_once(self, loop: LiveLoop) -> None:
        duplicate = make_event()

        result = loop.send_events(duplicate, make_event(), duplicate, duplicate)

        assert result == accepted(4, repeated=2)
        assert len(loop.read_values(EVENTS)) == 2

    def test_duplicates_in_a_later_request_are_written_once(self, loop: LiveLoop) -> None:
        duplicate = make_event()
        loop.send_events(duplicate)

        assert loop.send_events(duplicate, make_event()) == accepted(2, repeated=1)
        assert loop.http.post("/v1/events", json=duplicate).json() == accepted(1, repeated=1)
        assert len(loop.read_values(EVENTS)) == 2

    def test_repeated_id_with_other_content_is_refused(self, loop: LiveLoop) -> None:
        event, other = make_event(), make_event()
        conflicts = [event | {"user_id": "somebody else"}, event | {"item_id": "z"}, event | {"ts": event["ts"] + 1}]
        loop.send_events(event)

        result = loop.send_events(conflicts[0], other, other | {"type": "like"}, *conflicts[1:], event)

        assert (result["accepted"], result["repeated"]) == (2, 1)
        assert [entry["index"] for entry in result["refused"]] == [0, 2, 3, 4]
        assert {entry["reason"].split(" with")[0] for entry in result["refused"]} == {
            "event_id is that of an earlier event"
        }
        assert loop.http.post("/v1/events", json=conflicts[0]).status_code == 422
        assert len(loop.read_values(EVENTS)) == 2

    def test_parallel_requests_with_one_event_write_it_once(self, loop: LiveLoop) -> None:
        raws = [msgspec.Raw(msgspec.json.encode(make_event()))]

        async def send_all() -> list[IngestResult]:
            return await asyncio.gather(*(loop.service.event_ingest.ingest(raws) for _ in range(8)))

        results = loop.http.blocking_portal.call(send_all)

        assert sorted(result.repeated for result in results) == [0, *[1] * 7]
        assert len(loop.read_values(EVENTS)) == 1

    def test_parallel_repeat_of_a_failed_write_is_new(self, loop: LiveLoop, monkeypatch: pytest.MonkeyPatch) -> None:
        raws, append, errors = [msgspec.Raw(msgspec.json.encode(make_event()))], loop.log.append_many, [OSError("full")]

        def fail_once(topic: str, batches: Any) -> dict[int, int]:
            if errors:
                raise errors.pop()
            return append(topic, batches)

        async def send_all() -> list[IngestResult | BaseException]:
            requests = (loop.service.event_ingest.ingest(raws) for _ in range(3))
            return await asyncio.gather(*requests, return_exceptions=True)

        monkeypatch.setattr(loop.log, "append_many", fail_once)
        failed, *results = loop.http.blocking_portal.call(send_all)

        assert isinstance(failed, OSError)
        assert sorted(result.repeated for result in results if isinstance(result, IngestResult)) == [0, 1]
        assert len(loop.read_values(EVENTS)) == 1

    def test_duplicates_are_found_in_the_log_after_a_restart(self, loop: LiveLoop) -> None:
        events = [make_event(), make_impression(["a"])]
        loop.send_events(*events)
        loop.restart_serve()

        assert loop.send_events(*events)["repeated"] == 2

    def test_duplicates_are_found_in_user_records_after_a_restart(self, loop: LiveLoop) -> None:
        events = [make_event(event_id=f"old{n}") for n in range(100)]
        loop.send_events(*events)
        loop.run_until_idle()
        loop.log.trim(EVENTS, 0, loop.log.end_offset(EVENTS, 0))
        loop.restart_serve()

        assert loop.send_events(*events, make_event(event_id="ld5"))["repeated"] == 100

    def test_duplicates_in_the_log_change_no_counts(self, loop: LiveLoop) -> None:
        duplicate = make_event()
        loop.send_events(duplicate)
        loop.log.append(EVENTS, 0, [(b"u1", json.dumps(duplicate).encode())])
        loop.run_until_idle()

        assert loop.http.get("/v1/users/u1").json()["counts"]["click"] == 1

    def test_corrected_rejected_event_is_no_duplicate(self, loop: LiveLoop) -> None:
        invalid_event = make_event(ts=NOW - YEAR)
        loop.send_events(invalid_event)

        assert loop.send_events(invalid_event | {"ts": NOW}) == accepted(1)


def test_sequential_requests_keep_their_order(tmp_path: Path) -> None:
    with LiveLoop(tmp_path, partitions=4) as loop:
        for n in range(30):
            loop.send_events(*(make_event(event_id=f"{user}{n}", user_id=user) for user in ("u1", "u2", "u3")))

        for user in ("u1", "u2", "u3"):
            records = loop.log.read(EVENTS, partition_for_id(user, 4), 0, 1000)
            event_ids = [json.loads(value or b"")["event_id"] for value in records.values]
            user_event_ids = [event_id for event_id in event_ids if event_id.startswith(user)]
            assert user_event_ids == [f"{user}{n}" for n in range(30)]


def count_rejections(reason: str) -> float:
    return REGISTRY.get_sample_value("headrace_dead_letter_total", {"reason": reason}) or 0.0


def test_http_rejections_are_counted_and_dead_lettered(loop: LiveLoop) -> None:
    before = {reason: count_rejections(reason) for reason in ("bad_value", "unknown_type", "not_json")}
    loop.send_events(make_event(), make_event(value=-1.0))
    loop.http.post("/v1/events", json=make_event(type="glance"))
    loop.http.post("/v1/events", content=b"{invalid", headers=JSON)
    loop.send_events(make_event())

    dead_letters = [msgspec.json.decode(value) for value in loop.read_values(DEAD_LETTER)]
    reasons = [(letter["reason"], letter["index"]) for letter in dead_letters]
    assert reasons == [("bad_value", 1), ("unknown_type", 0), ("not_json", 0)]
    assert json.loads(dead_letters[0]["raw"])["value"] == -1.0
    assert dead_letters[2]["raw"] == "{invalid"
    assert {reason: count_rejections(reason) - count for reason, count in before.items()} == dict.fromkeys(before, 1)


def test_events_are_accepted_while_the_store_is_unreachable(tmp_path: Path) -> None:
    with LiveLoop(tmp_path, store=UnreachableStore()) as loop:
        assert loop.send_events(make_event(), make_event()) == accepted(2)
