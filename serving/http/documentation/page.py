"""Swagger UI at /docs and the OpenAPI document; both work without internet access."""

from typing import Any

from litestar import Response, get
from litestar.datastructures import State
from litestar.static_files import create_static_files_router
from swagger_ui_bundle import swagger_ui_path

from serving.http.requests import get_service

_ASSETS = "/docs/assets"
_PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Headrace API</title>
<link rel="icon" href="{_ASSETS}/favicon-32x32.png">
<link rel="stylesheet" href="{_ASSETS}/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="{_ASSETS}/swagger-ui-bundle.js"></script>
<script>
SwaggerUIBundle({{
  url: "/docs/openapi.json", dom_id: "#docs", deepLinking: true, persistAuthorization: true, validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
}});
</script>
</body>
</html>
"""


@get("/docs", include_in_schema=False, media_type="text/html")
async def get_docs() -> str:
    return _PAGE


@get("/openapi.json", include_in_schema=False)
async def get_document(state: State) -> Response[dict[str, Any]]:
    """Return the OpenAPI document; its examples have the current time."""
    return Response(state["build_document"](get_service(state).clock.now_ms()))


@get("/docs/openapi.json", include_in_schema=False)
async def get_docs_document(state: State) -> Response[dict[str, Any]]:
    """Return the document as OpenAPI 3.0, the latest version that this Swagger UI reads."""
    return Response(as_openapi_3_0(state["build_document"](get_service(state).clock.now_ms())))


def as_openapi_3_0(schema: Any) -> Any:
    """Replace what OpenAPI 3.0 does not know, such as null as a type, constants and tuples.

    >>> as_openapi_3_0({"anyOf": [{"type": "string"}, {"type": "null"}], "default": None})
    {'nullable': True, 'type': 'string', 'default': None}
    """
    if isinstance(schema, list):
        return [as_openapi_3_0(element) for element in schema]
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {}
    for name, value in schema.items():
        result |= _convert_keyword(name, value)
    return result


def _convert_keyword(name: str, value: Any) -> dict[str, Any]:
    """Keywords of OpenAPI 3.0 for a keyword of 3.1."""
    if name == "openapi":
        return {name: "3.0.3"}
    if name == "anyOf" and {"type": "null"} in value:
        alternatives = [as_openapi_3_0(kind) for kind in value if kind != {"type": "null"}]
        is_schema = len(alternatives) == 1 and "$ref" not in alternatives[0]
        return {"nullable": True} | (alternatives[0] if is_schema else {"anyOf": alternatives})
    if name == "const":
        return {"enum": [value]}
    if name == "prefixItems":
        return {"items": as_openapi_3_0(value[0])}
    is_left_out = (name == "required" and value == []) or (name == "items" and value is False)
    return {} if is_left_out else {name: as_openapi_3_0(value)}


ROUTES = (
    get_docs, get_document, get_docs_document,
    create_static_files_router(_ASSETS, [swagger_ui_path], include_in_schema=False),
)  # fmt: skip
