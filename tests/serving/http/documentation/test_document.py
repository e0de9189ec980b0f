"""The OpenAPI document agrees with the server, which gets each of its examples."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from online_models.control import CheckpointCommand, encode_command
from serving.http.app import list_routes
from serving.http.documentation.document import make_document_builder
from serving.http.documentation.page import as_openapi_3_0
from stream.topics import CONTROL
from tests.support.serving_loop import ADMIN, NOW, LiveLoop, make_event, make_impression

DOCUMENT = make_document_builder(list_routes())(NOW)
OPERATIONS = [(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods]
SCHEMAS = DOCUMENT["components"]["schemas"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveLoop]:
    """A loop with two items and the version of the examples."""
    with LiveLoop(tmp_path_factory.mktemp("documentation")) as loop:
        loop.http.post(
            "/v1/items", json=[{"item_id": item_id, "categories": ["c"]} for item_id in ("kettle", "teapot")]
        )
        loop.send_events(make_impression(["kettle", "teapot"]), make_event(item_id="teapot"))
        loop.run_until_idle()
        while loop.learn_worker.progress.step < 2:
            loop.send_events(make_event(item_id="kettle"))
            loop.run_until_idle()
        loop.log.append(CONTROL, 0, [(None, encode_command(CheckpointCommand()))])
        loop.learn_worker.step(0.0)
        yield loop


def find_operation(method: str, path: str) -> dict[str, Any]:
    operation: dict[str, Any] = DOCUMENT["paths"][path][method]
    return operation


def check(value: Any, schema: dict[str, Any]) -> None:
    """Validate a value against a schema of the document."""
    Draft202012Validator(schema | {"components": DOCUMENT["components"]}).validate(value)


def call(loop: LiveLoop, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    """Call an operation with the examples of its parameters and body."""
    operation = find_operation(method, path)
    examples = {parameter["name"]: parameter for parameter in operation["parameters"] if "example" in parameter}
    query = {name: parameter["example"] for name, parameter in examples.items() if parameter["in"] == "query"}
    url = path.format_map({name: quote(parameter["example"], safe="") for name, parameter in examples.items()})
    body = operation.get("requestBody")
    content = body["content"]["application/json"]["example"] if body else None
    if content is None:
        return loop.http.request(method, url, params=query, headers=headers)
    return loop.http.request(method, url, params=query, headers=headers, json=content)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_example_gets_the_documented_response(shop: LiveLoop, method: str, path: str) -> None:
    shop.http.put("/v1/items/kettle", json={"title": "Kettle"})
    shop.send_events(make_event())
    shop.run_until_idle()
    success, documented = next(iter(find_operation(method, path)["responses"].items()))

    with shop.run_stream_worker():
        response = call(shop, method, path, ADMIN)

    assert response.status_code == int(success), response.text
    if "content" not in documented:
        assert response.content == b""
        return
    media_type, content = next(iter(documented["content"].items()))
    assert response.headers["content-type"].partition(";")[0] == media_type
    check(response.json() if media_type == "application/json" else response.text, content["schema"])
    check(content["example"], content["schema"])


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_examples_match_their_schemas(method: str, path: str) -> None:
    operation = find_operation(method, path)

    assert operation["summary"].endswith((".", ")"))
    assert operation["description"]
    for content in operation.get("requestBody", {"content": {}})["content"].values():
        check(content["example"], content["schema"])
    for parameter in operation["parameters"]:
        assert parameter["description"]
        assert "example" in parameter or not parameter["required"]


ERRORS: dict[int, tuple[str, str, dict[str, Any]]] = {
    401: ("GET", "/v1/models", {}),
    403: ("GET", "/v1/models", {"headers": {"Authorization": "Bearer wrong"}}),
    404: ("GET", "/v1/items/nothing", {}),
    405: ("GET", "/v1/events", {}),
    400: ("POST", "/v1/recommendations", {"content": "{", "headers": {"content-type": "application/json"}}),
    415: ("POST", "/v1/events", {"content": "[]"}),
    422: ("GET", "/v1/lag?x=1", {}),
}


@pytest.mark.parametrize("status", ERRORS)
def test_error_is_a_documented_problem(shop: LiveLoop, status: int) -> None:
    method, path, arguments = ERRORS[status]
    response = shop.http.request(method, path, **arguments)

    assert response.status_code == status
    check(response.json(), {"$ref": "#/components/schemas/ProblemDocument"})


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_field_is_described(name: str) -> None:
    undescribed = [
        field
        for field, schema in SCHEMAS[name].get("properties", {}).items()
        if "description" not in schema and "enum" not in schema and "const" not in schema
    ]

    assert SCHEMAS[name]["description"]
    assert undescribed == []


def test_document_is_valid_openapi() -> None:
    validate(DOCUMENT)
    validate(as_openapi_3_0(DOCUMENT))


def test_each_route_is_documented(shop: LiveLoop) -> None:
    routes = {
        (method.lower(), route.path_format)
        for route in shop.http.app.routes
        for method in getattr(route, "methods", ())
        if method != "OPTIONS"
    }
    pages = {"/", "/docs", "/docs/openapi.json", "/openapi.json"}

    assert {
        (method, path) for method, path in routes if path not in pages and not path.startswith("/docs/assets")
    } == set(OPERATIONS)


def test_operations_with_a_scope_take_a_bearer_key() -> None:
    required: list[dict[str, list[str]]] = [{"key": []}]
    optional = [*required, {}]
    for method, path in OPERATIONS:
        expected = required if "/v1/" in path and path.split("/")[2] in ("models", "alarms", "lineage") else optional
        assert find_operation(method, path)["security"] == (expected if path.startswith("/v1") else [])
    assert DOCUMENT["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


@pytest.mark.parametrize(("path", "version"), [("/openapi.json", "3.1.0"), ("/docs/openapi.json", "3.0.3")])
def test_document_is_served_with_current_times(shop: LiveLoop, path: str, version: str) -> None:
    document = shop.http.get(path).json()
    example = document["paths"]["/v1/events"]["post"]["requestBody"]["content"]["application/json"]["example"]

    assert document["openapi"] == version
    assert example[0]["ts"] == shop.clock.now_ms()
    if version == "3.1.0":
        assert document == msgspec.json.decode(msgspec.json.encode(DOCUMENT))
