"""Routes for probes and dashboards: health, readiness, lag, metrics and the console."""

import socket

from litestar import Response, get
from litestar.datastructures import State

from serving.http.console import PAGE
from serving.http.errors import Problem
from serving.http.operations import Operation, contract
from serving.http.requests import get_service
from serving.records import Lag, Liveness, MetricSample, Overview, Readiness
from serving.replica.log_reads import LogUnavailable
from stream.process.shared_metrics import read_samples, render_metrics

_GET_LAG = Operation(
    access="recommend", response=Lag,
    response_example={"events": 3, "partitions": {"0": 3}, "model_version": "000001-000000002"},
)  # fmt: skip
_HEALTHZ = Operation(response=Liveness, response_example={"status": "alive"})
_READYZ = Operation(
    response=Readiness,
    response_example={
        "status": "ready",
        "model_version": "000001-000000002",
        "items": 2,
        "installation": "5d1f0c8a",
    },
)
_OVERVIEW = Operation(
    access="recommend",
    response=Overview,
    response_example={
        "replica": "serve-1:8000",
        "model_version": "000001-000000002",
        "lag": 0,
        "metrics": {"headrace_recommendations_total": [{"labels": {}, "value": 12.0}]},
    },
)
# Series of the console; the others are for Prometheus.
_CONSOLE_METRICS = (
    "headrace_recommendations", "headrace_recommendation_duration_seconds", "headrace_recommendation_fallbacks",
    "headrace_slate_items", "headrace_events_accepted", "headrace_catalog_items",
)  # fmt: skip
_METRICS = Operation(response=str, response_example="headrace_recommendations_total 12.0")


@get("/v1/lag", tags=["operations"], opt=contract(_GET_LAG))
async def get_lag(state: State) -> Lag:
    """Return the number of acknowledged events that recommendations do not reflect yet.

    503 with the last known number and its age if the event log does not answer.
    """
    service = get_service(state)
    try:
        by_partition = await service.measure_lag()
    except LogUnavailable as error:
        raise Problem(
            503,
            "Event log unavailable",
            str(error.strerror),
            {"Retry-After": "1"},
            last_known_events=sum(service.known_lag.values()),
            age_seconds=round(service.known_lag_age_s, 1),
        ) from None
    return Lag(sum(by_partition.values()), by_partition, service.replica.version)


@get("/v1/overview", tags=["operations"], opt=contract(_OVERVIEW))
async def get_overview(state: State) -> Overview:
    """Return the numbers that the console shows, of the replica that answers.

    `serve` processes that share a port are one replica.
    """
    service = get_service(state)
    metrics: dict[str, list[MetricSample]] = {}
    for name, labels, value in read_samples("headrace_"):
        if name.startswith(_CONSOLE_METRICS):
            metrics.setdefault(name, []).append(MetricSample(labels, value))
    replica = f"{socket.gethostname()}:{service.settings.serve.port}"
    return Overview(replica, service.replica.version, sum(service.known_lag.values()), metrics)


@get("/healthz", tags=["health"], opt=contract(_HEALTHZ))
async def healthz() -> Liveness:
    """Return 200 while the process runs."""
    return Liveness("alive")


@get("/readyz", tags=["health"], opt=contract(_READYZ))
async def readyz(state: State) -> Readiness:
    """Return 200 once the model is loaded and warmed up.

    `blocked_reason` is present while a newer version does not serve, `users_behind` while users are incomplete,
    `store_problem` while they cannot be read.
    """
    service = get_service(state)
    replica = service.replica
    installation = service.settings.installation
    return Readiness(
        "ready",
        replica.version,
        len(replica.catalog),
        installation,
        replica.blocked_reason,
        service.stored_users.n_missing,
        service.stored_users.problem,
    )


@get("/metrics", tags=["health"], opt=contract(_METRICS))
async def get_metrics() -> Response[bytes]:
    """Return the metrics in the Prometheus text format."""
    body, content_type = render_metrics()
    # Litestar adds a charset; Prometheus rejects a content type with two.
    return Response(body, media_type=content_type.partition("; charset")[0])


@get("/", include_in_schema=False, media_type="text/html")
async def get_console() -> str:
    return PAGE


ROUTES = (get_lag, get_overview, healthz, readyz, get_metrics, get_console)
