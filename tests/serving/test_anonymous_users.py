"""Sessions without a user, and nobody at all, over HTTP."""

from pathlib import Path
from typing import Any

import pytest

from stream.topics import EVENTS
from tests.support.serving_loop import NOW, LiveLoop, assert_problem, list_item_ids, make_event

ITEMS = tuple("abcd")


def ask(loop: LiveLoop, **fields: Any) -> dict[str, Any]:
    return loop.recommend(**{"user": None, "explore": False} | fields)


def test_session_has_a_history_of_its_own(loop: LiveLoop) -> None:
    loop.put_items(*ITEMS)
    loop.send_events(make_event(user_id=None, session_id="s1", item_id="a"))
    loop.run_until_idle()

    user = loop.http.get("/v1/users/session:s1").json()
    assert [entry["item_id"] for entry in user["history"]] == ["a"]
    assert set(list_item_ids(ask(loop, session_id="s1", log=False))) == set("bcd")
    assert set(list_item_ids(ask(loop, session_id="s2", log=False))) == set(ITEMS)
    assert_problem(loop.http.get("/v1/users/s1"), 404)


def test_click_of_a_session_joins_its_slate(loop: LiveLoop) -> None:
    loop.put_items(*ITEMS)
    slate = ask(loop, session_id="s1")
    loop.send_events(make_event(user_id=None, session_id="s1", impression_id=slate["impression_id"]))
    loop.run_until_idle()

    (impression,) = loop.stream_worker._partitions[0].joiner._open.values()
    assert impression.labels.sum() == 1


def test_session_of_a_user_is_that_user(loop: LiveLoop) -> None:
    loop.put_items(*ITEMS)
    loop.send_events(make_event(user_id="u1", session_id="s1", item_id="a"))
    loop.run_until_idle()

    assert loop.http.get("/v1/users/u1").json()["counts"]["click"] == 1
    assert_problem(loop.http.get("/v1/users/session:s1"), 404)


def test_events_of_nobody_count_for_items_only(tmp_path: Path) -> None:
    with LiveLoop(tmp_path, partitions=3) as loop:
        loop.put_items(*ITEMS)
        slate = ask(loop)
        loop.send_events(
            make_event(event_id="x", user_id=None, item_id="a", impression_id=slate["impression_id"]),
            *(make_event(user_id=None, item_id=item) for item in "abb"),
        )
        loop.run_until_idle()
        assert loop.send_events(make_event(event_id="x", user_id=None, item_id="a"))["repeated"] == 1

        assert loop.http.get("/v1/items/a").json()["counts"]["click"] == 2
        assert dict(loop.store.scan()) == {}
        (joined,) = (p for p in loop.stream_worker._partitions.values() if len(p.joiner))
        assert next(iter(joined.joiner._open.values())).labels.sum() == 1


def test_session_id_is_checked_like_a_user_id(shared_loop: LiveLoop) -> None:
    assert_problem(shared_loop.http.post("/v1/recommendations", json={"session_id": ""}), 422)
    (refused,) = shared_loop.send_events(make_event(user_id=None, session_id=""))["refused"]

    assert "session_id" in refused["reason"]


class TestConsent:
    def test_event_without_consent_is_not_in_the_log(self, loop: LiveLoop) -> None:
        result = loop.send_events(make_event(event_id="x", consent=False), make_event(item_id="b"))

        assert (result["accepted"], result["without_consent"], result["refused"]) == (1, 1, [])
        assert not any(b'"x"' in value for value in loop.read_values(EVENTS))

    def test_request_without_consent_reads_and_keeps_nothing(self, loop: LiveLoop) -> None:
        loop.put_items(*ITEMS)
        loop.send_events(make_event(item_id="a"))
        loop.run_until_idle()
        before = len(loop.read_values(EVENTS))

        assert set(list_item_ids(ask(loop, user="u1", consent=False))) == set(ITEMS)
        assert len(loop.read_values(EVENTS)) == before

    def test_user_without_consent_is_forgotten_until_consent(self, loop: LiveLoop) -> None:
        loop.put_items(*ITEMS)
        loop.send_events(make_event(item_id="a"))
        loop.run_until_idle()
        with loop.run_stream_worker():
            assert loop.http.patch("/v1/users/u1", json={"consent": False, "city": "Ulm"}).status_code == 204
            user = loop.http.get("/v1/users/u1").json()
            assert (user["history"], user["attributes"], user["consent"]) == ([], {}, False)
            before = len(loop.read_values(EVENTS))
            assert loop.send_events(make_event(item_id="b", ts=NOW + 1))["without_consent"] == 1
            assert set(list_item_ids(ask(loop, user="u1"))) == set(ITEMS)
            assert len(loop.read_values(EVENTS)) == before
            assert loop.http.patch("/v1/users/u1", json={"consent": True}).status_code == 204
        loop.send_events(make_event(item_id="c", ts=NOW + 2))
        loop.run_until_idle()

        assert [entry["item_id"] for entry in loop.http.get("/v1/users/u1").json()["history"]] == ["c"]

    def test_event_of_another_producer_without_consent_is_dropped(self, loop: LiveLoop) -> None:
        loop.log.append(EVENTS, 0, [(b"u1", b'{"event_id":"k","type":"click","ts":%d,"user_id":"u1","item_id":"a",'
                                            b'"consent":false}' % NOW)])  # fmt: skip
        with loop.run_stream_worker():
            loop.http.put("/v1/users/u2", json={"consent": False})
        loop.log.append(
            EVENTS, 0, [(b"u2", b'{"event_id":"l","type":"click","ts":%d,"user_id":"u2","item_id":"a"}' % NOW)]
        )
        loop.run_until_idle()

        assert_problem(loop.http.get("/v1/users/u1"), 404)
        assert loop.http.get("/v1/users/u2").json()["history"] == []
        assert_problem(loop.http.get("/v1/items/a"), 404)


class TestAttributes:
    def test_put_replaces_and_patch_changes(self, loop: LiveLoop) -> None:
        with loop.run_stream_worker():
            assert loop.http.put("/v1/users/u1", json={"city": "Ulm", "interests": ["tea"]}).status_code == 204
            loop.http.patch("/v1/users/u1", json={"city": None, "job": "nurse"})
            user = loop.http.get("/v1/users/u1").json()
            assert (user["attributes"], user["interests"], user["consent"]) == ({"job": "nurse"}, ["tea"], True)
            loop.http.put("/v1/users/u1", json={"city": "Kiel"})

            assert loop.http.get("/v1/users/u1").json()["attributes"] == {"city": "Kiel"}

    @pytest.mark.parametrize("body", [{"consent": "no"}, {"interests": "tea"}, {"user_id": "u2"}, [], 1])
    def test_invalid_fields_get_422(self, shared_loop: LiveLoop, body: Any) -> None:
        assert_problem(shared_loop.http.put("/v1/users/u1", json=body), 422)
        assert_problem(shared_loop.http.patch("/v1/users/u1", json=body), 422)


def test_similar_items_leave_out_those_of_the_user(loop: LiveLoop) -> None:
    loop.put_items(*ITEMS, categories=["tea"])
    loop.send_events(make_event(item_id="b"), make_event(user_id=None, session_id="s1", item_id="c"))
    loop.run_until_idle()
    found = {
        name: set(list_item_ids(loop.http.get("/v1/items/a/similar", params=params).json()))
        for name, params in {"user": {"user_id": "u1"}, "session": {"session_id": "s1"}, "nobody": {}}.items()
    }

    assert found == {"user": set("cd"), "session": set("bd"), "nobody": set("bcd")}
