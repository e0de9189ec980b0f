"""Events over HTTP: what is taken, what is refused and why, and what repeats."""

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from stream.ids import partition_of
from stream.testing import MemoryStore
from stream.topics import DEAD_LETTER, EVENTS
from tests.support.serving_loop import NOW, Loop, event, shown

JSON = {"content-type": "application/json"}
YEAR = 365 * 86_400_000

REFUSED = {
    "an unknown type": (event(type="glance"), "type"),
    "no event_id": (event(event_id=None), "event_id"),
    "no ts": (event(ts=None), "ts"),
    "no user_id": (event(user_id=None), "user_id"),
    "a click without item": (event(item_id=None), "item_id"),
    "an impression without items": (shown([]), "items"),
    "an impression without impression_id": (shown(["a"], impression_id=None), "impression_id"),
    "ts as text": (event(ts="now"), "ts"),
    "ts as a float": (event(ts=1.5), "ts"),
    "user_id as a number": (event(user_id=7), "user_id"),
    "items as text": (shown(["a"]) | {"items": "a"}, "items"),
    "an empty event_id": (event(event_id=""), "event_id"),
    "an empty user_id": (event(user_id=""), "user_id"),
    "an empty item_id": (event(item_id=""), "item_id"),
    "a user_id of 257 bytes": (event(user_id="é" * 128 + "e"), "user_id"),
    "an item_id with a newline": (event(item_id="a\nb"), "item_id"),
    "an item_id with a C1 control": (event(item_id="a\x85"), "item_id"),
    "an empty id in items": (shown(["a", ""]), "items"),
    "a long id in items": (shown(["a", "b" * 257]), "items"),
    "a negative value": (event(type="rating", value=-1), "value"),
    "a value beyond float32": (event(type="purchase", value=1e39), "value"),
    "ts ten minutes ahead": (event(ts=NOW + 600_000), "ts"),
    "ts a year ago": (event(ts=NOW - YEAR), "ts"),
    "a negative ts": (event(ts=-1), "ts"),
    "a huge ts": (event(ts=10**30), "ts"),
    "fewer propensities than items": (shown(["a", "b"], propensities=[0.5]), "propensities"),
    "more sources than items": (shown(["a"], sources=["x", "y"]), "sources"),
    "a propensity of 0": (shown(["a"], propensities=[0]), "propensity"),
    "a propensity above 1": (shown(["a"], propensities=[1.1]), "propensity"),
    "a position of -1": (shown(["a"], position=-1), "position"),
}


@pytest.mark.parametrize(("bad", "field"), REFUSED.values(), ids=REFUSED.keys())
def test_one_bad_event_is_a_problem_that_names_the_field(door: Loop, bad: dict[str, Any], field: str) -> None:
    answer = door.http.post("/v1/events", json=bad)

    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.json()["status"] == 422
    assert answer.json()["field"] == field


def test_in_a_list_bad_events_leave_their_neighbours_alone(loop: Loop) -> None:
    events = [event()]
    for bad, _ in REFUSED.values():
        events += [bad, event()]

    told = loop.send(*events)

    assert told["accepted"] == len(REFUSED) + 1
    assert [one["index"] for one in told["refused"]] == list(range(1, 2 * len(REFUSED), 2))
    assert all(one["reason"] for one in told["refused"])
    assert len(loop.values(EVENTS)) == len(REFUSED) + 1


@pytest.mark.parametrize(
    "bad", ["1", "null", '"e"', "[]", "{}", "NaN", "-Infinity", '{"value": NaN}', '"\\ud800"', "1e999"]
)
def test_a_list_is_taken_whatever_stands_in_it(door: Loop, bad: str) -> None:
    good = [json.dumps(event()) for _ in range(2)]

    answer = door.http.post("/v1/events", content=f" [{good[0]} , {bad},{good[1]}] ", headers=JSON)

    assert answer.status_code == 202
    assert answer.json()["accepted"] == 2
    assert [one["index"] for one in answer.json()["refused"]] == [1]


@pytest.mark.parametrize(
    ("field", "value"), [("value", "NaN"), ("value", "1e999"), ("user_id", '"\\ud800"'), ("ts", "-Infinity")]
)
def test_what_only_some_readers_take_for_json_is_refused_by_field(door: Loop, field: str, value: str) -> None:
    body = json.dumps(event() | {field: "X"}).replace('"X"', value)

    answer = door.http.post("/v1/events", content=body, headers=JSON)

    assert answer.status_code == 422
    assert answer.json()["field"] == field


@pytest.mark.parametrize(
    "body", [b"", b" ", b"{", b"[", b"[{}", b"[1,]", b"[1] 2", b"[1 2]", b"[NaN,", b"nonsense", b'["\xff"]', b'{"a":']
)
def test_a_body_that_is_no_json_is_400(door: Loop, body: bytes) -> None:
    answer = door.http.post("/v1/events", content=body, headers=JSON)

    assert answer.status_code == 400
    assert answer.json()["title"] == "Not JSON"


@pytest.mark.parametrize("depth", [100, 100_000])
def test_deep_nesting_is_no_fault_of_ours(door: Loop, depth: int) -> None:
    answer = door.http.post("/v1/events", content=b"[" * depth + b"]" * depth, headers=JSON)

    assert answer.status_code in (202, 400)


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_another_content_type_is_415(door: Loop, kind: str | None) -> None:
    answer = door.http.post("/v1/events", content=b"[]", headers={"content-type": kind} if kind else {})

    assert answer.status_code == 415
    assert answer.headers["content-type"].startswith("application/problem+json")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/vnd.shop+json"])
def test_json_by_any_of_its_names_is_taken(door: Loop, kind: str) -> None:
    assert door.http.post("/v1/events", content=b"[]", headers={"content-type": kind}).status_code == 202


def test_an_empty_list_is_taken(door: Loop) -> None:
    assert door.send() == {"accepted": 0, "repeated": 0, "refused": []}


def test_a_thousand_events_of_a_mebibyte_are_taken_at_once(loop: Loop) -> None:
    events = [event(user_id=f"u{n % 300}", note="x" * 1000) for n in range(1000)]
    began = time.perf_counter()

    told = loop.send(*events)

    assert told == {"accepted": 1000, "repeated": 0, "refused": []}
    assert time.perf_counter() - began < 1


def test_an_over_size_event_is_refused_and_its_neighbours_are_not(loop: Loop) -> None:
    told = loop.send(event(), event(note="x" * (1 << 20)), event())

    assert told["accepted"] == 2
    assert told["refused"][0]["index"] == 1
    assert len(loop.values(DEAD_LETTER)[0]) < 3000


def test_a_body_beyond_the_limit_is_413(door: Loop) -> None:
    answer = door.http.post("/v1/events", content=b" " * (17 << 20), headers=JSON)

    assert answer.status_code == 413
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_ids_of_256_bytes_are_taken(loop: Loop) -> None:
    name = "é" * 128

    assert loop.send(event(event_id=name, user_id=name, item_id=name))["accepted"] == 1


def test_unknown_fields_stay_in_the_log_to_the_byte(loop: Loop) -> None:
    body = json.dumps(event()).replace("}", ', "mood" : {"of day": 1.50}}')

    assert loop.http.post("/v1/events", content=body, headers=JSON).status_code == 202
    assert loop.values(EVENTS) == [body.encode()]


def test_other_peoples_impressions_may_leave_out_what_they_do_not_know(loop: Loop) -> None:
    of_one = event(type="impression", item_id="a", impression_id="r2", propensity=0.5, position=3)

    told = loop.send(shown(["a", "b"]), of_one)

    assert told == {"accepted": 2, "repeated": 0, "refused": []}


class TestRepeats:
    def test_in_one_body_are_accepted_and_written_once(self, loop: Loop) -> None:
        once = event()

        assert loop.send(once, event(), once, once) == {"accepted": 4, "repeated": 2, "refused": []}
        assert len(loop.values(EVENTS)) == 2

    def test_in_a_later_request_are_written_once(self, loop: Loop) -> None:
        once = event()
        loop.send(once)

        assert loop.send(once, event()) == {"accepted": 2, "repeated": 1, "refused": []}
        assert loop.http.post("/v1/events", json=once).json() == {"accepted": 1, "repeated": 1, "refused": []}
        assert len(loop.values(EVENTS)) == 2

    def test_are_known_after_a_restart_from_the_tail_of_the_log(self, loop: Loop) -> None:
        sent = [event(), shown(["a"])]
        loop.send(*sent)
        loop.restart_serve()

        assert loop.send(*sent)["repeated"] == 2

    def test_are_known_after_a_restart_from_the_persons_record_alone(self, loop: Loop) -> None:
        sent = [event(event_id=f"old{n}") for n in range(100)]
        loop.send(*sent)
        loop.settle()
        loop.log.trim(EVENTS, 0, loop.log.end(EVENTS, 0))
        loop.restart_serve()

        assert loop.send(*sent, event(event_id="ld5"))["repeated"] == 100

    def test_change_nothing_even_if_this_process_cannot_tell(self, loop: Loop) -> None:
        once = event()
        loop.send(once)
        loop.log.append(EVENTS, 0, [(b"u1", json.dumps(once).encode())])
        loop.settle()

        assert loop.http.get("/v1/users/u1").json()["counts"]["click"] == 1

    def test_of_what_was_refused_are_no_repeats(self, loop: Loop) -> None:
        bad = event(ts=NOW - YEAR)
        loop.send(bad)

        assert loop.send(bad | {"ts": NOW}) == {"accepted": 1, "repeated": 0, "refused": []}


def test_requests_sent_one_after_another_keep_their_order(tmp_path: Path) -> None:
    with Loop(tmp_path, partitions=4) as loop:
        for n in range(30):
            loop.send(*(event(event_id=f"{user}{n}", user_id=user) for user in ("u1", "u2", "u3")))

        for user in ("u1", "u2", "u3"):
            part = loop.log.read(EVENTS, partition_of(user, 4), 0, 1000)
            names = [json.loads(value or b"")["event_id"] for value in part.values]
            assert [name for name in names if name.startswith(user)] == [f"{user}{n}" for n in range(30)]


def refusals(reason: str) -> float:
    return REGISTRY.get_sample_value("headrace_dead_letter_total", {"reason": reason}) or 0.0


def test_what_http_refuses_is_counted_and_goes_to_dead_letter(loop: Loop) -> None:
    before = {reason: refusals(reason) for reason in ("bad_value", "unknown_type", "not_json")}
    loop.send(event(), event(value=-1.0))
    loop.http.post("/v1/events", json=event(type="glance"))
    loop.http.post("/v1/events", content=b"{oh", headers=JSON)
    loop.send(event())

    letters = [msgspec.json.decode(value) for value in loop.values(DEAD_LETTER)]
    assert [(letter["reason"], letter["index"]) for letter in letters] == [
        ("bad_value", 1),
        ("unknown_type", 0),
        ("not_json", 0),
    ]
    assert json.loads(letters[0]["raw"])["value"] == -1.0
    assert letters[2]["raw"] == "{oh"
    assert {reason: refusals(reason) - count for reason, count in before.items()} == dict.fromkeys(before, 1)


class AwayStore(MemoryStore):
    """A store that cannot be reached."""

    def get(self, key: int) -> bytes | None:
        raise ConnectionError("no route to the store")

    def get_many(self, keys: Any) -> list[bytes | None]:
        raise ConnectionError("no route to the store")


def test_events_are_taken_while_the_store_is_away(tmp_path: Path) -> None:
    with Loop(tmp_path, store=AwayStore()) as loop:
        assert loop.send(event(), event()) == {"accepted": 2, "repeated": 0, "refused": []}
