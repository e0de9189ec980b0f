"""Files are read in any format, compression and kind; damage is named with its place."""

import gzip
import io
import json
import re
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard

from replay.files.kinds import ParsedLines
from replay.files.options import ReadOptions
from replay.files.reading import RecordReader
from replay.files.sources.compression import DamagedFile
from stream.records.catalog import parse_item

MS = 1_714_564_800_000
EVENTS = [
    {"event_id": f"e{i}", "type": "click", "ts": MS + i, "user_id": f"u{i}", "item_id": "größe"} for i in range(20)
]
ITEMS = [{"item_id": f"i{i}", "title": "Tasse 日本", "categories": ["a"]} for i in range(5)]


def to_lines(records: list[dict[str, Any]], end: str = "\n") -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + end for record in records).encode()


def read(path: Path | str, **options: Any) -> ParsedLines:
    """Read a whole file; a list `maps` becomes a tuple."""
    parsed = ParsedLines()
    for batch in RecordReader(str(path), ReadOptions(**options)).batches():
        parsed.extend(batch.parsed)
    return parsed


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


WHOLE_FILES = {
    "lines": to_lines(EVENTS),
    "crlf": to_lines(EVENTS, "\r\n"),
    "cr": to_lines(EVENTS, "\r"),
    "bom": b"\xef\xbb\xbf" + to_lines(EVENTS, "\r\n"),
    "blank_lines": b"\n\n" + to_lines(EVENTS, "\n\n"),
    "trailing_commas": to_lines(EVENTS, ",\n"),
    "array": json.dumps(EVENTS, ensure_ascii=False).encode(),
    "pretty_array": b"  " + json.dumps(EVENTS, indent=2, ensure_ascii=False).encode() + b"\n",
    "pretty_objects": "\n".join(json.dumps(event, indent=2, ensure_ascii=False) for event in EVENTS).encode(),
    "wrapper": json.dumps({"events": EVENTS}).encode(),
    "gzip": gzip.compress(to_lines(EVENTS)),
    "gzip_members": gzip.compress(to_lines(EVENTS[:9])) + gzip.compress(to_lines(EVENTS[9:])) + bytes(64),
    "zstd": zstandard.compress(to_lines(EVENTS)),
    "zstd_frames": zstandard.compress(to_lines(EVENTS[:9])) + zstandard.compress(to_lines(EVENTS[9:])),
    "csv": pl.DataFrame(EVENTS).write_csv().encode(),
    "semicolons": pl.DataFrame(EVENTS).write_csv(separator=";").encode(),
    "tsv": pl.DataFrame(EVENTS).write_csv(separator="\t").encode(),
    "tsv_gzip": gzip.compress(pl.DataFrame(EVENTS).write_csv(separator="\t").encode()),
}


@pytest.mark.parametrize("name", WHOLE_FILES)
def test_format_is_detected(name: str, tmp_path: Path) -> None:
    parsed = read(write(tmp_path, "events", WHOLE_FILES[name]))

    assert [event.event_id for event in parsed.events] == [event["event_id"] for event in EVENTS]
    assert {event.item_id for event in parsed.events} == {"größe"}
    assert parsed.refused == []


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
def test_parquet_is_read(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pl.DataFrame(EVENTS).with_columns(pl.from_epoch("ts", time_unit="ms")).write_parquet(buffer)
    parsed = read(write(tmp_path, "events", compress(buffer.getvalue())))

    assert [(event.event_id, event.ts) for event in parsed.events] == [(e["event_id"], e["ts"]) for e in EVENTS]


def write_parquet(folder: Path, **columns: Any) -> str:
    path = folder / "items.parquet"
    pl.DataFrame({"item_id": ["a", "b"]} | columns).write_parquet(path)
    return str(path)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([b"gr\xc3\xbcn", None], ["grün", None]),
        ([timedelta(seconds=1.5), None], [1.5, None]),
        ([Decimal("1.5"), None], [1.5, None]),
        ([date(2026, 1, 1), None], ["2026-01-01", None]),
        ([[1], [2, 3]], [[1], [2, 3]]),
        ([{"x": 1}, {"x": 2}], [{"x": 1}, {"x": 2}]),
        ([None, None], [None, None]),
    ],
    ids=["bytes", "duration", "decimal", "date", "list", "struct", "null"],
)
def test_column_of_parquet_becomes_an_attribute(values: list[Any], expected: list[Any], tmp_path: Path) -> None:
    parsed = read(write_parquet(tmp_path, color=values))

    assert [json.loads(value or b"").get("color") for _, value in parsed.items] == expected


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ([b"x", b"\xff"], "column 'color' has bytes that are not UTF-8 text: convert it to text"),
        ([[b"x"], [b"y"]], "column 'color' is of type List(Binary); expected text"),
        ([{"a": b"x"}, {"a": b"y"}], "column 'color' is of type Struct({'a': Binary}); expected text"),
    ],
    ids=["bytes", "list", "struct"],
)
def test_parquet_column_of_bytes_is_named(values: list[Any], error: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(error)):
        read(write_parquet(tmp_path, color=values))


def test_parquet_without_rows_has_no_records(tmp_path: Path) -> None:
    parsed = read(write_parquet(tmp_path, item_id=pl.Series([], dtype=pl.String)))

    assert (parsed.items, parsed.refused) == ([], [])


def test_whole_floats_are_ids_of_integers(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, item_id=[1.0, float("nan"), 2.5, 1e15, None])

    assert [item_id for item_id, _ in read(path).items] == ["1", "2.5", "1000000000000000"]


@pytest.mark.parametrize(
    ("header", "is_used"), [("item_id,title,title", True), ("item_id,x,x", True), ("item_id,,", False)]
)
def test_repeated_column_that_is_read_is_named(header: str, is_used: bool, tmp_path: Path) -> None:
    path = write(tmp_path, "items.csv", f"{header}\na,b,c\n".encode())
    name = header.rpartition(",")[2]
    if is_used:
        with pytest.raises(ValueError, match=f"its header has '{name}' as columns 2 and 3"):
            read(path)
    else:
        assert len(read(path).items) == 1


def test_field_that_is_mapped_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="--map item_id is given 2 times"):
        ReadOptions(maps=("item_id=a", "item_id=b"))


@pytest.mark.parametrize("name", ["lines", "gzip", "array", "csv"])
def test_standard_input_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(WHOLE_FILES[name])))

    assert len(read("-").events) == len(EVENTS)


def test_first_line_that_is_longer_than_the_buffers_is_read(tmp_path: Path) -> None:
    events = [{**EVENTS[0], "context": {"text": "x" * 700_000}}, EVENTS[1]]

    assert len(read(write(tmp_path, "events.jsonl", to_lines(events))).events) == 2


def test_array_that_is_larger_than_the_buffers_is_read(tmp_path: Path) -> None:
    items = [{"item_id": f"i{i}", "text": "ü" * (i % 700)} for i in range(3000)]
    parsed = read(write(tmp_path, "items.json", json.dumps(items, indent=1, ensure_ascii=False).encode()))

    assert [item_id for item_id, _ in parsed.items] == [item["item_id"] for item in items]


@pytest.mark.parametrize("order", [1, -1], ids=["events_first", "items_first"])
def test_each_line_of_a_mixed_file_is_of_its_own_kind(order: int, tmp_path: Path) -> None:
    parts = [to_lines(EVENTS), to_lines(ITEMS), b'{"user_id":"u1","age":7}\n'][::order]
    parsed = read(write(tmp_path, "mixed.jsonl", b"".join(parts)))

    assert (len(parsed.events), len(parsed.items), len(parsed.users)) == (20, 5, 1)
    assert parsed.refused == []


BAD_LINES = {
    "not_json": (b"# exported 2026", "not_json"),
    "no_object": (b"[1]", "not_object"),
    "null_id": (b'{"item_id":null}', "not_an_item"),
    "number_id": (b'{"item_id":17}', "not_an_item"),
    "latin1": '{"item_id":"größe"}'.encode("latin-1"),
    "no_fields": (b"{}", "unknown_kind"),
    "review": (b'{"user_id":"u","asin":"b","rating":5}', "unknown_kind"),
    "anonymous_view": (b'{"item_id":"a","event":"view","session_id":"s"}', "unknown_kind"),
    "deep": (b'{"item_id":' + b"[" * 5000, "not_json"),
}


@pytest.mark.parametrize("place", [1, 4], ids=["first", "middle"])
@pytest.mark.parametrize("name", BAD_LINES)
def test_bad_line_costs_that_line(name: str, place: int, tmp_path: Path) -> None:
    bad = BAD_LINES[name]
    line, reason = bad if isinstance(bad, tuple) else (bad, "not_utf8")
    lines = to_lines(ITEMS).splitlines()
    lines.insert(place - 1, line)
    parsed = read(write(tmp_path, "items.jsonl", b"\n".join(lines)))

    assert len(parsed.items) == len(ITEMS)
    assert [(refusal.place, refusal.rejection.reason) for refusal in parsed.refused] == [(place, reason)]


OTHER_TEXT = {
    "utf16": (to_lines(ITEMS).decode().encode("utf-16"), "UTF-16.*iconv"),
    "utf16_without_mark": ('{"item_id":"a"}\n' * 9).encode("utf-16-le"),
    "zip": (b"PK\x03\x04....", "Excel"),
    "bzip2": (b"BZh9....", "bzip2"),
    "latin1": (to_lines([{"item_id": "größe"}]).decode().encode("latin-1"), "WINDOWS-1252"),
    "words": (b"hello\nworld\n", "no events, items or users"),
    "broken_json": (b'{"item_id": "a",\n"b": }\n', "no events, items or users"),
    "columns": (b"sku;rating\n1;2\n", "its columns are sku, rating"),
    "nearest": (b"userId,movieId,rating\n1,2,3\n", "nearest preset is movielens-ratings.*timestamp"),
    "events_without_time": (b"user_id,item_id,time\nu,a,1\n", "events need ts, type.*--map ts=COLUMN:s --type click"),
    "objects": (b'{"a":1}\n{"a":2}\n', "its columns are a"),
}


@pytest.mark.parametrize("name", OTHER_TEXT)
def test_file_that_fits_nothing_stops_with_a_sentence(name: str, tmp_path: Path) -> None:
    content = OTHER_TEXT[name]
    data, sentence = content if isinstance(content, tuple) else (content, "UTF-16LE")

    with pytest.raises(ValueError, match=sentence):
        read(write(tmp_path, "file", data))


LARGE = to_lines([{**EVENTS[0], "event_id": f"{i * 7919 % 10007:x}-{i}"} for i in range(9000)])


@pytest.mark.parametrize(
    ("compress", "suffix"), [(gzip.compress, "gz"), (zstandard.compress, "zst")], ids=["gzip", "zstd"]
)
@pytest.mark.parametrize("damage", ["half", "tail", "flip"])
def test_damage_is_named_after_the_records_before_it(
    compress: Callable[[bytes], bytes], suffix: str, damage: str, tmp_path: Path
) -> None:
    data = compress(LARGE)
    middle = len(data) // 2
    damaged = {
        "half": data[:middle],
        "tail": data[:-3],
        "flip": data[:middle] + b"\xff\xfe\xfd\xfc" * 8 + data[middle + 32 :],
    }[damage]
    reader = RecordReader(str(write(tmp_path, f"events.jsonl.{suffix}", damaged)), ReadOptions())
    count = 0
    with pytest.raises(DamagedFile, match=rf"events.jsonl.{suffix} is .*damaged.*byte \d"):  # noqa: PT012
        for batch in reader.batches():
            count += len(batch.parsed.events)

    assert count > (1000 if damage == "tail" else 0)


@pytest.mark.parametrize("content", [b'[{"item_id":"a"},{"item_id"', b'[{"item_id":"a"} x {"item_id":"b"}]'])
def test_damaged_array_keeps_the_records_before(content: bytes, tmp_path: Path) -> None:
    batches = RecordReader(str(write(tmp_path, "items.json", content)), ReadOptions()).batches()

    assert [item_id for item_id, _ in next(batches).parsed.items] == ["a"]
    with pytest.raises(DamagedFile, match="after 1 records"):
        next(batches)


def test_row_with_other_columns_costs_that_row(tmp_path: Path) -> None:
    text = b'item_id,price,title\na,1.5,"two\nlines"\nb,29,99,x\nc\nd,oops,y\ne,,z\n'
    parsed = read(write(tmp_path, "items.csv", text))

    assert [item_id for item_id, _ in parsed.items] == ["a", "e"]
    assert sorted((r.place, r.rejection.reason) for r in parsed.refused) == [
        (3, "column_count"), (4, "column_count"), (5, "bad_value"),
    ]  # fmt: skip


MAPPED = b'uid,sku,when,page,stars\nu1,a,2024-05-01 12:00:00,home,"4,5"\nu2,b,2024-05-01 12:00:01,cart,4.5\n'
MAPS = ("user_id=uid", "item_id=sku", "ts=when:iso", "context.page=page", 'surface="web"')


def test_columns_are_mapped(tmp_path: Path) -> None:
    parsed = read(write(tmp_path, "log.csv", MAPPED), maps=MAPS, type="view")

    assert [(e.user_id, e.item_id, e.ts, e.surface, e.context) for e in parsed.events] == [
        ("u1", "a", MS, "web", {"page": "home"}),
        ("u2", "b", MS + 1000, "web", {"page": "cart"}),
    ]
    assert json.loads(parsed.event_lines[0])["stars"] == "4,5"


def test_stock_and_times_of_items_are_read_from_text(tmp_path: Path) -> None:
    text = b"item_id,stock,available_from,expires_ts\na,3,1767225600000,2026-02-01T00:00:00Z\nb,,2026-01-01,\n"
    parsed = read(write(tmp_path, "items.csv", text))

    items = [parse_item(value) for _, value in parsed.items if value]
    assert [(item.stock, item.available_from, item.expires_ts) for item in items] == [
        (3, 1_767_225_600_000, 1_769_904_000_000),
        (None, 1_767_225_600_000, None),
    ]


@pytest.mark.parametrize("column", ["quantity", "value", "position", "propensity", "impression_id"])
def test_empty_optional_cell_costs_no_event(column: str, tmp_path: Path) -> None:
    text = f"event_id,type,ts,user_id,item_id,{column}\ne1,click,{MS},u1,a,\n".encode()
    parsed = read(write(tmp_path, "events.csv", text))

    assert [event.event_id for event in parsed.events] == ["e1"]


def test_value_that_cannot_be_converted_costs_its_row(tmp_path: Path) -> None:
    parsed = read(write(tmp_path, "log.csv", MAPPED), maps=(*MAPS, "value=stars"), type="rating")

    assert [event.user_id for event in parsed.events] == ["u2"]
    assert "value is '4,5' in the file; expected a number" in parsed.refused[0].rejection.detail


def test_fields_of_json_are_mapped_and_the_others_kept(tmp_path: Path) -> None:
    line = b'{"meta":{"user":7},"product":"a","ts":1714564800,"type":"click","price":2,"event_id":"x"}\n'
    maps = ("user_id=meta.user", "item_id=product", "ts=ts:s")
    parsed = read(write(tmp_path, "log.jsonl", line), maps=maps)

    assert json.loads(parsed.event_lines[0]) == {
        "user_id": "7", "item_id": "a", "ts": MS, "type": "click", "price": 2, "event_id": "x",
    }  # fmt: skip


def test_times_as_text_need_no_mapping(tmp_path: Path) -> None:
    events = [{**event, "ts": "2024-05-01T14:00:00+02:00"} for event in EVENTS]
    parsed = read(write(tmp_path, "events.jsonl", to_lines(events) + to_lines(ITEMS)))

    assert {event.ts for event in parsed.events} == {MS}
    assert len(parsed.items) == 5


def test_mapped_column_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"user_id=uidd.*no such column; the nearest is 'uid'"):
        read(write(tmp_path, "log.csv", MAPPED), maps=("user_id=uidd",))


def test_event_without_type_and_id_gets_them(tmp_path: Path) -> None:
    line = b'{"user_id":"u","item_id":"a","ts":5}\n'
    path = write(tmp_path, "events.jsonl", line * 2)
    first, second = read(path, type="like").events

    assert first.type == "like"
    assert second.event_id == f"{first.event_id}~1"
    assert first.event_id == read(path, type="like").events[0].event_id != read(path, type="click").events[0].event_id
    assert "--type" in read(path).refused[0].rejection.detail


def test_recorded_like_of_minus_one_is_a_dislike(tmp_path: Path) -> None:
    line = b'{"event_id":"e","type":"like","value":-1,"ts":5,"user_id":"u","item_id":"a"}\n'
    parsed = read(write(tmp_path, "events.jsonl", line))

    assert (parsed.events[0].type, parsed.events[0].value) == ("dislike", None)


def test_deletions_are_read(tmp_path: Path) -> None:
    lines = b'{"item_id":"a","deleted":true}\n{"user_id":"u","deleted":true}\n{"item_id":"b","deleted":false}\n'
    parsed = read(write(tmp_path, "changes.jsonl", lines))

    assert [(name, line is None) for name, line in (*parsed.items, *parsed.users)] == [
        ("a", True), ("b", False), ("u", True),
    ]  # fmt: skip


def test_kind_can_be_forced(tmp_path: Path) -> None:
    path = write(tmp_path, "users.jsonl", b'{"user_id":"u","rating":5}\n')

    assert len(read(path, kind="users").users) == 1


def write_titles(folder: Path, titles: dict[int, str]) -> Path:
    """Write nine items; `titles` replaces those of some rows."""
    rows = [f"i{n},5,{titles.get(n, 'cup')}" for n in range(9)]
    return write(folder, "items.csv", "\n".join(["item_id,price,title", *rows, ""]).encode())


@pytest.mark.parametrize(
    "titles", [{3: '"cup'}, {3: '"cup', 5: '"cup'}, {8: '"x" y'}], ids=["open", "two open", "behind"]
)
def test_stray_quote_takes_no_other_row_into_its_cell(titles: dict[int, str], tmp_path: Path) -> None:
    row, items = min(titles), list[str]()

    def read_items() -> None:
        for batch in RecordReader(str(write_titles(tmp_path, titles)), ReadOptions()).batches():
            items.extend(item_id for item_id, _ in batch.parsed.items)

    with pytest.raises(DamagedFile, match=rf"line {row + 2} on: .*row that begins there"):
        read_items()

    assert items == [f"i{n}" for n in range(row)]


def test_quote_inside_a_cell_stands_for_itself(tmp_path: Path) -> None:
    items = read(write_titles(tmp_path, {4: '19" monitor'})).items

    assert json.loads(items[4][1] or b"")["title"] == '19" monitor'
    assert len(items) == 9


def test_cell_of_several_lines_is_one_row(tmp_path: Path) -> None:
    content = b'item_id,title,price\ni0,"a cup,\nof ""tea""",5\ni1,"tea\n\n",6\n'

    assert [json.loads(line or b"")["title"] for _, line in read(write(tmp_path, "items.csv", content)).items] == [
        'a cup,\nof "tea"',
        "tea\n\n",
    ]


def test_hint_of_a_wrong_type_names_the_field(tmp_path: Path) -> None:
    event = EVENTS[0] | {"position": "first"}
    parsed = read(write(tmp_path, "events.jsonl", to_lines([*EVENTS[1:], event])))

    assert parsed.refused[0].rejection.detail.endswith("; --map position=position converts it")


@pytest.mark.parametrize("options", [{}, {"type": "like"}, {"maps": ("surface=item_id",), "type": "like"}])
def test_last_value_of_a_repeated_key_counts(options: dict[str, Any], tmp_path: Path) -> None:
    line = to_lines([{"event_id": "e", "ts": MS, "user_id": "u", "item_id": "a"}]).strip()[:-1]
    end = b',"item_id":"b"}' if options else b',"item_id":"b","type":"like"}'
    parsed = read(write(tmp_path, "events.jsonl", line + end), **options)

    assert [(event.item_id or event.surface, event.type) for event in parsed.events] == [("b", "like")]
