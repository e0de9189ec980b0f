"""The routes: catalogue, people, operations, health, and how each of them refuses."""

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from online_models.control import CheckpointOrder, RollbackOrder, StrikeOrder, decode_order, encode_order
from online_models.versions import gate
from serving.http.app import create_app
from stream.testing import MemoryStore
from stream.topics import ALARMS, CONTROL, EVENTS, EXAMPLES
from tests.support.serving_loop import ADMIN, NOW, Loop, event, shown, slate

JSON = {"content-type": "application/json"}
STRANGE = ["a/b", "a%2Fb", "..", "日本", "a b?c#d", "%", "é" * 128, "similar", "a//b", "/"]


def assert_problem(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.json()["status"] == status
    assert {"type", "title", "detail"} <= answer.json().keys()


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


class TestItems:
    def test_an_item_is_there_at_once_with_every_field(self, loop: Loop) -> None:
        item = {"title": "Tea", "price": 2.5, "colour": {"of": ["leaf", 10**25]}}

        assert loop.http.put("/v1/items/a", json=item).status_code == 200
        assert loop.http.get("/v1/items/a").json().items() >= ({"item_id": "a"} | item).items()
        assert loop.http.put("/v1/items/a", json={"item_id": "a"}).status_code == 200
        assert "title" not in loop.http.get("/v1/items/a").json()

    def test_many_items_are_put_and_bad_ones_leave_their_neighbours_alone(self, loop: Loop) -> None:
        bad = [{}, 1, {"item_id": ""}, {"item_id": "x", "price": -1}, {"item_id": "x", "created_ts": 1 << 60}]
        mixed = [item for n, one in enumerate(bad) for item in ({"item_id": f"i{n}"}, one)]

        answer = loop.http.post("/v1/items", json=mixed)

        assert answer.status_code == 202
        assert answer.json()["accepted"] == len(bad)
        assert [one["index"] for one in answer.json()["refused"]] == list(range(1, 2 * len(bad), 2))
        assert loop.http.get("/v1/items/x").status_code == 404
        loop.settle()
        assert len(slate(loop.ask())) == len(bad)

    def test_a_thousand_items_of_a_mebibyte_are_taken(self, loop: Loop) -> None:
        answer = loop.http.post("/v1/items", json=[{"item_id": f"i{n}", "text": "x" * 1024} for n in range(1000)])

        assert answer.json() == {"accepted": 1000, "refused": []}
        assert loop.http.get("/readyz").json()["items"] == 1000

    @pytest.mark.parametrize(
        "body",
        ["[]", "1", '{"item_id": "b"}', '{"item_id": 5}', '{"price": -1}', '{"price": NaN}', '{"x": 1e999}',
         '{"x": "\\ud800"}', '{"categories": [1]}', '{"created_ts": 99999999999999999999}', '{"available": "yes"}'],
    )  # fmt: skip
    def test_what_is_no_item_is_a_problem(self, door: Loop, body: str) -> None:
        assert_problem(door.http.put("/v1/items/a", content=body, headers=JSON), 422)
        if body != "[]" and "item_id" not in body:
            body = '{"item_id": "a", ' + body[1:] if body[0] == "{" else body
            assert_problem(door.http.post("/v1/items", content=body, headers=JSON), 422)

    def test_bodies_of_items_are_refused_as_those_of_events_are(self, door: Loop) -> None:
        assert_problem(door.http.put("/v1/items/a", content="{", headers=JSON), 400)
        assert_problem(door.http.post("/v1/items", content="[", headers=JSON), 400)
        assert_problem(door.http.put("/v1/items/a", content="{}"), 415)
        assert_problem(door.http.post("/v1/items", content="[]"), 415)

    def test_deleting_takes_an_item_out_once(self, loop: Loop) -> None:
        loop.put("a")
        loop.send(event(item_id="a"))
        loop.settle()

        assert loop.http.delete("/v1/items/a").status_code == 204
        assert_problem(loop.http.get("/v1/items/a"), 404)
        assert_problem(loop.http.delete("/v1/items/a"), 404)
        assert_problem(loop.http.get("/v1/items/a/similar"), 404)
        loop.settle()
        loop.restart_serve()
        assert_problem(loop.http.get("/v1/items/a"), 404)
        loop.put("a")
        assert loop.http.get("/v1/items/a").json()["counts"]["click"] == 1

    def test_counts_are_by_type_and_exact(self, loop: Loop) -> None:
        loop.put("a")
        kinds = {"view": 3, "click": 2, "like": 1, "dislike": 1, "cart": 2, "purchase": 1, "dwell": 2, "rating": 1}
        sent = [event(type=kind, value=1.0) for kind, count in kinds.items() for _ in range(count)]
        sent += [shown(["a", "b"], impression_id=f"r{n}") for n in range(4)]
        loop.send(*sent)
        loop.send(*sent)
        loop.settle()

        assert loop.http.get("/v1/items/a").json()["counts"] == kinds | {"impression": 4}
        outside = loop.http.get("/v1/items/b").json()
        assert (outside["counts"]["impression"], outside["in_catalogue"]) == (4, False)

    @pytest.mark.parametrize("name", STRANGE)
    def test_any_id_goes_through_a_path(self, door: Loop, name: str) -> None:
        path = "/v1/items/" + quote(name, safe="").replace(".", "%2E")

        assert door.http.put(path, json={"title": name}).status_code == 200
        assert door.http.get(path).json()["item_id"] == name
        assert door.http.get(path + "/similar").json() == {"item_id": name, "items": []}
        assert door.http.delete(path).status_code == 204
        assert_problem(door.http.get(path), 404)

    @pytest.mark.parametrize("path", ["%00", "a%0Ab", "%ED%A0%80", "%FF", "%C3%A9" * 129, "%C2%85"])
    def test_what_can_be_no_id_is_refused_in_a_path(self, door: Loop, path: str) -> None:
        for answer in (
            door.http.get(f"/v1/items/{path}"),
            door.http.put(f"/v1/items/{path}", json={}),
            door.http.delete(f"/v1/items/{path}"),
            door.http.get(f"/v1/items/{path}/similar"),
        ):
            assert_problem(answer, 422)
            assert answer.json()["field"] == "item_id"
        for answer in (door.http.get(f"/v1/users/{path}"), door.http.delete(f"/v1/users/{path}")):
            assert_problem(answer, 422)
            assert answer.json()["field"] == "user_id"

    def test_similar_items_are_those_met_together(self, loop: Loop) -> None:
        loop.put("a", "b", "c", "d", "gone")
        for n in range(6):
            loop.send(*(event(user_id=f"u{n}", item_id=name, ts=NOW + n) for name in ("a", "b", "gone")))
        loop.send(event(user_id="u9", item_id="c"), event(user_id="u9", item_id="d"))
        loop.settle()
        loop.http.delete("/v1/items/gone")

        items = loop.http.get("/v1/items/a/similar", params={"k": 1}).json()["items"]

        assert [item["item_id"] for item in items] == ["b"]
        assert_problem(loop.http.get("/v1/items/a/similar", params={"k": 0}), 422)
        assert_problem(loop.http.get("/v1/items/a/similar", params={"k": "x"}), 422)


class TestUsers:
    def test_the_last_hundred_events_stand_oldest_first(self, loop: Loop) -> None:
        kinds = ["click", "like"] * 65 + ["click"] * 120
        sent = [event(event_id=f"n{n}", item_id=f"i{n}", type=kind, ts=NOW + n) for n, kind in enumerate(kinds)]
        loop.send(*sent[:130])
        loop.settle()
        loop.send(*sent[130:])
        loop.settle()

        told = loop.http.get("/v1/users/u1").json()

        history = told["history"]
        assert len(history) >= 100
        first = 250 - len(history)
        assert [one["event_id"] for one in history] == [f"n{n}" for n in range(first, 250)]
        assert history[-1] == {"item_id": "i249", "type": "click", "ts": NOW + 249, "event_id": "n249"}
        assert (told["counts"]["click"], told["counts"]["like"]) == (65 + 120, 65)

    def test_an_unknown_person_is_404(self, door: Loop) -> None:
        assert_problem(door.http.get("/v1/users/nobody"), 404)

    def test_a_question_makes_nobody_known_unless_it_showed_something(self, loop: Loop) -> None:
        loop.ask("new")
        loop.settle()

        assert_problem(loop.http.get("/v1/users/new"), 404)

    def test_a_person_can_be_forgotten_and_starts_afresh(self, loop: Loop) -> None:
        loop.put("a", "b")
        loop.send(event(item_id="a"), event(user_id="u2", item_id="a"))
        loop.settle()
        with loop.streaming():
            assert loop.http.delete("/v1/users/u1").status_code == 204
            assert_problem(loop.http.get("/v1/users/u1"), 404)
            assert loop.http.delete("/v1/users/never").status_code == 204
        loop.settle()

        assert set(slate(loop.ask("u1", log=False))) == {"a", "b"}
        assert loop.http.get("/v1/users/u2").status_code == 200
        loop.send(event(item_id="b"))
        loop.settle()
        told = loop.http.get("/v1/users/u1").json()
        assert [one["item_id"] for one in told["history"]] == ["b"]
        assert told["counts"]["click"] == 1

    def test_a_name_may_hold_a_slash(self, loop: Loop) -> None:
        loop.send(event(user_id="a/b"))
        loop.settle()

        assert loop.http.get("/v1/users/a%2Fb").json()["user_id"] == "a/b"


def test_lag_counts_down_to_nothing(loop: Loop) -> None:
    loop.send(*(event() for _ in range(7)), event(value=-1.0))

    assert loop.http.get("/v1/lag").json()["events"] == 7
    loop.settle()
    assert loop.http.get("/v1/lag").json()["events"] == 0
    loop.log.append(EVENTS, 0, [(b"u", b"no event")])
    assert loop.lag == 1
    loop.settle()
    assert loop.lag == 0


ADMIN_ROUTES = [
    ("GET", "/v1/models"),
    ("POST", "/v1/models/rollback"),
    ("GET", "/v1/alarms"),
    ("GET", "/v1/lineage/000001-000000001"),
]


class TestAdmin:
    @pytest.mark.parametrize(("method", "path"), ADMIN_ROUTES)
    def test_no_key_is_401_and_a_wrong_one_403(self, door: Loop, method: str, path: str) -> None:
        for header in ({}, {"Authorization": "Basic a2V5"}, {"Authorization": "Bearer"}, {"Authorization": "Bearer "}):
            assert_problem(door.http.request(method, path, headers=header), 401)
        for key in ("wrong", "keys", "ké"):
            answer = door.http.request(method, path, headers={b"Authorization": f"Bearer {key}".encode()})
            assert_problem(answer, 403)

    def test_without_a_key_set_nobody_gets_in(self, tmp_path: Path) -> None:
        with Loop(tmp_path, admin_key="") as loop:
            for method, path in ADMIN_ROUTES:
                assert_problem(loop.http.request(method, path), 401)
                assert_problem(loop.http.request(method, path, headers=ADMIN), 403)

    def test_models_are_listed_told_and_gone_back_to(self, loop: Loop) -> None:
        versions = [checkpoint(loop, f"u{n}") for n in range(3)]

        listed = loop.http.get("/v1/models", headers=ADMIN).json()
        assert [one["version"] for one in listed] == versions
        keys = {"version", "epoch", "step", "parent", "created", "offsets", "serving", "damaged"}
        assert all(keys <= one.keys() for one in listed)
        line = loop.http.get(f"/v1/lineage/{versions[2]}", headers=ADMIN).json()
        assert [one["version"] for one in line] == versions[::-1]

        told = roll_back(loop, version=versions[1])
        assert told.status_code == 202
        loop.learn.step(0.0)
        loop.settle()
        assert loop.ask(log=False)["model_version"].startswith("000002-")
        assert loop.http.get("/v1/items/a").json()["counts"]["click"] == 2
        loop.send(event(user_id="later"))
        loop.settle()
        assert loop.http.get("/v1/items/a").json()["counts"]["click"] == 3

    def test_an_unknown_version_is_404(self, door: Loop) -> None:
        for version in ("000009-000000009", "", "..", "../..", "/", "a\nb"):
            assert_problem(roll_back(door, version=version), 404)
        for path in ("000009-000000009", "%2E%2E", "..%2F..", "x"):
            assert_problem(door.http.get(f"/v1/lineage/{path}", headers=ADMIN), 404)

    def test_a_damaged_version_is_409_and_stays_listed(self, loop: Loop) -> None:
        version = checkpoint(loop, "u1")
        for file in (loop.settings.checkpoints / version).glob("*.safetensors"):
            file.write_bytes(file.read_bytes()[:-1])

        assert_problem(roll_back(loop, version=version), 409)
        listed = loop.http.get("/v1/models", headers=ADMIN).json()
        assert [(one["version"], one["damaged"]) for one in listed] == [(version, True)]
        assert loop.http.get(f"/v1/lineage/{version}", headers=ADMIN).status_code == 200

    def test_a_refused_version_is_409_and_not_served_and_health_and_metrics_say_so(self, loop: Loop) -> None:
        good, bad = checkpoint(loop, "u1"), checkpoint(loop, "u2")
        gate.mark(loop.settings.checkpoints, bad, "taught by a flood")
        loop.restart_serve()

        listed = loop.http.get("/v1/models", headers=ADMIN).json()
        assert [(one["refused"], one["serving"]) for one in listed] == [("", True), ("taught by a flood", False)]
        ready = loop.http.get("/readyz").json()
        assert (ready["model_version"], ready["refused"]) == (good, f"{bad} is refused: taught by a flood")
        assert "headrace_model_refused 1.0" in loop.http.get("/metrics").text
        assert loop.ask(log=False)["model_version"] == good
        assert_problem(roll_back(loop, version=bad), 409)

        gate.mark(loop.settings.checkpoints, bad, "")
        loop.restart_serve()
        assert loop.http.get("/readyz").json()["model_version"] == bad
        assert "headrace_model_refused 0.0" in loop.http.get("/metrics").text

    def test_an_order_that_cannot_be_carried_out_is_refused(self, loop: Loop) -> None:
        version = checkpoint(loop, "u1")

        for skip in ({"7": [[0, 1]]}, {"0": [[5, 5]]}, {"0": [[-1, 5]]}, {"0": "all"}, [1]):
            assert_problem(roll_back(loop, version=version, skip=skip), 422)
        assert_problem(roll_back(loop), 422)
        assert_problem(loop.http.post("/v1/models/rollback", content="{", headers=JSON | ADMIN), 400)
        assert_problem(loop.http.post("/v1/models/rollback", content="{}", headers=ADMIN), 415)
        assert len(loop.values(CONTROL)) == 1
        assert roll_back(loop, version=version, skip={"0": [[0, 1]]}).status_code == 202
        assert decode_order(loop.values(CONTROL)[-1]) == RollbackOrder(version, {"0": [(0, 1)]})
        assert_problem(roll_back(loop, version=version, slates={"0": [[5, 5]]}), 422)
        assert roll_back(loop, version=version, slates={"0": [[0, 1]]}).status_code == 202
        assert decode_order(loop.values(CONTROL)[-2]) == StrikeOrder({"0": [(0, 1)]})
        checkpoint(loop, "u2")
        loop.log.trim(EXAMPLES, 0, loop.log.end(EXAMPLES, 0))
        assert_problem(roll_back(loop, version=version), 409)

    def test_alarms_are_listed_as_they_were_raised(self, loop: Loop) -> None:
        assert loop.http.get("/v1/alarms", headers=ADMIN).json() == []
        raised = [{"id": f"a{n}", "ts": NOW, "kind": "drift"} for n in range(3)]
        loop.log.append(ALARMS, 0, [(None, msgspec.json.encode(one)) for one in raised])

        assert loop.http.get("/v1/alarms", headers=ADMIN).json() == raised


def checkpoint(loop: Loop, user: str) -> str:
    """Send a click, learn it, write a checkpoint; returns its version."""
    loop.send(event(user_id=user))
    loop.settle()
    loop.log.append(CONTROL, 0, [(None, encode_order(CheckpointOrder()))])
    loop.learn.step(0.0)
    return f"{loop.learn.progress.epoch:06d}-{loop.learn.progress.step:09d}"


def roll_back(loop: Loop, **order: Any) -> httpx.Response:
    return loop.http.post("/v1/models/rollback", json=order, headers=ADMIN)


class TestHealth:
    def test_an_empty_log_is_ready(self, loop: Loop) -> None:
        assert loop.http.get("/healthz").status_code == 200
        assert loop.http.get("/readyz").status_code == 200

    def test_metrics_are_ours_and_for_prometheus(self, door: Loop) -> None:
        door.send(event())
        answer = door.http.get("/metrics")

        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert answer.headers["content-type"].count("charset") == 1
        for name in ("answers_total", "events_accepted_total", "lag_events", "model_step", "answer_seconds_bucket"):
            assert f"headrace_{name}" in answer.text

    @pytest.mark.parametrize(("path", "status"), [("/nothing", 404), ("/v1/recommendations?k=0", 422)])
    def test_refusals_are_counted_by_status(self, door: Loop, path: str, status: int) -> None:
        before = counted("headrace_problems_total", status=str(status))
        door.http.get(path)

        assert counted("headrace_problems_total", status=str(status)) == before + 1

    def test_the_different_categories_of_a_slate_are_counted(self, loop: Loop) -> None:
        loop.put("a", "b", categories=["tea", "drink"])
        loop.put("c", categories=["cups"])
        loop.put("d", "e")
        before = counted("headrace_slate_categories_total")

        assert len(slate(loop.ask(k=5))) == 5
        assert counted("headrace_slate_categories_total") == before + 3

    def test_the_console_is_a_page(self, door: Loop) -> None:
        assert door.http.get("/").headers["content-type"].startswith("text/html")


class TestRefusals:
    @pytest.mark.parametrize("path", ["/nothing", "/v1", "/v1/items/a/b", "/v1/users/", "/v1/events/x"])
    def test_an_unknown_route_is_a_problem(self, door: Loop, path: str) -> None:
        assert_problem(door.http.get(path), 404)

    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", "/v1/events"), ("PUT", "/v1/recommendations"), ("POST", "/healthz"), ("PATCH", "/v1/items/a")],
    )
    def test_another_method_is_a_problem_that_says_which_are_taken(self, door: Loop, method: str, path: str) -> None:
        answer = door.http.request(method, path)

        assert_problem(answer, 405)
        assert answer.headers["allow"]

    def test_head_and_options_are_answered_in_kind(self, door: Loop) -> None:
        assert door.http.head("/nothing").status_code == 404
        assert door.http.head("/v1/lag").status_code in (200, 405)
        options = door.http.options("/v1/events")
        assert options.status_code == 204
        assert "POST" in options.headers["allow"]
        assert_problem(door.http.options("/nothing"), 404)

    def test_a_fault_of_ours_is_a_problem_without_a_trace(self, tmp_path: Path) -> None:
        class BrokenStore(MemoryStore):
            broken = False

            def get(self, key: int) -> bytes | None:
                if self.broken:
                    raise RuntimeError("secret of the house")
                return super().get(key)

        with Loop(tmp_path, store=(store := BrokenStore())) as loop:
            store.broken = True
            answer = loop.http.get("/v1/users/u1")

            assert_problem(answer, 500)
            assert "secret" not in answer.text
            assert "Traceback" not in answer.text

    def test_a_part_that_is_away_is_503(self, tmp_path: Path) -> None:
        class AwayStore(MemoryStore):
            def get(self, key: int) -> bytes | None:
                raise ConnectionError("no route to the store at 10.0.0.7")

        with Loop(tmp_path, store=AwayStore()) as loop:
            answer = loop.http.get("/v1/users/u1")

            assert_problem(answer, 503)
            assert int(answer.headers["retry-after"]) >= 1
            assert "10.0.0.7" not in answer.text


def test_overload_sheds_questions_and_takes_events(tmp_path: Path) -> None:
    with Loop(tmp_path, max_waiting=2) as loop:
        loop.put("a", "b")

    async def storm() -> tuple[list[httpx.Response], list[httpx.Response]]:
        app: Any = create_app(loop.service)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            asked = [client.post("/v1/recommendations", json={"user_id": f"u{n}", "log": False}) for n in range(30)]
            sent = [client.post("/v1/events", json=[event()]) for _ in range(10)]
            told = await asyncio.gather(*asked, *sent)
        return told[:30], told[30:]

    loop.start()
    answers, received = asyncio.run(storm())
    loop.service.appender.close()

    shed = [answer for answer in answers if answer.status_code != 200]
    assert 0 < len(shed) < 30
    for answer in shed:
        assert_problem(answer, 503)
        assert answer.headers["retry-after"].isdigit()
    assert [answer.status_code for answer in received] == [202] * 10


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
names = st.sampled_from(
    ["event_id", "type", "ts", "user_id", "item_id", "items", "propensities", "value", "position", "context",
     "features", "k", "candidates", "exclude", "filters", "explore", "surface", "price", "categories", "created_ts",
     "available"]
)  # fmt: skip
sound = st.builds(lambda fields: shown(["a"]) | fields, st.dictionaries(names, anything))
asked = st.builds(lambda fields: {"user_id": "u1"} | fields, st.dictionaries(names, anything, max_size=3))
DOORS = [("POST", "/v1/events"), ("POST", "/v1/recommendations"), ("POST", "/v1/items"), ("PUT", "/v1/items/a")]
fuzzed = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@given(body=anything | sound | asked | st.lists(sound, max_size=3), door_of=st.sampled_from(DOORS))
@fuzzed
def test_no_json_is_a_fault_of_ours(door: Loop, body: Any, door_of: tuple[str, str]) -> None:
    text = json.dumps(body).encode()

    answer = door.http.request(*door_of, content=text, headers=JSON)

    assert answer.status_code in (200, 202, 400, 422)
    if door_of == ("POST", "/v1/events") and isinstance(body, list):
        assert answer.status_code == 202
        assert answer.json()["accepted"] + len(answer.json()["refused"]) == len(body)


@given(body=st.binary(max_size=60), door_of=st.sampled_from(DOORS))
@fuzzed
def test_no_bytes_are_a_fault_of_ours(door: Loop, body: bytes, door_of: tuple[str, str]) -> None:
    assert door.http.request(*door_of, content=body, headers=JSON).status_code in (200, 202, 400, 422)


@given(query=st.dictionaries(names | st.text(max_size=5), st.text(max_size=10)), path=st.text(min_size=1, max_size=30))
@fuzzed
def test_no_address_is_a_fault_of_ours(door: Loop, query: dict[str, str], path: str) -> None:
    try:
        path = quote(path, safe="")
        query = {name: value.encode().decode() for name, value in query.items()}
    except UnicodeEncodeError:
        return
    for answer in (
        door.http.get("/v1/recommendations", params={"user_id": "u1"} | query),
        door.http.get(f"/v1/items/{path}", params=query),
        door.http.get(f"/v1/users/{path}/similar"),
        door.http.get(f"/v1/items/{path}/similar", params=query),
    ):
        assert answer.status_code < 500


def test_what_the_fuzz_left_behind_is_learnt_without_harm(door: Loop) -> None:
    door.settle()

    assert door.lag == 0
    door.ask("u1")
