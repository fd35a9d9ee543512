"""What a request's body holds: one command, many, or a CloudEvent in one of its three modes."""

from __future__ import annotations

import asyncio
import codecs
from contextlib import asynccontextmanager
from enum import Enum
from typing import TYPE_CHECKING, Final

import jiter

from schemas.json_text import encode_json, most_values
from schemas.parsing import MAX_COMMAND_BYTES
from schemas.wording import counted
from worker.gateway.problems import ProblemError
from worker.gateway.requests.text import cloud_event_attributes
from worker.trace_context import TRACEPARENT, TRACESTATE, carried

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import Request

JSON: Final = "application/json"
NDJSON: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl")
CLOUD_EVENT: Final = "application/cloudevents+json"
CLOUD_EVENTS: Final = "application/cloudevents-batch+json"
TAKEN: Final = (JSON, *NDJSON, CLOUD_EVENT, CLOUD_EVENTS)
# What they take in memory together; a body of lines has no such bound, for it is never whole there.
MAX_ARRAY_VALUES: Final = 4_000_000
# Ten of the largest deliveries.
MOST_UNPROVEN_BYTES: Final = 256 * 1024 * 1024


class BodyKind(Enum):
    """How commands stand in a body."""

    ONE_OR_ARRAY = 1
    ARRAY = 2
    LINES = 3
    BINARY = 4


class Bounds:
    """How large a body may be, and how long may pass between two parts of it."""

    def __init__(self, most_bytes: int, idle_seconds: float) -> None:
        self.most_bytes = most_bytes
        self.idle_seconds = idle_seconds


def kind_of(request: Request) -> BodyKind:
    """Returns how commands stand in the body of a request.

    Raises:
        ProblemError: in none of the ways that are taken.
    """
    media_type = media_type_of(request)
    if media_type in NDJSON:
        return BodyKind.LINES
    if media_type == CLOUD_EVENTS:
        return BodyKind.ARRAY
    if media_type == CLOUD_EVENT:
        return BodyKind.ONE_OR_ARRAY
    if "ce-specversion" in request.headers or "ce-type" in request.headers:
        return BodyKind.BINARY
    if media_type == JSON:
        return BodyKind.ONE_OR_ARRAY
    raise ProblemError(
        415,
        "media_type_not_taken",
        f"Send commands with a Content-Type of {', '.join(TAKEN)}, or a CloudEvent in binary mode.",
        headers={"Accept-Post": ", ".join(TAKEN)},
    )


def media_type_of(request: Request) -> str:
    """Returns the media type of a body without its parameters, in lower case.

    Raises:
        ProblemError: it is packed, or text in another encoding than UTF-8.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise ProblemError(415, "encoding_not_taken", "Send the body without Content-Encoding.")
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = _parameter(parameters, "charset")
    if charset not in {None, "utf-8", "utf8", "us-ascii"}:
        raise ProblemError(415, "encoding_not_taken", "Send the body in UTF-8.")
    return media_type.strip().lower()


async def read_body(request: Request, bounds: Bounds) -> bytes:
    """Returns the whole body.

    Raises:
        ProblemError: it is too large, too slow, or ends early.
    """
    parts = [part async for part in read_parts(request, bounds)]
    return b"".join(parts)


class BodyRoom:
    """What the bodies of senders whom nobody knows yet take together in a process.

    Args:
        most_bytes: that they may take.
    """

    def __init__(self, most_bytes: int = MOST_UNPROVEN_BYTES) -> None:
        self._left = most_bytes

    @asynccontextmanager
    async def read(self, request: Request, bounds: Bounds) -> AsyncIterator[bytes]:
        """Reads a whole body, which takes its room for as long as this is entered.

        The bound of a pause is one of all of it here: a byte now and then would hold a connection.

        Raises:
            ProblemError: it is too large, too slow, or ends early, or others have taken the room.
        """
        taken = 0
        try:
            parts: list[bytes] = []
            try:
                async with asyncio.timeout(bounds.idle_seconds):
                    async for part in read_parts(request, bounds):
                        if len(part) > self._left:
                            raise _no_room()
                        self._left -= len(part)
                        taken += len(part)
                        parts.append(part)
            except TimeoutError:
                raise _too_slow(f"The body took more than {bounds.idle_seconds:g} s.") from None
            yield b"".join(parts)
        finally:
            self._left += taken


async def read_parts(request: Request, bounds: Bounds) -> AsyncIterator[bytes]:
    """Yields the body as it comes.

    Raises:
        ProblemError: it is too large, too slow, or ends early.
    """
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > bounds.most_bytes:
        raise _too_large(bounds)
    size = 0
    async for part in _read_endless(request, bounds.idle_seconds):
        size += len(part)
        if size > bounds.most_bytes:
            raise _too_large(bounds)
        if part:
            yield part


async def _read_endless(request: Request, idle_seconds: float) -> AsyncIterator[bytes]:
    more_follows = True
    while more_follows:
        try:
            async with asyncio.timeout(idle_seconds):
                message = await request.receive()
        except TimeoutError:
            told = f"No part of the body came for {idle_seconds:g} s."
            raise _too_slow(told) from None
        if message["type"] == "http.disconnect":
            raise ProblemError(400, "body_incomplete", "The body ended early.")
        more_follows = message.get("more_body", False)
        yield message.get("body", b"")


async def read_lines(request: Request, bounds: Bounds) -> AsyncIterator[list[bytes]]:
    """Yields the lines of a body that are not blank, as many as came at a time, be it none.

    A line that is too long for a command is cut one byte behind that, so that whoever parses it
    says so; its rest is dropped as it comes. The body may have any size: whoever reads counts its
    lines, and what is no line has its bound here.

    Raises:
        ProblemError: too much of it is blank or dropped, it is too slow, or ends early.
    """
    rest = bytearray()
    no_lines = 0
    async for part in _read_endless(request, bounds.idle_seconds):
        no_lines += len(part)
        rest += part[: MAX_COMMAND_BYTES + 1] if b"\n" not in part else part
        *lines, last = bytes(rest).split(b"\n")
        rest = bytearray(last)
        if len(rest) > MAX_COMMAND_BYTES:
            del rest[MAX_COMMAND_BYTES + 1 :]
        found = [line for line in lines if line.strip()]
        no_lines -= sum(map(len, found)) + len(found)
        # What has come of a line that goes on is part of one, unless it is blank so far.
        excess = no_lines - bounds.most_bytes
        if excess > 0 and (excess > len(rest) or not rest.strip()):
            raise _too_blank(bounds)
        yield found
    if bytes(rest).strip():
        yield [bytes(rest)]


def split_array(body: bytes, most: int) -> list[bytes] | None:
    """Returns the elements of a JSON array as JSON, None where the body is something else.

    Raises:
        ProblemError: it is not JSON, or has more elements or values than are taken.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    if not body.lstrip().startswith(b"["):
        return None
    if most_values(body) > MAX_ARRAY_VALUES:
        told = f"The array has more than {MAX_ARRAY_VALUES:,} values; send the commands as NDJSON."
        raise ProblemError(413, "too_large", told, headers={"Connection": "close"})
    try:
        found = jiter.from_json(body, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as exc:
        raise ProblemError(400, "not_json", f"The array is not JSON: {exc}") from None
    if len(found) > most:
        raise too_many_commands(most)
    return [encode_json(each) for each in found]


def too_many_commands(most: int) -> ProblemError:
    """Returns the problem of a request with more commands than one may hold."""
    return ProblemError(
        413,
        "too_many_commands",
        f"A request holds {counted(most, 'command')} at most.",
        headers={"Connection": "close"},
    )


def binary_event(request: Request, body: bytes) -> bytes:
    """Returns the command that a CloudEvent in binary mode is: its attributes are headers.

    Raises:
        ProblemError: its body is not JSON, or a header can't be read.
    """
    event = cloud_event_attributes(request)
    media_type = request.headers.get("content-type", JSON)
    if media_type.partition(";")[0].strip().lower() != JSON:
        raise ProblemError(415, "media_type_not_taken", f"The data of a command are {JSON}.")
    event["datacontenttype"] = media_type
    try:
        # By itself, or what stands behind the data would become attributes.
        jiter.from_json(body or b"null", catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as exc:
        raise ProblemError(400, "not_json", f"The body is not JSON: {exc}") from None
    text = encode_json(event)[:-1]
    return text + b',"data":' + body + b"}" if body.strip() else text + b"}"


def trace_of(request: Request) -> dict[str, str]:
    """Returns W3C's trace context of a request, for commands that name none themselves."""
    headers = request.headers
    if TRACEPARENT not in headers or len(headers.getlist(TRACEPARENT)) > 1:
        return {}
    return carried({
        TRACEPARENT: headers[TRACEPARENT],
        TRACESTATE: ",".join(headers.getlist(TRACESTATE)),
    })


def _parameter(parameters: str, name: str) -> str | None:
    for each in parameters.split(";"):
        key, _, value = each.partition("=")
        if key.strip().lower() == name:
            return value.strip().strip('"').lower()
    return None


def _too_slow(detail: str) -> ProblemError:
    return ProblemError(408, "body_too_slow", detail, headers={"Connection": "close"})


def _no_room() -> ProblemError:
    return ProblemError(
        503,
        "too_many_bodies",
        "Too many large bodies are on their way; send this again later.",
        headers={"Connection": "close", "Retry-After": "5"},
    )


def _too_large(bounds: Bounds) -> ProblemError:
    return ProblemError(
        413,
        "too_large",
        f"The body may have {bounds.most_bytes} bytes; send several, or set "
        "TRAINMASTER_GATEWAY_BODY_BYTES.",
        headers={"Connection": "close"},
    )


def _too_blank(bounds: Bounds) -> ProblemError:
    return ProblemError(
        413,
        "too_large",
        f"More than {bounds.most_bytes} bytes of the body are blank, or of too long lines.",
        headers={"Connection": "close"},
    )
