"""`headrace produce` writes files, waits for the stream, and reports the outcome."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Signal
from threading import Thread
from typing import Any

import pytest

from headrace.produce.command import ProduceOptions, produce_files
from replay.files.options import ReadOptions
from stream.clock import SystemClock
from stream.config import load
from stream.records.catalog import Catalog
from stream.testing import MemoryStore
from stream.topics import DEAD_LETTER, EVENTS, open_topics
from stream.worker.worker import StreamWorker
from tests.support.processes import HEADRACE

OLD_MS = 1_714_564_800_000


@pytest.fixture(params=["local", "kafka"])
def environment(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings of an empty log, embedded or on Kafka; returns a folder for files."""
    monkeypatch.setenv("HEADRACE_DATA__FOLDER", str(tmp_path / "data"))
    monkeypatch.setenv("HEADRACE_LOG__PARTITIONS", "2")
    monkeypatch.setenv("HEADRACE_EVENTS__MAX_AGE", "0")
    if request.param == "kafka":
        monkeypatch.setenv("HEADRACE_LOG__URL", request.getfixturevalue("kafka_url"))
        monkeypatch.setenv("HEADRACE_LOG__PREFIX", f"produce-{time.monotonic_ns()}-")
    return tmp_path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings of an empty embedded log; returns a folder for files."""
    monkeypatch.setenv("HEADRACE_DATA__FOLDER", str(tmp_path / "data"))
    return tmp_path


@contextmanager
def running_stream(**events: Any) -> Iterator[None]:
    """Run a stream worker with other limits of events."""
    settings = load()
    settings = settings.model_copy(update={"events": settings.events.model_copy(update=events)})
    log, stop = open_topics(settings, SystemClock()), Signal()
    thread = Thread(target=StreamWorker(log, MemoryStore(), settings).run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        log.close()


def now_ms() -> int:
    return SystemClock().now_ms()


def write_events(path: Path, times: list[int]) -> str:
    events = [
        {"event_id": f"e{i}", "type": "click", "ts": ts, "user_id": f"u{i}", "item_id": "a"}
        for i, ts in enumerate(times)
    ]
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return str(path)


def produce(capsys: pytest.CaptureFixture[str], *files: str, **options: Any) -> tuple[int, dict[str, Any], str]:
    """Run the command; returns its exit code, its JSON and its text."""
    code = produce_files(list(files), ProduceOptions(**options), None, as_json=True)
    captured = capsys.readouterr()
    return code, json.loads(captured.out), captured.err


def test_stream_rejections_are_reported(environment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [
        write_events(environment / "old.jsonl", [OLD_MS + i for i in range(30)]),
        write_events(environment / "mixed.jsonl", [OLD_MS, *(now_ms() - i for i in range(9, 0, -1))]),
    ]
    with running_stream(max_age=86_400.0):
        code, result, text = produce(capsys, *files)

    assert code == 1
    assert [result[file]["written"] for file in files] == [30, 10]
    assert [result[file]["stream"]["reasons"] for file in files] == [{"too_old": 30}, {"too_old": 1}]
    assert [result[file]["stream"]["accepted"] for file in files] == [0, 9]
    assert "HEADRACE_EVENTS__MAX_AGE=0" in text


def test_accepted_events_are_reported(environment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_events(environment / "events.jsonl", [OLD_MS + i for i in range(30)])
    with running_stream():
        code, result, text = produce(capsys, file)

    assert (code, result[file]["stream"]["accepted"], result[file]["stream"]["waiting"]) == (0, 30, 0)
    assert "stream accepted 30 events" in text


def test_repeated_events_are_counted_by_file(environment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = [OLD_MS + i for i in range(30)]
    part, whole = write_events(environment / "part.jsonl", times[:10]), write_events(environment / "all.jsonl", times)
    with running_stream():
        produce(capsys, part)
        code, result, text = produce(capsys, whole, part)

    assert code == 0
    assert [result[file]["stream"]["accepted"] for file in (whole, part)] == [30, 10]
    assert [result[file]["stream"]["repeated"] for file in (whole, part)] == [10, 10]
    assert "stream accepted 30 events, 10 of them repeated: they count once" in text


def test_interrupted_command_says_how_far_it_came(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, stop = write_events(folder / "events.jsonl", [OLD_MS + i for i in range(30)]), Signal()
    stop.set()
    code = produce_files([file], ProduceOptions(), None, as_json=True, stop=stop)
    captured = capsys.readouterr()

    assert code == 1
    assert json.loads(captured.out)[file]["written"] == 0
    assert "interrupted after 0 records. Run the same command again" in captured.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_a_read_of_standard_input(folder: Path, number: signal.Signals) -> None:
    line = json.dumps({"event_id": "e1", "type": "click", "ts": now_ms(), "user_id": "u1", "item_id": "a"}).encode()
    with subprocess.Popen(
        [*HEADRACE, "produce", "-", "--no-wait"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin
        process.stdin.write((line + b"\n") * 20_000 + line[:20])
        process.stdin.flush()
        while not (folder / "data/log").exists():
            time.sleep(0.05)
        process.send_signal(number)
        assert process.stderr
        text = process.stderr.read().decode()

    assert process.returncode == 128 + number
    assert "records. Run the same command again" in text
    assert "rejected" not in text


def test_missing_stream_is_named_within_seconds(environment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_events(environment / "events.jsonl", [OLD_MS + i for i in range(30)])
    started = time.monotonic()
    code, result, text = produce(capsys, file)

    assert (code, result[file]["stream"]["waiting"]) == (0, 30)
    assert "No stream process has read the events yet" in text
    assert time.monotonic() - started < 60


def test_dry_run_shows_rows_and_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,31,2.5,1714564800\n1,32,x,1714564800\n")
    options = ProduceOptions(dry_run=True)
    code = produce_files([str(folder / "ratings.csv")], options, None, as_json=False)
    captured = capsys.readouterr()

    assert code == 1
    assert "movielens-ratings" in captured.err.replace("\n", "")
    assert "too_old 1" in captured.err.replace("\n", " ")
    assert not (folder / "data").exists()


def test_dry_run_prints_the_first_records(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (folder / "items.csv").write_text("item_id,title\n" + "".join(f"i{i},Tasse [b]{i}\n" for i in range(20)))
    produce_files([str(folder / "items.csv")], ProduceOptions(dry_run=True), None, as_json=False)
    out = capsys.readouterr().out

    assert "Tasse [b]9" in out
    assert "Tasse [b]10" not in out


def test_bad_file_does_not_stop_the_others(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.csv").write_text("x,y\n1,2\n")
    (folder / "b.jsonl").write_text('{"item_id":"a"}\n')
    files = [str(folder / "missing"), str(folder / "a.csv"), str(folder / "b.jsonl")]
    code, result, _ = produce(capsys, *files)

    assert code == 1
    assert [result[file]["written"] for file in files] == [0, 0, 1]
    assert "its columns are x, y" in result[files[1]]["error"]
    assert "missing" in result[files[0]]["error"]


def test_error_of_the_log_is_no_error_of_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "items.jsonl").write_text('{"item_id":"a"}\n')
    (folder / "log").write_text("no folder")
    monkeypatch.setenv("HEADRACE_LOG__URL", f"local:{folder / 'log'}")

    with pytest.raises(OSError, match="log"):
        produce(capsys, str(folder / "items.jsonl"))


def test_file_of_another_layout_leaves_dead_letter_empty(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.csv").write_text("userId,movieId,rating,timestamp\n" + "1,2,3,soon\n" * 500)
    code, result, _ = produce(capsys, str(folder / "a.csv"))
    log = open_topics(load(), SystemClock())

    assert code == 1
    assert "all of the first 500 records are refused" in result[str(folder / "a.csv")]["error"]
    assert log.end_offset(DEAD_LETTER, 0) == log.end_offset(EVENTS, 0) == 0
    log.close()


def test_replace_deletes_what_the_file_lacks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, deleted = folder / "items.jsonl", []
    for names, replace in (("abc", False), ("bcd", True), ("bcd", True)):
        file.write_text("".join(f'{{"item_id":"{name}"}}\n' for name in names))
        _, result, _ = produce(capsys, str(file), replace=replace)
        deleted.append(result[str(file)]["deleted"])
    log = open_topics(load(), SystemClock())
    catalog = Catalog(log)
    catalog.poll()

    assert deleted == [0, 1, 0]
    assert len(catalog) == 3
    log.close()


@pytest.mark.parametrize("content", ["", '{"item_id":"b"}\n{"item_id":null}\n'], ids=["empty", "refused"])
def test_replace_by_an_incomplete_file_deletes_nothing(
    content: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "items.jsonl").write_text('{"item_id":"a"}\n')
    produce(capsys, str(folder / "items.jsonl"))
    (folder / "items.jsonl").write_text(content)
    code, result, _ = produce(capsys, str(folder / "items.jsonl"), replace=True)

    assert code == 1
    assert "no item was deleted" in result[str(folder / "items.jsonl")]["error"]
    assert result[str(folder / "items.jsonl")]["deleted"] == 0


def test_replace_by_a_file_with_an_open_quote_deletes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, rows = folder / "items.csv", [f"i{n},5,cup" for n in range(50)]
    file.write_text("\n".join(["item_id,price,title", *rows, ""]))
    produce(capsys, str(file))
    rows[10] = 'i10,5,"cup'
    file.write_text("\n".join(["item_id,price,title", *rows, ""]))
    code, result, _ = produce(capsys, str(file), replace=True)

    assert code == 1
    assert "line 12 on" in result[str(file)]["error"]
    assert result[str(file)]["deleted"] == 0


def test_same_file_twice_counts_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "log.csv").write_text(f"who,what,when\nu1,a,{now_ms()}\nu1,a,{now_ms()}\n")
    read = ReadOptions(maps=("user_id=who", "item_id=what", "ts=when"), type="click")
    for _ in range(2):
        produce(capsys, str(folder / "log.csv"), read=read, wait=False)
    log = open_topics(load(), SystemClock())
    ids = [json.loads(value or b"")["event_id"] for value in log.read(EVENTS, 0, 0, 10).values]

    assert ids[:2] == ids[2:]
    assert ids[0] != ids[1]
    log.close()
