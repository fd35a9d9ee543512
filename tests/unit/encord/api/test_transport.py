"""Rules of one exchange with the API: every status and failure, on real sockets."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
import tracemalloc
import zlib
from contextlib import asynccontextmanager
from dataclasses import replace
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import ErrorCode
from tests.signatures import check_signature
from tests.stub_api import Answer, StubApi, reply
from worker.encord.api.base_url import environment_proxy
from worker.encord.api.signing import BearerToken, RequestSigner
from worker.encord.api.throttle import ThrottledTransport
from worker.encord.api.transport import REPLY_LIMIT_BYTES, Transport
from worker.errors import (
    BadResponseError,
    ConnectionLostError,
    DeadlineExceededError,
    MisconfiguredError,
    NotSentError,
    RateLimitedError,
    RequestRefusedError,
    RetryableError,
    ServerFailedError,
    SettingError,
    TrainmasterError,
)
from worker.http.timeouts import Timeouts
from worker.queue.circuit_breaker import CircuitBreaker

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.asyncio

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
# For answers that never come; what comes may come late from a busy machine.
SHORT = Timeouts(connect=0.5, read=0.3, write=0.3, pool=0.3)
PATIENCE_SECONDS = 60
# Generous: the machine may be busy; what is waited for instead takes longer by far.
AT_ONCE_SECONDS = 20

STATUSES: list[tuple[int, type[TrainmasterError], ErrorCode]] = [
    (400, RequestRefusedError, ErrorCode.INVALID_ARGUMENTS),
    (422, RequestRefusedError, ErrorCode.INVALID_ARGUMENTS),
    (401, MisconfiguredError, ErrorCode.NOT_AUTHENTICATED),
    (403, RequestRefusedError, ErrorCode.NOT_AUTHORISED),
    (404, RequestRefusedError, ErrorCode.NOT_FOUND),
    (405, RequestRefusedError, ErrorCode.NOT_ALLOWED),
    (409, RequestRefusedError, ErrorCode.ALREADY_EXISTS),
    (413, RequestRefusedError, ErrorCode.PAYLOAD_TOO_LARGE),
    (429, RateLimitedError, ErrorCode.RATE_LIMITED),
    (408, ServerFailedError, ErrorCode.SERVER_ERROR),
    (500, ServerFailedError, ErrorCode.SERVER_ERROR),
    (502, ServerFailedError, ErrorCode.SERVER_ERROR),
    (503, ServerFailedError, ErrorCode.SERVER_ERROR),
    (504, ServerFailedError, ErrorCode.SERVER_ERROR),
    (599, ServerFailedError, ErrorCode.SERVER_ERROR),
    (499, ServerFailedError, ErrorCode.SERVER_ERROR),
    (600, ServerFailedError, ErrorCode.SERVER_ERROR),
    (999, ServerFailedError, ErrorCode.SERVER_ERROR),
    (402, RequestRefusedError, ErrorCode.UNEXPECTED_STATUS),
    (418, RequestRefusedError, ErrorCode.UNEXPECTED_STATUS),
    (201, BadResponseError, ErrorCode.BAD_RESPONSE),
    (202, BadResponseError, ErrorCode.BAD_RESPONSE),
    (206, BadResponseError, ErrorCode.BAD_RESPONSE),
]

UNPROVEN = [101, 300, 301, 302, 303, 304, 305, 307, 308, 399, 419, 420, 430, 440, 444, 460, 498]

FAILURES: list[tuple[str, Answer, type[RetryableError], ErrorCode]] = [
    ("reset", Answer(then="reset"), ConnectionLostError, ErrorCode.CONNECTION_LOST),
    ("closed", Answer(then="close"), ConnectionLostError, ErrorCode.CONNECTION_LOST),
    ("no answer", Answer(then="hang"), ConnectionLostError, ErrorCode.CONNECTION_LOST),
    (
        "stalled body",
        Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n[1,", "hang"),
        ConnectionLostError,
        ErrorCode.CONNECTION_LOST,
    ),
    (
        "truncated body",
        Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n[1,", "close"),
        ConnectionLostError,
        ErrorCode.CONNECTION_LOST,
    ),
    (
        "truncated chunks",
        Answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n[1,", "close"),
        ConnectionLostError,
        ErrorCode.CONNECTION_LOST,
    ),
    (
        "reset in the body",
        Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n[1,", "reset"),
        ConnectionLostError,
        ErrorCode.CONNECTION_LOST,
    ),
    (
        "truncated head",
        Answer(b"HTTP/1.1 200 OK\r\ncontent-le", "close"),
        ConnectionLostError,
        ErrorCode.CONNECTION_LOST,
    ),
    ("no HTTP", Answer(b"SSH-2.0-x\r\n\r\n", "close"), BadResponseError, ErrorCode.BAD_RESPONSE),
    (
        "broken compression",
        reply(200, b"not gzip", content_encoding="gzip"),
        BadResponseError,
        ErrorCode.BAD_RESPONSE,
    ),
]


@pytest.fixture(params=["http", "https"])
def stub(request: pytest.FixtureRequest, shown: ssl.SSLContext) -> Iterator[StubApi]:
    """A server that answers 200 with `null` unless told otherwise."""
    with StubApi(tls=shown if request.param == "https" else None) as served:
        yield served


def patience(answer: Answer) -> Timeouts:
    """Returns timeouts that don't hold up what waits for them, and disturb nothing else."""
    return SHORT if answer.then == "hang" else Timeouts()


def signed(
    domain: str,
    timeouts: Timeouts | None = None,
    connections: int = 8,
    reply_limit_bytes: int = REPLY_LIMIT_BYTES,
) -> Transport:
    """Returns a transport that signs."""
    return Transport(
        domain,
        RequestSigner(KEY),
        timeouts=timeouts,
        connections=connections,
        reply_limit_bytes=reply_limit_bytes,
    )


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(("status", "error", "code"), STATUSES)
async def test_each_status_is_one_error(
    stub: StubApi, status: int, error: type[TrainmasterError], code: ErrorCode, *, fresh: bool
) -> None:
    """Class, code and status follow the table; nothing is sent twice, no redirect followed."""
    body = b"" if status == 304 else b'{"message": "it says why"}'
    stub.default = reply(status, body, location=f"{stub.url}/elsewhere")
    async with signed(stub.url) as transport:
        with pytest.raises(TrainmasterError) as caught:
            await transport.send("POST", "/ml-models", body=b"{}", fresh=fresh)
    assert type(caught.value) is error
    assert caught.value.code is code
    assert caught.value.status == status
    assert len(stub.recorded) == 1
    if status >= 400:
        assert caught.value.message.startswith("it says why")


@pytest.mark.parametrize("status", UNPROVEN)
async def test_a_status_that_proves_nothing_is_no_refusal_of_a_change(
    stub: StubApi, status: int
) -> None:
    """Whether a change was made is unknown then; a read or a prediction fails for good."""
    stub.default = reply(
        status, b"", location="https://me:s3cret@other.example:8443/x?token=s3cret"
    )
    async with signed(stub.url) as transport:
        with pytest.raises(BadResponseError) as changed:
            await transport.send("POST", "/ml-models", body=b"{}", fresh=True)
        with pytest.raises(RequestRefusedError) as read:
            await transport.send("GET", "/ml-models")
        with pytest.raises(BadResponseError):
            await transport.send("DELETE", "/ml-models/x", fresh=True)
        with pytest.raises(RequestRefusedError):
            await transport.send("POST", "/x/predict", body=b"{}")
    assert changed.value.code is read.value.code is ErrorCode.UNEXPECTED_STATUS
    assert changed.value.status == read.value.status == status
    assert len(stub.recorded) == 4
    for message in (changed.value.message, read.value.message):
        assert str(status) in message
        assert "s3cret" not in message
        if 300 <= status < 400 and status != 304:
            assert "to https://other.example:8443, which is never followed" in message
            assert "ENCORD_DOMAIN" in message


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("answer", "error", "code"), [each[1:] for each in FAILURES], ids=[each[0] for each in FAILURES]
)
async def test_a_change_that_fails_after_sending_is_never_sent_again(
    stub: StubApi, method: str, answer: Answer, error: type[RetryableError], code: ErrorCode
) -> None:
    """The outcome is unknown, the error says so, and the server saw one request."""
    stub.default = answer
    async with signed(stub.url, patience(answer)) as transport:
        with pytest.raises(RetryableError) as caught:
            await transport.send(method, "/ml-models", body=b"{}", fresh=True)
    assert type(caught.value) is error
    assert caught.value.code is code
    assert len(stub.recorded) == 1


@pytest.mark.parametrize(
    ("answer", "error", "code"), [each[1:] for each in FAILURES], ids=[each[0] for each in FAILURES]
)
async def test_a_read_that_fails_never_counts_as_not_sent(
    stub: StubApi, answer: Answer, error: type[RetryableError], code: ErrorCode
) -> None:
    """Failures after the first byte are connection_lost or bad_response for reads too."""
    stub.default = answer
    async with signed(stub.url, patience(answer)) as transport:
        with pytest.raises(RetryableError) as caught:
            await transport.send("GET", "/ml-models")
    assert type(caught.value) is error
    assert caught.value.code is code


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_stale_connection_does_not_repeat_what_is_not_idempotent(
    stub: StubApi, method: str
) -> None:
    """A pooled connection that dies under a POST or PATCH is an error, not a second request."""
    stub.answers.extend([reply(200, b"null"), Answer(then="close")])
    async with signed(stub.url) as transport:
        (await transport.send("GET", "/warm-up")).accept()
        with pytest.raises(ConnectionLostError):
            await transport.send(method, "/predict", body=b"{}")
    assert [each.method for each in stub.recorded] == ["GET", method]
    assert stub.recorded[0].connection == stub.recorded[1].connection


async def test_a_read_survives_a_stale_connection(stub: StubApi) -> None:
    """A pooled connection that dies under a GET is replaced without a word."""
    stub.answers.extend([reply(200, b"1"), Answer(then="close"), reply(200, b"2")])
    async with signed(stub.url) as transport:
        (await transport.send("GET", "/one")).accept()
        response = await transport.send("GET", "/two")
    assert response.body == b"2"


async def test_each_change_has_its_own_connection(stub: StubApi) -> None:
    """Fresh requests share no connection; reads do."""
    async with signed(stub.url) as transport:
        for _ in range(2):
            (await transport.send("GET", "/read")).accept()
        for _ in range(2):
            await transport.send("POST", "/change", body=b"{}", fresh=True)
    connections = [each.connection for each in stub.recorded]
    assert connections[0] == connections[1]
    assert len(set(connections)) == 3


async def test_a_refused_connection_is_not_sent() -> None:
    """Nobody listens: nothing was sent, and the message says whom we asked."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        domain = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with signed(domain) as transport:
            with pytest.raises(NotSentError, match=f"no connection to {domain}: ") as caught:
                await transport.send("POST", "/x", body=b"{}", fresh=True)
    assert caught.value.code is ErrorCode.NOT_CONNECTED
    assert "object at 0x" not in caught.value.message


async def test_an_unknown_host_is_not_sent() -> None:
    """A name that can't be resolved: nothing was sent."""
    async with signed("http://api.invalid", Timeouts()) as transport:
        with pytest.raises(NotSentError, match=r"no connection to http://api\.invalid"):
            await transport.send("POST", "/x", body=b"{}", fresh=True)


@pytest.mark.parametrize("stub", ["http"], indirect=True)
async def test_a_failed_tls_handshake_is_not_sent(stub: StubApi) -> None:
    """No handshake, no request."""
    async with signed(stub.url.replace("http:", "https:"), SHORT) as transport:
        with pytest.raises(NotSentError):
            await transport.send("POST", "/x", body=b"{}", fresh=True)
    assert not stub.recorded


async def test_waiting_in_vain_for_a_free_connection_is_not_sent(stub: StubApi) -> None:
    """With every connection busy the request ends after the pool and connect timeouts."""
    stub.default = Answer(then="hang")
    timeouts = Timeouts(connect=0.1, read=60, write=60, pool=0.1)
    async with signed(stub.url, timeouts, connections=1) as transport:
        busy = asyncio.create_task(transport.send("GET", "/busy"))
        while not stub.recorded:
            await asyncio.sleep(0.01)
        started = time.monotonic()
        with pytest.raises(NotSentError, match="in time"):
            await transport.send("POST", "/x", body=b"{}")
        assert time.monotonic() - started < AT_ONCE_SECONDS
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)


@asynccontextmanager
async def no_connection_free(
    stub: StubApi, transport: Transport, *, fresh: bool
) -> AsyncIterator[None]:
    """Holds a connection of a transport that may have no other."""
    stub.default = Answer(then="hang")
    holding = asyncio.create_task(transport.send("GET", "/busy", fresh=fresh))
    while not stub.recorded:
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)


@pytest.mark.parametrize("fresh", [False, True])
async def test_a_deadline_shortens_the_wait_of_its_own_request_alone(
    stub: StubApi, *, fresh: bool
) -> None:
    async with signed(stub.url) as transport:
        with pytest.raises(NotSentError):
            await transport.send("GET", "/late", fresh=fresh, within_seconds=1e-9)
        await transport.send("GET", "/next", fresh=fresh)
    assert [each.target for each in stub.recorded] == ["/v2/public/next"]


@pytest.mark.parametrize("fresh", [False, True])
async def test_who_waits_for_a_connection_past_the_deadline_is_late_and_never_sent(
    stub: StubApi, *, fresh: bool
) -> None:
    """The timeouts would let it wait an hour; and the API has shown no weakness."""

    async def works() -> bool:
        return True

    breaker = CircuitBreaker(works, failures=1, minimum_seconds=1, maximum_seconds=1)
    timeouts = Timeouts(pool=3600)
    async with signed(stub.url, timeouts, connections=1) as transport:
        waits = asyncio.timeout(PATIENCE_SECONDS)
        async with no_connection_free(stub, transport, fresh=fresh), waits:
            gate = ThrottledTransport(transport, None, breaker).until(time.time() + 0.3)
            with pytest.raises(DeadlineExceededError):
                await gate.send("POST", "/late", body=b"{}", fresh=fresh)
        stub.default = reply(200, b"null")
        later = gate.until(time.time() + PATIENCE_SECONDS)
        await later.send("POST", "/later", body=b"{}", fresh=fresh)
    sent = [recorded.target.rpartition("/")[2] for recorded in stub.recorded]
    assert sent == ["busy", "later"]
    assert breaker._prober is None


async def test_a_call_that_was_sent_before_the_deadline_is_let_finish(stub: StubApi) -> None:
    stub.default = replace(reply(200, b"null"), delay_seconds=0.6)
    async with signed(stub.url, Timeouts()) as transport:
        gate = ThrottledTransport(transport, None, None).until(time.time() + 0.3)
        assert (await gate.send("POST", "/x", body=b"{}")).status == 200


async def test_a_stalled_upload_ends(stub: StubApi) -> None:
    """A server that does not read can't hold a place for ever."""
    with StubApi(reads=False, receive_buffer_bytes=4096, tls=stub.tls) as deaf:
        async with signed(deaf.url, SHORT) as transport:
            started = time.monotonic()
            with pytest.raises(ConnectionLostError, match="did not take the request in time"):
                await transport.send("POST", "/x", body=bytes(30_000_000), fresh=True)
            assert time.monotonic() - started < 0.3 + AT_ONCE_SECONDS


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(
    "raw", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n[1,"], ids=["silent", "stalled"]
)
async def test_a_silent_server_is_waited_for_as_long_as_the_read_timeout_says(
    stub: StubApi, raw: bytes, *, fresh: bool
) -> None:
    """No other timeout may stand in for it."""
    stub.default = Answer(raw, "hang")
    timeouts = Timeouts(connect=60, read=0.3, write=60, pool=60)
    async with signed(stub.url, timeouts) as transport:
        started = time.monotonic()
        with pytest.raises(ConnectionLostError, match="did not answer in time"):
            await transport.send("POST", "/x", body=b"{}", fresh=fresh)
        assert 0.3 <= time.monotonic() - started < 0.3 + AT_ONCE_SECONDS


@pytest.mark.parametrize("fresh", [False, True])
async def test_a_trickling_answer_ends_with_all_timeouts_together(
    stub: StubApi, *, fresh: bool
) -> None:
    """Each byte begins the read timeout anew; the whole exchange has an end all the same."""
    stub.default = Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", "trickle")
    async with signed(stub.url, SHORT) as transport:
        started = time.monotonic()
        with pytest.raises(ConnectionLostError, match="longer than all its timeouts"):
            await transport.send("POST", "/x", body=b"{}", fresh=fresh)
        assert 1.3 < time.monotonic() - started < 1.4 + AT_ONCE_SECONDS


async def test_a_large_body_arrives_whole_and_signed(stub: StubApi) -> None:
    """A body that is written in pieces is still one body of a stated length."""
    bodies = [(bytes(range(256)) * 20_000)[:size] for size in (65_536, 65_537, 5_120_000)]
    async with signed(stub.url, Timeouts()) as transport:
        for body in bodies:
            for fresh in (False, True):
                await transport.send("POST", "/x", body=body, fresh=fresh)
    assert [recorded.body for recorded in stub.recorded] == [each for each in bodies for _ in "12"]
    for recorded in stub.recorded:
        assert "transfer-encoding" not in recorded.headers
        check_signature(recorded, KEY.public_key())


async def test_a_long_poll_may_answer_later_than_the_read_timeout(stub: StubApi) -> None:
    """The read timeout of one request can be its own."""
    stub.default = Answer(then="hang")
    started = time.monotonic()
    async with signed(stub.url, Timeouts(read=0.3)) as transport:
        with pytest.raises(ConnectionLostError):
            await transport.send("GET", "/poll", read_timeout_seconds=0.8)
    assert 0.7 < time.monotonic() - started < 0.8 + AT_ONCE_SECONDS


async def test_a_reply_that_is_too_large_is_not_kept(stub: StubApi) -> None:
    """Memory is bounded; the status still decides where it says enough."""
    stub.answers.extend([reply(200, bytes(2000)), reply(404, bytes(2000)), reply(200, bytes(1000))])
    async with signed(stub.url, reply_limit_bytes=1000) as transport:
        with pytest.raises(BadResponseError, match="larger than 1000 bytes; TRAINMASTER_REPLY_LI"):
            await transport.send("GET", "/x")
        with pytest.raises(RequestRefusedError):
            await transport.send("GET", "/x")
        assert len((await transport.send("GET", "/x")).body) == 1000


async def test_a_reply_that_is_told_to_be_too_large_is_not_waited_for(stub: StubApi) -> None:
    """Of what its length promises no more is read than may be kept."""
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n"
    stub.default = Answer(head + b" " * 2_000, "hang")
    async with signed(stub.url, Timeouts(read=30), reply_limit_bytes=1_000) as transport:
        with pytest.raises(BadResponseError, match="larger than 1000 bytes"):
            await transport.send("GET", "/ml-models")


@pytest.mark.parametrize("status", [429, 503])
async def test_no_wait_is_longer_than_the_setting_allows(stub: StubApi, status: int) -> None:
    stub.default = reply(status, b"", retry_after="86400")
    async with Transport(stub.url, RequestSigner(KEY), longest_wait_seconds=7) as transport:
        with pytest.raises(RetryableError) as caught:
            await transport.send("GET", "/ml-models")
    assert caught.value.retry_after_seconds == 7


@pytest.mark.parametrize("coding", ["gzip", "deflate", "gzip, gzip", "gzip, deflate", "X-GZIP"])
async def test_a_packed_reply_is_bounded_by_what_it_unfolds_to(stub: StubApi, coding: str) -> None:
    """A few kilobytes may hold gigabytes, above all when they are packed twice."""

    def packed(body: bytes) -> bytes:
        for each in coding.split(", "):
            body = zlib.compress(body) if each == "deflate" else gzip.compress(body)
        return body

    stub.answers.extend([
        reply(200, packed(bytes(100_000_000)), content_encoding=coding),
        reply(200, packed(b"[1, 2]"), content_encoding=coding),
    ])
    async with signed(stub.url, Timeouts(), reply_limit_bytes=1_000_000) as transport:
        tracemalloc.start()
        try:
            with pytest.raises(BadResponseError, match="larger than 1000000 bytes"):
                await transport.send("GET", "/x")
            assert tracemalloc.get_traced_memory()[1] < 10_000_000
        finally:
            tracemalloc.stop()
        assert (await transport.send("GET", "/x")).body == b"[1, 2]"


@pytest.mark.parametrize("packed", [False, True])
async def test_of_a_failure_only_its_beginning_is_read(stub: StubApi, *, packed: bool) -> None:
    """Nobody reads a message of megabytes, and the status says what happened."""
    body = b'{"message": "' + b"x" * 40_000_000 + b'"}'
    coding = {"content_encoding": "gzip"} if packed else {}
    stub.default = reply(400, gzip.compress(body) if packed else body, **coding)
    async with signed(stub.url, Timeouts()) as transport:
        tracemalloc.start()
        try:
            with pytest.raises(RequestRefusedError) as caught:
                await transport.send("GET", "/x")
            assert tracemalloc.get_traced_memory()[1] < 4_000_000
        finally:
            tracemalloc.stop()
    assert caught.value.status == 400
    assert len(caught.value.message) <= 1000
    # What the sockets' buffers hold was sent and not read.
    assert stub.sent_bytes < 20_000_000


@pytest.mark.parametrize("coding", ["gzip, gzip, gzip", "br", "zstd"])
async def test_a_coding_that_was_not_asked_for_is_a_bad_response(
    stub: StubApi, coding: str
) -> None:
    stub.default = reply(200, b"[]", content_encoding=coding)
    async with signed(stub.url) as transport:
        with pytest.raises(BadResponseError, match="can't be decompressed"):
            await transport.send("GET", "/x")


async def test_a_status_counts_even_if_its_body_breaks_off(stub: StubApi) -> None:
    """A 429 stays a 429, with its Retry-After, when the connection dies after the head."""
    stub.default = Answer(
        b"HTTP/1.1 429 Slow down\r\nretry-after: 7\r\ncontent-length: 99\r\n\r\n{", "close"
    )
    async with signed(stub.url) as transport:
        with pytest.raises(RateLimitedError) as caught:
            await transport.send("GET", "/x")
    assert caught.value.retry_after_seconds == 7


async def test_compressed_replies_are_read(stub: StubApi) -> None:
    """The body is decompressed."""
    stub.default = reply(200, gzip.compress(b'{"a": 1}'), content_encoding="gzip")
    async with signed(stub.url) as transport:
        response = await transport.send("GET", "/x")
    assert response.body == b'{"a": 1}'
    assert stub.recorded[0].headers["accept-encoding"] == "gzip, deflate"


async def test_every_request_carries_the_headers_of_the_api(stub: StubApi) -> None:
    """Signature, user agent, trace context and content type; no cookie is ever sent back."""
    stub.default = reply(204, set_cookie="a=b; path=/")
    # Of an address, which an API in use has none of, no client keeps a cookie.
    url = stub.url.replace("127.0.0.1", "localhost")
    async with signed(url) as transport:
        await transport.send("GET", "/x")
        await transport.send("POST", "/x", body=b"{}")
    first, second = (each.headers for each in stub.recorded)
    assert first["user-agent"] == "trainmaster"
    assert first["host"] == url.partition("://")[2]
    assert "content-type" not in first
    assert second["content-type"] == "application/json"
    assert "cookie" not in second
    for headers in (first, second):
        trace, _, options = headers["x-cloud-trace-context"].partition("/")
        assert len(bytes.fromhex(trace)) == 16
        assert options == "1;o=1"
    assert first["x-cloud-trace-context"] != second["x-cloud-trace-context"]
    for recorded in stub.recorded:
        check_signature(recorded, KEY.public_key())


@settings(max_examples=10)
@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40)), min_size=10, max_size=10))
async def test_a_target_leaves_as_it_was_signed(asked: list[tuple[str, str]]) -> None:
    """Whatever a page token holds, the path on the wire is the one in the signature."""
    signer = RequestSigner(KEY, clock=lambda: 1.0)
    with StubApi() as stub:
        async with Transport(stub.url, signer) as transport:
            for token, query in asked:
                await transport.send("GET", "/x", query=[("query", query), ("pageToken", token)])
    assert len(stub.recorded) == len(asked)
    for recorded in stub.recorded:
        expected = signer.headers("GET", recorded.target, b"")
        assert recorded.headers["signature"] == expected["Signature"]


async def test_an_echoed_token_is_cut_out_of_the_message(stub: StubApi) -> None:
    """The secret does not reach an error, not even by way of the API."""
    stub.default = reply(400, b'{"message": "bad header Bearer s3cret"}')
    transport = Transport(stub.url, BearerToken("s3cret"))
    async with transport:
        with pytest.raises(RequestRefusedError) as caught:
            await transport.send("GET", "/x")
    assert stub.recorded[0].headers["authorization"] == "Bearer s3cret"
    assert caught.value.message == "bad header Bearer …"
    assert "s3cret" not in repr(transport)


async def test_retry_after_may_be_seconds_or_a_date(stub: StubApi) -> None:
    """Seconds as they are; a date against the reply's own clock."""
    now = 1_700_000_000
    stub.answers.extend([
        reply(429, retry_after="12"),
        reply(503, retry_after=formatdate(now + 90, usegmt=True), date=formatdate(now)),
        reply(429),
    ])
    seen = []
    async with signed(stub.url) as transport:
        for _ in range(3):
            with pytest.raises(RetryableError) as caught:
                await transport.send("GET", "/x")
            seen.append(caught.value.retry_after_seconds)
    assert seen == [12, 90, None]


@pytest.mark.parametrize(
    ("domain", "says"),
    [
        ("", "must be a URL"),
        ("api.encord.com", "must be a URL"),
        ("ftp://api.encord.com", "must be a URL"),
        ("https://", "must be a URL"),
        ("https://me:s3cret@api.encord.com", "no password"),
        ("https://api.encord.com?x=1", "no query"),
        ("https://api.encord.com:port", "is not a URL"),
        # It would be asked on another port, the rest of a division by 65,536.
        ("https://api.encord.com:99999", "is not a URL"),
        ("https://api.encord.com:0", "is not a URL"),
        ("https://xn--/", "is not a URL"),
        ("https://api encord com", "is not a URL"),
    ],
)
async def test_a_domain_that_can_not_be_asked_is_a_bad_setting(domain: str, says: str) -> None:
    """One line that names the setting and shows no secret."""
    with pytest.raises(SettingError, match=rf"^ENCORD_DOMAIN .*{says}") as caught:
        signed(domain)
    assert "s3cret" not in str(caught.value)


async def test_a_domain_may_end_in_a_slash_and_hold_a_path(stub: StubApi) -> None:
    """A trailing slash is stripped, a path in front of the API is kept."""
    for domain in (stub.url, f"{stub.url}/", f"{stub.url}/gateway/"):
        async with signed(domain) as transport:
            await transport.send("GET", "/ml-models")
    assert [each.target for each in stub.recorded] == [
        "/v2/public/ml-models",
        "/v2/public/ml-models",
        "/gateway/v2/public/ml-models",
    ]


async def test_the_usual_proxy_is_found_but_never_for_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """HTTPS_PROXY and NO_PROXY count, and the sandbox is always asked directly."""
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "internal.example")
    assert environment_proxy("https://api.encord.com") == "http://proxy:3128"
    assert environment_proxy("https://internal.example") is None
    assert environment_proxy("http://127.0.0.1:8080") is None
    assert environment_proxy("http://localhost:8080") is None


@pytest.mark.parametrize(
    ("value", "proxy"),
    [
        ("proxy.example:3128", "http://proxy.example:3128"),
        ("me:s3cret@proxy.example:3128", "http://me:s3cret@proxy.example:3128"),
        ("[::1]:3128", "http://[::1]:3128"),
        (" https://proxy.example ", "https://proxy.example"),
        ("", None),
        ("socks5://me:s3cret@proxy.example:1080", SettingError),
        ("socks5h://proxy.example:1080", SettingError),
        ("http://", SettingError),
        ("http://me:s3cret@proxy.example:port", SettingError),
        ("http://me:s3cret@proxy.example:99999", SettingError),
        ("http://me:s3cret@xn--:3128", SettingError),
        ("http://me:s3cret@proxy example:3128", SettingError),
    ],
)
@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "ALL_PROXY"])
async def test_a_proxy_is_taken_as_people_write_it_or_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, proxy: object
) -> None:
    for each in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, value)
    if proxy is not SettingError:
        assert environment_proxy("https://api.encord.com") == proxy
        return
    with pytest.raises(SettingError, match=name.upper()) as caught:
        environment_proxy("https://api.encord.com")
    assert "s3cret" not in str(caught.value)


async def test_a_request_goes_through_the_proxy(stub: StubApi) -> None:
    """A proxy gets the whole address; the signature covers the path alone, as the API sees it."""
    transport = Transport("http://api.example", RequestSigner(KEY), proxy=stub.url)
    async with transport:
        await transport.send("GET", "/x")
    assert stub.recorded[0].target == "http://api.example/v2/public/x"


async def test_a_closed_transport_can_be_used_again(stub: StubApi) -> None:
    """Closing leaves nothing open and nothing broken."""
    transport = signed(stub.url)
    for _ in range(2):
        await transport.send("GET", "/x")
        await transport.aclose()
    assert len(stub.recorded) == 2
