"""The console and the API documentation in a real browser."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.support.browser import CHROMIUM, OPTIONS, Browser
from tests.support.processes import RunningSystem

CLIENTS = (Path(__file__).parents[2] / "docs" / "clients.md").read_text()

SCRIPT_TITLE = "<img src=x onerror=\"document.title='caught'\">Lamp & Co"


def require_chromium() -> None:
    if CHROMIUM is None:
        if os.environ.get("HEADRACE_REQUIRE_SERVICES") == "1":
            pytest.fail("chromium is not installed: apt-get install chromium")
        pytest.skip("chromium is not installed")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    """A catalog of 36 lamps, and three users who clicked two of them."""
    require_chromium()
    with RunningSystem(tmp_path_factory.mktemp("console")) as running:
        items = [{"item_id": f"i{n}", "title": f"Lamp {n}", "categories": ["lamps"]} for n in range(36)]
        items[0]["title"] = SCRIPT_TITLE
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


def render(running: RunningSystem, path: str, folder: Path) -> str:
    """DOM of a page after 8 seconds of its time, without scripts."""
    assert CHROMIUM
    url = f"http://127.0.0.1:{running.port}{path}"
    options = (*OPTIONS, f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=8000", "--dump-dom")
    output = subprocess.run([CHROMIUM, *options, url], capture_output=True, text=True, timeout=120, check=True).stdout
    return re.sub(r"<script.*?</script>", "", output, flags=re.DOTALL)


def find_slate(dom: str) -> list[str]:
    return re.findall(r'data-item="([^"]*)"', dom)


def test_console_shows_the_model_and_a_slate(running: RunningSystem, tmp_path: Path) -> None:
    dom = render(running, "/#user=u1&k=5", tmp_path)
    version = running.http.get("/v1/lag").json()["model_version"]

    assert f"model {version}" in dom
    assert len(find_slate(dom)) == 5
    assert all(f"Lamp {item.removeprefix('i')}<" in dom for item in find_slate(dom))
    assert "History of u1" in dom
    assert "Request failed" not in dom


def test_console_shows_live_metrics(running: RunningSystem, tmp_path: Path) -> None:
    for n in range(5):
        running.http.post("/v1/recommendations", json={"user_id": f"u{n}", "k": 4}).raise_for_status()
    dom = render(running, "/", tmp_path)

    assert '<span class="pill ready" id="status">ready</span>' in dom
    assert "36 items in the catalog" in dom
    assert re.search(r"of \d+ since the start", dom)
    assert re.search(r"p99 [\d.]+ ms", dom)
    assert re.search(r'<div class="bar">[a-z-]+<span>', dom)


def test_titles_are_shown_as_text(running: RunningSystem, tmp_path: Path) -> None:
    dom = render(running, f"/#{urlencode({'user': 'u1', 'k': 3})}", tmp_path)

    assert "&lt;img src=x" in dom
    assert "<title>Headrace</title>" in dom
    assert "<img" not in dom


def test_unknown_user_gets_a_slate_and_a_notice(running: RunningSystem, tmp_path: Path) -> None:
    dom = render(running, f"/#{urlencode({'user': 'nobody/<b>knows</b>', 'k': 3})}", tmp_path)

    assert len(find_slate(dom)) == 3
    assert "This user has no history" in dom
    assert "<b>knows" not in dom


def test_error_detail_of_the_server_is_shown(running: RunningSystem, tmp_path: Path) -> None:
    dom = render(running, "/#user=u1&k=5000", tmp_path)

    assert re.search(r"Request failed: [^<]*1000", dom)


def test_pages_load_nothing_from_other_hosts(running: RunningSystem) -> None:
    for path in ("/", "/docs"):
        page = running.http.get(path).text

        assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page), path


def test_docs_list_the_routes(running: RunningSystem, tmp_path: Path) -> None:
    dom = render(running, "/docs", tmp_path)

    assert 'data-path="/v1/recommendations"' in dom
    assert "Unable to render" not in dom


_SET_VALUE = """((input, value) => {
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(input, value);
  input.dispatchEvent(new Event('input', { bubbles: true }));
})"""


def try_out(browser: Browser, operation: str) -> tuple[str, str]:
    """Send the example of an operation from the page; returns the shown status and body."""
    section = f"document.getElementById('operations-{operation}')"
    for button in (".opblock-summary-control", ".try-out__btn", ".execute"):
        browser.wait_for(f"!!{section}.querySelector({button!r})")
        browser.evaluate(f"{section}.querySelector({button!r}).click()")
    status = browser.wait_for(f"{section}.querySelector('.live-responses-table tbody .response-col_status')?.innerText")
    body = browser.evaluate(f"{section}.querySelector('.live-responses-table .highlight-code')?.innerText")
    return status.split()[0], body


def test_docs_send_the_examples_with_the_key(running: RunningSystem, tmp_path: Path) -> None:
    with Browser(tmp_path) as browser:
        browser.open(f"http://127.0.0.1:{running.port}/docs")
        browser.wait_for("!!document.querySelector('.auth-wrapper .authorize')")

        assert try_out(browser, "operations-list_models")[0] == "401"
        browser.evaluate("document.querySelector('.auth-wrapper .authorize').click()")
        browser.wait_for("!!document.querySelector('.modal-ux input')")
        browser.evaluate(f"{_SET_VALUE}(document.querySelector('.modal-ux input'), 'key')")
        browser.evaluate("document.querySelector('.modal-ux button[type=submit]').click()")
        browser.wait_for("!!document.querySelector('.modal-ux .btn-done')")
        browser.evaluate("document.querySelector('.modal-ux .btn-done').click()")
        assert try_out(browser, "operations-list_alarms") == ("200", "Download\n[]")
        status, body = try_out(browser, "events-post_events")
        assert (status, '"status": "accepted"' in body) == ("202", True)
        assert try_out(browser, "items-put_item")[0] == "200"
        status, body = try_out(browser, "recommendations-recommend_by_query")
        assert (status, '"propensity"' in body) == ("200", True)


def test_console_works_with_a_key(tmp_path: Path) -> None:
    require_chromium()
    with (
        RunningSystem(
            tmp_path / "data", HEADRACE_SERVE__RECOMMEND_KEY="shows", HEADRACE_SERVE__INGEST_KEY="in"
        ) as closed,
        Browser(tmp_path) as browser,
    ):
        browser.open(f"http://127.0.0.1:{closed.port}/#user=u1&k=3")
        browser.wait_for("document.getElementById('outage').innerText.includes('needs the recommend key')")
        browser.evaluate(f"{_SET_VALUE}(document.getElementById('key'), 'shows')")

        browser.wait_for("document.getElementById('status').innerText === 'ready'")
        browser.evaluate("document.querySelector('#request button').click()")
        browser.wait_for("document.getElementById('slate').innerText.includes('Nothing to recommend')")
        browser.wait_for("document.getElementById('history').innerText.includes('need the admin key')")


def read_example(language: str, running: RunningSystem) -> str:
    """First code block of a language in the page about clients, for this server."""
    match = re.search(rf"^```{language}\n(.*?)^```", CLIENTS, re.MULTILINE | re.DOTALL)
    assert match
    return match[1].replace("localhost:8000", f"127.0.0.1:{running.port}")


def test_documented_script_sends_events_when_its_page_is_left(running: RunningSystem, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{running.port}"
    with Browser(tmp_path) as browser:
        browser.open(f"{url}/healthz")
        browser.wait_for("location.pathname === '/healthz'")
        browser.evaluate(f"{read_example('js', running)}; window.sender = createEventSender('{url}', 's1')")
        browser.evaluate("sender.add('click', { item_id: 'i5', user_id: 'page' })")
        browser.open("about:blank")
        running.wait_until(lambda: running.http.get("/v1/users/page").status_code == 200)

    assert running.http.get("/v1/users/page").json()["counts"]["click"] == 1


def test_documented_client_sends_its_click(running: RunningSystem) -> None:
    def count_clicks() -> int:
        counts: dict[str, int] = running.http.get("/v1/users/u1").json()["counts"]
        return counts["click"]

    before = count_clicks()
    exec(compile(read_example("python", running), "clients.md", "exec"), {})

    running.wait_until(lambda: count_clicks() == before + 1)
