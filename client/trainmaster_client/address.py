"""Where Redis is: one URL, taken apart.

Three forms, each with `user:password@` in front of the host where needed::

    redis://host:6379/0
    rediss://host:6379/0?ssl_ca_certs=/etc/ca.pem     and ssl_certfile, ssl_keyfile
    sentinel://host1:26379,host2:26379/0?service=mymaster     and sentinel_password

The URL is taken apart by hand: a password may hold brackets or letters at which `urlsplit` raises
an error that repeats them.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import parse_qsl, unquote

import redis
import redis.asyncio
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.sentinel import Sentinel

from trainmaster_client.errors import AddressError

if TYPE_CHECKING:
    from collections.abc import Mapping

_SENTINEL_PORT: Final = 26379
SENTINEL_SECONDS: Final = 2.0
_DEFAULT_SERVICE: Final = "mymaster"
_HIDDEN: Final = "[hidden]"
_TLS_OPTIONS: Final = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_SENTINEL_OPTIONS: Final = frozenset({"service", "sentinel_password", "sentinel_username"})
_PARTS: Final = re.compile(
    r"(?P<scheme>[a-z]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?", re.DOTALL
)
_NAME: Final = re.compile(r"[\w.-]+")
_PLACE: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{1,5}))?")
_QUOTING: Final = "in a password write % as %25, / as %2F, ? as %3F, # as %23 and @ as %40"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A Redis server, or the Sentinels that know which one leads now; shows no password."""

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    db: int
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    options: Mapping[str, str] = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Returns the address that a URL names.

        Raises:
            AddressError: it names none; the message shows nothing of it but what is wrong.
        """
        parts = _PARTS.fullmatch(url.strip())
        known = {
            "redis": frozenset[str](),
            "rediss": _TLS_OPTIONS,
            "sentinel": _SENTINEL_OPTIONS,
        }.get(parts["scheme"] if parts else url.partition("://")[0])
        if known is None:
            raise _wrong("must begin with redis://, rediss:// or sentinel://")
        if parts is None:
            raise _wrong(f"has a # that ends nothing; {_QUOTING}")
        credentials, _, hosts = parts["authority"].rpartition("@")
        username, _, password = credentials.partition(":")
        options = dict(parse_qsl(parts["query"] or "", keep_blank_values=True))
        if set(options) - known:
            # Not named here: behind an unquoted question mark it may be half of a password.
            there = ", ".join(sorted(known)) or "none"
            raise _wrong(f"has an unknown option; there is {there}; {_QUOTING}")
        names = hosts.split(",")
        if len(names) > 1 and parts["scheme"] != "sentinel":
            raise _wrong("names several hosts; only sentinel:// does")
        path = parts["path"].strip("/")
        if path and not (path.isascii() and path.isdigit()):
            raise _wrong(f"must end in the number of a database, like /0; {_QUOTING}")
        default_port = _SENTINEL_PORT if parts["scheme"] == "sentinel" else 6379
        return cls(
            scheme=parts["scheme"],
            hosts=tuple(_host_and_port(name, default_port) for name in names),
            db=int(path or "0"),
            username=unquote(username) or None,
            password=unquote(password) or None,
            options=options,
        )

    def client(self, **options: Any) -> redis.Redis:
        """Returns a client that blocks; `options` are those of redis-py."""
        if self.scheme == "sentinel":
            sentinel = Sentinel(list(self.hosts), sentinel_kwargs=self._to_sentinels(), **options)
            leader: redis.Redis = sentinel.master_for(self._service, **self._to_server(), **options)
            return leader
        (host, port), *_ = self.hosts
        return redis.Redis(host=host, port=port, **self._to_server(), **options)

    def asyncio_client(self, **options: Any) -> redis.asyncio.Redis:
        """Returns a client for an event loop; `options` are those of redis-py."""
        if self.scheme == "sentinel":
            sentinel = AsyncSentinel(
                list(self.hosts), sentinel_kwargs=self._to_sentinels(), **options
            )
            leader: redis.asyncio.Redis = sentinel.master_for(
                self._service, **self._to_server(), **options
            )
            return leader
        (host, port), *_ = self.hosts
        return redis.asyncio.Redis(host=host, port=port, **self._to_server(), **options)

    def check_files(self) -> None:
        """Reads the files that TLS needs, so that a missing one is told before anything starts.

        Raises:
            AddressError: one of them can't be used.
        """
        authorities = self.options.get("ssl_ca_certs")
        certificate, key = self.options.get("ssl_certfile"), self.options.get("ssl_keyfile")
        if authorities is not None:
            _try("ssl_ca_certs", (authorities,), "holds no certificates in PEM format")
        if certificate is None and key is not None:
            raise _wrong("names an ssl_keyfile and no ssl_certfile")
        if certificate is not None:
            files = (certificate,) if key is None else (certificate, key)
            _try("ssl_certfile", files, "holds no certificate with its key in PEM format")

    @property
    def shown(self) -> str:
        """Scheme, hosts and database: all that is ever printed of the URL."""
        return f"{self.scheme}://{','.join(self.places)}/{self.db}"

    @property
    def places(self) -> tuple[str, ...]:
        """Each host with its port, as in a URL."""
        return tuple(f"{_shown(host)}:{port}" for host, port in self.hosts)

    @property
    def service(self) -> str:
        """What the Sentinels call the server; empty without them."""
        return self._service if self.scheme == "sentinel" else ""

    @property
    def _service(self) -> str:
        return self.options.get("service", _DEFAULT_SERVICE)

    def _to_server(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "db": self.db,
            "username": self.username,
            "password": self.password,
        }
        if self.scheme == "rediss":
            found |= {"ssl": True, "ssl_cert_reqs": "required", **self.options}
        return found

    def _to_sentinels(self) -> dict[str, Any]:
        return {
            "username": self.options.get("sentinel_username"),
            "password": self.options.get("sentinel_password"),
            "socket_timeout": SENTINEL_SECONDS,
        }


def _try(option: str, files: tuple[str, ...], otherwise: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # What is no path may be half of a password in front of an unquoted question mark.
    shown = ", ".join(file for file in files if "@" not in file) or _HIDDEN
    try:
        if option == "ssl_ca_certs":
            context.load_verify_locations(cafile=files[0])
        else:
            key = files[1] if len(files) > 1 else None
            # Without a password it would ask the terminal for one.
            context.load_cert_chain(files[0], key, lambda: "")
    except ssl.SSLError as exc:
        raise _wrong(f"names a file in {option} that {otherwise}: {shown}") from exc
    except OSError as exc:
        raise _wrong(
            f"names a file in {option} that can't be read ({exc.strerror}): {shown}"
        ) from exc


def _host_and_port(name: str, default_port: int) -> tuple[str, int]:
    place = _PLACE.fullmatch(name)
    if place is None:
        raise _wrong(f"names a host or a port that can't be; {_QUOTING}")
    host, port = place["host"], int(place["port"] or default_port)
    if not host:
        raise _wrong("names no host")
    if not (_is_ipv6(host) if host.startswith("[") else _NAME.fullmatch(host)) or port > 65_535:
        raise _wrong(f"names a host or a port that can't be; {_QUOTING}")
    return host.strip("[]"), port


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _wrong(message: str) -> AddressError:
    return AddressError(message)
