"""No error, check or log line shows a password, however the URL is misspelled."""

import logging
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from stream.clock import SystemClock
from stream.config import SettingsError, load
from stream.drivers import open_log, open_store
from stream.process.errors import describe_error
from stream.process.log_lines import LineFormatter
from stream.process.secrets import mask_secrets, mask_url

SECRET = "s3cret"
STORE_URLS = [
    "valkey://app:s3cret@cache:6379/0",
    "redis+sentinel://app:s3cret@s1:26379/mymaster",
    "rediss://app:s3cret@127.0.0.1:1/0",
    "redis://:s3cret@/0",
    "redis://app:s3cret@127.0.0.1:70000/0",
    "redis://app:s3cret@127.0.0.1:port/0",
    "redis://app:x/s3cret@127.0.0.1:1/0",
    "redis://app:x#s3cret@127.0.0.1:1/0",
    "redis://app:x?s3cret@127.0.0.1:1/0",
    "redis://app:1/s3cret@127.0.0.1:1/0",
    "redis://app:x@s3cret@127.0.0.1:1/0",
    "redis://app:s3cret/0",
    "redis://[s3cret@127.0.0.1:1/0",
    "redis:app:s3cret@127.0.0.1:1/0",
    "redis//app:s3cret@127.0.0.1:1/0",
    "app:s3cret@127.0.0.1:1",
    "redis://127.0.0.1:1/0?password=s3cret&nosuch=1",
    "redis://127.0.0.1:1/0?pasword=s3cret",
    "redis://127.0.0.1:1/0?pass%77ord=s3cret",
    "redis://127.0.0.1:1/0?password=x&s3cret",
    "redis://127.0.0.1:1/0?password=x&s3cret=1",
    "redis://127.0.0.1:1/0?socket_timeout=s3cret",
    "redis://127.0.0.1:1/s3cret",
    "redis://app:%73%33cret@127.0.0.1:1/0",
    "rediss://app:s3cret@127.0.0.1:1/0?ssl_cafile=/nowhere.pem&ssl_password=s3cret",
    "redis://app:s3cret@127.0.0.1:1/0?cluster=true",
]
LOG_URLS = [
    "kafkas://b1:9092?sasl_username=app&sasl_password=s3cret",
    "kafka://?sasl_username=app&sasl_password=s3cret",
    "kafka://app:s3cret@127.0.0.1:1",
    "kafka://127.0.0.1?sasl_password=s3cret",
    "kafka://127.0.0.1:s3cret",
    "kafka://127.0.0.1:1?sasl_password=a&s3cret",
    "kafka://127.0.0.1:1?sasl_pasword=s3cret",
    "kafka:127.0.0.1:1?password=s3cret",
    "kafka://127.0.0.1:1?sasl_password=a&s3cret=1",
]
UNREACHABLE_LOG_URL = (
    "kafka://127.0.0.1:1?patience=0.1&security_protocol=SASL_PLAINTEXT&sasl_mechanism=PLAIN&sasl_username=app"
    "&sasl_password=s3cret"
)


def find_error(call: Callable[[], object]) -> BaseException:
    with pytest.raises((OSError, ValueError)) as error_info:
        call()
    return error_info.value


def list_texts(error: BaseException) -> list[str]:
    """Everything that a person may see of an error: its sentence, log line and traceback."""
    info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("shop", logging.ERROR, __file__, 1, "failed: %r", (error,), info)
    return [describe_error(error), LineFormatter("serve").format(record)]


def show(text: str) -> str:
    """Text without the lines of source code that a traceback quotes."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("    "))


@pytest.mark.parametrize("url", STORE_URLS)
def test_error_of_a_store_hides_the_password(url: str) -> None:
    error = find_error(lambda: open_store(url).get(1))
    texts = [show(text) for text in list_texts(error)]

    assert SECRET not in "".join(texts), texts
    assert "%73%33cret" not in "".join(texts), texts


@pytest.mark.parametrize("url", LOG_URLS)
def test_error_of_a_log_hides_the_password(url: str) -> None:
    error = find_error(lambda: open_log(url, "", SystemClock()).create("events", 1))
    texts = [show(text) for text in list_texts(error)]

    assert SECRET not in "".join(texts), texts


CHECK_SCRIPT = """
import os, sys
from headrace.commands.check import run_checks
for url in sys.argv[2:]:
    os.environ[sys.argv[1]] = url
    print(run_checks(None, as_json=True))
"""


@pytest.mark.parametrize(
    ("name", "urls"),
    [("HEADRACE_STORE__URL", STORE_URLS[:12]), ("HEADRACE_LOG__URL", [*LOG_URLS, UNREACHABLE_LOG_URL])],
    ids=["store", "log"],
)
def test_check_hides_the_password(name: str, urls: list[str], tmp_path: Path) -> None:
    # In a process of its own: the clients leak connections that fail.
    done = subprocess.run(
        [sys.executable, "-c", CHECK_SCRIPT, name, *urls], env={**os.environ, "HEADRACE_DATA__FOLDER": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout.splitlines()[1::2] == ["1"] * len(urls)
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "text",
    ["[serve]\nadmin_key = ['s3cret']\n", "[store]\nurl = {a = 's3cret'}\n", "[serve]\nadmin__key = 's3cret'\n"],
)
def test_error_of_the_settings_hides_the_secret(tmp_path: Path, text: str) -> None:
    (tmp_path / "headrace.toml").write_text(text)
    with pytest.raises(SettingsError) as error_info:
        load(tmp_path / "headrace.toml", {})

    assert SECRET not in "".join(traceback.format_exception_only(error_info.value))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://cache:6379/0", "redis://cache:6379/0"),
        ("redis://[::1]:6379/0?ttl=60", "redis://[::1]:6379/0?ttl=60"),
        ("rediss://u:p@c:6379/0?ssl_cafile=/ca.pem&x=y", "rediss://***@c:6379/0?ssl_cafile=/ca.pem&***"),
        ("kafka://a:1,b:2?replication=3&sasl_password=x", "kafka://a:1,b:2?replication=3&***"),
        ("local:/data/log", "local:/data/log"),
    ],
)
def test_masked_url_still_names_the_server(url: str, shown: str) -> None:
    assert mask_url(url) == shown
    assert mask_secrets(f"no answer from {url}.") == f"no answer from {shown}."


@pytest.mark.parametrize("open_url", [lambda: open_store("valkey://h:1/0"), lambda: open_store("redis://h:x")])
def test_error_shows_the_expected_form(open_url: Callable[[], object]) -> None:
    assert re.search(r"redis://(USER:PASSWORD@)?HOST:PORT/DB", describe_error(find_error(open_url)))


def test_text_without_secrets_stays_as_it_is() -> None:
    text = "serving on http://[::]:8000; correct sasl_password in HEADRACE_LOG__URL, or see <https://kafka.apache.org/>"

    assert mask_secrets(text) == text
