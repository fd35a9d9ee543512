"""One signed request over HTTP.

The head is written here, and goes out as it was signed: neither a client nor a library that quotes
a target anew stands between this and the connection.
"""

from __future__ import annotations

from dataclasses import replace
from random import getrandbits
from typing import TYPE_CHECKING, Protocol, Self
from urllib.parse import urlencode

import httpx

from schemas.events import ErrorCode
from worker.encord.api.api_clock import ApiClock
from worker.encord.api.base_url import parse_domain
from worker.encord.api.error_responses import LONGEST_RETRY_AFTER_SECONDS, Reply, error_for
from worker.encord.api.exceptions import failure_for
from worker.errors import BadResponseError
from worker.http.authorities import create_tls_context
from worker.http.opening import Route
from worker.http.pool import ConnectionPool, Terms
from worker.http.request_head import check_target, header_lines, write_head
from worker.http.response import BodyLimits
from worker.http.timeouts import Timeouts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from worker.encord.api.signing import Credentials
    from worker.http.client_certificate import ClientCertificate
    from worker.http.response import Response

BASE_PATH = "/v2/public"

# A larger reply would cost a small worker its memory; a thousand frames of polygons are some ten
# MiB.
REPLY_LIMIT_BYTES = 32 * 1_048_576

# Of what is no success only a message of some hundred characters is kept.
_MAX_FAILURE_BYTES = 262_144

_SUCCESSES = frozenset({200, 204})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class Sender(Protocol):
    """Sends requests: the transport itself, or the gate before it."""

    @property
    def timeouts(self) -> Timeouts:
        """How long each phase of a request may take."""
        ...

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        fresh: bool = False,
        read_timeout_seconds: float | None = None,
    ) -> Response:
        """Returns the API's success, or raises an error of `worker.errors`."""
        ...


class Transport:
    """Sends signed requests to one domain; made anywhere, used on one event loop."""

    def __init__(  # noqa: PLR0913 - built in one place
        self,
        domain: str,
        credentials: Credentials,
        *,
        timeouts: Timeouts | None = None,
        connections: int = 288,
        proxy: str | None = None,
        certificate: ClientCertificate | None = None,
        user_agent: str = "trainmaster",
        longest_wait_seconds: float = LONGEST_RETRY_AFTER_SECONDS,
        reply_limit_bytes: int = REPLY_LIMIT_BYTES,
        clock: ApiClock | None = None,
    ) -> None:
        """Makes a transport; nothing is opened before the first request.

        Args:
            domain: Scheme and host, like `https://api.encord.com`.
            credentials: What signs each request.
            timeouts: Defaults as `Timeouts` says.
            connections: Open at most; requests beyond wait for a free one.
            proxy: URL of a proxy; `environment_proxy` finds the usual one.
            certificate: Shown to a server that asks for one; never to a proxy.
            user_agent: Who we say we are.
            longest_wait_seconds: A `Retry-After` that asks for more is cut to this.
            reply_limit_bytes: Of a reply's body, unpacked; a larger one is an error.
            clock: Sees the `Date` of replies; what signs reads it.

        Raises:
            SettingError: The domain is not a URL that can be asked, or a file of authorities or
                the certificate can't be used.
        """
        origin = parse_domain(domain)
        prefix = origin.raw_path.decode().rstrip("/")
        self._origin = f"{origin.scheme}://{origin.netloc.decode()}"
        self._prefix = prefix + BASE_PATH
        self.domain = self._origin + prefix
        self._credentials = credentials
        self.timeouts = timeouts or Timeouts()
        self._connections = connections
        self._longest_wait_seconds = longest_wait_seconds
        self._reply_limit_bytes = reply_limit_bytes
        self._limits = BodyLimits(reply_limit_bytes, min(reply_limit_bytes, _MAX_FAILURE_BYTES))
        self._clock = clock or ApiClock()
        tls = create_tls_context()
        if certificate is not None:
            certificate.show_in(tls)
        self._route = Route(
            httpx.URL(self._origin),
            tls,
            None if proxy is None else httpx.URL(proxy),
            None if proxy is None or certificate is None else create_tls_context(),
        )
        self._pooled: ConnectionPool | None = None
        self._fresh: ConnectionPool | None = None
        self._terms: dict[tuple[bool, float], Terms] = {}
        self._headers = header_lines([
            ("Accept", "application/json"),
            ("Accept-Encoding", "gzip, deflate"),
            ("User-Agent", user_agent),
        ])

    def __repr__(self) -> str:
        return f"Transport({self.domain!r}, {self._credentials!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def use(self, credentials: Credentials) -> None:
        """Signs with other credentials from now on."""
        self._credentials = credentials

    async def aclose(self) -> None:
        """Closes every connection; a later request would open new ones."""
        opened = (self._pooled, self._fresh)
        self._pooled = self._fresh = None
        for transport in opened:
            if transport is not None:
                await transport.aclose()

    async def send(  # noqa: PLR0913 - what there is to say of a request
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        fresh: bool = False,
        read_timeout_seconds: float | None = None,
        within_seconds: float | None = None,
    ) -> Response:
        """Returns the API's success; who reads it calls its `accept` or `distrust`.

        Args:
            method: In capitals.
            path: Below `/v2/public`, quoted.
            query: Names and values in order, not quoted.
            body: JSON.
            fresh: For requests that change something: an own connection and never a second
                attempt, so that the request reaches the API at most once.
            read_timeout_seconds: Instead of the usual one.
            within_seconds: More than 0; without a connection by then it is not sent.

        Raises:
            TrainmasterError: Anything but 200 and 204; `worker.errors` has the tree.
        """
        terms = self._terms_of(method == "GET" and not fresh, read_timeout_seconds, within_seconds)
        try:
            head = self._head(method, path, query, body)
            response = await self._opened(fresh=fresh).send(head, body or b"", terms)
        except httpx.HTTPError as exc:
            raise failure_for(exc, self.domain) from exc
        try:
            return self._judge(response, change=fresh)
        except BaseException:
            # It names no request, so that it may answer an earlier one; then ours is to come.
            response.distrust()
            raise

    def _judge(self, response: Response, *, change: bool) -> Response:
        """Returns a response that is a success.

        Raises:
            TrainmasterError: It is none, or can't be read.
        """
        status = response.status
        if self._clock.is_due(status):
            self._clock.see(status, response.headers)
        if status not in _SUCCESSES:
            # What is missing of its body matters only of a success.
            body = b"" if response.failure is not None else response.body
            raise error_for(self._reply(response, body, change=change))
        if response.failure is not None:
            raise failure_for(response.failure, self.domain) from response.failure
        if response.is_cut:
            raise BadResponseError(
                f"the API's answer is larger than {self._reply_limit_bytes} bytes; "
                "TRAINMASTER_REPLY_LIMIT_BYTES allows more",
                code=ErrorCode.BAD_RESPONSE,
            )
        return response

    def _head(
        self, method: str, path: str, query: Sequence[tuple[str, str]], body: bytes | None
    ) -> bytes:
        target = self._prefix + path
        if query:
            target = f"{target}?{urlencode(query)}"
        check_target(target)
        signed = self._credentials.headers(method, target, body or b"")
        lines = self._route.request_lines(method, target)
        lines += self._headers
        lines += header_lines(signed.items())
        lines.append(f"X-Cloud-Trace-Context: {getrandbits(128):032x}/1;o=1")
        if body is not None:
            lines += ("Content-Type: application/json", f"Content-Length: {len(body)}")
        elif method in _WITH_BODY:
            lines.append("Content-Length: 0")
        return write_head(lines)

    def _terms_of(
        self, is_repeatable: bool, read_seconds: float | None, within_seconds: float | None
    ) -> Terms:
        read = self.timeouts.read if read_seconds is None else read_seconds
        terms = self._terms.get((is_repeatable, read))
        if terms is None:
            # Long polls add a few whole numbers of seconds, so that these stay few.
            timeouts = replace(self.timeouts, read=read)
            terms = Terms(timeouts, self._limits, is_repeatable=is_repeatable)
            self._terms[is_repeatable, read] = terms
        usual = self.timeouts.pool + self.timeouts.connect
        if within_seconds is not None and within_seconds < usual:
            return replace(terms, within_seconds=within_seconds)
        return terms

    def _opened(self, *, fresh: bool) -> ConnectionPool:
        if fresh:
            self._fresh = self._fresh or self._open(keeps=False)
            return self._fresh
        self._pooled = self._pooled or self._open(keeps=True)
        return self._pooled

    def _open(self, *, keeps: bool) -> ConnectionPool:
        return ConnectionPool(self._route, limit=self._connections, keeps=keeps)

    def _reply(self, response: Response, body: bytes, *, change: bool) -> Reply:
        said = self._credentials.redact(body.decode(errors="replace"))
        return Reply(
            response.status,
            response.headers,
            said.encode(),
            self.domain,
            self._longest_wait_seconds,
            change=change,
        )
