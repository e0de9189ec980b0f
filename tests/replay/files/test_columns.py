"""Text of files becomes times, numbers and lists."""

import polars as pl
import pytest

from replay.files.columns import build_column
from replay.files.mapping import FieldMap, parse_map

MS = 1_714_564_800_000


def convert(target: str, source: str, value: object) -> object:
    frame = pl.DataFrame({"c": [value], "d": ["other"]})
    field = FieldMap.parse(target, source, frame.columns)
    return frame.select(build_column(field, frame.schema).value).to_series().to_list()[0]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("c:s", "1714564800"), ("c:s", "1714564800.0"), ("c:ms", str(MS)), ("c:us", f"{MS}000"),
        ("c:ns", f"{MS}000000"), ("c", str(MS)), ("c", "2024-05-01T12:00:00Z"), ("c", "2024-05-01T12:00:00.000Z"),
        ("c", "2024-05-01T14:00:00+02:00"), ("c", "2024-05-01 12:00:00"), ("c", "2024-05-01 14:00:00 +0200"),
        ("c", "2024-05-01 12:00:00 UTC"), ("c:iso", "2024-05-01 12:00:00.000"),
        ("c:%d.%m.%Y %H:%M", "01.05.2024 12:00"),
    ],
)  # fmt: skip
def test_time_is_read_in_its_unit_or_format(source: str, text: str) -> None:
    assert convert("ts", source, text) == MS


@pytest.mark.parametrize("text", ["yesterday", "", "2024-13-01"])
def test_text_that_is_no_time_is_missing(text: str) -> None:
    assert convert("ts", "c", text) is None


@pytest.mark.parametrize(
    ("source", "value", "expected"),
    [
        ("c:|", "a|b", ["a", "b"]), ("c:, ", "a, b", ["a", "b"]), ("c", "a|b", ["a|b"]), ("c:/", "a/b", ["a", "b"]),
        ("c:|", "", []), ("c: /-[01]$/", "a-1 b-0", ["a", "b"]), ("c&d", "x", ["x", "other"]), ("c,d", "", ["other"]),
        ("c", ["a", "b"], ["a", "b"]), ('"home"', "", ["home"]),
    ],
)  # fmt: skip
def test_list_is_split_by_its_separator(source: str, value: object, expected: list[str]) -> None:
    assert convert("categories", source, value) == expected


@pytest.mark.parametrize(
    ("target", "source", "value", "expected"),
    [
        ("price", "c:money", "$1,299.50", 1299.5), ("price", "c:money", "from 14", 14.0), ("value", "c", "4.5", 4.5),
        ("value", "c:ms", "1500", 1.5), ("available", "c", "no", False), ("available", "c", "", True),
        ("user_id", "c", 17, "17"), ("user_id", "c+d", "a", "a-other"), ("user_id", "c,d", "", "other"),
        ("type", "c:order=purchase,view=view", "order", "purchase"),
    ],
)  # fmt: skip
def test_value_gets_the_type_of_its_field(target: str, source: str, value: object, expected: object) -> None:
    assert convert(target, source, value) == expected


@pytest.mark.parametrize("text", ["user_id", "=x", "user_id=", "user id=x", 'surface="home'])
def test_map_needs_a_field_and_a_column(text: str) -> None:
    with pytest.raises(ValueError, match="expected FIELD=COLUMN"):
        parse_map(text)


def test_column_whose_name_has_a_separator_is_found() -> None:
    assert FieldMap.parse("ts", "event:time:s", ["event:time"]).columns == ("event:time",)
    assert FieldMap.parse("user_id", "a,b", ["a,b"]).columns == ("a,b",)
