"""Whether a Redis server can be trusted with a ledger: its version, its policy, its persistence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from redis.exceptions import ResponseError

from schemas.events import ErrorCode
from worker.errors import SettingError

if TYPE_CHECKING:
    from redis.asyncio import Redis

OLDEST_VERSION: Final = (7, 0)
SAFE_POLICY: Final = "noeviction"


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server says of itself; None where it does not let us ask.

    Attributes:
        version: as compared, major and minor.
        shown_version: as the server names itself, for people.
        appends: whether it keeps an append-only file.
        fsync: how often that file is forced to disk: always, everysec, no.
        used_bytes: memory in use.
        limit_bytes: memory it may use, 0 for no limit.
    """

    version: tuple[int, int]
    shown_version: str
    policy: str | None
    appends: bool | None
    fsync: str | None
    used_bytes: int
    limit_bytes: int

    @property
    def keeps_what_it_acknowledged(self) -> bool:
        """Whether a crash loses nothing that was acknowledged."""
        return bool(self.appends) and self.fsync == "always"


async def server_facts(redis: Redis) -> ServerFacts:
    """Returns what the server says of itself.

    Raises:
        redis.exceptions.RedisError: it can't be asked.
    """
    info = await redis.info()
    major, minor, *_ = str(info["redis_version"]).split(".")
    name = str(info.get("server_name", "redis"))
    shown = str(info.get(f"{name}_version", info["redis_version"]))
    appends = info.get("aof_enabled")
    return ServerFacts(
        version=(int(major), int(minor)),
        shown_version=f"{name} {shown}",
        policy=_text(info.get("maxmemory_policy")),
        appends=None if appends is None else bool(appends),
        fsync=await _directive(redis, "appendfsync"),
        used_bytes=int(info.get("used_memory", 0)),
        limit_bytes=int(info.get("maxmemory", 0)),
    )


async def eviction_policy(redis: Redis) -> str | None:
    """Returns the server's maxmemory-policy; None where it does not tell.

    Raises:
        redis.exceptions.RedisError: it can't be asked.
    """
    return _text((await redis.info("memory")).get("maxmemory_policy"))


def refuse_unsuitable(facts: ServerFacts) -> None:
    """Does nothing for a server that a ledger can live in.

    Raises:
        SettingError: the server is too old, or may throw away rows.
    """
    if facts.version < OLDEST_VERSION:
        raise SettingError(
            f"TRAINMASTER_REDIS_URL: {facts.shown_version} is too old; it must be 7.0 or newer",
            code=ErrorCode.INVALID_SETTING,
        )
    if facts.policy not in {None, SAFE_POLICY}:
        raise SettingError(
            f"TRAINMASTER_REDIS_URL: the server's maxmemory-policy is {facts.policy}, so it may "
            f"throw away commands; set it to {SAFE_POLICY}",
            code=ErrorCode.INVALID_SETTING,
        )


async def _directive(redis: Redis, name: str) -> str | None:
    """Returns a configuration directive; managed servers and tight ACLs hide them."""
    try:
        found = await redis.config_get(name)
    except ResponseError:
        return None
    values = {_text(key): _text(value) for key, value in found.items()}
    return values.get(name)


def _text(value: object) -> str | None:
    if value is None:
        return None
    return value.decode() if isinstance(value, bytes) else str(value)
