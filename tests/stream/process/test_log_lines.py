"""Log lines have a time with its zone, a level, a format, and no secrets."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.support.processes import HEADRACE

SCRIPT = """
import logging, sys, threading, warnings
from stream.process.log_lines import log_to_stderr, request_id
log_to_stderr("serve", sys.argv[1], sys.argv[2])
logger = logging.getLogger("shop")
logger.debug("one %s", "detail")
logger.info("connected to redis://app:open-sesame@cache:6379/0?password=open-sesame")
request_id.set("r-7")
logger.warning("slow")
warnings.warn("old call")
try:
    raise ValueError("cannot parse kafka://b:9092?sasl_password=open-sesame")
except ValueError:
    logger.exception("failed \\ud800")
thread = threading.Thread(target=lambda: [][1])
thread.start()
thread.join()
raise RuntimeError("redis://:open-sesame@h:1")
"""
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d")


def run_script(level: str, line_format: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, level, line_format], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


def test_text_lines_have_an_iso_time_with_zone() -> None:
    lines = run_script("info", "text").splitlines()

    assert re.fullmatch(TIME.pattern + r" serve  INFO    connected to redis://\*\*\*@cache:6379/0\?\*\*\*", lines[0])
    assert re.fullmatch(TIME.pattern + " serve  WARNING slow request_id=r-7", lines[1])


def test_json_lines_are_one_object_each() -> None:
    records = [json.loads(line) for line in run_script("debug", "json").splitlines()]

    assert [record["level"] for record in records] == [
        "debug", "info", "warning", "warning", "error", "critical", "critical"
    ]  # fmt: skip
    assert all(TIME.fullmatch(record["time"]) and record["process"] == "serve" for record in records)
    assert records[0]["message"] == "one detail"
    assert (records[2]["request_id"], "request_id" in records[1]) == ("r-7", False)
    assert "UserWarning: old call" in records[3]["message"]
    assert "ValueError: cannot parse kafka://b:9092?***" in records[4]["exception"]
    assert "IndexError" in records[5]["exception"]
    assert records[6]["message"] == "unexpected error: redis://***@h:1"


@pytest.mark.parametrize("line_format", ["text", "json"])
@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_level_hides_lower_lines_and_no_line_has_a_secret(level: str, line_format: str) -> None:
    output = run_script(level, line_format)

    shown = ["one detail" in output, "connected to" in output, "slow" in output, "failed" in output]
    assert shown == [level == "debug", level in ("debug", "info"), level != "error", True]
    assert "open-sesame" not in output


def test_processes_log_in_the_format_of_the_settings() -> None:
    environ = {**os.environ, "HEADRACE_LOGGING__FORMAT": "json", "HEADRACE_STREAM__METRICS_PORT": "0"}
    environ["HEADRACE_LOG__URL"] = "kafka://127.0.0.1:1?patience=0.1"
    done = subprocess.run([*HEADRACE, "stream"], env=environ, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "no broker answered" in done.stderr


def test_unknown_level_error_lists_the_levels() -> None:
    environ = {**os.environ, "HEADRACE_LOGGING__LEVEL": "verbose"}
    done = subprocess.run([*HEADRACE, "stream"], env=environ, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "logging.level is 'verbose'" in done.stderr
    assert "'debug', 'info', 'warning' or 'error'" in done.stderr
