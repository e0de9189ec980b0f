"""User ids at rest are keyed hashes; callers use the ids that they have."""

from pathlib import Path

import msgspec

from replay.file_loader import Loader, LoadResult
from replay.files.kinds import parse_lines
from replay.files.reading import Batch
from serving.service import Service
from stream.config import EventsSettings, Settings
from stream.ids import hash_id
from stream.topics import topic_specs
from stream.users.pseudonyms import Pseudonyms
from tests.support.serving_loop import NOW, LiveLoop, assert_problem, list_item_ids, make_event, make_impression

NAME = "anna@example.org"
SECRET = EventsSettings(user_id_secret="a long random text")


def read_everything(loop: LiveLoop) -> bytes:
    """All keys and values of the log and of the user store."""
    records = [
        loop.log.read(spec.topic, partition, 0, 100_000)
        for spec in topic_specs()
        for partition in range(loop.log.partitions(spec.topic))
    ]
    parts = [part or b"" for column in records for part in (*column.keys, *column.values)]
    return b"".join([*parts, *(value for _, value in loop.store.scan())])


def test_no_record_holds_an_id(tmp_path: Path) -> None:
    with LiveLoop(tmp_path, events=SECRET) as loop:
        loop.put_items("a", "b", "c")
        slate = loop.recommend(NAME)
        loop.send_events(
            make_event(event_id="e", user_id=NAME, item_id="a", impression_id=slate["impression_id"]),
            make_event(user_id=None, session_id=NAME, item_id="b", ts=NOW - 1),
            make_event(user_id=NAME, type="no type"),
            make_impression(["a"], user_id=NAME, event_id="shown"),
        )
        loop.http.post("/v1/events", content=f'{{"user_id": "{NAME}"')
        with loop.run_stream_worker():
            loop.http.put(f"/v1/users/{NAME}", json={"city": "Ulm"})
        loop.http.post(f"/v1/users/session:{NAME}/merge", json={"into": NAME})
        loop.run_until_idle()

        user = loop.http.get(f"/v1/users/{NAME}").json()
        assert (user["user_id"], user["attributes"]) == (NAME, {"city": "Ulm"})
        assert [entry["item_id"] for entry in user["history"]] == ["b", "a"]
        assert list_item_ids(loop.recommend(NAME, explore=False, log=False)) == ["c"]
        assert loop.http.delete("/v1/events/e", params={"user_id": NAME}).status_code == 202
        loop.run_until_idle()
        assert len(loop.http.get(f"/v1/users/{NAME}").json()["history"]) == 1
        with loop.run_stream_worker():
            loop.http.delete(f"/v1/users/{NAME}")
            assert_problem(loop.http.get(f"/v1/users/{NAME}"), 404)
        assert NAME.encode() not in read_everything(loop)


def test_files_are_hashed_as_events_over_http(tmp_path: Path) -> None:
    with LiveLoop(tmp_path, events=SECRET) as loop:
        service: Service = loop.service
        loader = Loader(loop.log, loop.settings, loop.clock)
        event = make_event(user_id=NAME, item_id="a")
        lines = [
            msgspec.json.encode(line) for line in (event, event | {"item_id": ""}, {"user_id": NAME, "city": "Ulm"})
        ]
        batch = Batch(parse_lines(lines, range(1, 4), None, "", list))
        loader.load([batch], LoadResult(), 0, None, lambda count: None)
        loop.run_until_idle()

        assert loop.http.get(f"/v1/users/{NAME}").json()["counts"]["click"] == 1
        assert hash_id(service.pseudonyms.replace(NAME)) in dict(loop.store.scan())
        assert NAME.encode() not in read_everything(loop)


def test_pseudonyms_keep_the_prefix_of_sessions() -> None:
    pseudonyms = Pseudonyms("secret")

    assert pseudonyms.replace("session:s1") == f"session:{pseudonyms.replace('s1')}"
    assert Settings().events.user_id_secret == ""
