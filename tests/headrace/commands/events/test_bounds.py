"""Bounds are offsets, times or ages."""

import pytest

from headrace.commands.errors import UsageError
from headrace.commands.events.bounds import Bound, parse_bound

NOW = 1_767_225_600_000  # 2026-01-01T00:00:00Z


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("0", Bound(0)),
        ("3:17", Bound(17, partition=3)),
        ("-90s", Bound(time_ms=NOW - 90_000)),
        ("1.5h", Bound(time_ms=NOW - 5_400_000)),
        ("-2d", Bound(time_ms=NOW - 172_800_000)),
        ("2026-01-01", Bound(time_ms=NOW)),
        ("2026-01-01T01:00:00+01:00", Bound(time_ms=NOW)),
        ("2026-01-01T00:00:00.250Z", Bound(time_ms=NOW + 250)),
    ],
)
def test_bound_is_parsed(text: str, bound: Bound) -> None:
    assert parse_bound("--from", text, NOW) == bound


@pytest.mark.parametrize("text", ["", "yesterday", "-5", "1:", ":1", "1:2:3", "-1w", "²", "2026-13-01", "9" * 30])
def test_invalid_bound_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match="expected an offset"):
        parse_bound("--to", text, NOW)
