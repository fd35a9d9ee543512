"""Acts whose answer got lost: who asks again under the same key is told the first answer.

A browser sends a request once more by itself where a kept connection ends without an answer, and
people click again. Most acts are the same done twice; a replay that makes everything once more, or
that takes the next of several dead letters, is not.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import orjson
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from worker.gateway.access.tokens import Scope
from worker.gateway.gateway import ACT_OUTCOME, ActOutcome
from worker.gateway.json_bodies import MAX_JSON_BYTES
from worker.gateway.keys import answer_key
from worker.gateway.problems import ProblemError
from worker.gateway.requests.bodies import Bounds, read_body
from worker.gateway.requests.text import idempotency_key
from worker.queue.ledger.connection import PASSING_TROUBLE
from worker.queue.ledger.lua import load_script
from worker.queue.ledger.redis_retry import next_pause
from worker.queue.ledger.refusals import is_brief

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from starlette.types import Message

    from worker.gateway.access.callers import Caller
    from worker.gateway.gateway import Gateway

    Handler = Callable[[Request], Coroutine[Any, Any, Response]]

T = TypeVar("T")

# Whoever asks again does so sooner. So long, too, an act is known whose process ended in its
# middle: the page asks for it again for as long as two minutes after it heard so.
KEPT_SECONDS: Final = 600
# Longer than the pause between two looks of who waits for the first answer.
REFUSED_SECONDS: Final = 5
# So long the second of two waits for the answer to the first.
WAIT_SECONDS: Final = 20.0
# So long a Redis that comes back is waited for, before the act and after it.
PATIENCE_SECONDS: Final = 1.0
_FIRST_LOOK_SECONDS: Final = 0.1
_LAST_LOOK_SECONDS: Final = 1.0
_LOOKS_GROW: Final = 1.5
_MOST_CHARACTERS: Final = 255
METHODS: Final = frozenset({"POST", "DELETE"})
# Of such a route in the OpenAPI document, until that says so in words.
MARK: Final = "x-act"
# What is raised before anything is done, or says by `ActOutcome` whether it was.
_TOLD: Final = (ProblemError, HTTPException, RequestValidationError, *PASSING_TROUBLE)
# How an act stands, between the digest of its body and what follows.
_BEGUN: Final = b"b"
_ANSWERED: Final = b"a"
_BROKEN_OFF: Final = b"?"
_REFUSED: Final = b"-"


class ActRoute(APIRoute):
    """A route whose acts are done once for each `Idempotency-Key` of a caller."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if METHODS & (self.methods or set()):
            self.openapi_extra = {**(self.openapi_extra or {}), MARK: True}

    def get_route_handler(self) -> Handler:
        """Returns what answers requests."""
        act = super().get_route_handler()

        async def answer(request: Request) -> Response:
            if request.method not in METHODS or "idempotency-key" not in request.headers:
                return await act(request)
            return await _once(request, act)

        return answer


async def _once(request: Request, act: Handler) -> Response:
    gateway: Gateway = request.app.state.gateway
    caller = await gateway.access.caller(request, Scope.OPERATE)
    settings = gateway.settings
    most = min(MAX_JSON_BYTES, settings.gateway_body_bytes)
    body = await read_body(request, Bounds(most, settings.gateway_body_seconds))
    kept = _Kept(gateway, _name(request, caller), body)
    known = await kept.begin()
    if known is not None:
        await gateway.rates.take(request, caller)
        answer = await gateway.access.while_allowed(caller, kept.answer(known))
        if answer is not None:
            return answer
    return await _begun(kept, lambda: act(_with_body(request, body)))


async def _begun(kept: _Kept, act: Callable[[], Awaitable[Response]]) -> Response:
    """Does an act and keeps its answer, if it did anything."""
    outcome = ActOutcome()
    before = ACT_OUTCOME.set(outcome)
    try:
        response = await act()
    except Exception as exc:
        # A defect of ours says nothing of what was done before it.
        is_refused = isinstance(exc, _TOLD) and not outcome.may_be_done
        await kept.end(_REFUSED if is_refused else _BROKEN_OFF)
        raise
    finally:
        ACT_OUTCOME.reset(before)
    # Dry runs are many, and their answers large.
    await kept.end(_ANSWERED if outcome.may_be_done else _REFUSED, response)
    return response


class _Kept:
    """What Redis has of an act: that it was begun, then its answer.

    Args:
        gateway: that does it.
        name: of the act.
        body: that it came with.
    """

    def __init__(self, gateway: Gateway, name: str, body: bytes) -> None:
        self._key = answer_key(gateway.keys, name)
        self._digest = hashlib.sha256(body).hexdigest().encode()
        # Nobody else's: a call whose reply was lost is made again.
        self._mine = self._digest + _BEGUN + secrets.token_hex(8).encode()
        self._begin_script = load_script(gateway.redis, "begin_act", "worker.gateway")
        self._end_script = load_script(gateway.redis, "end_act", "worker.gateway")

    async def begin(self, *, once_refused: bool = False) -> bytes | None:
        """Notes that the act begins; returns what is kept of it where it was begun before.

        Args:
            once_refused: whether it begins only if it was refused meanwhile. What is not there
                any more may have been done.
        """
        args: list[str | bytes | int] = [self._mine, KEPT_SECONDS, int(once_refused)]
        found = await _patiently(lambda: self._begin_script(keys=[self._key], args=args))
        return cast("bytes | None", found)

    async def end(self, mark: bytes, response: Response | None = None) -> None:
        """Notes what became of the act that was begun, if Redis takes that."""
        seconds, kept = KEPT_SECONDS, self._digest + mark
        if mark == _REFUSED:
            seconds, kept = REFUSED_SECONDS, mark
        elif response is not None:
            kept += _packed(response)
        args: list[str | bytes | int] = [self._mine, kept, seconds]
        with suppress(*PASSING_TROUBLE):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await _patiently(lambda: self._end_script(keys=[self._key], args=args))

    async def answer(self, known: bytes) -> Response | None:
        """Returns the answer of an act that was begun before; None where it begins now.

        Args:
            known: what is kept of it.

        Raises:
            ProblemError: the key was used for something else, or there is no answer.
        """
        give_up_at = time.monotonic() + WAIT_SECONDS
        pause = _FIRST_LOOK_SECONDS
        while True:
            mark, said = self._read(known)
            if mark == _ANSWERED:
                return _unpacked(said)
            if mark != _BEGUN or time.monotonic() > give_up_at:
                raise _not_answered()
            await asyncio.sleep(pause)
            pause = min(_LAST_LOOK_SECONDS, pause * _LOOKS_GROW)
            found = await self.begin(once_refused=True)
            if found is None:
                return None
            known = found

    def _read(self, known: bytes) -> tuple[bytes, bytes]:
        if not known:
            return _BROKEN_OFF, b""
        size = len(self._digest)
        if known[:size] != self._digest:
            raise ProblemError(
                422,
                "idempotency_conflict",
                "The Idempotency-Key was used with another body; each act has a key of its own.",
            )
        return known[size : size + 1], known[size + 1 :]


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Returns what a call of Redis returns that may be made again."""
    until = time.monotonic() + PATIENCE_SECONDS
    pause = 0.0
    while True:
        try:
            return await call()
        except PASSING_TROUBLE as exc:
            pause = next_pause(pause)
            if not is_brief(exc) or time.monotonic() + pause > until:
                raise
            await asyncio.sleep(pause)


def _packed(response: Response) -> bytes:
    headers = {name: value for name, value in response.headers.items() if name != "content-length"}
    body = bytes(response.body).decode()
    return orjson.dumps({"status": response.status_code, "headers": headers, "body": body})


def _unpacked(said: bytes) -> Response:
    found = orjson.loads(said)
    return Response(found["body"], found["status"], headers=found["headers"])


def _name(request: Request, caller: Caller) -> str:
    key = idempotency_key(request) or ""
    if not 1 <= len(key) <= _MOST_CHARACTERS:
        raise ProblemError(
            400, "invalid_header", f"Idempotency-Key has 1 to {_MOST_CHARACTERS} characters."
        )
    who = "" if caller.token is None else caller.token.id
    query = request.scope["query_string"].decode("latin-1")
    parts = [who, request.method, request.scope["path"], query, key]
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


def _with_body(request: Request, body: bytes) -> Request:
    """Returns a request whose body is yet to be read."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, receive)


def _not_answered() -> ProblemError:
    return ProblemError(
        409,
        "not_answered_yet",
        "The same was asked for a moment ago and has no answer: look whether it was done before "
        "you ask for it under another key.",
    )
