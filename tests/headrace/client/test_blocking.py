"""The blocking client: typed responses, retries, and errors with the problem document."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from headrace.client import Client, ClientSettings, RequestRejected, ServerUnreachable
from serving.records import RefusedRecord, SimilarItem
from tests.support.serving_loop import NOW, LiveLoop, make_event

Handler = Callable[[httpx.Request], httpx.Response]


class LoopTransport(httpx.BaseTransport):
    """Send requests to the application of a loop."""

    def __init__(self, loop: LiveLoop) -> None:
        self._loop = loop

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = str(request.url.raw_path, "ascii")
        response = self._loop.http.request(request.method, url, content=request.read(), headers=request.headers)
        return httpx.Response(response.status_code, headers=response.headers, content=response.content)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[LiveLoop]:
    with LiveLoop(tmp_path) as loop:
        yield loop


@pytest.fixture
def client(loop: LiveLoop) -> Iterator[Client]:
    with Client("http://test", admin_key="key", transport=LoopTransport(loop)) as client:
        yield client


class TestApi:
    def test_events_and_items_are_accepted(self, loop: LiveLoop, client: Client) -> None:
        items = client.put_items([{"item_id": "a", "title": "Tea"}, {"item_id": ""}])
        events = client.send_events([make_event(), make_event(type="glance")])
        loop.run_until_idle()

        assert (items.accepted, [refused.index for refused in items.refused]) == (1, [1])
        assert (events.accepted, events.repeated) == (1, 0)
        assert isinstance(events.refused[0], RefusedRecord)
        assert events.refused[0].code == "unknown_type"
        assert client.item("a")["counts"]["click"] == 1

    def test_slate_has_items_with_propensities(self, loop: LiveLoop, client: Client) -> None:
        loop.put_items("a", "b", "c")
        response = client.recommend("u1", 2, exclude=["a"], explain=True)

        assert {item.item_id for item in response.items} == {"b", "c"}
        assert all(0 < item.propensity <= 1 and item.features for item in response.items)
        assert response.stale is False

    def test_items_are_changed_listed_and_deleted(self, loop: LiveLoop, client: Client) -> None:
        loop.put_items("a", "b", price=2.0)
        client.change_item("a", {"price": 3.0})
        client.delete_item("b")
        page = client.list_items(limit=1)

        assert [item.item_id for item in page.items] == ["a"]
        assert client.item("a")["price"] == 3.0
        assert [item.item_id for item in client.newest(k=2, filters={"min_price": 2.5}).items] == ["a"]

    def test_action_is_taken_back(self, loop: LiveLoop, client: Client) -> None:
        loop.put_items("a")
        client.send_events([make_event(event_id="e")])
        loop.run_until_idle()
        client.retract_event("e")
        loop.run_until_idle()

        assert client.item("a")["counts"]["click"] == 0

    def test_user_has_a_history(self, loop: LiveLoop, client: Client) -> None:
        loop.put_items("a/b")
        client.send_events([make_event(user_id="..", item_id="a/b", event_id="e")])
        loop.run_until_idle()
        user = client.user("..")

        assert (user.user_id, user.counts["click"]) == ("..", 1)
        assert [(entry.item_id, entry.type, entry.ts) for entry in user.history] == [("a/b", "click", NOW)]
        assert client.similar("a/b").items == []

    def test_similar_items_have_scores(self, loop: LiveLoop, client: Client) -> None:
        loop.put_items("a", "b")
        client.send_events(make_event(user_id=f"u{n}", item_id=item_id) for n in range(3) for item_id in "ab")
        loop.run_until_idle()

        assert client.similar("a", k=1).items == [SimilarItem("b", 0.5)]  # 3 pairs, as many as the prior

    def test_lag_counts_events(self, loop: LiveLoop, client: Client) -> None:
        client.send_events([make_event()])

        assert (client.lag().events, client.lag().partitions) == (1, {"0": 1})
        assert client.is_ready()

    def test_admin_key_opens_the_admin_routes(self, loop: LiveLoop, client: Client) -> None:
        assert (client.models(), client.alarms()) == ([], [])
        with (
            Client("http://test", key="wrong", transport=LoopTransport(loop)) as other,
            pytest.raises(RequestRejected, match="403 Wrong admin key"),
        ):
            other.models()

    def test_error_carries_the_problem_document(self, client: Client) -> None:
        with pytest.raises(RequestRejected, match="422") as caught:
            client.recommend("u1", k=5000)

        assert (caught.value.problem.status, caught.value.problem.field) == (422, "k")

    def test_invalid_id_is_rejected_before_it_is_sent(self, client: Client) -> None:
        with pytest.raises(ValueError, match="user_id"):
            client.recommend("")


def record_delays(handler: Handler, settings: ClientSettings | None = None) -> tuple[Client, list[float]]:
    """A client of a server that is a function, and the delays of its retries in seconds."""
    delays: list[float] = []
    client = Client("http://test", settings=settings, transport=httpx.MockTransport(handler), sleep=delays.append)
    return client, delays


def overload(n_failures: int, **headers: str) -> Handler:
    """A server that is overloaded for the first requests."""
    statuses = iter([503] * n_failures)

    def handle(request: httpx.Request) -> httpx.Response:
        problem = {"title": "Too many requests are waiting", "status": 503}
        if next(statuses, 0):
            return httpx.Response(503, json=problem, headers=headers)
        return httpx.Response(200, json={"events": 0, "partitions": {}, "model_version": "v"})

    return handle


def fail_with(status: int) -> Handler:
    """A server that answers each request with a page of a proxy."""
    return lambda request: httpx.Response(status, text="<h1>Bad gateway</h1>")


def break_with(error: httpx.HTTPError) -> Handler:
    """A server whose connections fail."""

    def handle(request: httpx.Request) -> httpx.Response:
        raise error

    return handle


class TestRetries:
    def test_retry_waits_as_the_server_asks(self) -> None:
        client, delays = record_delays(overload(2, **{"Retry-After": "3"}), ClientSettings(backoff_s=0.0))

        assert client.lag().model_version == "v"
        assert delays == [3.0, 3.0]

    def test_delay_doubles_without_retry_after(self) -> None:
        client, delays = record_delays(overload(3), ClientSettings(backoff_s=0.1))
        client.lag()

        assert all(base <= delay <= base + 0.1 for base, delay in zip((0.1, 0.2, 0.4), delays, strict=True))

    def test_delay_is_bounded(self) -> None:
        client, delays = record_delays(overload(1, **{"Retry-After": "3600"}), ClientSettings(max_delay_s=2.0))
        client.lag()

        assert delays == [2.0]

    def test_last_error_is_raised(self) -> None:
        client, delays = record_delays(overload(9), ClientSettings(max_retries=2))

        with pytest.raises(RequestRejected, match="503 Too many requests are waiting"):
            client.lag()
        assert len(delays) == 2

    def test_slate_is_not_requested_again_after_an_uncertain_failure(self) -> None:
        client, delays = record_delays(fail_with(502))

        with pytest.raises(RequestRejected) as caught:
            client.recommend("u1")
        assert (caught.value.problem.status, delays) == (502, [])

    @pytest.mark.parametrize("status", [502, 504])
    def test_events_are_sent_again_after_an_uncertain_failure(self, status: int) -> None:
        client, delays = record_delays(fail_with(status))

        with pytest.raises(RequestRejected):
            client.send_events([make_event()])
        assert len(delays) == 3

    @pytest.mark.parametrize("status", [400, 404, 500])
    def test_other_errors_are_not_retried(self, status: int) -> None:
        client, delays = record_delays(fail_with(status))

        with pytest.raises(RequestRejected):
            client.lag()
        assert delays == []

    def test_refused_connection_is_retried(self) -> None:
        client, delays = record_delays(break_with(httpx.ConnectError("connection refused")))

        assert not client.is_ready()
        with pytest.raises(ServerUnreachable, match="GET http://test/v1/lag"):
            client.lag()
        assert len(delays) == 3

    @pytest.mark.parametrize(("log", "retries"), [(True, 0), (False, 3)])
    def test_timeout_is_retried_unless_it_can_log_an_impression(self, log: bool, retries: int) -> None:
        client, delays = record_delays(break_with(httpx.ReadTimeout("timed out")))

        with pytest.raises(ServerUnreachable):
            client.recommend("u1", log=log)
        assert len(delays) == retries

    def test_repeated_events_keep_their_ids(self) -> None:
        bodies: list[bytes] = []

        def drop(request: httpx.Request) -> httpx.Response:
            bodies.append(request.content)
            raise httpx.ReadError("connection reset")

        client, _ = record_delays(drop)
        with pytest.raises(ServerUnreachable):
            client.send_events([{"type": "click", "user_id": "u1", "item_id": "a"}])

        assert len(set(bodies)) == 1
        assert len(bodies) == 4
        assert {"event_id", "ts"} <= httpx.Response(200, content=bodies[0]).json()[0].keys()


class TestKeys:
    @pytest.fixture
    def closed(self, tmp_path: Path) -> Iterator[LiveLoop]:
        with LiveLoop(tmp_path, ingest_key="in", recommend_key="rec") as loop:
            yield loop

    def test_key_opens_the_routes_of_its_scope(self, closed: LiveLoop) -> None:
        with Client("http://test", key="in", transport=LoopTransport(closed)) as client:
            assert client.send_events([make_event()]).status == "accepted"
            with pytest.raises(RequestRejected, match="403 Wrong recommend key"):
                client.lag()
        with (
            Client("http://test", transport=LoopTransport(closed)) as client,
            pytest.raises(RequestRejected, match="401"),
        ):
            client.lag()

    def test_key_comes_from_the_environment(self, closed: LiveLoop, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HEADRACE_KEY", "rec")

        with Client("http://test", transport=LoopTransport(closed)) as client:
            assert client.lag().events == 0
        with Client("http://test", key="in", transport=LoopTransport(closed)) as client, pytest.raises(RequestRejected):
            client.lag()

    def test_password_in_a_url_is_in_no_message(self) -> None:
        def refuse(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("connection refused")

        client = Client("http://ann:secret@test", transport=httpx.MockTransport(refuse), sleep=lambda delay_s: None)

        with pytest.raises(ServerUnreachable) as caught:
            client.lag()
        assert "secret" not in str(caught.value)

    def test_error_has_the_request_id(self, closed: LiveLoop) -> None:
        with Client("http://test", transport=LoopTransport(closed)) as client, pytest.raises(RequestRejected) as caught:
            client.lag()
        assert caught.value.problem.request_id
