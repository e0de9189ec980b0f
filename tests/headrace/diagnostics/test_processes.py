"""Rows of processes that cannot be asked directly, and of clocks that disagree."""

from typing import Any

import pytest

from headrace.diagnostics.clocks import check_clocks
from headrace.diagnostics.processes import ProcessStates, check_processes
from headrace.diagnostics.progress import Observation, Snapshot
from headrace.diagnostics.results import CheckResult
from headrace.diagnostics.scraping import ProcessReport, find_addresses, parse_addresses
from stream.config import Settings
from stream.testing import memory_system
from stream.topics import EVENTS

NOW_MS = 1_767_225_600_000
NOW_S = NOW_MS / 1000
HEARTBEAT = "headrace_heartbeat_timestamp_seconds"


def make_report(process: str, heartbeat_s: float | None = NOW_S, **fields: Any) -> ProcessReport:
    """Answer of a process; without a heartbeat, nothing listens."""
    url = f"http://127.0.0.1:1/{process}"
    if heartbeat_s is None:
        return ProcessReport(process, url, "refused")
    samples = {(HEARTBEAT, process): heartbeat_s} | fields.pop("samples", {})
    return ProcessReport(process, url, "", True, samples, **{"status": {"status": "ready"}} | fields)


def make_observation(unread: int = 0, moved: int = 0, updated_ms: int = 0) -> Observation:
    first = Snapshot({0: 100}, {0: 0}, {0: 100 - unread - moved}, {0: 100 - unread}, "v", updated_ms)
    last = Snapshot({0: 100}, {0: 0}, {0: 100 - unread}, {0: 100 - unread}, "v", updated_ms)
    return Observation(first, last, 5.0)


def rows(
    *reports: ProcessReport, observation: Observation | None = None, is_local: bool = False
) -> dict[str, CheckResult]:
    """Rows by process; a process without a report does not answer."""
    by_process = {process: make_report(process, None) for process in ("stream", "learn", "serve")}
    by_process |= {report.process: report for report in reports}
    states = ProcessStates(by_process, observation or make_observation(), is_local, NOW_MS)
    return {row.name: row for row in check_processes(states, Settings())}


def test_silent_loop_is_red_though_it_answers() -> None:
    row = rows(make_report("stream", NOW_S - 45))["stream"]

    assert not row.ok
    assert "last round 45 s ago: it hangs" in row.detail


def test_age_of_a_heartbeat_is_measured_by_the_clock_of_the_process() -> None:
    row = rows(make_report("stream", NOW_S - 7200, clock_offset_s=-7200.0))["stream"]

    assert row.ok
    assert "last round 0.0 s ago" in row.detail


def test_starting_process_is_red_with_advice_to_wait() -> None:
    row = rows(make_report("learn", 0, samples={("process_start_time_seconds", ""): NOW_S - 20}))["learn"]

    assert not row.ok
    assert "starting for 20 s" in row.detail
    assert row.fix.startswith("wait")


def test_process_that_recovers_its_state_is_starting() -> None:
    samples = {("headrace_build_info", "0.1"): 1.0, ("process_start_time_seconds", ""): NOW_S - 20}
    report = ProcessReport("stream", "http://127.0.0.1:1", "", True, samples)

    assert "starting for 20 s" in rows(report)["stream"].detail


def test_port_of_another_process_of_headrace_is_red() -> None:
    samples = {("headrace_build_info", "0.1"): 1.0, (HEARTBEAT, "learn"): NOW_S}
    report = ProcessReport("stream", "http://127.0.0.1:1", "", True, samples)

    assert "does not answer as headrace stream" in rows(report)["stream"].detail


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"status": {"status": "starting"}}, "not ready: starting"),
        ({"status": {"status": "ready", "blocked_reason": "alarm x is open"}}, "blocked: alarm x is open"),
        ({"status": {"status": "ready", "store_problem": "no route"}}, "it cannot read users: no route"),
        (
            {"samples": {("headrace_impressions_lost_total", ""): 4.0, ("headrace_impressions_failing", ""): 1.0}},
            "4 impressions could not be written since its start; the latest impressions could not be written",
        ),
    ],
    ids=["not ready", "blocked", "store away", "impressions fail"],
)
def test_serve_in_trouble_is_red(fields: dict[str, Any], detail: str) -> None:
    row = rows(make_report("serve", **fields))["serve"]

    assert not row.ok
    assert detail in row.detail


def test_learner_that_cannot_write_checkpoints_is_red() -> None:
    samples = {("headrace_checkpoints_failed_total", ""): 2.0, ("headrace_checkpoint_failing", ""): 1.0}
    row = rows(make_report("learn", samples=samples))["learn"]

    assert not row.ok
    assert "2 checkpoints could not be written since its start, the latest included" in row.detail


@pytest.mark.parametrize(
    ("process", "metric", "detail"),
    [
        (
            "learn",
            "headrace_checkpoints_failed_total",
            "2 checkpoints could not be written since its start, the latest",
        ),
        ("serve", "headrace_impressions_lost_total", "2 impressions could not be written since its start"),
    ],
)
def test_failure_that_is_over_is_shown_and_green(process: str, metric: str, detail: str) -> None:
    row = rows(make_report(process, samples={(metric, ""): 2.0}))[process]

    assert row.ok
    assert detail in row.detail


def test_process_on_another_machine_is_seen_in_the_log() -> None:
    found = rows(observation=make_observation(unread=3, moved=9))

    assert found["stream"].ok
    assert "as the log shows" in found["stream"].detail
    assert found["learn"].ok


def test_cluster_without_any_sign_of_life_is_red() -> None:
    found = rows(observation=make_observation(updated_ms=NOW_MS - 2000))

    assert not any(row.ok for row in found.values())
    assert found["stream"].fix.startswith("start headrace up; if it runs elsewhere, headrace check --at stream=")


def test_process_must_answer_at_a_named_address() -> None:
    report = ProcessReport("learn", "http://learn:9102", "refused", is_expected=True)
    row = rows(make_report("serve"), report, observation=make_observation(moved=9))["learn"]

    assert not row.ok
    assert "http://learn:9102" in row.detail


def test_process_without_work_may_be_on_another_machine() -> None:
    found = rows(make_report("serve"))

    assert found["stream"].ok
    assert "another machine" in found["stream"].detail


def test_process_that_others_wait_for_is_red() -> None:
    row = rows(make_report("serve"), observation=make_observation(unread=3))["stream"]

    assert not row.ok
    assert "3 events" in row.detail


def test_embedded_log_has_no_other_machines() -> None:
    found = rows(make_report("serve"), is_local=True)

    assert not found["stream"].ok
    assert not found["learn"].ok


@pytest.mark.parametrize(("offset_s", "ok"), [(-0.9, True), (3600.0, False), (-3600.0, False)])
def test_clock_of_a_process_must_agree(offset_s: float, ok: bool) -> None:
    row = check_clocks({"stream": make_report("stream", clock_offset_s=offset_s)}, None, NOW_MS)

    assert row.ok is ok
    assert ok or "the clock of stream is 60.0 min" in row.detail


def test_event_time_ahead_of_the_clock_is_red() -> None:
    report = make_report("stream", samples={("headrace_watermark_timestamp_seconds", "0"): NOW_S + 600})
    row = check_clocks({"stream": report}, None, NOW_MS)

    assert not row.ok
    assert "event time is 10.0 min ahead" in row.detail


def test_records_ahead_of_the_clock_are_red() -> None:
    log, _, clock = memory_system()
    clock.advance(NOW_S)
    log.append(EVENTS, 0, [(b"u", b"{}")])
    row = check_clocks({"stream": make_report("stream")}, log, NOW_MS - 86_400_000)

    assert not row.ok
    assert "24.0 h ahead" in row.detail or "1.0 d ahead" in row.detail


@pytest.mark.parametrize("value", ["stream", "stream=9101", "console=a:1", "serve=http://a:8000", "serve=::1:8000"])
def test_addresses_that_are_not_understood_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="expected PROCESS=HOST:PORT"):
        parse_addresses([value])


def test_named_address_replaces_the_one_of_the_settings() -> None:
    addresses = find_addresses(Settings(), {"stream": "stream:9101"})

    assert addresses["stream"] == ("http://stream:9101", True)
    assert addresses["serve"] == ("http://127.0.0.1:8000", False)
