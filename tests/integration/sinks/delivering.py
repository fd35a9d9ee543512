"""Single deliveries, to endpoints and by resolvers that answer as they are told."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from tests.integration.integrations.published import event_text
from tests.integration.sinks.endpoints import sink_config, webhook
from trainmaster_client.events import event_of
from worker.sinks.addresses import Resolver
from worker.sinks.webhook import Webhook

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from trainmaster_client import Event
    from worker.http.opening import AddressInfo
    from worker.sinks.destinations import Answer

TEXT: Final = event_text("a", 1)


def an_event() -> Event:
    event = event_of(b"1-0", {b"event": TEXT})
    assert event is not None
    return event


@asynccontextmanager
async def opened(
    folder: Path,
    url: str,
    resolver: Resolver | None = None,
    tls: ssl.SSLContext | None = None,
    **told: Any,
) -> AsyncIterator[Webhook]:
    config = sink_config("ops", folder, webhook=webhook(url, **told)).webhook
    assert config is not None
    destination = Webhook("ops", config, tls=tls, resolver=resolver)
    try:
        yield destination
    finally:
        await destination.close()


@asynccontextmanager
async def answering(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """Serves each connection by `talk`, until all of them have ended; yields the URL."""
    serving: set[asyncio.Task[Any] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await talk(reader, writer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?key=hidden"
        async with asyncio.timeout(60):
            await asyncio.gather(*filter(None, serving))
            # A connection that was closed ends in the loop's next turn.
            await asyncio.sleep(0)


async def send(destination: Webhook) -> Answer:
    return await destination.send(an_event(), TEXT)


class Changing(Resolver):
    """Tells another address each time, as the owner of a name may."""

    def __init__(self, *addresses: str) -> None:
        super().__init__("changing")
        self.addresses = list(addresses)
        self.asked = 0

    async def resolve(self, host: str, port: int) -> list[AddressInfo]:
        """Returns the next address."""
        del host
        self.asked += 1
        address = self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))]
