"""`headrace events read` prints any topic, filtered and within bounds."""

import json
from typing import Any

import pytest

from headrace.commands.errors import UsageError
from headrace.commands.events.filters import RowFilter
from headrace.commands.events.read import TOPICS, RecordSelection, read_topic
from online_models.control import PauseCommand
from stream.alarms import Alarm, raise_alarms
from stream.ids import partition_for_id
from stream.topics import EVENTS, USERS
from tests.support.live_folder import PARTITIONS, LiveFolder

TS = 1_767_225_600_000


@pytest.fixture
def read(live: LiveFolder, capsys: pytest.CaptureFixture[str]) -> Any:
    def read_rows(topic: str, **options: Any) -> list[dict[str, Any]]:
        capsys.readouterr()
        filters = {name: options.pop(name) for name in RowFilter.__dataclass_fields__ if name in options}
        assert read_topic(RecordSelection(topic, row_filter=RowFilter(**filters), **options), None, as_json=True) == 0
        rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
        return rows

    return read_rows


@pytest.mark.parametrize("topic", [topic for topic in TOPICS if topic not in ("users", "quarantine", "alarms")])
def test_every_topic_is_readable(read: Any, live: LiveFolder, topic: str) -> None:
    rows = read(topic, limit=2)

    assert len(rows) == 2
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    assert all(row["topic"] == topic for row in rows)


def test_newest_records_are_read_without_a_start(read: Any, live: LiveFolder) -> None:
    ends = live.log.end_offsets(EVENTS)
    newest = {(row["partition"], row["offset"]) for row in read("events", limit=5000, start="0")[-4:]}

    assert {(row["partition"], row["offset"]) for row in read("events", limit=4)} == newest
    assert max(row["offset"] for row in read("events", start="0:5", limit=10_000)) == ends[0] - 1


def test_bounds_select_offsets_of_a_partition(read: Any) -> None:
    rows = read("events", start="1:10", end="1:20")

    assert {row["partition"] for row in rows} == {1}
    assert sorted({row["offset"] for row in rows}) == list(range(10, 20))


def test_times_select_records(read: Any) -> None:
    assert read("events", start="-1h")
    assert read("events", start="-1h", end="-1h") == []
    assert read("events", start="2100-01-01") == []


def test_filters_by_user_item_and_type(read: Any) -> None:
    by_user = read("events", user="u3", limit=1000)
    by_item = read("events", item="i5", limit=1000)
    impressions = read("events", type="impression", item="i5", limit=1000)

    assert {row["key"] for row in by_user} == {"u3"}
    assert all(row["value"].get("item_id") == "i5" or "i5" in row["value"]["items"] for row in by_item)
    assert 0 < len(impressions) < len(by_item)


def test_dead_letters_have_a_reason_and_are_found_by_user(read: Any, live: LiveFolder) -> None:
    event = b'{"event_id":"bad","type":"wink","ts":1767225600000,"user_id":"zoe","item_id":"a"}'
    live.write(partition_for_id("zoe", PARTITIONS), [(b"zoe", event)])
    live.process()
    [row] = read("dead-letter", user="zoe")

    assert row["value"]["reason"] in {entry["value"]["reason"] for entry in read("dead-letter", limit=1000)}
    assert read("dead-letter", user="zoe", reason=row["value"]["reason"]) == [row]
    assert read("dead-letter", user="zoe", reason="other") == []


def test_alarms_are_filtered_by_detector_and_user(read: Any, live: LiveFolder) -> None:
    evidence = {"user_id": "zoe"}
    raise_alarms(live.log, [Alarm("flood-1", TS, "actor", "poison", "flood", evidence, "quarantine")])

    assert [row["value"]["id"] for row in read("alarms", detector="flood", user="zoe")] == ["flood-1"]
    assert read("alarms", detector="speed") == []


def test_commands_are_filtered_by_type(read: Any, live: LiveFolder) -> None:
    live.send(PauseCommand("maintenance"))

    assert [row["value"]["reason"] for row in read("control", type="pause")] == ["maintenance"]


def test_features_are_summarized_unless_full(read: Any, live: LiveFolder) -> None:
    event = json.dumps({"type": "impression", "features": "x" * 5000}).encode()
    live.write(0, [(b"zoe", event)])

    assert read("events", limit=1, user="zoe")[0]["value"]["features"] == "<5,000 characters>"
    assert read("events", limit=1, user="zoe", is_full=True)[0]["value"]["features"] == "x" * 5000


def test_blocks_are_summarized(read: Any) -> None:
    [row] = read("examples", limit=1)

    assert row["value"]["bytes"] > 0
    assert all("[" in shape for shape in row["value"]["columns"].values())


def test_deleted_users_and_bytes_are_readable(read: Any, live: LiveFolder) -> None:
    live.log.append(USERS, 0, [(b"zoe", None), (b"\x01ban\x01zoe", b'{"item_id":"","end_ts":5}'), (b"\xff", b"\xff")])
    rows = read("users")

    assert [row["value"] for row in rows[:2]] == [None, {"item_id": "", "end_ts": 5}]
    assert (rows[1]["key"], rows[1]["mark"]) == ("zoe", "ban")
    assert rows[2]["value"] == {"bytes": 1, "text": "\\xff"}


def test_lines_are_whole_and_the_cut_is_noted(live: LiveFolder, capsys: pytest.CaptureFixture[str]) -> None:
    read_topic(RecordSelection("events", start="0:0", limit=2), None, as_json=False)
    output = capsys.readouterr()
    lines = output.out.splitlines()

    assert len(lines) == 2
    assert lines[0].startswith("0:0")
    assert "--limit 2: there are later records" in output.err


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (RecordSelection("event"), "--topic 'event' is unknown; expected one of events, .*; did you mean events"),
        (RecordSelection("events", start="9:0"), "topic events has partitions 0 to 1, got 9"),
        (RecordSelection("examples", row_filter=RowFilter(user="u1")), "numeric blocks"),
    ],
    ids=["topic", "partition", "filter"],
)
def test_wrong_usage_is_named(live: LiveFolder, selection: RecordSelection, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_topic(selection, None, as_json=True)
