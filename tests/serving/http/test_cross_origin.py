"""Pages of other origins call the API only if the settings name them."""

from collections.abc import Iterator

import httpx
import pytest

from tests.support.serving_loop import JSON, LiveLoop

SHOP = "https://shop.example"


@pytest.fixture(scope="module")
def open_loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveLoop]:
    """A loop that two origins may call, with a key."""
    origins = f"{SHOP}, http://localhost:3000/"
    with LiveLoop(tmp_path_factory.mktemp("open"), cors_origins=origins, recommend_key="rec") as loop:
        yield loop


def preflight(loop: LiveLoop, origin: str, path: str = "/v1/recommendations") -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, x-request-id",
    }
    return loop.http.options(path, headers=headers)


@pytest.mark.parametrize("origin", [SHOP, "http://localhost:3000"])
def test_preflight_of_a_named_origin_needs_no_key(open_loop: LiveLoop, origin: str) -> None:
    response = preflight(open_loop, origin)

    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == origin
    allowed = response.headers["access-control-allow-headers"].lower()
    assert all(name in allowed for name in ("authorization", "content-type", "x-request-id"))


@pytest.mark.parametrize("origin", ["https://evil.example", "https://shop.example.evil", "http://shop.example", "null"])
def test_other_origins_are_not_allowed(open_loop: LiveLoop, origin: str) -> None:
    headers = JSON | {"Origin": origin, "Authorization": "Bearer rec"}

    assert preflight(open_loop, origin).status_code == 400
    response = open_loop.http.post("/v1/recommendations", json={"user_id": "u1"}, headers=headers)
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(("key", "status"), [("rec", 200), ("wrong", 403), (None, 401)])
def test_page_of_a_named_origin_reads_answers_and_errors(open_loop: LiveLoop, key: str | None, status: int) -> None:
    headers = JSON | {"Origin": SHOP} | ({"Authorization": f"Bearer {key}"} if key else {})
    response = open_loop.http.post("/v1/recommendations", json={"user_id": "u1"}, headers=headers)

    assert response.status_code == status
    assert response.headers["access-control-allow-origin"] == SHOP
    assert "x-request-id" in response.headers["access-control-expose-headers"].lower()


def test_no_origin_is_allowed_by_default(shared_loop: LiveLoop) -> None:
    response = shared_loop.http.get("/v1/lag", headers={"Origin": SHOP})

    assert response.status_code == 200
    assert not [name for name in response.headers if name.startswith("access-control")]
    assert "access-control-allow-origin" not in preflight(shared_loop, SHOP).headers
