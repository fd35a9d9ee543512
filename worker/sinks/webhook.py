"""Webhooks out, as Standard Webhooks say.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from yarl import URL

from worker.http.aiohttp_connections import Connector, NotWrittenError, Request
from worker.http.authorities import create_tls_context
from worker.http.timeouts import KEEP_ALIVE_SECONDS
from worker.integrations import standard_webhooks
from worker.sinks.addresses import AddressError, Resolver, make_public_socket
from worker.sinks.delivery_trace import PassedOn
from worker.sinks.destinations import CONTENT_TYPE, Answer, DeliveryError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from trainmaster_client import Event
    from worker.integrations.sink_config import WebhookSink
    from worker.sinks.delivery_trace import DeliveryTrace, DeliveryTracer

# Of an answer, so much is read; a connection whose answer is longer is closed.
ANSWER_BYTES: Final = 16_384
SHOWN_CHARACTERS: Final = 1_000
# What has been taken is taken, however slowly the rest of the answer comes.
DRAIN_SECONDS: Final = 1.0
LONGEST_RETRY_AFTER_SECONDS: Final = 3_600.0
_TRIES: Final = 3


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
        self._url = URL(config.url.value.decode(), encoded=True)
        self._secrets = [each.standard() for each in config.secrets]
        # Made here, for it takes a tenth of a second, and the first event is not to wait for it.
        self._tls = tls or (create_tls_context() if self._url.scheme == "https" else None)
        self._resolver = resolver or Resolver(name)
        self._session: aiohttp.ClientSession | None = None
        self._agent = f"trainmaster/{version('trainmaster')}"

    async def send(self, event: Event, text: bytes) -> Answer:
        """Sends an event and waits for a status of 200 to 299.

        Raises:
            DeliveryError: another answer came, or none, or the address is not allowed.
        """
        headers = {
            "content-type": CONTENT_TYPE,
            "user-agent": self._agent,
            "accept-encoding": "identity",
            **standard_webhooks.signed_headers(self._secrets, event.id, int(time.time()), text),
        }
        port = self._url.port or 0
        with self._tracer.sending(self._name, event, self._url.host or "", port) as trace:
            return await self._try({**headers, **trace.headers}, text, trace)

    async def _try(self, headers: Mapping[str, str], text: bytes, trace: DeliveryTrace) -> Answer:
        try:
            return await self._post(headers, text, trace)
        except TimeoutError as exc:
            told = f"no answer within {self._config.timeout_seconds:g} s"
            raise DeliveryError(told) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise DeliveryError(_said(exc)) from exc

    async def close(self) -> None:
        """Closes its connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
            # Connections that were given up are closed in the loop's next turn.
            await asyncio.sleep(0)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = Connector(
                limit=self._config.concurrency,
                ssl=self._tls or True,
                keepalive_timeout=KEEP_ALIVE_SECONDS,
                resolver=self._resolver,
                # Each connection looks anew where it goes.
                use_dns_cache=False,
                socket_factory=None if self._config.allow_private else make_public_socket,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                request_class=Request,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                # A proxy would look the name up itself.
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=self._config.timeout_seconds),
            )
        return self._session

    async def _post(self, headers: Mapping[str, str], text: bytes, trace: DeliveryTrace) -> Answer:
        session = self._open()
        for tries in range(1, _TRIES + 1):
            try:
                async with session.post(
                    self._url, data=text, headers=headers, allow_redirects=False
                ) as response:
                    trace.answered(response.status)
                    return await self._judge(response)
            except NotWrittenError:
                # Not one byte was written: an idle connection had ended.
                if tries == _TRIES:
                    raise
        raise AssertionError

    async def _judge(self, response: aiohttp.ClientResponse) -> Answer:
        status = response.status
        body = b""
        with suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(DRAIN_SECONDS):
                body = await _read(response)
        shown = body.decode(errors="replace")[:SHOWN_CHARACTERS]
        if 200 <= status < 300:
            return Answer(f"answered {status}", shown, status)
        told = f"answered {status}"
        if 300 <= status < 400:
            told += ": redirects are not followed; enter the URL that it leads to"
        wait = _retry_after(response.headers.get("retry-after", "")) if status in {429, 503} else 0
        raise DeliveryError(
            told, gone=status == 410, retry_after_seconds=wait, body=shown, status=status
        )


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Returns the beginning of an answer; one that is longer ends its connection."""
    found = bytearray()
    while len(found) < ANSWER_BYTES:
        chunk = await response.content.read(ANSWER_BYTES - len(found))
        if not chunk:
            return bytes(found)
        found += chunk
    response.close()
    return bytes(found)


def _retry_after(value: str) -> float:
    """Returns the seconds that a header names, 0 where it names none."""
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


def _said(exc: BaseException) -> str:
    """Returns what a failure of a connection says, without the URL: its path may be a secret."""
    found: BaseException | None = exc
    while found is not None:
        if isinstance(found, AddressError):
            return f"nothing was sent: {found}"
        found = getattr(found, "os_error", None) or found.__cause__
    match exc:
        case aiohttp.ClientConnectorCertificateError():
            told = f"its certificate is not trusted: {_short(exc.certificate_error)}"
        case aiohttp.ClientConnectorDNSError():
            told = "its name can't be resolved"
        case aiohttp.ClientConnectorError():
            told = f"no connection: {_short(exc.os_error)}"
        case aiohttp.ServerDisconnectedError():
            told = "the connection ended before an answer came"
        case aiohttp.ClientResponseError():
            told = "its answer is no HTTP"
        case _:
            told = f"the connection failed: {type(exc).__name__}"
    return told


def _short(exc: Any) -> str:
    told = getattr(exc, "verify_message", None) or getattr(exc, "strerror", None) or ""
    return " ".join(str(told or type(exc).__name__).split())[:200]
