"""`POST /v1/commands` is served ahead of FastAPI, and answers what FastAPI would."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import httpx
import orjson
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from tests.integration.gateway.conftest import GOOD
from worker.gateway.access.tokens import Scope
from worker.gateway.app import ROUTES, create_app
from worker.gateway.asgi.middleware import Hardening
from worker.gateway.problems import redis_away
from worker.gateway.submit_endpoint import METHOD, PATH
from worker.gateway_settings import GatewaySettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from starlette.types import ASGIApp

    from tests.integration.gateway.conftest import MakeToken

JSON: Final = {"content-type": "application/json"}
NDJSON: Final = {"content-type": "application/x-ndjson"}
TYPED: Final = orjson.loads(GOOD)


def _with_id(command_id: str, **more: Any) -> bytes:
    return orjson.dumps({**TYPED, "id": command_id, **more})


# What is sent; NAME stands for an id of its own on each of the two ways.
REQUESTS: Final[dict[str, tuple[Mapping[str, str], bytes]]] = {
    "good": (JSON, _with_id("NAME-one")),
    "the same again": (JSON, _with_id("NAME-one")),
    "a conflict": (JSON, orjson.dumps({"type": "list_models", "data": {}, "id": "NAME-one"})),
    "a key": ({**JSON, "idempotency-key": "NAME-two"}, GOOD),
    "a binary event": (
        {**JSON, "ce-specversion": "1.0", "ce-type": "list_models", "ce-id": "NAME-three"},
        b"{}",
    ),
    "an array": (JSON, b"[" + _with_id("NAME-four") + b"]"),
    "lines, one of them wrong": (NDJSON, _with_id("NAME-five") + b'\n{"type": "trian"}'),
    "no JSON": (JSON, b"{"),
    "no command": (JSON, b'{"type": "trian"}'),
    "nothing": (JSON, b""),
    "another media type": ({"content-type": "text/plain"}, GOOD),
    "too large": (JSON, b" " * 2000),
    "no token": ({**JSON, "authorization": ""}, GOOD),
    "an unknown token": ({**JSON, "authorization": "Bearer tm_unknown"}, GOOD),
    "another scheme": ({**JSON, "authorization": "Basic abc"}, GOOD),
    "a token of another scope": ({**JSON, "authorization": "READER"}, GOOD),
}


@pytest.fixture
def app(redis_url: str, namespace: str, tmp_path: Path) -> FastAPI:
    return create_app(
        GatewaySettings(
            redis_url=redis_url,
            namespace=namespace,
            gateway_folder=tmp_path,
            gateway_body_bytes=1024,
            gateway_requests_per_second=1000,
        )
    )


async def _answers(
    app: ASGIApp, tokens: Mapping[str, str], name: str
) -> dict[str, tuple[int, dict[str, str], str]]:
    found = {}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        for title, (headers, body) in REQUESTS.items():
            sent = {"authorization": "SENDER", **headers}
            sent = {
                each: tokens.get(value, value.replace("NAME", name)) for each, value in sent.items()
            }
            answer = await http.post(
                PATH.decode(), content=body.replace(b"NAME", name.encode()), headers=sent
            )
            told = {each: value.replace(name, "NAME") for each, value in answer.headers.items()}
            told.pop("ratelimit", None)
            found[title] = (answer.status_code, told, answer.text.replace(name, "NAME"))
    return found


async def test_what_is_served_ahead_of_fastapi_answers_as_fastapi_would(
    app: FastAPI, make_token: MakeToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = {
        "SENDER": f"Bearer {make_token(Scope.SUBMIT)}",
        "READER": f"Bearer {make_token(Scope.READ)}",
    }
    by_fastapi = Hardening(partial(FastAPI.__call__, app))

    async def refuse(*_: object) -> None:
        raise AssertionError("FastAPI was asked")

    async with app.router.lifespan_context(app):
        expected = await _answers(by_fastapi, tokens, "slow")
        monkeypatch.setattr(app, "middleware_stack", refuse)
        assert await _answers(app, tokens, "fast") == expected
    assert {status for status, _, _ in expected.values()} == {
        *(202, 207, 400, 401, 403, 413, 415, 422)
    }


async def test_what_fails_is_answered_there_too(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    trouble: list[Exception] = [ConnectionError("s3cret"), RuntimeError("s3cret")]

    async def fail() -> None:
        raise trouble[0]

    async with app.router.lifespan_context(app):
        monkeypatch.setattr(app.state.gateway.backlog, "check", fail)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            answer = await http.post(PATH.decode(), content=GOOD, headers=JSON)
            assert (answer.status_code, answer.json()) == (503, redis_away().body())
            trouble.pop(0)
            answer = await http.post(PATH.decode(), content=GOOD, headers=JSON)
            assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
            assert "s3cret" not in answer.text


def test_the_address_is_one_that_the_document_has() -> None:
    documented = {
        (method, route.path)
        for module in ROUTES
        for route in module.router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    assert (METHOD, PATH.decode()) in documented
