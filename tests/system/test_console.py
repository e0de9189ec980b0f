"""The pages that people look at, in a real browser."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.support.processes import Running

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
TRAP = "<img src=x onerror=\"document.title='caught'\">Lamp & Co"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A shop with three dozen lamps, and somebody who clicked two."""
    if CHROMIUM is None:
        if os.environ.get("HEADRACE_REQUIRE_SERVICES") == "1":
            pytest.fail("chromium is not installed: apt-get install chromium")
        pytest.skip("chromium is not installed")
    with Running(tmp_path_factory.mktemp("console")) as running:
        items = [{"item_id": f"i{n}", "title": f"Lamp {n}", "categories": ["lamps"]} for n in range(36)]
        items[0]["title"] = TRAP
        running.http.post("/v1/items", json=items).raise_for_status()
        now = int(time.time() * 1000)
        clicks = [
            {"event_id": f"e{user}-{item}", "type": "click", "ts": now, "user_id": user, "item_id": item}
            for user in ("u1", "u2", "u3")
            for item in ("i3", "i0")
        ]
        running.http.post("/v1/events", json=clicks).raise_for_status()
        running.settle()
        yield running


def rendered(running: Running, path: str, folder: Path) -> str:
    """The DOM of a page after some seconds of its time, without its scripts."""
    assert CHROMIUM
    url = f"http://127.0.0.1:{running.port}{path}"
    options = (*_QUIET, f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=8000", "--dump-dom")
    done = subprocess.run([CHROMIUM, *options, url], capture_output=True, text=True, timeout=120, check=True)
    return re.sub(r"<script.*?</script>", "", done.stdout, flags=re.DOTALL)


def slate_of(dom: str) -> list[str]:
    return re.findall(r'data-item="([^"]*)"', dom)


def test_the_console_shows_the_model_and_a_slate_when_asked(running: Running, tmp_path: Path) -> None:
    dom = rendered(running, "/#user=u1&k=5", tmp_path)
    version = running.http.get("/v1/lag").json()["model_version"]

    assert f"model {version}" in dom
    assert len(slate_of(dom)) == 5
    assert "Lamp 1" in dom
    assert "What u1 did" in dom
    assert "Not answered" not in dom


def test_numbers_are_alive(running: Running, tmp_path: Path) -> None:
    for n in range(5):
        running.http.post("/v1/recommendations", json={"user_id": f"u{n}", "k": 4}).raise_for_status()
    dom = rendered(running, "/", tmp_path)

    assert '<span class="pill ready" id="status">ready</span>' in dom
    assert "36 items in the catalogue" in dom
    assert re.search(r"of \d+ since the start", dom)
    assert "p99" in dom


def test_titles_are_text_and_never_run(running: Running, tmp_path: Path) -> None:
    dom = rendered(running, f"/#{urlencode({'user': 'u1', 'k': 3})}", tmp_path)

    assert "&lt;img src=x" in dom
    assert "<title>Headrace</title>" in dom
    assert "<img" not in dom


def test_a_stranger_is_told_of_kindly(running: Running, tmp_path: Path) -> None:
    dom = rendered(running, f"/#{urlencode({'user': 'nobody/<b>knows</b>', 'k': 3})}", tmp_path)

    assert len(slate_of(dom)) == 3
    assert "Nothing is known of this person yet" in dom
    assert "<b>knows" not in dom


def test_a_refusal_is_shown_in_the_words_of_the_server(running: Running, tmp_path: Path) -> None:
    dom = rendered(running, "/#user=u1&k=5000", tmp_path)

    assert re.search(r"Not answered: [^<]*1000", dom)


def test_the_page_needs_nothing_from_outside(running: Running) -> None:
    for path in ("/", "/docs"):
        page = running.http.get(path).text

        assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page), path


def test_the_docs_list_the_routes(running: Running, tmp_path: Path) -> None:
    dom = rendered(running, "/docs", tmp_path)

    assert 'data-path="/v1/recommendations"' in dom
    assert "Unable to render" not in dom
