"""One call of an operation: body, faults, authentication, handler, answer, in this order.

Everything that can happen to a call on the wire happens here, so that handlers only know of
values, and errors become answers in one place.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import orjson
from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from sandbox.errors import ApiError, TooLargeError
from sandbox.faults import CommitThenFail, Reset, Status, Truncated, Verdict
from sandbox.serialization import Reply

if TYPE_CHECKING:
    from pydantic import JsonValue
    from starlette.types import Receive, Scope, Send

    from sandbox.authentication import Authenticator
    from sandbox.call_log import CallLog, Outcome
    from sandbox.faults import Faults, Operation

_log = logging.getLogger(__name__)

TRANSPORT_EXTENSION = "sandbox.transport"
"""Where the server puts a connection's transport in the scope; a reset needs it."""

_NOT_CARRIED_OUT = Reply(0)
"""Never sent: the fault's own answer takes its place."""
_BROKEN = Reply(500, b'{"message":"the sandbox broke, see its log"}')
_JSON = "application/json"
_BODILESS = (204, 304)
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER on with 0 seconds: closing sends RST in place of FIN."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler gets to see of a request."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    domain: str
    verdict: Verdict


Handler: TypeAlias = Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class RequestPipeline:
    """What every call passes."""

    faults: Faults
    call_log: CallLog
    authenticator: Authenticator
    body_limit_bytes: int


class Endpoint:
    """An operation as an ASGI application."""

    def __init__(self, operation: Operation, handler: Handler, pipeline: RequestPipeline) -> None:
        self._operation = operation
        self._handler = handler
        self._pipeline = pipeline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carries a call out, or lets a fault happen to it."""
        self._pipeline.call_log.begin(self._operation)
        outcome: Outcome = "reset"
        created = None
        try:
            verdict = self._pipeline.faults.judge(self._operation)
            reply = await self._reply(scope, receive, verdict)
            created = reply.created
            outcome = await _answer(scope, receive, send, reply, verdict)
        finally:
            self._pipeline.call_log.end(self._operation, outcome, created)

    async def _reply(self, scope: Scope, receive: Receive, verdict: Verdict) -> Reply:
        try:
            body = await _read(receive, self._pipeline.body_limit_bytes)
            await asyncio.sleep(verdict.wait_before_seconds)
            if not verdict.carried_out:
                return _NOT_CARRIED_OUT
            reply = await self._carry_out(scope, body, verdict)
        except ApiError as exc:
            reply = refusal(exc)
        except Exception:  # noqa: BLE001 - logged and answered with 500, as a server does
            _log.exception("%s broke", self._operation)
            reply = _BROKEN
        if verdict.wait_after_seconds:
            await asyncio.sleep(verdict.wait_after_seconds)
        return reply

    async def _carry_out(self, scope: Scope, body: bytes, verdict: Verdict) -> Reply:
        headers = Headers(scope=scope)
        query = scope["query_string"].decode("latin-1")
        path = scope["raw_path"].decode("latin-1")
        target = f"{path}?{query}" if query else path
        self._pipeline.authenticator.check(scope["method"], target, headers, body)
        call = Call(
            path=scope["path_params"],
            query=QueryParams(query),
            body=body,
            domain=f"{scope['scheme']}://{headers.get('host', '')}",
            verdict=verdict,
        )
        return await self._handler(call)


def refusal(error: ApiError) -> Reply:
    """Returns an error as an answer."""
    return Reply(error.status, orjson.dumps(error.body()))


async def _read(receive: Receive, limit_bytes: int) -> bytes:
    """Returns the whole body; reads on past the limit, so that the client sees the answer."""
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        part: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(part)
        if size <= limit_bytes:
            parts.append(part)
    if size > limit_bytes:
        text = f"the body is over {limit_bytes} bytes"
        raise TooLargeError(text)
    return b"".join(parts)


async def _answer(
    scope: Scope, receive: Receive, send: Send, reply: Reply, verdict: Verdict
) -> Outcome:
    match verdict.failure:
        case Reset() | CommitThenFail(status=None):
            await _reset(scope, receive)
            return "reset"
        case Truncated() if reply.body:
            await _send_half(scope, send, reply)
            return "truncated"
        case Status(status=int(status)) | CommitThenFail(status=int(status)):
            body = b"" if status in _BODILESS else _fault_body(verdict.failure.body)
            answer = Response(body, status, verdict.failure.headers, media_type=_JSON)
        case _:
            media_type = _JSON if reply.body else None
            answer = Response(reply.body, reply.status, media_type=media_type)
    await answer(scope, receive, send)
    return answer.status_code


async def _reset(scope: Scope, receive: Receive) -> None:
    transport: asyncio.Transport = scope["extensions"][TRANSPORT_EXTENSION]["transport"]
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    transport.abort()
    # The server would answer 500 for us if we returned before it saw the end of the connection.
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_half(scope: Scope, send: Send, reply: Reply) -> None:
    headers = [
        (b"content-type", _JSON.encode()),
        (b"content-length", str(len(reply.body)).encode()),
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    half = reply.body[: len(reply.body) // 2]
    await send({"type": "http.response.body", "body": half, "more_body": True})
    scope["extensions"][TRANSPORT_EXTENSION]["transport"].close()


def _fault_body(body: JsonValue) -> bytes:
    if body is None:
        return orjson.dumps({"message": "a fault rule says so"})
    return body.encode() if isinstance(body, str) else orjson.dumps(body)
