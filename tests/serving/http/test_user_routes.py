"""Routes of users: read and forget."""

from datetime import UTC, datetime

from tests.support.serving_loop import NOW, LiveLoop, assert_problem, list_item_ids, make_event


class TestUsers:
    def test_history_lists_the_last_100_events_oldest_first(self, loop: LiveLoop) -> None:
        event_types = ["click", "like"] * 65 + ["click"] * 120
        events = [
            make_event(event_id=f"n{n}", item_id=f"i{n}", type=event_type, ts=NOW + n)
            for n, event_type in enumerate(event_types)
        ]
        loop.send_events(*events[:130])
        loop.run_until_idle()
        loop.send_events(*events[130:])
        loop.run_until_idle()

        user = loop.http.get("/v1/users/u1").json()

        history = user["history"]
        assert len(history) >= 100
        first = 250 - len(history)
        assert [entry["event_id"] for entry in history] == [f"n{n}" for n in range(first, 250)]
        assert history[-1] == {"item_id": "i249", "type": "click", "ts": NOW + 249, "event_id": "n249"}
        assert (user["counts"]["click"], user["counts"]["like"]) == (65 + 120, 65)

    def test_event_with_a_text_time_is_in_the_history_at_its_milliseconds(self, loop: LiveLoop) -> None:
        time = datetime.fromtimestamp(NOW / 1000, UTC).isoformat()
        loop.send_events(make_event(event_id="e1", item_id="a", ts=time))
        loop.run_until_idle()

        assert loop.http.get("/v1/users/u1").json()["history"][0]["ts"] == NOW

    def test_unknown_user_gets_404(self, shared_loop: LiveLoop) -> None:
        assert_problem(shared_loop.http.get("/v1/users/nobody"), 404)

    def test_request_without_an_impression_creates_no_user(self, loop: LiveLoop) -> None:
        loop.recommend("new")
        loop.run_until_idle()

        assert_problem(loop.http.get("/v1/users/new"), 404)

    def test_forgotten_user_starts_with_an_empty_history(self, loop: LiveLoop) -> None:
        loop.put_items("a", "b")
        loop.send_events(make_event(item_id="a"), make_event(user_id="u2", item_id="a"))
        loop.run_until_idle()
        with loop.run_stream_worker():
            assert loop.http.delete("/v1/users/u1").status_code == 204
            assert_problem(loop.http.get("/v1/users/u1"), 404)
            assert loop.http.delete("/v1/users/never").status_code == 204
        loop.run_until_idle()

        assert set(list_item_ids(loop.recommend("u1", log=False))) == {"a", "b"}
        assert loop.http.get("/v1/users/u2").status_code == 200
        loop.send_events(make_event(item_id="b", ts=NOW))
        loop.run_until_idle()
        assert_problem(loop.http.get("/v1/users/u1"), 404)
        loop.send_events(make_event(item_id="b", ts=NOW + 1))
        loop.run_until_idle()
        user = loop.http.get("/v1/users/u1").json()
        assert [entry["item_id"] for entry in user["history"]] == ["b"]
        assert user["counts"]["click"] == 1

    def test_user_id_may_contain_a_slash(self, loop: LiveLoop) -> None:
        loop.send_events(make_event(user_id="a/b"))
        loop.run_until_idle()

        assert loop.http.get("/v1/users/a%2Fb").json()["user_id"] == "a/b"
