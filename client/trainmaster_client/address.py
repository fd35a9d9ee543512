"""Where Redis is: one URL, taken apart.

Four forms, each with `user:password@` in front of the host where needed::

    redis://host:6379/0
    rediss://host:6379/0?ssl_ca_certs=/etc/ca.pem     and ssl_certfile, ssl_keyfile
    sentinel://host1:26379,host2:26379/0?service=mymaster     and sentinel_password
    redis+cluster://host1:6379,host2:6379     any nodes; rediss+cluster:// by TLS

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

from trainmaster_client.cluster import (
    AsyncClusterConnection,
    AsyncClusterSSLConnection,
    ClusterConnection,
    ClusterSSLConnection,
    Node,
    SlotOwner,
    slot_of,
)
from trainmaster_client.errors import AddressError
from trainmaster_client.packing import pack_safely
from trainmaster_client.primary import seek_primary

if TYPE_CHECKING:
    from collections.abc import Mapping

_SENTINEL_PORT: Final = 26379
SENTINEL_SECONDS: Final = 2.0
_DEFAULT_SERVICE: Final = "mymaster"
_HIDDEN: Final = "[hidden]"
_TLS_OPTIONS: Final = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_SENTINEL_OPTIONS: Final = frozenset({"service", "sentinel_password", "sentinel_username"})
_OPTIONS: Final = {
    "redis": frozenset[str](),
    "rediss": _TLS_OPTIONS,
    "sentinel": _SENTINEL_OPTIONS,
    "redis+cluster": frozenset[str](),
    "rediss+cluster": _TLS_OPTIONS,
}
_OF_SEVERAL_HOSTS: Final = frozenset({"sentinel", "redis+cluster", "rediss+cluster"})
_PARTS: Final = re.compile(
    r"(?P<scheme>[a-z+]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?",
    re.DOTALL,
)
_NAME: Final = re.compile(r"[\w.-]+")
_PLACE: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{1,5}))?")
_QUOTING: Final = "in a password write % as %25, / as %2F, ? as %3F, # as %23 and @ as %40"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A Redis server, or those that know which one it is now; shows no password.

    These are Sentinels, or nodes of a Redis Cluster.
    """

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
        known = _OPTIONS.get(parts["scheme"] if parts else url.partition("://")[0])
        if known is None:
            raise _wrong(
                "must begin with redis://, rediss://, sentinel://, redis+cluster:// or "
                "rediss+cluster://"
            )
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
        if len(names) > 1 and parts["scheme"] not in _OF_SEVERAL_HOSTS:
            raise _wrong("names several hosts; only sentinel:// and redis+cluster:// do")
        path = parts["path"].strip("/")
        if path and not (path.isascii() and path.isdigit()):
            raise _wrong(f"must end in the number of a database, like /0; {_QUOTING}")
        if int(path or "0") and parts["scheme"].endswith("+cluster"):
            raise _wrong("names a database; a Redis Cluster has only one, 0")
        default_port = _SENTINEL_PORT if parts["scheme"] == "sentinel" else 6379
        return cls(
            scheme=parts["scheme"],
            hosts=tuple(_host_and_port(name, default_port) for name in names),
            db=int(path or "0"),
            username=unquote(username) or None,
            password=unquote(password) or None,
            options=options,
        )

    def client(self, key: str | None = None, **options: Any) -> redis.Redis:
        """Returns a client that blocks.

        Args:
            key: for a cluster, any of the keys: the client goes where its slot is.
            options: those of redis-py.
        """
        if self.is_cluster:
            of_node = ClusterSSLConnection if self.is_tls else ClusterConnection
            pool = redis.ConnectionPool(
                connection_class=of_node,
                owner=self.slot_owner(key),
                **self._to_server(ssl=False),
                **options,
            )
            return seek_primary(pack_safely(redis.Redis.from_pool(pool)))
        if self.scheme == "sentinel":
            sentinel = Sentinel(list(self.hosts), sentinel_kwargs=self._to_sentinels(), **options)
            for each in sentinel.sentinels:
                pack_safely(each)
            leader: redis.Redis = sentinel.master_for(self._service, **self._to_server(), **options)
            return seek_primary(pack_safely(leader))
        (host, port), *_ = self.hosts
        client = redis.Redis(host=host, port=port, **self._to_server(), **options)
        return seek_primary(pack_safely(client))

    def asyncio_client(
        self,
        key: str | None = None,
        *,
        client_class: type[redis.asyncio.Redis] = redis.asyncio.Redis,
        **options: Any,
    ) -> redis.asyncio.Redis:
        """Returns a client for an event loop; other arguments are those of `client`.

        Args:
            key: for a cluster, any of the keys that are used.
            client_class: of what is returned.
            options: of redis-py.
        """
        if self.is_cluster:
            of_node = AsyncClusterSSLConnection if self.is_tls else AsyncClusterConnection
            pool = redis.asyncio.ConnectionPool(
                connection_class=of_node,
                owner=self.slot_owner(key),
                **self._to_server(ssl=False),
                **options,
            )
            return seek_primary(client_class.from_pool(pool))
        if self.scheme == "sentinel":
            sentinel = AsyncSentinel(
                list(self.hosts), sentinel_kwargs=self._to_sentinels(), **options
            )
            leader: redis.asyncio.Redis = sentinel.master_for(
                self._service, redis_class=client_class, **self._to_server(), **options
            )
            return seek_primary(leader)
        (host, port), *_ = self.hosts
        client = client_class(host=host, port=port, **self._to_server(), **options)
        return seek_primary(client)

    def slot_owner(self, key: str | None) -> SlotOwner:
        """Returns what finds the node of a cluster that has a key's slot.

        Raises:
            ValueError: no key is named, so nobody can say which node that is.
        """
        if key is None:
            raise ValueError("a client of a Redis Cluster needs a key: its slot tells the node")
        seeds = [Node(*host) for host in self.hosts]
        return SlotOwner(slot_of(key), seeds, self._to_server())

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
    def is_cluster(self) -> bool:
        """Whether the hosts are nodes of a Redis Cluster."""
        return self.scheme.endswith("+cluster")

    @property
    def is_tls(self) -> bool:
        """Whether the servers are reached by TLS."""
        return self.scheme.startswith("rediss")

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

    def _to_server(self, *, ssl: bool = True) -> dict[str, Any]:
        """Returns how a server is reached; `ssl` is what redis-py's clients, not pools, want."""
        found: dict[str, Any] = {
            "db": self.db,
            "username": self.username,
            "password": self.password,
        }
        if self.is_tls:
            found |= {"ssl_cert_reqs": "required", **self.options}
            if ssl:
                found["ssl"] = True
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
