"""Random requests that the OpenAPI document allows or forbids get documented answers."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, reject, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serving.http.app import list_routes
from serving.http.documentation.document import make_document_builder
from tests.support.serving_loop import ADMIN, NOW, LiveLoop, make_event

EXAMPLES = 6  # of each operation and mode
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
Case: TypeAlias = schemathesis.Case[Any]
RESULTS = schemathesis.openapi.from_dict(make_document_builder(list_routes())(NOW)).get_all_operations()
OPERATIONS = [result.ok() for result in RESULTS if isinstance(result, Ok)]
# Without input, nothing can be invalid.
CASES = [
    pytest.param(operation, mode, id=f"{operation.label} {mode.value}")
    for operation in OPERATIONS
    for mode in GenerationMode
    if mode.is_positive or operation.query or operation.body
]
# No shrinking: a failure prints its request, and all cases together take about 15 s.
BUDGET = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveLoop]:
    """A loop with items, a user and a running stream worker."""
    with LiveLoop(tmp_path_factory.mktemp("fuzzing")) as loop:
        loop.put_items("0", "1", "2", categories=["c"], price=1.0)
        loop.send_events(make_event(user_id="0", item_id="0"), make_event(user_id="0", item_id="1"))
        loop.run_until_idle()
        with loop.run_stream_worker():
            yield loop


def send(loop: LiveLoop, case: Case) -> httpx.Response:
    """Send a case to the application."""
    arguments: dict[str, Any] = case.as_transport_kwargs(base_url="http://testserver", headers=ADMIN)
    if "data" in arguments:
        arguments["content"] = arguments.pop("data")
    arguments["headers"] = {name: value for name, value in arguments["headers"].items() if value is not None}
    arguments.pop("cookies")
    return loop.http.request(**arguments)


@pytest.mark.parametrize(("operation", "mode"), CASES)
def test_random_request_gets_a_documented_response(shop: LiveLoop, operation: Any, mode: GenerationMode) -> None:
    @seed(1)
    @BUDGET
    @given(operation.as_strategy(generation_mode=mode))
    def check(case: Case) -> None:
        try:
            response = send(shop, case)
        except httpx.InvalidURL:  # a query of more than 64 KiB, which the client refuses
            reject()
        case.validate_response(response, checks=CHECKS)

    check()
