"""Commands sent over HTTP: each way in, what is answered, and that nothing is added twice."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest
from cloudevents.core.bindings.http import (
    to_binary_event,
    to_structured_event,
)
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from redis.exceptions import ConnectionError as RedisConnectionError

from schemas.json_text import encode_json
from tests.console import wait_until
from tests.integration.intake_acts import GOOD, good, intake_of, running, until
from worker.gateway.requests import bodies
from worker.gateway.submission.submission import Submission, SubmitStatus, prepare
from worker.gateway.submission.submitter import Submitter
from worker.queue.ledger.queries import LedgerReader
from worker.queue.ledger.streams import entries_between

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import ServeGateway
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

YEAR_2200 = "2200-01-01T00:00:00Z"
JSON = {"content-type": "application/json"}
NDJSON = {"content-type": "application/x-ndjson"}


def send(gateway: GatewayServer, body: bytes, **headers: str) -> httpx.Response:
    told = {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return gateway.http.post("/v1/commands", content=body, headers=told)


async def unread(redis: Redis, keys: Keys) -> list[dict[str, Any]]:
    """The commands in both streams, those for bulk last."""
    return [orjson.loads(text) for text in await texts(redis, keys)]


async def texts(redis: Redis, keys: Keys) -> list[bytes]:
    """Those commands as they stand there."""
    found = [
        *await entries_between(redis, keys.commands, "-", "+"),
        *await entries_between(redis, keys.bulk_commands, "-", "+"),
    ]
    return [fields[b"command"] for _, fields in found]


async def test_a_command_is_in_the_stream_before_it_is_acknowledged(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    answer = send(gateway, good(correlationid="c-1"))
    assert answer.status_code == 202
    command_id = answer.json()["id"]
    assert answer.headers["location"] == answer.json()["location"] == f"/v1/commands/{command_id}"
    assert await unread(redis, keys) == [{**GOOD, "correlationid": "c-1", "id": command_id}]


async def test_a_command_keeps_its_own_id_and_whatever_else_it_says(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    text = b' { "id" : "night/1", "type":"get_model", "data":' + orjson.dumps(GOOD["data"]) + b"}"
    assert send(gateway, text).json()["id"] == "night/1"
    assert await texts(redis, keys) == [text]


@pytest.mark.parametrize("sent", ['"id":null,', ""])
async def test_an_id_that_is_null_or_absent_is_made(
    gateway: GatewayServer, redis: Redis, keys: Keys, sent: str
) -> None:
    text = f'{{{sent}"type":"list_models","data":{{"query":"1e400 \u00e9"}}}}'.encode()
    command_id = send(gateway, text).json()["id"]
    assert await unread(redis, keys) == [
        {"type": "list_models", "data": {"query": "1e400 \u00e9"}, "id": command_id}
    ]
    (text_sent,) = await texts(redis, keys)
    assert text_sent.count(b'"id"') == 1


async def test_a_byte_order_mark_is_no_part_of_a_command(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    """As some editors begin a file: every other way in takes it."""
    mark = b"\xef\xbb\xbf"
    assert send(gateway, mark + good(id="one")).status_code == 202
    assert send(gateway, mark + b"[" + good(id="two") + b"]").status_code == 202
    lines = mark + good(id="three") + b"\n" + good(id="four")
    assert gateway.http.post("/v1/commands", content=lines, headers=NDJSON).status_code == 202
    assert [each["id"] for each in await unread(redis, keys)] == ["one", "two", "three", "four"]


def test_a_long_array_is_taken_in_pages_between_which_others_are_answered(
    gateway: GatewayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validated all at once, a hundred thousand commands hold the loop for ten seconds."""
    validated = 0
    seen: list[int] = []
    submitter = gateway.app.state.gateway.submitter
    submit = submitter.submit

    def count(*arguments: Any, **options: Any) -> Submission:
        nonlocal validated
        validated += 1
        return prepare(*arguments, **options)

    async def note(submissions: Sequence[Submission]) -> list[SubmitStatus]:
        seen.append(validated)
        found: list[SubmitStatus] = await submit(submissions)
        return found

    monkeypatch.setattr("worker.gateway.routes.submit.prepare", count)
    monkeypatch.setattr(submitter, "submit", note)
    assert send(gateway, orjson.dumps([GOOD] * 1000)).json()["accepted"] == 1000
    assert seen == [256, 512, 768, 1000]


async def test_bulk_commands_go_where_interactive_ones_never_wait_behind_them(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    body = orjson.dumps([{**GOOD, "id": "b", "priority": "bulk"}, {**GOOD, "id": "i"}])
    assert send(gateway, body).status_code == 202
    assert (await redis.xlen(keys.bulk_commands), await redis.xlen(keys.commands)) == (1, 1)


async def test_of_many_the_good_ones_are_taken_and_each_other_has_its_problem_in_its_place(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    items: list[Any] = [
        {**GOOD, "id": "a"},
        {"type": "get_model", "id": "b", "data": {}},
        7,
        {**GOOD, "id": "a", "type": "delete_model"},
        {**GOOD, "id": "d"},
    ]
    answer = send(gateway, orjson.dumps(items))
    assert answer.status_code == 207
    told = answer.json()
    assert (told["accepted"], told["refused"]) == (2, 3)
    assert [each["status"] for each in told["items"]] == [202, 422, 422, 422, 202]
    problems = [each.get("problem") for each in told["items"]]
    assert problems[1]["problems"][0]["path"] == "data.model_uuid"
    assert problems[3]["code"] == "idempotency_conflict"
    assert [each["id"] for each in await unread(redis, keys)] == ["a", "d"]


@pytest.mark.parametrize("pieces", [1, 7])
async def test_lines_are_taken_however_they_are_cut(
    gateway: GatewayServer, redis: Redis, keys: Keys, pieces: int
) -> None:
    lines = [good(id=f"n-{number}") for number in range(600)]
    lines[3] = b"{"
    body = b"\r\n".join([*lines, b"", b"  "])

    def parts() -> Any:
        step = len(body) // pieces
        for begin in range(0, len(body), step):
            yield body[begin : begin + step]

    answer = gateway.http.post("/v1/commands", content=parts(), headers=NDJSON)
    assert answer.status_code == 207
    told = answer.json()
    assert (told["accepted"], told["refused"]) == (599, 1)
    assert told["items"][3]["problem"]["code"] == "not_json"
    assert [each["id"] for each in await unread(redis, keys)] == [
        f"n-{number}" for number in range(600) if number != 3
    ]


async def test_a_line_too_long_for_a_command_costs_only_itself(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    long = good(id="long", subject="x" * 3_000_000)
    body = b"\n".join([good(id="a"), long, good(id="b")])
    told = gateway.http.post("/v1/commands", content=body, headers=NDJSON).json()
    assert [each["status"] for each in told["items"]] == [202, 413, 202]
    assert [each["id"] for each in await unread(redis, keys)] == ["a", "b"]


async def test_lines_have_no_bound_but_their_number(
    serve_gateway: ServeGateway, redis: Redis, keys: Keys
) -> None:
    body = b"".join(good(id=str(number)) + b"\n" for number in range(300))
    with serve_gateway(gateway_body_bytes=1024, gateway_batch_items=300) as gateway:
        told = gateway.http.post("/v1/commands", content=body, headers=NDJSON).json()
        assert (told["accepted"], told["refused"]) == (300, 0)
        assert len(await unread(redis, keys)) == 300
        for no_lines in (b"\n" * 2000, b" " * 2000, b"x" * 2_000_000):
            answer = gateway.http.post("/v1/commands", content=no_lines, headers=NDJSON)
            assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize("key", ["k-1", '"k-1"'])
async def test_an_idempotency_key_is_the_id(
    gateway: GatewayServer, redis: Redis, keys: Keys, key: str
) -> None:
    first = send(gateway, good(), idempotency_key=key)
    again = send(gateway, good(), idempotency_key=key)
    assert first.status_code == again.status_code == 202
    assert (first.json()["id"], first.json()["duplicate"]) == ("k-1", False)
    assert (again.json()["id"], again.json()["duplicate"]) == ("k-1", True)
    other = send(gateway, b'{"type":"list_models","data":{}}', idempotency_key=key)
    assert other.status_code == 422
    assert other.json()["code"] == "idempotency_conflict"
    assert len(await unread(redis, keys)) == 1


@pytest.mark.parametrize(
    ("key", "command_id"),
    [
        ("schl\u00fcssel".encode(), "schl\u00fcssel"),
        # As Node sends it.
        (b"schl\xfcssel", "schl\u00fcssel"),
        (rb'"a\\\"b"', 'a\\"b'),
        (b'"k-1";v=2', "k-1"),
        (b"k%2F1", "k%2F1"),
    ],
)
async def test_a_key_is_read_as_it_was_meant(
    gateway: GatewayServer, redis: Redis, keys: Keys, key: bytes, command_id: str
) -> None:
    headers = [(b"content-type", b"application/json"), (b"idempotency-key", key)]
    answer = gateway.http.post("/v1/commands", content=good(id=command_id), headers=headers)
    assert answer.status_code == 202, answer.text
    assert [each["id"] for each in await unread(redis, keys)] == [command_id]


@pytest.mark.parametrize("key", [b'"a', b'"', b'"a"b', b'"a\\"'])
async def test_a_key_that_can_be_read_in_two_ways_is_refused(
    gateway: GatewayServer, redis: Redis, keys: Keys, key: bytes
) -> None:
    headers = [(b"content-type", b"application/json"), (b"idempotency-key", key)]
    answer = gateway.http.post("/v1/commands", content=good(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_header")
    assert "Idempotency-Key" in answer.json()["detail"]
    assert not await unread(redis, keys)


async def test_a_key_that_differs_from_the_id_or_names_many_is_refused(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    assert send(gateway, good(id="one"), idempotency_key="two").status_code == 422
    assert send(gateway, b"[" + good() + b"]", idempotency_key="two").status_code == 400
    assert send(gateway, good(), idempotency_key="a" * 256).status_code == 422
    assert not await unread(redis, keys)


async def test_an_id_of_the_ledger_is_told_apart_too(
    gateway: GatewayServer, redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    await redis.xadd(keys.commands, {"command": good(id="mine")})
    reader = LedgerReader(redis, keys)

    async def accepted() -> bool:
        return await reader.status("mine") is not None

    async with running(intake_of(redis, ledger).read):
        await until(accepted)
    assert send(gateway, good(id="mine")).json()["duplicate"]
    assert send(gateway, b'{"type":"list_models","data":{},"id":"mine"}').status_code == 422
    assert not await unread(redis, keys)


async def test_the_same_command_sent_by_many_at_once_is_added_once(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    answers: list[dict[str, Any]] = []

    def post() -> None:
        answer = httpx.post(
            f"{gateway.url}/v1/commands", content=good(id="once"), headers=JSON, trust_env=False
        )
        answers.append(answer.json())

    threads = [threading.Thread(target=post) for _ in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(each["duplicate"] for each in answers) == [False, *[True] * 11]
    assert len(await unread(redis, keys)) == 1


CLOUD_EVENT = CloudEvent(
    {
        "specversion": "1.0",
        "type": "get_model",
        "id": "night/7 \u00e9",
        "source": "/tests",
        "correlationid": "c",
        "datacontenttype": "application/json",
    },
    GOOD["data"],
)


@pytest.mark.parametrize("mode", [to_structured_event, to_binary_event])
async def test_the_cloudevents_sdk_sends_in_each_mode(
    gateway: GatewayServer, redis: Redis, keys: Keys, mode: Any
) -> None:
    message = mode(CLOUD_EVENT, JSONFormat())
    answer = gateway.http.post("/v1/commands", content=message.body, headers=dict(message.headers))
    assert answer.status_code == 202, answer.text
    (sent,) = await unread(redis, keys)
    assert (sent["id"], sent["data"], sent["correlationid"]) == (
        "night/7 \u00e9",
        GOOD["data"],
        "c",
    )


async def test_a_batch_of_cloudevents_is_many_commands(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    message = to_structured_event(CLOUD_EVENT, JSONFormat())
    body = b"[" + bytes(message.body) + b"]"
    headers = {"content-type": "application/cloudevents-batch+json"}
    assert gateway.http.post("/v1/commands", content=body, headers=headers).status_code == 202
    assert len(await unread(redis, keys)) == 1


async def test_data_of_a_binary_event_become_no_attributes(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    headers = {**JSON, "ce-specversion": "1.0", "ce-type": "list_models", "ce-source": "x"}
    for body in (b'{},"id":"mine"', b'{}}{"a":1', b"{} {}", b'{"a":1,"a":2}'):
        answer = gateway.http.post("/v1/commands", content=body, headers=headers)
        assert answer.status_code == 400, body
    assert not await unread(redis, keys)


BINARY = {**JSON, "ce-specversion": "1.0", "ce-type": "list_models", "ce-source": "x"}
BINARY_BYTES = [(name.encode(), value.encode()) for name, value in BINARY.items()]


@pytest.mark.parametrize(
    ("value", "command_id"),
    [
        (b'"night 7"', "night 7"),
        (rb'"a \"b\" \\"', 'a "b" \\'),
        (b'"%C3%A9"', "\u00e9"),
        ("\u00e9".encode(), "\u00e9"),
        # As Node sends it.
        (b"\xe9/%C3%A9", "\u00e9/\u00e9"),
        (b"100%", "100%"),
        (b"%2522", "%22"),
    ],
)
async def test_attributes_in_headers_are_read_as_cloudevents_has_it(
    gateway: GatewayServer, redis: Redis, keys: Keys, value: bytes, command_id: str
) -> None:
    """Quoted strings first, as older senders write them, then one round of percent-decoding."""
    headers = [*BINARY_BYTES, (b"ce-id", value)]
    answer = gateway.http.post("/v1/commands", content=b"{}", headers=headers)
    assert answer.status_code == 202, answer.text
    assert [each["id"] for each in await unread(redis, keys)] == [command_id]


async def test_two_ids_in_headers_never_become_one(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    for value in (b"%FF", b"%FE"):
        headers = [*BINARY_BYTES, (b"ce-id", value)]
        answer = gateway.http.post("/v1/commands", content=b"{}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_header")
        assert "ce-id" in answer.json()["detail"]
    doubled = [*BINARY.items(), ("ce-id", "one"), ("CE-ID", "two")]
    answer = gateway.http.post("/v1/commands", content=b"{}", headers=doubled)
    assert (answer.status_code, answer.json()["code"]) == (400, "doubled_header")
    assert not await unread(redis, keys)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-type": "text/plain"}, good(), 415),
        ({}, good(), 415),
        ({"content-type": "application/json; charset=utf-16"}, good(), 415),
        ({**JSON, "content-encoding": "gzip"}, good(), 415),
        (JSON, b"", 400),
        (JSON, b"nothing", 400),
        (JSON, b"\xff\xfe{}", 400),
        (JSON, b"[1,", 400),
        (JSON, b'[{"a":1,"a":2}]', 400),
        (JSON, b"null", 422),
        (JSON, b"[" * 100_000, 400),
        (JSON, b'{"type":"train"}', 422),
        ({"content-type": "application/cloudevents-batch+json"}, good(), 400),
    ],
)
async def test_bad_bodies_are_told_what_is_wrong(
    gateway: GatewayServer,
    redis: Redis,
    keys: Keys,
    headers: dict[str, str],
    body: bytes,
    status: int,
) -> None:
    answer = gateway.http.post("/v1/commands", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == status
    assert told["code"]
    assert told["detail"]
    assert not await unread(redis, keys)


def test_a_full_backlog_is_told_to_come_again(serve_gateway: ServeGateway) -> None:
    with serve_gateway(gateway_backlog=3) as gateway:
        body = orjson.dumps([{**GOOD, "id": f"{number}"} for number in range(3)])
        assert send(gateway, body).status_code == 202

        def is_full() -> bool:
            return send(gateway, good()).status_code == 429

        wait_until(is_full, "a full backlog")
        answer = send(gateway, good())
        assert answer.json()["code"] == "backlog_full"
        assert int(answer.headers["retry-after"]) > 0


def test_more_commands_or_bytes_than_a_request_may_hold_are_refused(
    serve_gateway: ServeGateway,
) -> None:
    with serve_gateway(gateway_batch_items=2, gateway_body_bytes=4096) as gateway:
        body = b"\n".join([good()] * 3)
        answer = gateway.http.post("/v1/commands", content=body, headers=NDJSON)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_many_commands")
        pieces = iter([good() + b"\n", *[b" " * 2_000] * 3])
        answer = gateway.http.post("/v1/commands", content=pieces, headers=NDJSON)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        # Whoever sends the rest must know what of it was taken.
        assert " of this request came into the stream" in answer.json()["detail"]
        assert send(gateway, good(subject="x" * 5000)).json()["code"] == "too_large"

        def parts() -> Any:
            yield b" " * 4000
            yield b" " * 4000

        answer = gateway.http.post("/v1/commands", content=parts(), headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[" + b"{}," * 200_000 + b"{}]", "too_many_commands"),
        (b"[" + b"[]," * 4_000_000 + b"{}]", "too_large"),
    ],
)
def test_an_array_of_next_to_nothing_takes_no_gigabytes(
    gateway: GatewayServer, monkeypatch: pytest.MonkeyPatch, body: bytes, code: str
) -> None:
    written: list[object] = []

    def encode(each: object) -> bytes:
        written.append(each)
        return encode_json(each)

    monkeypatch.setattr(bodies, "encode_json", encode)
    answer = gateway.http.post("/v1/commands", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, code)
    assert not written


async def test_a_script_that_ran_though_its_reply_was_lost_adds_nothing_twice(
    redis: Redis, keys: Keys
) -> None:
    submissions = [prepare(good(id="one")), prepare(good())]
    submitter = Submitter(redis, keys)
    first: Sequence[int] = await submitter.submit(submissions)
    assert list(first) == [0, 0]
    assert list(await submitter.submit(submissions)) == [1, 1]
    assert len(await unread(redis, keys)) == 2


async def test_where_redis_goes_between_two_pages_each_command_says_what_became_of_it(
    gateway: GatewayServer,
    redis: Redis,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    submitter = gateway.app.state.gateway.submitter
    submit, calls = submitter.submit, list[int]()

    async def lose(submissions: Sequence[Submission]) -> list[SubmitStatus]:
        calls.append(len(submissions))
        if len(calls) == 2:
            raise RedisConnectionError
        found: list[SubmitStatus] = await submit(submissions)
        return found

    monkeypatch.setattr(submitter, "submit", lose)
    commands = [orjson.dumps({**GOOD, "id": f"n-{number}"}) for number in range(600)]
    commands[300] = b"7"
    answer = send(gateway, b"[" + b",".join(commands) + b"]")
    assert answer.status_code == 503
    told = answer.json()
    assert (told["accepted"], told["refused"]) == (256, 344)
    statuses = [each["status"] for each in told["items"]]
    assert statuses == [202] * 256 + [503] * 44 + [422] + [503] * 299
    assert [each["id"] for each in told["items"][298:300]] == ["n-298", "n-299"]
    problem = told["items"][256]["problem"]
    assert (problem["code"], problem["status"]) == ("redis_unavailable", 503)
    # Nobody waits for it once more in the same request.
    assert len(calls) == 2
    assert len(await unread(redis, keys)) == 256
