"""Acts whose answer got lost: who asks again under the same key is told the first answer.

A browser sends a request once more by itself where a kept connection ends without an answer, and
people click again. Most acts are the same done twice; a replay that makes everything once more, or
that takes the next of several dead letters, is not.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from worker.gateway.access.tokens import Scope
from worker.gateway.json_bodies import MAX_JSON_BYTES
from worker.gateway.keys import answer_key
from worker.gateway.problems import ProblemError
from worker.gateway.requests.bodies import Bounds, read_body
from worker.gateway.requests.text import idempotency_key
from worker.queue.ledger.connection import PASSING_TROUBLE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from starlette.types import Message

    from worker.gateway.access.callers import Caller
    from worker.gateway.gateway import Gateway

    Handler = Callable[[Request], Coroutine[Any, Any, Response]]

# An act is over by then, or the process that did it has ended.
BEGUN_SECONDS: Final = 120
# Whoever asks again does so sooner.
KEPT_SECONDS: Final = 600
# So long the second of two waits for the answer to the first.
WAIT_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.1
_MOST_CHARACTERS: Final = 255
METHODS: Final = frozenset({"POST", "DELETE"})
# Of such a route in the OpenAPI document, until that says so in words.
MARK: Final = "x-act"


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
    kept = _Kept(gateway, _name(request, caller), hashlib.sha256(body).hexdigest().encode())
    if not await kept.begin():
        await gateway.rates.take(request, caller)
        return await kept.answer()
    try:
        response = await act(_with_body(request, body))
    except ProblemError:
        # Refused, it did nothing. What Redis' trouble broke off may have been done: that stays.
        with suppress(*PASSING_TROUBLE):
            await kept.forget()
        raise
    with suppress(*PASSING_TROUBLE):
        await kept.keep(response)
    return response


class _Kept:
    """What Redis has of an act: that it was begun, then its answer.

    Args:
        gateway: that does it.
        name: of the act.
        digest: of its body.
    """

    def __init__(self, gateway: Gateway, name: str, digest: bytes) -> None:
        self._redis = gateway.redis
        self._key = answer_key(gateway.keys, name)
        self._digest = digest

    async def begin(self) -> bool:
        """Notes that the act begins; returns whether it had not begun before."""
        return bool(await self._redis.set(self._key, self._digest, nx=True, ex=BEGUN_SECONDS))

    async def keep(self, response: Response) -> None:
        said = {
            "status": response.status_code,
            "headers": {
                name: value for name, value in response.headers.items() if name != "content-length"
            },
            "body": bytes(response.body).decode(),
        }
        await self._redis.set(self._key, self._digest + orjson.dumps(said), ex=KEPT_SECONDS)

    async def forget(self) -> None:
        await self._redis.delete(self._key)

    async def answer(self) -> Response:
        """Returns the answer of an act that was begun before.

        Raises:
            ProblemError: the key was used for something else, or there is no answer yet.
        """
        give_up_at = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < give_up_at:
            if (said := await self._look()) is not None:
                return Response(said["body"], said["status"], headers=said["headers"])
            await asyncio.sleep(_LOOK_SECONDS)
        raise _not_answered()

    async def _look(self) -> Mapping[str, Any] | None:
        stored = cast("bytes | None", await self._redis.get(self._key))
        if stored is None:
            # The first one was refused, or its process has ended.
            raise _not_answered()
        digest, said = stored[: len(self._digest)], stored[len(self._digest) :]
        if digest != self._digest:
            raise ProblemError(
                422,
                "idempotency_conflict",
                "The Idempotency-Key was used with another body; each act has a key of its own.",
            )
        return cast("dict[str, Any]", orjson.loads(said)) if said else None


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
