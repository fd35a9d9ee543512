"""What people do with sinks: look at them, pause and resume them, send again, try them."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from schemas.json_text import encode_json
from trainmaster_client.events import event_of
from worker.integrations.follower_store import follower_status, rewind
from worker.queue.ledger.keys import EVENT_FIELD
from worker.queue.ledger.stored_values import text_of
from worker.sinks.deferred import SinkStore
from worker.sinks.keys import follower_name
from worker.sinks.service import check_sinks, create_destination

if TYPE_CHECKING:
    from collections.abc import Collection

    from redis.asyncio import Redis

    from worker.integrations.sink_config import SinkConfig
    from worker.queue.ledger.keys import Keys
    from worker.sinks.destinations import Answer

TEST_TYPE: Final = "trainmaster.test"


class SinkCondition(StrEnum):
    """How a sink stands."""

    IDLE = "not running"
    PAUSED = "paused"
    FAILING = "failing"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """How a sink stands, for people.

    Attributes:
        destination: kind and host, and no secret.
        behind: events that it has not looked at; None if that is not known.
        behind_seconds: age of the oldest of these.
        waiting: events that failed, or stand behind such ones, and are tried again.
        unsent: events whose tries have ended.
        failed: attempts.
        missed: events that were trimmed before it looked at them.
        reason: of a pause.
        leader: the process that sends; empty where none does.
    """

    name: str
    destination: str
    state: SinkCondition
    behind: int | None
    behind_seconds: float
    waiting: int
    unsent: int
    delivered: int
    failed: int
    missed: int
    missed_at_ms: int | None
    last_delivered_at_ms: int
    last_error: str
    last_error_at_ms: int
    reason: str
    leader: str


async def sink_status(redis: Redis, keys: Keys, config: SinkConfig) -> SinkStatus:
    """Returns how a sink of the file stands."""
    store = SinkStore(redis, keys, config.name)
    state = await store.state()
    waiting, unsent = await store.counts()
    follower = await follower_status(redis, keys, follower_name(config.name))
    if state.paused:
        condition = SinkCondition.PAUSED
    elif follower is None or not follower.leader:
        condition = SinkCondition.IDLE
    elif state.last_error_at_ms > state.last_delivered_at_ms:
        condition = SinkCondition.FAILING
    else:
        condition = SinkCondition.RUNNING
    return SinkStatus(
        name=config.name,
        destination=describe(config),
        state=condition,
        behind=follower.waiting if follower else None,
        behind_seconds=follower.behind_seconds if follower else 0.0,
        waiting=waiting,
        unsent=unsent,
        delivered=state.delivered,
        failed=state.failed,
        missed=follower.missed if follower else 0,
        missed_at_ms=follower.missed_at_ms if follower else None,
        last_delivered_at_ms=state.last_delivered_at_ms,
        last_error=state.last_error,
        last_error_at_ms=state.last_error_at_ms,
        reason=state.paused,
        leader=follower.leader if follower else "",
    )


async def forgotten(redis: Redis, keys: Keys, known: Collection[str]) -> dict[str, int]:
    """Returns how many events wait for sinks that nobody runs and that are not among the known.

    One that was renamed in the file leaves its events under the former name.
    """
    prefix = follower_name("")
    told = cast("list[bytes]", await redis.hkeys(keys.followers))
    names = map(text_of, told)
    found: dict[str, int] = {}
    for name in sorted(each.removeprefix(prefix) for each in names if each.startswith(prefix)):
        if name in known:
            continue
        waiting, _ = await SinkStore(redis, keys, name).counts()
        follower = await follower_status(redis, keys, follower_name(name))
        if waiting and (follower is None or not follower.leader):
            found[name] = waiting
    return found


def describe(config: SinkConfig) -> str:
    """Returns where a sink's events go, without what may be a secret."""
    if config.webhook is not None:
        parts = urlsplit(config.webhook.url.value.decode(errors="replace"))
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if config.redis is not None:
        kind = "stream" if config.redis.stream is not None else "list"
        return f"redis {kind} {config.redis.stream or config.redis.list}"
    exchange = config.broker.exchange if config.broker is not None else ""
    return f"broker exchange {exchange}"


async def pause(redis: Redis, keys: Keys, sink: str, reason: str) -> None:
    """Pauses a sink; its events wait."""
    await SinkStore(redis, keys, sink).pause(reason, _now_ms())


async def resume(redis: Redis, keys: Keys, sink: str) -> bool:
    """Lets a sink go on; returns whether it was paused."""
    store = SinkStore(redis, keys, sink)
    state = await store.state()
    await store.resume(_now_ms())
    return bool(state.paused)


async def recover(redis: Redis, keys: Keys, sink: str, since_ms: int) -> int:
    """Sends again what could not be sent; returns how many events that are."""
    return await SinkStore(redis, keys, sink).recover(since_ms)


async def recover_all(redis: Redis, keys: Keys, sink: str, since_ms: int) -> bool:
    """Sends everything since a time again; returns False where the sink has not come so far."""
    return await rewind(redis, keys, follower_name(sink), f"{max(since_ms - 1, 0)}-0")


async def try_out(redis: Redis, keys: Keys, config: SinkConfig) -> Answer:
    """Sends an event of the type `trainmaster.test`, once, whatever the sink's conditions are.

    Raises:
        DeliveryError: it was not taken, or nobody knows.
        SettingError: the sink can't be what the file says.
    """
    check_sinks(keys, {config.name: config})
    text = encode_json({
        "specversion": "1.0",
        "id": f"test-{uuid.uuid4()}",
        "source": "trainmaster",
        "type": TEST_TYPE,
        "subject": f"test of {config.name}",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "datacontenttype": "application/json",
        "data": {"sink": config.name},
    })
    event = event_of(b"0-0", {EVENT_FIELD: text})
    assert event is not None  # noqa: S101 - it is one
    destination = create_destination(config.name, config, redis)
    try:
        return await destination.send(event, text)
    finally:
        await destination.close()


def _now_ms() -> int:
    return int(time.time() * 1000)
