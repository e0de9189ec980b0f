"""Unknown and repeated parameters are refused, in queries as well as bodies."""

import json

import httpx
import pytest

from tests.support.serving_loop import ADMIN, LiveLoop, assert_problem

WITHOUT_PARAMETERS = [
    ("GET", "/v1/lag"), ("GET", "/v1/items/a"), ("PUT", "/v1/items/a"), ("DELETE", "/v1/items/a"),
    ("POST", "/v1/items"), ("POST", "/v1/events"), ("POST", "/v1/recommendations"), ("GET", "/v1/users/u1"),
    ("DELETE", "/v1/users/u1"), ("GET", "/v1/models"), ("POST", "/v1/models/rollback"), ("GET", "/v1/alarms"),
    ("GET", "/v1/lineage/x"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "nearest"),
    [
        ("max_price=20", ""),
        ("user=u1", "user_id"),
        ("excludes=a", "exclude"),
        ("filter=%7B%7D", "filters"),
        ("K=3", "k"),
    ],
)
def test_unknown_parameter_of_similar_is_refused(shared_loop: LiveLoop, query: str, nearest: str) -> None:
    shared_loop.put_items("a")
    response = shared_loop.http.get(f"/v1/items/a/similar?k=5&{query}")

    assert_problem(response, 422)
    assert response.json()["detail"].startswith("unknown parameter")
    assert f"the nearest valid name is '{nearest}" in response.json()["detail"]


@pytest.mark.parametrize(("method", "path"), WITHOUT_PARAMETERS)
@pytest.mark.parametrize("query", ["limit=5", "limit", "a=1&b=2"])
def test_route_without_parameters_refuses_any(shared_loop: LiveLoop, method: str, path: str, query: str) -> None:
    response = shared_loop.http.request(method, f"{path}?{query}", headers=ADMIN)

    assert_problem(response, 422)
    assert response.json()["field"] == query.partition("=")[0].partition("&")[0]


@pytest.mark.parametrize(
    ("query", "field", "nearest"),
    [
        ("userid=u1", "userid", "user_id"),
        ("user_id=u1&surfaces=x", "surfaces", "surface"),
        ("user_id=u1&K=5", "K", "k"),
    ],
)
def test_nearest_valid_name_is_suggested(shared_loop: LiveLoop, query: str, field: str, nearest: str) -> None:
    response = shared_loop.http.get(f"/v1/recommendations?{query}")

    assert_problem(response, 422)
    assert response.json()["field"] == field
    assert response.json()["detail"].endswith(f"the nearest valid name is {nearest!r}")


@pytest.mark.parametrize(
    ("path", "body", "field", "nearest"),
    [
        ("/v1/recommendations", {"user_id": "u1", "explicit": True}, "explicit", "explain"),
        ("/v1/recommendations", {"user_id": "u1", "filters": {"maxprice": 3}}, "maxprice", "max_price"),
        ("/v1/recommendations", {"user_id": "u1", "filters": {"not": {"creator": ["a"]}}}, "creator", "creators"),
        ("/v1/recommendations", {"user_id": "u1", "filters": {"attributes": {"a": {"maxx": 3}}}}, "maxx", "max"),
        ("/v1/models/rollback", {"version": "x", "skip_impression": {}}, "skip_impression", "skip_impressions"),
    ],
)
def test_unknown_field_of_a_body_is_refused(
    shared_loop: LiveLoop, path: str, body: dict[str, object], field: str, nearest: str
) -> None:
    response = shared_loop.http.post(path, json=body, headers=ADMIN)

    assert_problem(response, 422)
    assert response.json()["field"] == field
    assert f"the nearest valid name is {nearest!r}" in response.json()["detail"]


def test_nested_field_in_a_query_is_refused(shared_loop: LiveLoop) -> None:
    filters = json.dumps({"category": ["a"]})
    response = shared_loop.http.get("/v1/recommendations", params={"user_id": "u1", "filters": filters})

    assert_problem(response, 422)
    assert "the nearest valid name is 'categories'" in response.json()["detail"]


@pytest.mark.parametrize("query", ["k=5&k=7", "k=5&k=5"])
def test_repeated_scalar_is_refused(shared_loop: LiveLoop, query: str) -> None:
    for path in ("/v1/recommendations?user_id=u1&", "/v1/items/a/similar?"):
        response = shared_loop.http.get(path + query)

        assert_problem(response, 422)
        assert response.json()["field"] == "k"


@pytest.mark.parametrize("value", ["", "x", "1.5", "0", "1001", "-1", "5 "])
def test_invalid_number_names_its_parameter(shared_loop: LiveLoop, value: str) -> None:
    for path in ("/v1/recommendations?user_id=u1", "/v1/items/a/similar?"):
        response = shared_loop.http.get(f"{path}&k={value}")

        assert_problem(response, 422)
        assert response.json()["field"] == "k"


@pytest.mark.parametrize("text", ["{", "[1]", "nil", ""])
def test_parameter_that_is_not_a_json_object_is_refused(shared_loop: LiveLoop, text: str) -> None:
    for name in ("context", "filters"):
        response = shared_loop.http.get("/v1/recommendations", params={"user_id": "u1", name: text})

        assert_problem(response, 422)
        assert response.json()["field"] == name


@pytest.mark.parametrize("query", ["user_id=%FF", "user_id=a&surface=%C3", "user_id=a&%ff=1"])
def test_query_that_is_not_utf8_is_refused(shared_loop: LiveLoop, query: str) -> None:
    url = httpx.URL("http://testserver/v1/recommendations", query=query.encode())
    response = shared_loop.http.get(url)

    assert_problem(response, 422)
    assert "is not percent-encoded UTF-8" in response.json()["detail"]
