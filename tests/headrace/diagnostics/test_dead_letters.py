"""The share of rejected events within an hour decides, with the fix for each reason."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.diagnostics.dead_letters import check_dead_letters, summarize_rejections
from headrace.diagnostics.results import CheckResult
from stream.topics import EVENTS
from tests.support.serving_loop import LiveLoop, make_event


def append_records(loop: LiveLoop, *values: bytes) -> None:
    """Append as a Kafka producer does, without the validation of HTTP, and let stream read it."""
    loop.log.append(EVENTS, 0, [(b"u1", value) for value in values])
    loop.run_until_idle()


def encode_events(count: int, **fields: Any) -> list[bytes]:
    return [msgspec.json.encode(make_event(**fields)) for _ in range(count)]


def check(loop: LiveLoop) -> CheckResult:
    return check_dead_letters(loop.log, loop.clock.now_ms())


def test_no_dead_letters_are_fine(loop: LiveLoop) -> None:
    append_records(loop, *encode_events(5))

    assert check(loop).ok


@pytest.mark.parametrize(("bad", "ok"), [(1, True), (3, False), (200, False)])
def test_more_than_one_percent_is_red(loop: LiveLoop, bad: int, ok: bool) -> None:
    append_records(loop, *encode_events(200 - bad), *encode_events(bad, ts=1))

    assert check(loop).ok is ok


def test_top_reasons_have_their_fixes(loop: LiveLoop) -> None:
    append_records(loop, *encode_events(3, ts=1), b"no json", b"no json", b"7")
    result = check(loop)

    assert "100.0%" in result.detail
    assert "50% too_old, 33% not_json, 17% not_object" in result.detail
    assert [part.partition(":")[0] for part in result.fix.split("; ")][:3] == ["too_old", "not_json", "not_object"]


def test_rejections_over_http_count_as_events(loop: LiveLoop) -> None:
    loop.send_events(*[make_event(ts=1) for _ in range(10)], *[make_event() for _ in range(30)])
    loop.run_until_idle()
    summary = summarize_rejections(loop.log, loop.clock.now_ms())

    assert (summary.rejected, summary.total) == (10, 40)


def test_events_of_an_array_are_counted_one_by_one(loop: LiveLoop) -> None:
    arrays = [[make_event() for _ in range(99)] + [make_event(ts=1)] for _ in range(2)]
    append_records(loop, *map(msgspec.json.encode, arrays))
    summary = summarize_rejections(loop.log, loop.clock.now_ms())

    assert (summary.rejected, summary.total) == (2, 200)


def test_old_rejections_do_not_hide_new_traffic(loop: LiveLoop) -> None:
    append_records(loop, *encode_events(50, ts=1))
    loop.clock.advance(2 * 3600)
    without_traffic = check(loop)
    append_records(loop, *encode_events(50, ts=loop.clock.now_ms()))

    assert not without_traffic.ok
    assert "within the last day" in without_traffic.detail
    assert check(loop).ok


def test_unknown_reason_still_has_a_fix(tmp_path: Path, loop: LiveLoop) -> None:
    letter = {"reason": "from_the_future", "detail": "", "partition": 0, "offset": 0, "index": 0, "raw": ""}
    loop.log.append("dead-letter", 0, [(None, msgspec.json.encode(letter))])

    assert "headrace events read --topic dead-letter" in check(loop).fix
