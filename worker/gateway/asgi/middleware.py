"""What every request passes before it is routed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, urlencode

from worker.gateway.problems import ProblemError, problem_response

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Of a page that is opened in a browser: it may load nothing from elsewhere and run nothing.
SECURITY_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; style-src 'self'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


OTHER: Final = "other"
# Who asked was gone before there was an answer.
_NO_STATUS: Final = "none"
_BY_QUERY: Final = re.compile(r"/v1/(command|backfill|dead-letter|delivery/[^/]+)(/.*)?")
_METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


class RawPaths:
    """Routes by the path as it was sent, so that an id may hold a slash as `%2F`.

    Decoded first, `a%2Fcancel` would be the cancellation of `a`, and `%2e%2e` would climb. Browsers
    and many a client climb all the same, so `/v1/command/events?id=..` is the events of that id.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] == "http":
            path = scope["raw_path"].decode("ascii", "replace")
            found = _BY_QUERY.fullmatch(path)
            scope["path"] = path if found is None else _with_id(scope, found)
        await self._app(scope, receive, send)


def _with_id(scope: Scope, found: re.Match[str]) -> str:
    """Returns the path of what a query names by its `id`, which is taken out of the query."""
    # Bytes that are not UTF-8 stay as they are, for the route to refuse.
    lossless = "surrogateescape"
    query = parse_qsl(
        scope["query_string"].decode("ascii", "replace"), keep_blank_values=True, errors=lossless
    )
    ids = [value for name, value in query if name == "id"]
    if len(ids) != 1 or not ids[0]:
        return found[0]
    rest = urlencode([(name, value) for name, value in query if name != "id"], errors=lossless)
    scope["query_string"] = rest.encode("ascii")
    kind, _, source = found[1].partition("/")
    # A delivery is named by its source too.
    place = f"{kind}s" if not source else f"deliveries/{source}"
    return f"/v1/{place}/{quote(ids[0], safe='', errors=lossless)}{found[2] or ''}"


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


class CountedRequests:
    """Counts requests by method, the pattern that their path fits, and the answer's status.

    Args:
        app: answers them.
        count: is told of each.
        own_paths: of what answers without a route.
    """

    def __init__(
        self, app: ASGIApp, count: Callable[[str, str, str], None], own_paths: Collection[bytes]
    ) -> None:
        self._app = app
        self._count = count
        self._own_paths = own_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on and counts it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = _NO_STATUS

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else OTHER
            self._count(method, self._route_of(scope), status)

    def _route_of(self, scope: Scope) -> str:
        route = scope.get("route")
        if route is not None:
            return str(route.path)
        path = scope["raw_path"]
        return path.decode() if path in self._own_paths else OTHER
