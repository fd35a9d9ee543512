"""What every request passes before it is routed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.gateway.problems import ProblemError, problem_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Of a page that is opened in a browser: it may load nothing from elsewhere and run nothing.
SECURITY_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; style-src 'self'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


class RawPaths:
    """Routes by the path as it was sent, so that an id may hold a slash as `%2F`.

    Decoded first, `a%2Fcancel` would be the cancellation of `a`, and `%2e%2e` would climb.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] == "http":
            scope["path"] = scope["raw_path"].decode("ascii", "replace")
        await self._app(scope, receive, send)


class Hardening:
    """Adds the headers that browsers need to be careful, and refuses doubled ones of ours."""

    # Two of these would let whoever stands before us and we read different ones.
    _ONCE: Final = (
        b"host",
        b"authorization",
        b"content-type",
        b"idempotency-key",
        b"last-event-id",
    )

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, unless it is refused."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        names = [name for name, _ in scope["headers"]]
        doubled = next((name for name in self._ONCE if names.count(name) > 1), None)
        if doubled is not None:
            error = ProblemError(
                400, "doubled_header", f"The header {doubled.decode()} stands there twice."
            )
            await problem_response(error)(scope, receive, send)
            return

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                said = {name for name, _ in headers}
                rates = scope.get("state", {}).get("rate_headers", {})
                more = [*SECURITY_HEADERS, *((n.encode(), v.encode()) for n, v in rates.items())]
                message["headers"] = [*headers, *(each for each in more if each[0] not in said)]
            await send(message)

        await self._app(scope, receive, add)
