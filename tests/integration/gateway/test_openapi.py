"""The OpenAPI document: complete, and kept by every answer, whatever schemathesis thinks of."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
)

from tests.gateway_process import serving_gateway
from worker.gateway.access.tokens import Scope, Tokens
from worker.gateway.app import create_app
from worker.gateway_settings import GatewaySettings
from worker.queue.ledger.connection import connect
from worker.queue.ledger.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.gateway_process import GatewayServer
    from worker.embedded import EmbeddedRedis

FEW: Final = 8
MANY: Final = 400
# Streams without an end: what is in them is told by tests of their own.
ENDLESS: Final = {"watch_events"}


@pytest.fixture(scope="module")
def served(
    redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayServer]:
    """One gateway for all operations, which takes manifests."""
    folder = tmp_path_factory.mktemp("openapi")
    with serving_gateway(
        redis_url=redis_server.url,
        namespace="openapi",
        gateway_folder=folder / "gateway",
        gateway_uploads=str(folder / "uploads"),
        gateway_body_seconds=5,
    ) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def document(served: GatewayServer) -> dict[str, Any]:
    """The document as it is served."""
    told: dict[str, Any] = served.http.get("/openapi.json").json()
    return told


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        operation["operationId"]: {**operation, "path": path, "method": method}
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_the_document_is_of_3_1_and_whole(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    text = orjson.dumps(document).decode()
    named = set(re.findall(r'#/components/schemas/([^"]+)"', text))
    assert named <= set(document["components"]["schemas"])
    methods = sum(len(each) for each in document["paths"].values())
    found = operations(document)
    assert len(found) == methods, "two operations have one id"
    tags = {tag["name"] for tag in document["tags"]}
    for operation_id, operation in found.items():
        assert set(operation["tags"]) <= tags, operation_id
        assert operation["description"], operation_id
        open_to_all = operation["tags"] in (["health"], ["webhooks"])
        assert bool(operation.get("security")) != open_to_all, operation_id
        for status, response in operation["responses"].items():
            assert response["description"], (operation_id, status)
            if status >= "400":
                assert list(response["content"]) == ["application/problem+json"]


def test_what_nobody_documents_is_not_there(served: GatewayServer) -> None:
    for path in ("/docs/", "/page", "/redoc", "/v1", "/v2/commands", "/openapi.yaml"):
        answer = served.http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/commands", "GET, POST"),
        ("PUT", "/v1/dead-letters/1-0", "DELETE, GET"),
        # A command may have this id, and commands are cancelled here.
        ("DELETE", "/v1/commands/cancel", "GET, POST"),
        ("DELETE", "/v1/commands/a%2Fcancel", "GET"),
        ("POST", "/healthz", "GET"),
    ],
)
def test_allow_names_every_method_that_an_address_takes(
    served: GatewayServer, method: str, path: str, allowed: str
) -> None:
    answer = served.http.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert answer.json()["code"] == "method_not_allowed"


OPERATIONS: Final = sorted(
    operation["operationId"]
    for methods in create_app(GatewaySettings(redis_url="redis://127.0.0.1:1", namespace="openapi"))
    .openapi()["paths"]
    .values()
    for operation in methods.values()
    if operation["operationId"] not in ENDLESS
)
MODES: Final = tuple(GenerationMode)


@pytest.fixture(scope="module")
def token(redis_server: EmbeddedRedis, served: GatewayServer) -> str:
    """A token that may do everything: the judge looks whether one is asked for."""

    async def create() -> str:
        redis = connect(redis_server.url)
        try:
            _, secret = await Tokens(redis, Keys(served.settings.namespace)).create(
                "t", list(Scope)
            )
            return secret
        finally:
            await redis.aclose()

    return asyncio.run(create())


def judge(
    served: GatewayServer, document: dict[str, Any], token: str, operation_id: str, cases: int
) -> None:
    """Sends so many requests that fit an operation, and so many that do not; checks each answer."""
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=served.url)
    operation = schema.find_operation_by_id(operation_id)
    for mode in MODES:

        @settings(
            max_examples=cases,
            database=None,
            derandomize=cases == FEW,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            if "wait" in (case.query or {}):
                # It would wait for commands that nobody has sent.
                case.query["wait"] = 0
            case.call_and_validate(
                timeout=60,
                headers={"Authorization": f"Bearer {token}"},
                # A schema can't say that a filter must say something, or that a cursor is known;
                # of many commands the good ones are taken, of a doubled parameter the last.
                excluded_checks=[positive_data_acceptance, negative_data_rejection],
            )

        with suppress(Unsatisfiable):
            # Where everything fits, nothing can be wrong.
            check()


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_each_answer_is_as_the_document_says(
    served: GatewayServer, document: dict[str, Any], token: str, operation_id: str
) -> None:
    judge(served, document, token, operation_id, FEW)


@pytest.mark.long
@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_each_of_many_answers_is_as_the_document_says(
    served: GatewayServer, document: dict[str, Any], token: str, operation_id: str
) -> None:
    judge(served, document, token, operation_id, MANY)
