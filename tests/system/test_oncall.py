"""What people on call look at: every dashboard shows something, every alert has its page, and fires when it should."""

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
from tests.support.alerts import CASES, WELL, Case
from tests.support.processes import Running
from tests.support.prometheus import OPERATIONS, Prometheus, rules
from tests.test_docs import list_metric_names

RUNBOOK = (OPERATIONS.parent / "docs" / "operations.md").read_text()
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(OPERATIONS.glob("grafana/dashboards/*.json"))}
QUERIES = [
    (f"{name}: {panel['title']}: {target['legendFormat']}", target["expr"])
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    for target in panel["targets"]
]
ALERTS = {rule["alert"]: rule for rule in rules()}
_NOT_OURS = {"process_start_time_seconds", "process_resident_memory_bytes", "process_cpu_seconds_total"}
_ENTRY = re.compile(r"^### (\w+)\n\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)


def promtool(*words: str | Path) -> None:
    done = subprocess.run(
        [find_program_or_skip("promtool", "prometheus"), *words], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("expression", [*(e for _, e in QUERIES), *(r["expr"] for r in rules())])
def test_an_expression_names_metrics_that_there_are(expression: str) -> None:
    named = re.findall(r"\b((?:headrace|process)_[a-z_]+)", re.sub(r"_(bucket|count|sum)\b", "", expression))

    assert set(named) <= {*list_metric_names(), *_NOT_OURS}


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_has_an_entry_that_says_what_to_do(alert: str) -> None:
    entries = dict(_ENTRY.findall(RUNBOOK))
    rule = ALERTS[alert]

    assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{alert.lower()}"
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in {"page", "ticket", "note"}
    for part in ("**Means**", "**Look at**", "**Do**"):
        assert part in entries[alert]


def test_every_entry_of_the_runbook_has_an_alert() -> None:
    assert [name for name, _ in _ENTRY.findall(RUNBOOK)] == [rule["alert"] for rule in rules()]


def test_dashboards_name_alerts_that_there_are() -> None:
    told = " ".join(panel.get("description", "") for one in DASHBOARDS.values() for panel in one["panels"])
    named = set(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+\b|\bRestarting\b", told)) - {"GET"}

    assert named == {name for name in ALERTS if name in told}
    # What has gone shows itself by its absence from every panel.
    assert set(ALERTS) - named == {"StreamGone", "LearnGone"}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_stand_side_by_side(name: str) -> None:
    places = [panel["gridPos"] for panel in DASHBOARDS[name]["panels"]]
    taken = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]

    assert len(taken) == len(set(taken))
    assert all(x < 24 for x, _ in taken)
    assert len({panel["id"] for panel in DASHBOARDS[name]["panels"]}) == len(places)


def test_prometheus_takes_the_rules_and_the_configuration(tmp_path: Path) -> None:
    promtool("check", "rules", OPERATIONS / "rules.yml")
    promtool("check", "config", OPERATIONS / "prometheus.yml")


def test_every_alert_has_a_case() -> None:
    assert set(CASES) == set(ALERTS)


def unit_test(case: Case, expected: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """One of promtool's tests: with these series, of the alerts asked for just the expected ones fire at the end."""
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in {**WELL, **case.series}.items()],
        "alert_rule_test": [
            {
                "eval_time": "180m",
                "alertname": alert,
                "exp_alerts": [
                    {
                        "exp_labels": {**rule["labels"], **expected[alert]},
                        "exp_annotations": rule["annotations"],
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
def test_alerts_fire_when_they_should_and_are_quiet_when_all_is_well(tmp_path: Path) -> None:
    tests = [unit_test(Case({}), {})]
    tests += [unit_test(case, {alert: case.labels}) for alert, cases in CASES.items() for case in cases]
    whole = {"rule_files": [str(OPERATIONS / "rules.yml")], "evaluation_interval": "5m", "tests": tests}
    (tmp_path / "rules.test.yml").write_text(yaml.safe_dump(whole))

    promtool("test", "rules", tmp_path / "rules.test.yml")


def shop(running: Running, enough: threading.Event) -> None:
    """People who look and click, one who sends rubbish, and one who tries doors."""
    http = running.http
    for n in range(10_000):
        if enough.wait(0.05):
            return
        user = f"u{n % 20}"
        answer = http.post("/v1/recommendations", json={"user_id": user, "k": 5}).json()
        chosen = answer["items"][n % len(answer["items"])]
        click = {
            "event_id": f"e{n}", "type": "click", "ts": int(time.time() * 1000), "user_id": user,
            "item_id": chosen["item_id"], "impression_id": answer["impression_id"],
        }  # fmt: skip
        http.post("/v1/events", json=[click, click, {"type": "click"}])
        if n % 5 == 0:
            http.get("/v1/alarms")
            http.post("/v1/events", json=[{**click, "event_id": f"f{n}", "impression_id": "forged"}])


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Half a minute of a small shop, watched by a Prometheus."""
    program = find_program_or_skip("prometheus", "prometheus")
    folder = tmp_path_factory.mktemp("watched")
    quick = {
        "HEADRACE_STREAM__ATTRIBUTION_WINDOW": "2",
        "HEADRACE_STREAM__ALLOWED_LATENESS": "1",
        "HEADRACE_LEARN__CHECKPOINT_EVERY": "3",
    }
    with Running(folder / "data", **quick) as running:
        items = [{"item_id": f"i{n}", "categories": [f"c{n % 5}"]} for n in range(60)]
        running.http.post("/v1/items", json=items).raise_for_status()
        running.settle()
        slate: list[object] = []
        while not slate:  # the first answer on a machine compiles kernels
            asked = running.http.post("/v1/recommendations", json={"user_id": "first", "k": 5}, timeout=120)
            slate = asked.raise_for_status().json()["items"]
        enough = threading.Event()
        shopping = threading.Thread(target=shop, args=(running, enough), daemon=True)
        shopping.start()
        environ = running.environ
        ports = {
            "stream": environ["HEADRACE_STREAM__METRICS_PORT"],
            "learn": environ["HEADRACE_LEARN__METRICS_PORT"],
            "serve": running.port,
        }
        try:
            with Prometheus(program, folder, ports) as prometheus:
                prometheus.wait_until_it_scrapes(len(ports))
                deadline = time.monotonic() + 120
                while time.monotonic() < deadline and not prometheus.query("headrace_learn_auc"):
                    time.sleep(0.5)
                time.sleep(15)  # rates need a while to be there
                yield prometheus
        finally:
            enough.set()
            shopping.join()


@pytest.mark.slow
def test_every_query_of_every_dashboard_has_data(watched: Prometheus) -> None:
    nothing = [
        title
        for title, expression in QUERIES
        if not any(math.isfinite(value) for _, value in watched.query(expression.replace("$__rate_interval", "15s")))
    ]

    assert not nothing


@pytest.mark.slow
def test_rules_can_be_evaluated_and_none_wakes_anybody_for_nothing(watched: Prometheus) -> None:
    alerts = watched.alerts()

    assert {alert["name"]: alert["health"] for alert in alerts} == dict.fromkeys(ALERTS, "ok")
    assert not [
        alert["name"] for alert in alerts if alert["labels"]["severity"] == "page" and alert["state"] != "inactive"
    ]
