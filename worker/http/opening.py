"""How a connection comes about: name, address, proxy, TLS. Nothing of a request is written here."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from traceback import clear_frames
from typing import TYPE_CHECKING, Any, Final

import aiohappyeyeballs
import httpx

from worker.http.failures import NOT_SENT, NotWrittenError, UnresolvedNameError
from worker.http.proxies import PORTS
from worker.http.request_head import basic_login, header_lines, write_head
from worker.http.response import BodyLimits, ResponseReader
from worker.http.timeouts import Timeouts

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from worker.http.connection import Connection

    # Looks up a host and a port; it may raise `OSError`, or `UnresolvedNameError` if there is none.
    Resolve = Callable[[str, int], Awaitable[list["AddressInfo"]]]
    # As `socket.getaddrinfo` tells it.
    AddressInfo = tuple[int, int, int, str, Any]

# Many connections are opened at a time; the name is looked up once for all of them.
NAME_SECONDS: Final = 10.0

# The next address is tried when the last one has not answered for so long (RFC 8305).
_NEXT_ADDRESS_SECONDS: Final = 0.25

_NO_BODY: Final = BodyLimits(0, 0)
_TUNNEL_TIMEOUTS: Final = Timeouts(read=60, write=60)


@dataclass(frozen=True, slots=True)
class Route:
    """Who is asked, and on which way.

    Attributes:
        origin: Scheme, host and port.
        tls: How the server is verified, and what we show of ourselves.
        proxy: Whom we ask instead; a server over TLS is reached by its CONNECT.
        proxy_tls: The same for the proxy, if it differs.
    """

    origin: httpx.URL
    tls: ssl.SSLContext
    proxy: httpx.URL | None = None
    proxy_tls: ssl.SSLContext | None = None
    # Of each request the same, and taken apart from the URL only once.
    _before_target: str = field(init=False, repr=False)
    _after_target: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        before, login = "", []
        if self.proxy is not None and not self.is_tunnel:
            before = f"{self.origin.scheme}://{self.authority}"
            login = header_lines(basic_login("Proxy-Authorization", self.proxy))
        object.__setattr__(self, "_before_target", before)
        object.__setattr__(self, "_after_target", (f"Host: {self.authority}", *login))

    @property
    def is_tunnel(self) -> bool:
        """Whether the proxy passes bytes on that it can't read."""
        return self.proxy is not None and self.origin.scheme == "https"

    @property
    def authority(self) -> str:
        """Host and port, as a `Host` header has them."""
        return self.origin.netloc.decode("ascii")

    def request_lines(self, method: str, target: str) -> list[str]:
        """Returns the first lines of a head: what is asked of whom.

        Args:
            method: In capitals.
            target: Path and query; they go out as they stand.
        """
        return [f"{method} {self._before_target}{target} HTTP/1.1", *self._after_target]


class Dialer:
    """Opens connections on a route.

    Args:
        route: Where to.
        loop: The one that they live on.
        resolve: Looks names up, for each connection anew; it alone decides what is connected to.
    """

    def __init__(
        self, route: Route, loop: asyncio.AbstractEventLoop, resolve: Resolve | None = None
    ) -> None:
        self._route = route
        self._loop = loop
        self._resolve_by = resolve or self._ask_system
        self._name_seconds = NAME_SECONDS if resolve is None else 0.0
        url = route.proxy or route.origin
        self._host = url.raw_host.decode("ascii").strip("[]")
        self._port = url.port or PORTS[url.scheme]
        tls = route.tls if route.proxy is None else route.proxy_tls or route.tls
        self._tls = tls if url.scheme == "https" else None
        self._addresses: list[AddressInfo] = []
        self._known_until = 0.0
        self._resolving: asyncio.Task[None] | None = None

    async def open(self, make: Callable[[], Connection], seconds: float) -> Connection:
        """Returns an open connection.

        Args:
            make: Makes one that is not open yet.
            seconds: How long it may take.

        Raises:
            httpx.ConnectError: There is none; `UnresolvedNameError` for want of an address.
            httpx.ConnectTimeout: There is none in time.
            httpx.ProxyError: The proxy does not let us through.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._open(make)
        except NOT_SENT:
            raise
        except TimeoutError as exc:
            raise httpx.ConnectTimeout("no connection in time") from exc
        except OSError as exc:  # TLS' errors are some, too
            # Whoever tried the addresses keeps their errors in frames that these keep: garbage.
            clear_frames(exc.__traceback__)
            raise httpx.ConnectError(str(exc) or type(exc).__name__) from exc

    def close(self) -> None:
        """Looks no name up any more."""
        if self._resolving is not None:
            self._resolving.cancel()

    async def _open(self, make: Callable[[], Connection]) -> Connection:
        addresses = await self._look_up()
        try:
            connected = await aiohappyeyeballs.start_connection(
                addresses, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, interleave=1, loop=self._loop
            )
        except RuntimeError as exc:  # uvloop's, of a descriptor that is still another's
            raise httpx.ConnectError(str(exc)) from exc
        connection = make()
        try:
            await self._stand(connection, connected)
            if self._route.is_tunnel:
                await self._tunnel(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    async def _stand(self, connection: Connection, connected: socket.socket) -> None:
        """Makes a connected socket the connection's, over TLS where that is due."""
        tls = self._tls
        # The dot that ends a name's search stands in no certificate (RFC 6066, 3).
        name = None if tls is None else self._host.removesuffix(".")
        try:
            # A long poll is silent for a minute, and more than one router forgets it by then.
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            await self._loop.create_connection(
                lambda: connection, sock=connected, ssl=tls, server_hostname=name
            )
        except BaseException:
            connected.close()
            raise

    async def _tunnel(self, connection: Connection) -> None:
        route = self._route
        host = route.origin.raw_host.decode("ascii").strip("[]")
        name = f"[{host}]" if ":" in host else host
        server = f"{name}:{route.origin.port or PORTS[route.origin.scheme]}"
        login = header_lines(basic_login("Proxy-Authorization", route.proxy or route.origin))
        head = write_head([f"CONNECT {server} HTTP/1.1", f"Host: {server}", *login])
        reader = ResponseReader(_NO_BODY, has_body=False)
        try:
            response = await connection.exchange(
                head, b"", reader, _TUNNEL_TIMEOUTS, ends_at=float("inf")
            )
        except httpx.HTTPError as exc:
            raise httpx.ProxyError(f"the proxy gave no answer: {exc}") from exc
        if not 200 <= response.status < 300:
            raise httpx.ProxyError(_refusal(response.status))
        if connection.is_closed:
            raise httpx.ProxyError("the proxy let us through and said more")
        await connection.start_tls(route.tls, host.removesuffix("."))

    async def _look_up(self) -> list[AddressInfo]:
        """Returns addresses, each time another one of a family first."""
        if self._loop.time() >= self._known_until:
            if self._resolving is None:
                self._resolving = self._loop.create_task(self._resolve())
                self._resolving.add_done_callback(self._forget)
            # Who gives up takes nothing from those who wait for the same name.
            resolving = self._resolving
            try:
                await asyncio.shield(resolving)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if resolving.cancelled() and task is not None and not task.cancelling():
                    # It was not we who were cancelled.
                    raise NotWrittenError("closed before the name was known") from None
                raise
            except UnresolvedNameError as exc:
                # An error of one's own: who catches it may note on it which request it ended.
                raise UnresolvedNameError(str(exc)) from exc
        first, *others = self._addresses
        self._addresses = [*others, first]
        return self._addresses

    async def _resolve(self) -> None:
        found = await self._resolve_by(self._host, self._port)
        if not found:
            raise UnresolvedNameError(f"the name {self._host} has no address")
        self._addresses = found
        self._known_until = self._loop.time() + self._name_seconds

    async def _ask_system(self, host: str, port: int) -> list[AddressInfo]:
        try:
            return list(await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (socket.gaierror, UnicodeError) as exc:  # The latter for a part that is too long.
            why = exc.strerror if isinstance(exc, socket.gaierror) else exc
            raise UnresolvedNameError(f"the name {host} can't be resolved: {why}") from exc

    def _forget(self, resolving: asyncio.Task[None]) -> None:
        self._resolving = None
        # Of a failure all that waited are told, and whoever comes next asks anew.
        if not resolving.cancelled():
            resolving.exception()


def _refusal(status: int) -> str:
    if status == 407:
        return "the proxy wants another name and password (407)"
    return f"the proxy does not let us through ({status})"
