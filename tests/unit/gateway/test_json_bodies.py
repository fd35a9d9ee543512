"""Bodies of one JSON object: what is read of them, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from pydantic import BaseModel
from starlette.requests import Request

from worker.gateway import json_bodies as module
from worker.gateway.json_bodies import documented, json_body
from worker.gateway.problems import ProblemError

if TYPE_CHECKING:
    from starlette.types import Message

    from worker.gateway.gateway import Gateway

JSON = "application/json"


class Maybe(BaseModel):
    """A body that may be left out."""

    model_config = {"extra": "forbid"}

    count: int = 3


class Needed(Maybe):
    """One that must be there."""

    name: str


def gateway(body_bytes: int = 10_000) -> Gateway:
    settings = SimpleNamespace(gateway_body_bytes=body_bytes, gateway_body_seconds=5.0)
    return cast("Gateway", SimpleNamespace(settings=settings))


def request(body: bytes, media_type: str | None = JSON, query: str = "") -> Request:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [] if media_type is None else [(b"content-type", media_type.encode())]
    scope = {"type": "http", "method": "POST", "headers": headers, "query_string": query.encode()}
    return Request(scope, receive)


async def read(model: type[BaseModel], of: Request, at: Gateway | None = None) -> Any:
    return await json_body(model)(of, at or gateway())


async def test_a_body_of_defaults_alone_may_be_left_out_and_no_other() -> None:
    assert await read(Maybe, request(b"", None)) == Maybe()
    with pytest.raises(ProblemError) as refused:
        await read(Needed, request(b"", None))
    assert (refused.value.status, refused.value.code) == (415, "media_type_not_taken")
    with pytest.raises(ProblemError) as refused:
        await read(Needed, request(b""))
    assert (refused.value.status, refused.value.code) == (400, "not_json")
    assert await read(Maybe, request(b'{"count": 7}')) == Maybe(count=7)


@pytest.mark.parametrize(
    ("body", "media_type", "query", "status", "said"),
    [
        (b"{", JSON, "", 400, "not JSON"),
        (b'{"count": NaN}', JSON, "", 400, "not JSON"),
        (b'{"count": 1, "count": 1}', JSON, "", 400, "count"),
        (b'{"count": "7"}', JSON, "", 422, "count must be a valid integer"),
        (b'{"cuont": 7}', JSON, "", 422, "cuont"),
        (b"[]", JSON, "", 422, "must be an object"),
        (b"{}", "text/plain", "", 415, JSON),
        (b"{}", None, "", 415, JSON),
        (b"{}", JSON, "dry_run=true", 422, "dry_run is no parameter"),
        (b"{}", JSON, f"{'q' * 200}=1", 422, f"{'q' * 80} is no parameter"),
    ],
)
async def test_what_would_be_read_in_two_ways_or_by_nobody_is_refused(
    body: bytes, media_type: str | None, query: str, status: int, said: str
) -> None:
    with pytest.raises(ProblemError, match=said) as refused:
        await read(Maybe, request(body, media_type, query))
    assert refused.value.status == status


async def test_a_body_is_bounded_by_what_the_setting_says_and_by_what_any_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    padded = b'{"count": 7}' + b" " * 88
    monkeypatch.setattr(module, "MAX_JSON_BYTES", 100)
    assert await read(Maybe, request(padded)) == Maybe(count=7)
    for body, at in ((padded + b" ", gateway()), (padded, gateway(99))):
        with pytest.raises(ProblemError) as refused:
            await read(Maybe, request(body), at)
        assert refused.value.code == "too_large"


@pytest.mark.parametrize(
    ("body", "is_taken"),
    [(b"", True), (b" {} ", True), (b"null", True), (b'{"a":1}', False), (b"[]", False)],
)
async def test_an_act_without_parameters_takes_nothing(body: bytes, *, is_taken: bool) -> None:
    if is_taken:
        await module._take_nothing(request(body, None), gateway())
    else:
        with pytest.raises(ProblemError, match="takes no parameters") as refused:
            await module._take_nothing(request(body, None), gateway())
        assert refused.value.status == 422


def test_the_document_says_which_bodies_may_be_left_out() -> None:
    for model, is_required in ((Maybe, False), (Needed, True)):
        try:
            told = documented(model)["requestBody"]
            assert module.DOCUMENTED[model.__name__] is model
        finally:
            module.DOCUMENTED.pop(model.__name__)
        assert told["required"] is is_required
        reference = f"#/components/schemas/{model.__name__}"
        assert told["content"][JSON]["schema"] == {"$ref": reference}


async def test_of_a_large_body_that_is_wrong_all_through_few_problems_are_told() -> None:
    """Each takes a kilobyte of memory: of half a million a small gateway dies."""

    class Listed(Maybe):
        names: list[str] = []

    at = gateway(1_000_000)
    for body in (b'{"names":[' + b",".join([b"0"] * 40_000) + b"]}", _unknown_names(40_000)):
        with pytest.raises(ProblemError) as refused:
            await read(Listed, request(body), at)
        assert (refused.value.status, len(refused.value.problems)) == (422, 1)
    sent = b'{"count":4,"names":[' + b",".join([b'"a"'] * 40_000) + b"]}"
    assert await read(Listed, request(sent), at) == Listed(count=4, names=["a"] * 40_000)
    with pytest.raises(ProblemError, match="count"):
        await read(Listed, request(sent.replace(b"4", b'"4"')), at)


async def test_a_body_of_very_many_lists_is_not_read() -> None:
    """Each takes up to two kilobytes once it is validated, and a body has four megabytes."""
    body = b'{"count":[' + b",".join([b"[]"] * 21_000) + b"]}"
    with pytest.raises(ProblemError) as refused:
        await read(Maybe, request(body), gateway(1_000_000))
    (problem,) = refused.value.problems
    assert (refused.value.status, "lists and objects" in problem.message) == (422, True)


def _unknown_names(count: int) -> bytes:
    return b"{" + b",".join(b'"n%d":0' % number for number in range(count)) + b"}"
