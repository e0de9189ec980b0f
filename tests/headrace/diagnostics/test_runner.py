"""A check that waits is reported, and ends at its time limit."""

import time
from threading import Event

import pytest

from headrace.diagnostics.results import CheckResult, passed
from headrace.diagnostics.runner import Runner


def test_result_is_returned() -> None:
    assert Runner().check("a", lambda: passed("a", "fine")) == passed("a", "fine")


@pytest.mark.parametrize("error", [OSError("broken pipe"), ValueError("broken pipe")])
def test_error_is_a_failed_check(error: Exception) -> None:
    def fail() -> CheckResult:
        raise error

    result = Runner().check("a", fail, "repair the pipe")

    assert (result.ok, result.detail, result.fix) == (False, "broken pipe", "repair the pipe")


def test_endless_check_fails_at_its_limit(capsys: pytest.CaptureFixture[str]) -> None:
    release = Event()
    result = Runner(limit_s=1.5).check("event log", lambda: passed("a", str(release.wait())))
    release.set()

    assert "no answer within 2 s" in result.detail
    assert capsys.readouterr().err == "checking: event log (up to 2 s)\n"


def test_total_time_is_limited() -> None:
    release, runner, started = Event(), Runner(limit_s=60, total_s=1), time.monotonic()
    results = [runner.check("a", lambda: passed("a", str(release.wait()))) for _ in range(3)]
    release.set()

    assert not any(result.ok for result in results)
    assert time.monotonic() - started < 30
