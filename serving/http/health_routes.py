"""Routes for probes and dashboards: health, readiness, lag, metrics and the console."""

from litestar import Response, get
from litestar.datastructures import State

from serving.http.console import PAGE
from serving.http.operations import Operation, contract
from serving.http.requests import get_service
from serving.records import Lag, Liveness, Readiness
from stream.process.shared_metrics import render_metrics

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
_METRICS = Operation(response=str, response_example="headrace_recommendations_total 12.0")


@get("/v1/lag", tags=["operations"], opt=contract(_GET_LAG))
async def get_lag(state: State) -> Lag:
    """Return the number of acknowledged events that recommendations do not reflect yet."""
    by_partition = await get_service(state).measure_lag()
    return Lag(sum(by_partition.values()), by_partition, get_service(state).replica.version)


@get("/healthz", tags=["health"], opt=contract(_HEALTHZ))
async def healthz() -> Liveness:
    """Return 200 while the process runs."""
    return Liveness("alive")


@get("/readyz", tags=["health"], opt=contract(_READYZ))
async def readyz(state: State) -> Readiness:
    """Return 200 once the model is loaded and warmed up.

    `blocked_reason` is present while a newer version does not serve.
    """
    service = get_service(state)
    replica = service.replica
    installation = service.settings.installation
    return Readiness("ready", replica.version, len(replica.catalog), installation, replica.blocked_reason)


@get("/metrics", tags=["health"], opt=contract(_METRICS))
async def get_metrics() -> Response[bytes]:
    """Return the metrics in the Prometheus text format."""
    body, content_type = render_metrics()
    # Litestar adds a charset; Prometheus rejects a content type with two.
    return Response(body, media_type=content_type.partition("; charset")[0])


@get("/", include_in_schema=False, media_type="text/html")
async def get_console() -> str:
    return PAGE


ROUTES = (get_lag, healthz, readyz, get_metrics, get_console)
