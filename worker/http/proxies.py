"""Which proxy the environment names, and for whom it names none."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import TYPE_CHECKING, Final

import httpx

from schemas.events import ErrorCode
from worker.errors import SettingError

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

PORTS: Final = {"http": 80, "https": 443}
"""What stands for no port, by scheme."""

_LAST_PORT: Final = 65_535
_BETWEEN_EXCEPTIONS: Final = re.compile(r"[,\s]+")
_PORT: Final = re.compile(r"(?P<host>\[.*\]|[^:]*):(?P<port>\d+)")


def read_url(text: str) -> httpx.URL:
    """Returns a URL whose server can be asked, as far as that can be told by its name and port.

    Raises:
        httpx.InvalidURL: It is none.
    """
    url = httpx.URL(text)
    try:
        # What no name can be is found out when it is read, and a port above is another one's.
        is_usable = "%" not in url.host and (url.port is None or 0 < url.port <= _LAST_PORT)
    except UnicodeError as exc:
        raise httpx.InvalidURL("its name can't be one") from exc
    if not is_usable:
        raise httpx.InvalidURL("its name or its port can't be one")
    return url


def find_proxy(url: httpx.URL) -> str | None:
    """Returns the URL of the proxy for a server, or None; loopback never has one.

    `HTTPS_PROXY` or `HTTP_PROXY` by the server's scheme, else `ALL_PROXY`, with `NO_PROXY` for
    exceptions, each in small letters first. An empty one is as good as none.

    Raises:
        SettingError: The proxy's URL can't be used.
    """
    if _is_loopback(url) or is_excepted(url, _read("no_proxy") or ""):
        return None
    name = f"{url.scheme}_proxy"
    text = _read(name)
    if text is None:
        name = "all_proxy"
        text = _read(name)
    return None if text is None else _parse_proxy(text, name.upper())


def is_excepted(url: httpx.URL, exceptions: str) -> bool:
    """Tells whether a server is asked directly.

    Args:
        url: The server's.
        exceptions: As `NO_PROXY` holds them, with commas or blanks between them: `*` for all; a
            name for itself and all below it, with or without a dot before it; `*.name` for what is
            below it; an address; a net such as `10.0.0.0/8`; each but the last and the first with
            `:port` for that port alone.
    """
    host = url.raw_host.decode("ascii").strip("[]").rstrip(".").lower()
    port = url.port or PORTS[url.scheme]
    address = _address(host)
    return any(
        _matches(exception.lower(), host, address, port)
        for exception in _BETWEEN_EXCEPTIONS.split(exceptions)
        if exception
    )


def _matches(
    exception: str, host: str, address: IPv4Address | IPv6Address | None, port: int
) -> bool:
    if exception == "*":
        return True
    told = _PORT.fullmatch(exception)
    if told is not None:
        if int(told["port"]) != port:
            return False
        exception = told["host"]
    exception = exception.strip("[]")
    if address is not None:
        try:
            # One address is the smallest of nets.
            return address in ipaddress.ip_network(exception, strict=False)
        except ValueError:
            return False
    name = _as_sent(exception.removeprefix("*").strip("."))
    is_below = host.endswith(f".{name}")
    return bool(name) and (is_below or (host == name and not exception.startswith("*")))


def _as_sent(name: str) -> str:
    """Returns a name as URLs hold it, which know letters of ASCII alone."""
    if name.isascii():
        return name
    try:
        return httpx.URL(f"http://{name}").raw_host.decode("ascii")
    except httpx.InvalidURL:
        return ""


def _is_loopback(url: httpx.URL) -> bool:
    host = url.host.rstrip(".")
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _read(name: str) -> str | None:
    for variable in (name, name.upper()):
        text = os.environ.get(variable, "").strip()
        if text:
            return text
    return None


def _parse_proxy(text: str, name: str) -> str:
    """Returns a proxy's URL; `host:port` means one that is asked over HTTP, as it does for curl."""
    try:
        url = read_url(text if "://" in text else f"http://{text}")
    except httpx.InvalidURL as exc:
        raise _proxy_error(name, "is not a URL") from exc
    if url.scheme not in {"http", "https"}:
        raise _proxy_error(name, "names a kind of proxy that is not supported, such as SOCKS")
    if not url.host:
        raise _proxy_error(name, "names no host")
    return text if "://" in text else f"http://{text}"


def _proxy_error(name: str, message: str) -> SettingError:
    return SettingError(
        f"{name} {message}; it must be like http://proxy.example:3128",
        code=ErrorCode.INVALID_SETTING,
    )
