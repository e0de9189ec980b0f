"""Questions over HTTP: what may be asked, and what the answers promise."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from serving.pipeline.schemas import Question
from serving.service import Service
from stream.ids import key_of
from stream.testing import MemoryStore
from stream.topics import EVENTS
from tests.support.serving_loop import NOW, Loop, event, slate

JSON = {"content-type": "application/json"}
DAY = 86_400_000


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """A dozen items, of which some are known to be liked; nobody here changes it."""
    with Loop(tmp_path_factory.mktemp("shop")) as loop:
        for n in range(12):
            name, kind = f"item{n:02}", "food" if n % 2 else "toys"
            loop.put(name, categories=[kind], price=n + 0.99, created_ts=NOW - n * DAY)
        loop.send(*(event(user_id=f"p{n}", item_id=f"item{n % 5:02}") for n in range(40)))
        loop.send(*(event(user_id="u1", item_id=f"item{n:02}") for n in range(2)))
        loop.settle()
        yield loop


UNKNOWN = [{"users": 1}, {"K": 5}, {"filters": {"colour": "red"}}]


@pytest.mark.parametrize("extra", UNKNOWN, ids=str)
def test_unknown_fields_are_refused_by_name(shop: Loop, extra: dict[str, Any]) -> None:
    name = next(iter(extra["filters"])) if "filters" in extra else next(iter(extra))

    query = {"user_id": "u1"} | {key: json.dumps(value) for key, value in extra.items()}

    posted = shop.http.post("/v1/recommendations", json={"user_id": "u1"} | extra)
    got = shop.http.get("/v1/recommendations", params=query)

    for answer in (posted, got):
        assert answer.status_code == 422
        assert answer.json()["field"] == name
        assert name in answer.json()["detail"]


REFUSED: dict[str, Any] = {
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


@pytest.mark.parametrize(("fields", "field"), REFUSED.values(), ids=REFUSED.keys())
def test_a_field_that_cannot_be_is_named(shop: Loop, fields: dict[str, Any], field: str) -> None:
    answer = shop.http.post("/v1/recommendations", json={"user_id": "u1"} | fields)

    assert answer.status_code == 422
    assert answer.json()["field"] == field


def test_a_question_without_user_names_what_is_missing(shop: Loop) -> None:
    answers = [shop.http.post("/v1/recommendations", json={}), shop.http.get("/v1/recommendations")]

    assert [(answer.status_code, answer.json()["field"]) for answer in answers] == [(422, "user_id")] * 2


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b"[]", 422), (b"1", 422), (b'{"user_id":"\xff"}', 400), (b'{"user_id":"\\ud800"}', 422)],
)
def test_a_body_that_is_no_question_is_refused(shop: Loop, body: bytes, status: int) -> None:
    answer = shop.http.post("/v1/recommendations", content=body, headers=JSON)

    assert answer.status_code == status


@pytest.mark.parametrize("k", [1, 3, 1000])
def test_k_items_are_answered_if_there_are_so_many(shop: Loop, k: int) -> None:
    items = slate(shop.ask("nobody", k=k, log=False))

    assert len(items) == len(set(items)) == min(k, 12)


def test_get_answers_as_post_does(shop: Loop) -> None:
    asked: dict[str, Any] = {
        "k": 5,
        "surface": "home",
        "ts": NOW - DAY,
        "exclude": ["item03", "item04"],
        "repeats": True,
        "explore": False,
        "log": False,
        "explain": True,
        "context": {"device": "mobile"},
        "filters": {"categories": ["food"], "max_price": 9},
    }
    query: dict[str, Any] = {"user_id": "u1"} | asked
    query |= {name: json.dumps(asked[name]) for name in ("context", "filters")}

    got = shop.http.get("/v1/recommendations", params=query)

    assert got.status_code == 200
    assert got.json()["items"] == shop.ask(**asked)["items"] != []
    query = {"user_id": "u1", "candidates": ["item05", "x,y"], "explore": "0"}
    assert sorted(slate(shop.http.get("/v1/recommendations", params=query).json())) == ["item05", "x,y"]


def test_without_exploring_the_slate_is_the_same_each_time(shop: Loop) -> None:
    first = shop.ask("nobody", explore=False, log=False)

    for user in ("nobody", "nobody", "somebody else"):
        again = shop.ask(user, explore=False, log=False)
        assert again["items"] == first["items"]
    assert all(item["propensity"] == 1 for item in first["items"])
    assert not any(item["explored"] for item in first["items"] if "explored" in item)


def test_asking_without_log_teaches_nothing(shop: Loop) -> None:
    before, first = shop.log.end(EVENTS, 0), shop.ask("nobody", log=False)
    told: dict[tuple[str, ...], set[float]] = defaultdict(set)

    for _ in range(50):
        answer = shop.ask("nobody", log=False)
        told[tuple(slate(answer)[:1])].add(answer["items"][0]["propensity"])
    shop.settle()

    assert shop.log.end(EVENTS, 0) == before
    assert answer["model_version"] == first["model_version"]
    assert all(len(propensities) == 1 for propensities in told.values())


def test_propensities_are_how_often_items_come_first(shop: Loop) -> None:
    n = 1000
    firsts, told = Counter[str](), {}
    asked = Question(user_id="nobody", k=5, log=False)
    for _ in range(n):
        first = shop.service.recommender.answer(asked, "i", NOW).answer.items[0]
        firsts[first.item_id] += 1
        told[first.item_id] = first.propensity

    assert abs(sum(told.values()) - 1) < 0.02
    for name, count in firsts.items():
        assert abs(count / n - told[name]) < 4 * (told[name] * (1 - told[name]) / n) ** 0.5 + 1e-9


def test_candidates_are_ranked_and_nothing_else(shop: Loop) -> None:
    asked = ["item03", "unheard of", "item01", "item03", "日本/語"]

    items = slate(shop.ask(candidates=asked, log=False))

    assert sorted(items) == sorted(set(asked))
    assert slate(shop.ask(candidates=asked, k=2, log=False)) == items[:2]


def test_no_candidates_make_no_slate(shop: Loop) -> None:
    assert slate(shop.ask(candidates=[], log=False)) == []


def test_candidates_may_be_excluded_and_filtered(shop: Loop) -> None:
    asked = ["item03", "unheard of", "item01", "item02"]
    answer = shop.ask(candidates=asked, exclude=["item01"], filters={"categories": ["food"]}, log=False)

    assert slate(answer) == ["item03"]


def test_excluded_items_stay_away(shop: Loop) -> None:
    away = [f"item{n:02}" for n in range(0, 12, 3)]

    assert not set(slate(shop.ask("nobody", k=100, exclude=[*away, "unheard of"], log=False))) & set(away)


@pytest.mark.parametrize(
    ("filters", "fits"),
    [
        ({"categories": ["food"]}, range(1, 12, 2)),
        ({"categories": ["food", "toys"]}, range(12)),
        ({"categories": []}, []),
        ({"categories": ["", "shoes"]}, []),
        ({"min_price": 5.99}, range(5, 12)),
        ({"max_price": 5.99}, range(6)),
        ({"min_price": 2, "max_price": 4}, [2, 3]),
        ({"categories": ["toys"], "max_price": 4.99}, [0, 2, 4]),
        ({"min_price": 1e300}, []),
        ({}, range(12)),
    ],
    ids=str,
)
@pytest.mark.parametrize("explore", [False, True])
def test_only_items_that_fit_the_filters_come(shop: Loop, filters: dict[str, Any], fits: Any, explore: bool) -> None:
    items = slate(shop.ask("nobody", k=100, filters=filters, explore=explore, log=False))

    assert sorted(items) == [f"item{n:02}" for n in fits]


def test_items_already_met_come_again_only_if_asked_for(shop: Loop) -> None:
    met = {"item00", "item01"}

    assert not met & set(slate(shop.ask("u1", k=100, log=False)))
    assert met <= set(slate(shop.ask("u1", k=100, repeats=True, log=False)))


def test_explaining_tells_channels_features_and_probability(shop: Loop) -> None:
    items = shop.ask(explain=True, log=False)["items"]

    for item in items:
        assert item["features"]
        assert isinstance(item["channels"], list)
        assert 0 <= item["probability"] <= 1
    assert "features" not in shop.ask(log=False)["items"][0]


@pytest.mark.parametrize("ts", [0, NOW - 400 * DAY, NOW + DAY, 1 << 53])
def test_a_question_may_be_of_any_time(shop: Loop, ts: int) -> None:
    assert len(slate(shop.ask("u1", ts=ts, log=False))) == 10


@pytest.mark.parametrize("context", [{"n": 10**25, "b": True, "l": [1, {"x": None}], "s": "日本"}, {"é\n": "\t"}, {}])
def test_a_context_may_hold_anything(loop: Loop, context: dict[str, Any]) -> None:
    loop.put("a", "b")

    loop.ask(context=context)
    loop.settle()

    assert msgspec.json.decode(loop.values(EVENTS)[0])["context"] == context


def test_an_impression_says_what_was_shown_and_why(loop: Loop) -> None:
    loop.put("a", "b", "c")

    answer = loop.ask(surface="home", ts=NOW - 5000, context={"device": "mobile"})
    loop.settle()

    told = msgspec.json.decode(loop.values(EVENTS)[0])
    assert told["impression_id"] == answer["impression_id"]
    assert told["ts"] == NOW - 5000
    assert told["surface"] == "home"
    assert told["model_version"] == answer["model_version"]
    assert told["items"] == slate(answer)
    assert told["propensities"] == [item["propensity"] for item in answer["items"]]
    assert told["sources"] == [item["source"] for item in answer["items"]]
    assert loop.http.get("/v1/items/a").json()["counts"]["impression"] == 1


def test_impressions_count_as_lag_until_they_are_in_the_answers(loop: Loop) -> None:
    loop.put("a", "b")
    loop.send(event())
    loop.ask()
    loop.send(event())

    assert loop.lag == 3
    loop.settle()
    assert loop.lag == 0


def test_an_empty_catalogue_answers_with_no_items(loop: Loop) -> None:
    answers = [loop.ask(), loop.ask(candidates=["x"], filters={"max_price": 5}), loop.ask(explore=False)]

    assert [slate(answer) for answer in answers] == [[], [], []]
    assert slate(loop.ask(candidates=["x"])) == ["x"]


def test_events_of_items_outside_the_catalogue_bring_no_items(loop: Loop) -> None:
    loop.send(*(event(user_id=f"u{n}", item_id="ghost") for n in range(5)))
    loop.settle()

    assert slate(loop.ask("u9")) == []


def test_deleted_and_unavailable_items_never_come(loop: Loop) -> None:
    loop.put("a", "b", "c", "d")
    loop.send(*(event(user_id=f"u{n}", item_id=name) for n in range(5) for name in "abcd"))
    loop.settle()

    loop.http.delete("/v1/items/a")
    loop.http.put("/v1/items/b", json={"available": False})

    for explore in (False, True):
        assert set(slate(loop.ask("nobody", explore=explore, log=False))) == {"c", "d"}
    loop.settle()
    assert set(slate(loop.ask("nobody", log=False))) == {"c", "d"}
    loop.http.put("/v1/items/b", json={"available": True})
    assert set(slate(loop.ask("nobody", log=False))) == {"b", "c", "d"}


def test_what_is_fresh_does_not_hang_on_who_asked_first(loop: Loop) -> None:
    loop.put("a", "b", "c")
    loop.send(event(item_id="a"), event(item_id="b"))
    loop.settle()
    loop.ask("u1", log=False)

    assert loop.ask("nobody", k=1, log=False)["items"][0]["propensity"] not in (0.9, 1.0)


class AwayStore(MemoryStore):
    """A store that cannot be reached when a question comes."""

    def get_many(self, keys: np.ndarray) -> list[bytes | None]:
        raise ConnectionError("no route to the store")


def test_without_the_store_answers_are_stale_and_not_refused(tmp_path: Path) -> None:
    with Loop(tmp_path, store=AwayStore()) as loop:
        loop.put("a", "b")

        answer = loop.ask()

        assert answer["stale"] is True
        assert sorted(slate(answer)) == ["a", "b"]
        counted = loop.http.get("/metrics").text
        assert 'headrace_answer_fallbacks_total{part="store"}' in counted


def test_a_user_record_that_cannot_be_read_makes_a_stale_answer(loop: Loop) -> None:
    loop.put("a", "b")
    loop.send(event(item_id="a"))
    loop.settle()
    for key, _ in list(loop.store.scan()):
        loop.store.put_many(np.array([key], np.uint64), [b"\x00 no record"])

    assert loop.ask("u1")["stale"] is True


def test_where_channels_find_too_little_the_catalogue_fills_the_slate(loop: Loop) -> None:
    loop.put(*(f"item{n}" for n in range(40)), categories=["all"], price=5.0)
    loop.put(*(f"rare{n}" for n in range(12)), categories=["rare"], price=7.0)
    answer = loop.ask(k=20, filters={"categories": ["rare"]}, explore=False)

    assert sorted(slate(answer)) == sorted(f"rare{n}" for n in range(12))


def test_a_record_that_does_not_follow_the_events_makes_a_stale_answer(loop: Loop) -> None:
    loop.put("a", "b")
    loop.send(event(user_id="u1"), event(user_id="u2"))

    assert loop.ask("u1", log=False)["stale"] is False  # the stream worker may take a moment

    loop.clock.advance(6)

    assert loop.ask("u1", log=False)["stale"] is True
    assert loop.ask("u3", log=False)["stale"] is False

    loop.settle()

    assert loop.ask("u1", log=False)["stale"] is False


ALIKE = [
    {},
    {"k": 3},
    {"exclude": ["item04"]},
    {"repeats": True},
    {"filters": {"categories": ["food"]}},
    {"candidates": ["item07", "item01", "nowhere"]},
    {"ts": NOW - DAY},
    {"k": 12, "explain": True},
]


def test_questions_that_wait_together_are_answered_as_if_alone(shop: Loop) -> None:
    recommender = shop.service.recommender
    plain = [{"user_id": f"u{n % 3}", "explore": False} | one for n, one in enumerate(ALIKE * 3)]
    asked = [msgspec.convert(one, Question) for one in plain]
    alone = [recommender.answer(question, f"i{n}", NOW).answer for n, question in enumerate(asked)]
    together = recommender.answer_all([(question, f"i{n}") for n, question in enumerate(asked)], NOW)

    assert [slate.answer for slate in together] == alone
    assert all(answer.items for answer in alone)


def test_a_question_that_cannot_be_answered_is_nobody_elses_fault(tmp_path: Path) -> None:
    class Hateful(MemoryStore):
        """Breaks over one person."""

        def get_many(self, keys: np.ndarray) -> list[bytes | None]:
            if key_of("hated") in keys.tolist():
                raise RuntimeError("no")
            return super().get_many(keys)

    async def asked(service: Service) -> list[Any]:
        questions = [Question(user_id=name, log=False) for name in ("ann", "hated", "ben")]
        return await asyncio.gather(*map(service.answer, questions), return_exceptions=True)

    with Loop(tmp_path, store=Hateful()) as loop:
        loop.put("a", "b")
        ann, hated, ben = loop.http.blocking_portal.call(asked, loop.service)

    assert isinstance(hated, RuntimeError)
    assert [len(answer.items) for answer in (ann, ben)] == [2, 2]
