"""Where Redis is: one URL, read once, for the ledger's clients and for Celery's broker.

Three forms, each with `user:password@` in front of the host where needed::

    redis://host:6379/0
    rediss://host:6379/0?ssl_ca_certs=/etc/ca.pem     and ssl_certfile, ssl_keyfile
    sentinel://host1:26379,host2:26379/0?service=mymaster     and sentinel_password
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import redis
import redis.asyncio
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.sentinel import Sentinel

from schemas.events import ErrorCode
from worker.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Mapping

_SENTINEL_PORT: Final = 26379
_DEFAULT_SERVICE: Final = "mymaster"
_TLS_OPTIONS: Final = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_SENTINEL_OPTIONS: Final = frozenset({"service", "sentinel_password", "sentinel_username"})


@dataclass(frozen=True, slots=True)
class Broker:
    """How Celery reaches the same Redis: its URL, its transport options, its TLS options."""

    url: str = field(repr=False)
    options: Mapping[str, Any] = field(repr=False)
    tls: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A Redis server, or the Sentinels that know which one leads now; shows no password."""

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    db: int
    username: str | None
    password: str | None = field(repr=False)
    options: Mapping[str, str] = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Returns the address that a URL names.

        Raises:
            SettingError: it names none; the message shows nothing of it but what is wrong.
        """
        parts = urlsplit(url)
        default_port = _SENTINEL_PORT if parts.scheme == "sentinel" else 6379
        credentials, _, hosts = parts.netloc.rpartition("@")
        username, _, password = credentials.partition(":")
        options = dict(parse_qsl(parts.query))
        known = {
            "redis": frozenset[str](),
            "rediss": _TLS_OPTIONS,
            "sentinel": _SENTINEL_OPTIONS,
        }.get(parts.scheme)
        if known is None:
            raise _wrong("must begin with redis://, rediss:// or sentinel://")
        if set(options) - known:
            # Not named here: behind an unquoted question mark it may be half of a password.
            raise _wrong(f"has an unknown option; there is {', '.join(sorted(known)) or 'none'}")
        names = hosts.split(",")
        if len(names) > 1 and parts.scheme != "sentinel":
            raise _wrong("names several hosts; only sentinel:// does")
        path = parts.path.strip("/")
        if path and not path.isdigit():
            raise _wrong("must end in the number of a database, like /0")
        return cls(
            scheme=parts.scheme,
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

    def broker(self) -> Broker:
        """Returns the same for Celery."""
        user = quote(self.username or "", safe="")
        secret = quote(self.password or "", safe="")
        credentials = f"{user}:{secret}@" if user or secret else ""
        places = [f"{credentials}{_shown(host)}:{port}/{self.db}" for host, port in self.hosts]
        if self.scheme == "sentinel":
            url = ";".join(f"sentinel://{place}" for place in places)
            options = {"master_name": self._service, "sentinel_kwargs": self._to_sentinels()}
            return Broker(url, options, None)
        if self.scheme == "rediss":
            tls = {**self.options, "ssl_cert_reqs": "required"}
            return Broker(f"rediss://{places[0]}", {}, tls)
        return Broker(f"redis://{places[0]}", {}, None)

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
            "socket_timeout": 2.0,
        }


def _host_and_port(name: str, default_port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{name}")
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise _wrong("names a host or a port that can't be") from exc
    if not host:
        raise _wrong("names no host")
    return host, port or default_port


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _wrong(message: str) -> SettingError:
    return SettingError(f"TRAINMASTER_REDIS_URL {message}", code=ErrorCode.INVALID_SETTING)
