"""A request's trace goes on in the commands that it sends, unless they name another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.integration.gateway.conftest import GOOD
from worker.gateway.submission.submission import prepare
from worker.queue.ledger.streams import entries_between

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from worker.queue.ledger.keys import Keys

TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"
OTHER = f"00-{'c' * 32}-{'d' * 16}-01"
TRACE = {"traceparent": TRACEPARENT, "tracestate": "shop=1"}
JSON = {"content-type": "application/json"}
NDJSON = {"content-type": "application/x-ndjson"}
BINARY = {"ce-specversion": "1.0", "ce-type": "get_model", "ce-id": "one", "ce-source": "shop"}
DATA = orjson.dumps(orjson.loads(GOOD)["data"])


async def _sent(redis: Redis, keys: Keys) -> list[dict[str, Any]]:
    entries = await entries_between(redis, keys.commands, "-", "+")
    return [orjson.loads(fields[b"command"]) for _, fields in entries]


@pytest.mark.parametrize(
    ("headers", "body", "count"),
    [
        (JSON, GOOD, 1),
        (JSON, b"[" + GOOD + b"," + GOOD + b"]", 2),
        (NDJSON, GOOD + b"\n" + GOOD, 2),
        (JSON | BINARY, DATA, 1),
        (JSON, GOOD[:-1] + b',"traceparent":null,"tracestate":""}', 1),
    ],
    ids=["one", "an array", "lines", "a CloudEvent in headers", "nulls"],
)
async def test_each_command_of_a_request_gets_its_trace(
    gateway: GatewayServer,
    redis: Redis,
    keys: Keys,
    headers: dict[str, str],
    body: bytes,
    count: int,
) -> None:
    answer = gateway.http.post("/v1/commands", content=body, headers=headers | TRACE)
    assert answer.status_code == 202, answer.text
    sent = await _sent(redis, keys)
    assert len(sent) == count
    for command in sent:
        assert command | TRACE == command


async def test_a_command_that_names_a_trace_keeps_it(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    body = GOOD[:-1] + b',"traceparent":"' + OTHER.encode() + b'"}'
    gateway.http.post("/v1/commands", content=body, headers=JSON | TRACE).raise_for_status()
    gateway.http.post(
        "/v1/commands", content=DATA, headers=JSON | BINARY | TRACE | {"ce-traceparent": OTHER}
    ).raise_for_status()
    sent = await _sent(redis, keys)
    assert [each["traceparent"] for each in sent] == [OTHER, OTHER]
    assert not any("tracestate" in each for each in sent)


@pytest.mark.parametrize(
    "headers",
    [
        [("traceparent", "00-1")],
        [("traceparent", TRACEPARENT), ("traceparent", OTHER)],
        [("tracestate", "shop=1")],
    ],
    ids=["no such thing", "two", "a state alone"],
)
async def test_a_header_that_names_no_span_is_not_passed_on(
    gateway: GatewayServer, redis: Redis, keys: Keys, headers: list[tuple[str, str]]
) -> None:
    answer = gateway.http.post("/v1/commands", content=GOOD, headers=[*JSON.items(), *headers])
    assert answer.status_code == 202
    (command,) = await _sent(redis, keys)
    assert not {"traceparent", "tracestate"} & command.keys()


def test_a_command_that_a_trace_would_make_too_large_goes_without() -> None:
    """The worker would reject it, though its sender did nothing wrong."""
    head, tail = b'{"type":"list_models","id":"one","data":{"query":"', b'"}}'
    whole = head + b"x" * (1_048_576 - len(head + tail)) + tail
    assert prepare(whole, trace=TRACE).text == whole
    assert b"traceparent" in prepare(head + tail, trace=TRACE).text
