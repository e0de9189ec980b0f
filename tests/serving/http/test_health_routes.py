"""Routes for probes and dashboards: lag, health, readiness, metrics, console; and HEAD."""

import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from serving.http.console import PAGE
from stream.memory.store import MemoryStore
from stream.topics import EVENTS
from stream.worker.worker import StreamWorker
from tests.support.serving_loop import LiveLoop, list_item_ids, make_event


class AwayStore(MemoryStore):
    """Store whose position cannot be read while `is_away` is True."""

    is_away = False

    def watermark(self, partition: int) -> str:
        if self.is_away:
            raise ConnectionError("no route to the store")
        return super().watermark(partition)


def test_lag_falls_to_zero(loop: LiveLoop) -> None:
    loop.send_events(*(make_event() for _ in range(7)), make_event(value=-1.0))

    assert loop.http.get("/v1/lag").json()["events"] == 7
    loop.run_until_idle()
    assert loop.http.get("/v1/lag").json()["events"] == 0
    loop.log.append(EVENTS, 0, [(b"u", b"invalid event")])
    assert loop.lag == 1
    loop.run_until_idle()
    assert loop.lag == 0


def test_events_that_the_store_lost_are_in_lag_and_readiness(loop: LiveLoop) -> None:
    loop.send_events(*(make_event() for _ in range(7)))
    loop.run_until_idle()
    assert isinstance(loop.store, MemoryStore)
    loop.store.clear()
    loop.service.stored_users.measure()
    behind = loop.http.get("/readyz")
    lag = loop.lag
    loop.log.leave(EVENTS, "stream")
    StreamWorker(loop.log, loop.store, loop.settings).step(0.0)
    loop.service.stored_users.measure()

    assert (behind.status_code, behind.json()["users_behind"], lag) == (200, 7, 7)
    assert "users_behind" not in loop.http.get("/readyz").json()
    assert loop.lag == 0


def test_store_that_cannot_be_read_is_in_readiness(tmp_path: Path) -> None:
    store = AwayStore()
    with LiveLoop(tmp_path, store) as loop:
        loop.run_until_idle()
        store.is_away = True
        loop.service.stored_users.measure()
        away = loop.http.get("/readyz")
        store.is_away = False
        loop.service.stored_users.measure()

        assert (away.status_code, away.json()["store_problem"]) == (200, "no route to the store")
        assert "store_problem" not in loop.http.get("/readyz").json()


class TestHealth:
    def test_service_with_an_empty_log_is_ready(self, loop: LiveLoop) -> None:
        assert loop.http.get("/healthz").status_code == 200
        assert loop.http.get("/readyz").status_code == 200

    def test_metrics_page_is_in_the_prometheus_format(self, shared_loop: LiveLoop) -> None:
        shared_loop.send_events(make_event())
        response = shared_loop.http.get("/metrics")

        assert response.headers["content-type"].startswith("text/plain; version=")
        assert response.headers["content-type"].count("charset") == 1
        for name in (
            "recommendations_total",
            "events_accepted_total",
            "lag_events",
            "model_step",
            "recommendation_duration_seconds_bucket",
        ):
            assert f"headrace_{name}" in response.text

    @pytest.mark.parametrize(("path", "status"), [("/nothing", 404), ("/v1/recommendations?k=0", 422)])
    def test_http_errors_are_counted_by_status(self, shared_loop: LiveLoop, path: str, status: int) -> None:
        before = read_metric("headrace_http_errors_total", status=str(status))
        shared_loop.http.get(path)

        assert read_metric("headrace_http_errors_total", status=str(status)) == before + 1

    def test_distinct_categories_of_a_slate_are_counted(self, loop: LiveLoop) -> None:
        loop.put_items("a", "b", categories=["tea", "drink"])
        loop.put_items("c", categories=["cups"])
        loop.put_items("d", "e")
        before = read_metric("headrace_slate_categories_total")

        assert len(list_item_ids(loop.recommend(k=5))) == 5
        assert read_metric("headrace_slate_categories_total") == before + 3

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/", "/metrics", "/docs", "/openapi.json", "/v1/lag"])
    def test_head_has_the_headers_of_get_without_a_body(self, shared_loop: LiveLoop, path: str) -> None:
        head, get = shared_loop.http.head(path), shared_loop.http.get(path)

        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == get.headers["content-type"]

    def test_head_of_an_error_has_its_status_alone(self, shared_loop: LiveLoop) -> None:
        for path, status in (("/nothing", 404), ("/v1/items/nothing", 404), ("/v1/models", 401), ("/v1/events", 405)):
            response = shared_loop.http.head(path)

            assert (response.status_code, response.content) == (status, b"")

    def test_head_logs_no_impression(self, loop: LiveLoop) -> None:
        loop.put_items("a", "b")

        assert loop.http.head("/v1/recommendations?user_id=u1").status_code == 405
        assert loop.read_values(EVENTS) == []

    def test_console_is_an_html_page(self, shared_loop: LiveLoop) -> None:
        assert shared_loop.http.get("/").headers["content-type"].startswith("text/html")


def read_metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_overview_has_every_metric_of_the_console(shared_loop: LiveLoop) -> None:
    shared_loop.put_items("a", "b")
    shared_loop.recommend(k=2)
    overview = shared_loop.http.get("/v1/overview").json()
    names = set(re.findall(r"headrace_[a-z_]+", PAGE))

    assert names
    assert names <= overview["metrics"].keys()
    assert overview["model_version"] == shared_loop.service.replica.version
    assert isinstance(overview["lag"], int)
