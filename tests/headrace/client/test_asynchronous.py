"""The asynchronous client: the methods of the blocking one, and its retries."""

import asyncio
import inspect

import httpx
import pytest

from headrace.client import AsyncClient, Client, ClientError, RequestRejected


def methods(client: type) -> dict[str, list[str]]:
    """Public methods with the names of their parameters."""
    functions = inspect.getmembers(client, inspect.isfunction)
    return {name: list(inspect.signature(call).parameters) for name, call in functions if not name.startswith("_")}


def test_both_clients_have_the_same_methods() -> None:
    assert methods(AsyncClient) == methods(Client)


def make_client(statuses: list[int], delays: list[float]) -> AsyncClient:
    """A client of a server that answers with these statuses, last one first, then with a lag."""

    def handle(request: httpx.Request) -> httpx.Response:
        if statuses:
            problem = {"title": "Overloaded", "status": statuses[-1]}
            return httpx.Response(statuses.pop(), json=problem, headers={"Retry-After": "2"})
        return httpx.Response(200, json={"events": 0, "partitions": {}, "model_version": "v"})

    async def sleep(delay_s: float) -> None:
        delays.append(delay_s)

    return AsyncClient("http://test", transport=httpx.MockTransport(handle), sleep=sleep)


def test_retry_waits_as_the_server_asks() -> None:
    async def run(delays: list[float]) -> str:
        async with make_client([503, 429], delays) as client:
            return (await client.lag()).model_version

    delays: list[float] = []

    assert asyncio.run(run(delays)) == "v"
    assert all(2.0 <= delay <= 2.1 for delay in delays)
    assert len(delays) == 2


def test_error_carries_the_problem_document() -> None:
    async def run() -> None:
        async with make_client([422], []) as client:
            await client.recommend("u1", k=3)

    with pytest.raises(RequestRejected) as caught:
        asyncio.run(run())
    assert caught.value.problem.status == 422
    assert isinstance(caught.value, ClientError)
