"""Webhooks out, as Standard Webhooks say.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx

from worker.http.authorities import create_tls_context
from worker.http.failures import NotWrittenError, UnresolvedNameError
from worker.http.opening import Route
from worker.http.pool import ConnectionPool, Terms
from worker.http.request_head import basic_login, header_lines, write_head
from worker.http.response import BodyLimits
from worker.http.timeouts import Timeouts
from worker.integrations import standard_webhooks
from worker.sinks.addresses import AddressError, Resolver, public_addresses
from worker.sinks.delivery_trace import PassedOn
from worker.sinks.destinations import CONTENT_TYPE, Answer, DeliveryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trainmaster_client import Event
    from worker.http.opening import AddressInfo
    from worker.http.response import Response
    from worker.integrations.sink_config import WebhookSink
    from worker.sinks.delivery_trace import DeliveryTracer

# Of an answer, so much is read; a connection whose answer is longer is closed.
ANSWER_BYTES: Final = 16_384
SHOWN_CHARACTERS: Final = 1_000
# What has been taken is taken, however slowly the rest of the answer comes.
DRAIN_SECONDS: Final = 1.0
LONGEST_RETRY_AFTER_SECONDS: Final = 3_600.0
_REDIRECTS: Final = frozenset({300, 301, 302, 303, 307, 308})


class Webhook:
    """An endpoint whose URL was looked at by `check_url`.

    Args:
        name: of the sink.
        config: of the endpoint.
        tls: how servers are verified; as everywhere unless given.
        resolver: looks names up.
        tracer: of deliveries.
    """

    def __init__(
        self,
        name: str,
        config: WebhookSink,
        *,
        tls: ssl.SSLContext | None = None,
        resolver: Resolver | None = None,
        tracer: DeliveryTracer | None = None,
    ) -> None:
        self._name = name
        self._tracer = tracer or PassedOn()
        self._config = config
        self._secrets = [each.standard() for each in config.secrets]
        self._resolver = resolver or Resolver(name)
        url = urlsplit(config.url.value.decode())
        self._origin = httpx.URL(f"{url.scheme}://{url.netloc}")
        # As it goes over the wire: `host` would decode it, and there are names that it can't.
        self._host = self._origin.raw_host.decode("ascii")
        self._target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        is_plain = url.scheme == "http"
        # Made here, for it takes a tenth of a second, and the first event is not to wait for it.
        self._tls = tls or (
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_plain else create_tls_context()
        )
        self._port = url.port or (80 if is_plain else 443)
        timeout = config.timeout_seconds
        self._terms = Terms(
            Timeouts(
                connect=timeout,
                read=timeout,
                write=timeout,
                pool=timeout,
                body=DRAIN_SECONDS,
                total=timeout,
            ),
            BodyLimits(ANSWER_BYTES, ANSWER_BYTES, keeps_start=True),
            # An endpoint knows an event by its id, and whoever fails gets it once more anyway.
            is_repeatable=True,
            unpacks=False,
            # Of what it says, only the status counts; many an endpoint is written by hand.
            is_lenient=True,
        )
        self._head_lines: list[str] = []
        self._pool: ConnectionPool | None = None

    async def send(self, event: Event, text: bytes) -> Answer:
        """Sends an event and waits for a status of 200 to 299.

        Raises:
            DeliveryError: another answer came, or none, or the address is not allowed.
        """
        headers = standard_webhooks.signed_headers(self._secrets, event.id, int(time.time()), text)
        with self._tracer.sending(self._name, event, self._host, self._port) as trace:
            try:
                response = await self._post({**headers, **trace.headers}, text)
            except httpx.TimeoutException as exc:
                told = f"no answer within {self._config.timeout_seconds:g} s"
                raise DeliveryError(told) from exc
            except httpx.HTTPError as exc:
                raise DeliveryError(said_of(exc)) from exc
            trace.answered(response.status)
            return _judge(response)

    async def close(self) -> None:
        """Closes its connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.aclose()

    async def _post(self, headers: Mapping[str, str], text: bytes) -> Response:
        pool = self._pool or self._open()
        told = [*self._head_lines, *header_lines(headers.items()), f"Content-Length: {len(text)}"]
        response = await pool.send(write_head(told), text, self._terms)
        response.accept()
        return response

    def _open(self) -> ConnectionPool:
        # No proxy: it would look the name up itself.
        route = Route(self._origin, self._tls)
        limit = self._config.concurrency
        self._pool = ConnectionPool(route, limit=limit, resolve=self._look_up)
        self._head_lines = [
            *route.request_lines("POST", self._target),
            f"User-Agent: trainmaster/{version('trainmaster')}",
            "Accept: */*",
            "Accept-Encoding: identity",
            f"Content-Type: {CONTENT_TYPE}",
            # A sink's URL holds none; one that events are forwarded to may.
            *header_lines(basic_login("Authorization", self._origin)),
        ]
        return self._pool

    async def _look_up(self, host: str, port: int) -> list[AddressInfo]:
        found = await self._resolver.resolve(host, port)
        return found if self._config.allow_private else public_addresses(found)


def _judge(response: Response) -> Answer:
    status = response.status
    shown = response.body.decode(errors="replace")[:SHOWN_CHARACTERS]
    told = f"answered {status}"
    if 200 <= status < 300:
        return Answer(told, shown, status)
    if status in _REDIRECTS:
        told += ": redirects are not followed; enter the URL that it leads to"
    wait = _retry_after(response) if status in {429, 503} else 0.0
    raise DeliveryError(
        told, gone=status == 410, retry_after_seconds=wait, body=shown, status=status
    )


def _retry_after(response: Response) -> float:
    """Returns the seconds that an answer names, 0 where it names none."""
    named = (value for name, value in response.raw_headers if name == b"retry-after")
    value = next(named, b"").decode("latin-1")
    try:
        seconds = float(value) if value.strip().isdigit() else _until(value)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)


def _until(value: str) -> float:
    when = parsedate_to_datetime(value)
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return (when - datetime.now(UTC)).total_seconds()


def said_of(exc: httpx.HTTPError) -> str:
    """Returns what a failure of a connection says, without the URL: its path may be a secret."""
    cause = exc.__cause__
    match exc, cause:
        case _, AddressError():
            told = f"nothing was sent: {cause}"
        case UnresolvedNameError(), _:
            told = "its name can't be resolved"
        case ((httpx.ReadError() | NotWrittenError()), ssl.SSLError()):
            told = f"TLS ended before an answer came: {_short(cause)}"
        case NotWrittenError(), _:
            told = "the connection ended, or something came on it, before the event was sent"
        case httpx.ConnectError(), ssl.SSLCertVerificationError():
            told = f"its certificate is not trusted: {_short(cause)}"
        case httpx.ConnectError(), OSError():
            told = f"no connection: {_short(cause)}"
        case httpx.ReadError(), _:
            told = "the connection ended before an answer came"
        case httpx.RemoteProtocolError(), _:
            told = "its answer is no HTTP"
        case _:
            told = f"the connection failed: {type(exc).__name__}"
    return told


def _short(exc: Any) -> str:
    told = getattr(exc, "verify_message", None) or getattr(exc, "strerror", None) or str(exc)
    return " ".join(str(told or type(exc).__name__).split())[:200]
