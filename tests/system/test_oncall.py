"""Dashboards, alerts and runbook: all panels have data, and alerts fire when they should."""

import json
import math
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import find_program_or_skip
from tests.support.alerts import CASES, HEALTHY, Case
from tests.support.processes import RunningSystem
from tests.support.prometheus import OPERATIONS, Prometheus, load_rules
from tests.support.reference import metric_names

RUNBOOK = (OPERATIONS.parent / "docs" / "operations.md").read_text()
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(OPERATIONS.glob("grafana/dashboards/*.json"))}
QUERIES = [
    (f"{name}: {panel['title']}: {target['legendFormat']}", target["expr"])
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    for target in panel["targets"]
]
EXPRESSIONS = [expression for _, expression in QUERIES] + [rule["expr"] for rule in load_rules()]
ALERTS = {rule["alert"]: rule for rule in load_rules()}
RUNBOOKS = "https://wiki.example.com/headrace/operations.md"
_BASE = '{{ or $externalLabels.runbooks "docs/operations.md" }}'
_PROCESS_METRICS = {"process_start_time_seconds", "process_resident_memory_bytes", "process_cpu_seconds_total"}
_ENTRY = re.compile(r"^### (\w+)\n\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)


def promtool(*words: str | Path) -> None:
    done = subprocess.run(
        [find_program_or_skip("promtool", "prometheus"), *words], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "expression", [*(expression for _, expression in QUERIES), *(rule["expr"] for rule in load_rules())]
)
def test_expressions_use_existing_metrics(expression: str) -> None:
    names = re.findall(r"\b((?:headrace|process)_[a-z_]+)", re.sub(r"_(bucket|count|sum)\b", "", expression))

    assert set(names) <= {*metric_names(), *_PROCESS_METRICS}


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_has_a_complete_runbook_entry(alert: str) -> None:
    entries = dict(_ENTRY.findall(RUNBOOK))
    rule = ALERTS[alert]

    assert rule["annotations"]["runbook_url"] == f"{_BASE}#{alert.lower()}"
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in {"page", "ticket", "note"}
    for part in ("**Meaning**", "**Check**", "**Action**"):
        assert part in entries[alert]


def test_log_lines_that_the_runbook_quotes_exist() -> None:
    quoted = re.findall(r"(?:errors|the log) of \w+ \(`([^`]+)`\)", RUNBOOK)
    packages = (OPERATIONS.parent / name for name in ("stream", "online_models", "serving", "replay", "headrace"))
    source = "".join(path.read_text() for package in packages for path in package.rglob("*.py"))
    lines = re.sub(r"\{\w+\}|%s", "events", source)

    assert len(quoted) >= 3
    assert [text for text in quoted if text not in lines] == []


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboard_takes_data_source_and_jobs_as_variables(name: str) -> None:
    variables = {variable["name"]: variable for variable in DASHBOARDS[name]["templating"]["list"]}
    source = {"type": "prometheus", "uid": "${datasource}"}
    panels = DASHBOARDS[name]["panels"]

    assert [variables[name]["type"] for name in ("datasource", "job")] == ["datasource", "query"]
    assert [part["datasource"] for part in (*panels, variables["job"])] == [source] * (len(panels) + 1)
    assert "headrace_build_info" in variables["job"]["query"]["query"]


@pytest.mark.parametrize("expression", [expression for _, expression in QUERIES])
def test_panels_select_the_chosen_jobs_only(expression: str) -> None:
    selectors = re.findall(r"\b(?:headrace|process)_[a-z_]+(\{[^}]*\})?", expression)

    assert selectors
    assert all('job=~"$job"' in selector for selector in selectors)
    assert not re.search(r'job="|\bup\b', expression)


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_is_silent_about_other_jobs_of_the_same_prometheus(alert: str) -> None:
    selectors = re.findall(r"\b(?:up|process_[a-z_]+)\b(\{[^}]*\})?", ALERTS[alert]["expr"])

    assert all("job=" in selector for selector in selectors)


def test_every_runbook_entry_has_an_alert() -> None:
    assert [name for name, _ in _ENTRY.findall(RUNBOOK)] == [rule["alert"] for rule in load_rules()]


def test_dashboards_name_existing_alerts() -> None:
    panels = [panel for dashboard in DASHBOARDS.values() for panel in dashboard["panels"]]
    text = " ".join(panel.get("description", "") for panel in panels)
    named = set(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+\b|\bRestarting\b", text)) - {"GET"}

    assert named == {name for name in ALERTS if name in text}
    # A process that is gone has no data in any panel.
    assert set(ALERTS) - named == {"StreamGone", "LearnGone"}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_do_not_overlap(name: str) -> None:
    boxes = [panel["gridPos"] for panel in DASHBOARDS[name]["panels"]]
    cells = [(x, y) for b in boxes for x in range(b["x"], b["x"] + b["w"]) for y in range(b["y"], b["y"] + b["h"])]

    assert len(cells) == len(set(cells))
    assert all(x < 24 for x, _ in cells)
    assert len({panel["id"] for panel in DASHBOARDS[name]["panels"]}) == len(boxes)


def test_promtool_accepts_rules_and_configuration(tmp_path: Path) -> None:
    promtool("check", "rules", OPERATIONS / "rules.yml")
    promtool("check", "config", OPERATIONS / "prometheus.yml")


def test_every_alert_has_a_case() -> None:
    assert set(CASES) == set(ALERTS)


def make_unit_test(case: Case, expected: Mapping[str, Mapping[str, str]], runbooks: str = RUNBOOKS) -> dict[str, Any]:
    """Build a promtool unit test: with these series, only the expected alerts fire at the end.

    Without expected alerts, all alerts are checked; otherwise only the expected ones.
    """
    return {
        "interval": "1m",
        "external_labels": {"runbooks": runbooks} if runbooks else {},
        "input_series": [{"series": name, "values": values} for name, values in {**HEALTHY, **case.series}.items()],
        "alert_rule_test": [
            {
                "eval_time": "180m",
                "alertname": alert,
                "exp_alerts": [
                    {
                        "exp_labels": {**rule["labels"], **expected[alert]},
                        "exp_annotations": {
                            name: text.replace(_BASE, runbooks or "docs/operations.md")
                            for name, text in rule["annotations"].items()
                        },
                    }
                ]
                if alert in expected
                else [],
            }
            for alert, rule in ALERTS.items()
            if alert in expected or not expected
        ],
    }


@pytest.mark.slow
def test_alerts_fire_in_their_cases_and_not_when_healthy(tmp_path: Path) -> None:
    tests = [make_unit_test(Case({}), {})]
    tests += [make_unit_test(case, {alert: case.labels}) for alert, cases in CASES.items() for case in cases]
    # Without the label, a link leads to the page in the repository.
    tests.append(make_unit_test(CASES["ServeGone"][0], {"ServeGone": CASES["ServeGone"][0].labels}, runbooks=""))
    config = {"rule_files": [str(OPERATIONS / "rules.yml")], "evaluation_interval": "5m", "tests": tests}
    (tmp_path / "rules.test.yml").write_text(yaml.safe_dump(config))

    promtool("test", "rules", tmp_path / "rules.test.yml")


def send_traffic(running: RunningSystem, stop: threading.Event) -> None:
    """Send requests and clicks, and also duplicates, invalid events and forbidden requests."""
    http = running.http
    for n in range(10_000):
        if stop.wait(0.05):
            return
        user = f"u{n % 20}"
        response = http.post("/v1/recommendations", json={"user_id": user, "k": 5}).json()
        item = response["items"][n % len(response["items"])]
        click = {
            "event_id": f"e{n}", "type": "click", "ts": int(time.time() * 1000), "user_id": user,
            "item_id": item["item_id"], "impression_id": response["impression_id"],
        }  # fmt: skip
        http.post("/v1/events", json=[click, click, {"type": "click"}])
        if n % 5 == 0:
            http.get("/v1/alarms")
            http.post("/v1/events", json=[{**click, "event_id": f"f{n}", "impression_id": "forged"}])


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has scraped a running system until all panels have data."""
    program = find_program_or_skip("prometheus", "prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    settings = {
        "HEADRACE_STREAM__ATTRIBUTION_WINDOW": "2",
        "HEADRACE_STREAM__ALLOWED_LATENESS": "1",
        "HEADRACE_LEARN__CHECKPOINT_EVERY": "3",
    }
    with RunningSystem(folder / "data", **settings) as running:
        items = [{"item_id": f"i{n}", "categories": [f"c{n % 5}"]} for n in range(60)]
        running.http.post("/v1/items", json=items).raise_for_status()
        running.settle()
        running.wait_until(lambda: has_slate(running))
        stop = threading.Event()
        traffic = threading.Thread(target=send_traffic, args=(running, stop), daemon=True)
        traffic.start()
        environ = running.environ
        ports: dict[str, str | int] = {
            "stream": environ["HEADRACE_STREAM__METRICS_PORT"],
            "learn": environ["HEADRACE_LEARN__METRICS_PORT"],
            "serve": running.port,
        }
        try:
            with Prometheus(program, folder, ports) as prometheus:
                prometheus.wait_until_scraping(len(ports))
                deadline = time.monotonic() + 150
                while time.monotonic() < deadline and list_empty_queries(prometheus):
                    time.sleep(1)
                yield prometheus
        finally:
            stop.set()
            traffic.join()


def has_slate(running: RunningSystem) -> bool:
    """Request a slate; the first response on a machine compiles kernels."""
    response = running.http.post("/v1/recommendations", json={"user_id": "first", "k": 5}, timeout=120)
    return bool(response.raise_for_status().json()["items"])


def list_empty_queries(prometheus: Prometheus) -> list[str]:
    """Titles of the dashboard queries without a finite value, with all variables filled in."""
    variables = {"$__rate_interval": "15s", "$job": "(stream|learn|serve)"}
    filled = [(title, re.sub(r"\$\w+", lambda match: variables[match[0]], query)) for title, query in QUERIES]
    return [title for title, query in filled if not any(math.isfinite(value) for _, value in prometheus.query(query))]


def list_pages(prometheus: Prometheus, state: str) -> list[str]:
    """Alerts of severity page in this state."""
    return [
        alert["name"]
        for alert in prometheus.alerts()
        if alert["labels"]["severity"] == "page" and alert["state"] == state
    ]


@pytest.mark.slow
def test_every_dashboard_query_has_data(prometheus: Prometheus) -> None:
    assert list_empty_queries(prometheus) == []


@pytest.mark.slow
def test_rules_are_healthy_and_no_page_is_sent(prometheus: Prometheus) -> None:
    deadline = time.monotonic() + 90  # a rule about the last checkpoint is pending until the first one is written
    while time.monotonic() < deadline and list_pages(prometheus, "pending"):
        time.sleep(1)

    assert {alert["name"]: alert["health"] for alert in prometheus.alerts()} == dict.fromkeys(ALERTS, "ok")
    assert list_pages(prometheus, "pending") == list_pages(prometheus, "firing") == []
