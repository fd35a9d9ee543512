"""Which addresses a webhook may be sent to: those of the public internet, unless a sink says more.

A name is resolved once for each connection, and the connection goes to an address that was looked
at: `public_addresses` stands between the resolver and the sockets, for names and for addresses that
stand in a URL alike.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httpx

from worker.errors import BusyThreadsError
from worker.http.failures import UnresolvedNameError
from worker.thread_pools import ThreadPool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.http.opening import AddressInfo

# Source: IANA's registries of special-purpose addresses, and what clouds keep for themselves.
_NOT_PUBLIC_4: Final = [
    ipaddress.IPv4Network(each)
    for each in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]
# All other space is private, local, multicast, or holds an address of IPv4: mapped, NAT64.
_PUBLIC_6: Final = ipaddress.IPv6Network("2000::/3")
# Within it: Teredo and other protocols, examples, 6to4.
_NOT_PUBLIC_6: Final = [
    ipaddress.IPv6Network(each) for each in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
]
_MOST_PORT: Final = 65_535
# What `inet_aton` takes for an address: decimal, octal, hexadecimal, of one to four parts.
_NUMERIC: Final = re.compile(r"(?:0[xX][0-9a-fA-F]*|[0-9]+)\.?")
_RESOLVE_SECONDS: Final = 10.0


class AddressError(OSError):
    """A webhook would go to an address that it may not go to."""


def is_public(address: str) -> bool:
    """Tells whether an address belongs to the public internet."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        # With a zone, as link-local addresses have, or no address at all.
        return False
    if isinstance(found, ipaddress.IPv4Address):
        return not any(found in each for each in _NOT_PUBLIC_4)
    return found in _PUBLIC_6 and not any(found in each for each in _NOT_PUBLIC_6)


def check_url(url: str, *, allow_private: bool) -> None:
    """Refuses a URL that is no webhook's, before anything is looked up.

    Raises:
        ValueError: it can't be used; the text says why and shows no more than the host.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is no URL that can be read") from None
    if not url.isascii() or any(each <= " " or each in '\\"<>^`{|}\x7f' for each in url):
        raise ValueError("holds a character that no URL has; write it percent-encoded")
    if parts.scheme not in {"http", "https"}:
        raise ValueError("must begin with https:// or http://")
    if not host:
        raise ValueError("names no host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a user or a password; a webhook is signed instead")
    if port == 0 or (port or 0) > _MOST_PORT:
        raise ValueError("names a port that there is not")
    if parts.fragment:
        raise ValueError("holds a # that no server sees; remove it")
    _check_host(host, allow_private=allow_private)
    if _connects_to(parts.netloc) != (host.lower(), port):
        raise ValueError("is no URL that can be read")


def _connects_to(netloc: str) -> tuple[str, int | None] | None:
    """Returns the host, in small letters, and the port that a connection would go to.

    Returns:
        None where they can't be read.
    """
    try:
        # Of a scheme that has no port of its own, which would be left out.
        url = httpx.URL(f"any://{netloc}")
    except httpx.InvalidURL:
        return None
    return url.raw_host.decode("ascii").lower(), url.port


def _check_host(host: str, *, allow_private: bool) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if ":" in host or _NUMERIC.fullmatch(host.removesuffix(".").rpartition(".")[2]):
            raise ValueError(f"writes an address as {host}: write it as 192.0.2.1") from None
        return
    if not allow_private and not is_public(host):
        raise ValueError(f"leads to {host}, {_ADVICE}")


_ADVICE: Final = "which is private, local or reserved; set allow_private = true if that is meant"


def public_addresses(found: Sequence[AddressInfo]) -> list[AddressInfo]:
    """Returns the public ones of the addresses that a name leads to.

    Raises:
        AddressError: none of them is.
    """
    public = [each for each in found if is_public(str(each[4][0]))]
    if not public:
        where = str(found[0][4][0]) if found else "nowhere"
        raise AddressError(f"its name leads to {where}, {_ADVICE}")
    return public


class Resolver:
    """Looks names up in threads of its own: a slow answer keeps no other sink waiting."""

    def __init__(self, name: str) -> None:
        self._threads = ThreadPool(f"sink-{name}-names", 2)

    async def resolve(self, host: str, port: int) -> list[AddressInfo]:
        """Returns the addresses of a host.

        Raises:
            UnresolvedNameError: it has none, or nobody says so in time.
        """
        try:
            found = await self._threads.run(
                _RESOLVE_SECONDS, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )
        except (BusyThreadsError, TimeoutError, RuntimeError) as exc:
            raise UnresolvedNameError("its name is not resolved in time") from exc
        except (OSError, UnicodeError) as exc:
            raise UnresolvedNameError("its name can't be resolved") from exc
        return list(found)
