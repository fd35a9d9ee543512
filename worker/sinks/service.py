"""Runs the sinks of an integrations file: one follower each, and none waits for another."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog

from schemas.events import ErrorCode, Problem
from worker.errors import SettingError
from worker.integrations.event_follower import EventFollower
from worker.queue.ledger.connection import end_all
from worker.queue.ledger.outage import Outage
from worker.sinks.addresses import check_url
from worker.sinks.broker import Broker
from worker.sinks.deferred import SinkStore
from worker.sinks.delivery_policy import DeliveryPolicy
from worker.sinks.keys import follower_name
from worker.sinks.redis_target import RedisTarget
from worker.sinks.routes import Route
from worker.sinks.sender import Sender
from worker.sinks.webhook import Webhook

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis

    from worker.integrations.sink_config import SinkConfig
    from worker.queue.ledger.keys import Keys
    from worker.sinks.delivery_trace import DeliveryTracer
    from worker.sinks.destinations import Destination

log = structlog.get_logger(__name__)

# Deliveries at a time to what is no webhook.
CONCURRENCY: Final = 8
AGAIN_SECONDS: Final = 5.0


class SinkService:
    """The sinks of a process.

    Args:
        redis: client that returns bytes.
        keys: of the namespace.
        sinks: from the integrations file.
        policy: when what failed is tried again.
        tracer: of deliveries to webhooks.

    Raises:
        SettingError: a sink can't be what the file says.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        sinks: Mapping[str, SinkConfig],
        *,
        policy: DeliveryPolicy | None = None,
        tracer: DeliveryTracer | None = None,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._sinks = dict(sinks)
        self._policy = policy or DeliveryPolicy()
        self._tracer = tracer
        self._outage = Outage()
        check_sinks(keys, sinks)

    async def run(self, stop: asyncio.Event) -> None:
        """Follows the events for each sink until `stop` is set."""
        tasks = [
            asyncio.create_task(self._keep(name, config, stop), name=f"sink {name}")
            for name, config in self._sinks.items()
        ]
        try:
            if tasks:
                await asyncio.wait(tasks)
        finally:
            await end_all(tasks)

    async def _keep(self, name: str, config: SinkConfig, stop: asyncio.Event) -> None:
        """Runs a sink, again and again if it must be: what breaks one harms no other."""
        while not stop.is_set():
            try:
                destination = create_destination(name, config, self._redis, self._tracer)
                try:
                    await self._follow(name, config, destination, stop)
                finally:
                    await destination.close()
            except Exception:
                log.exception("sink.crashed", sink=name, again_in_seconds=AGAIN_SECONDS)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), AGAIN_SECONDS)

    async def _follow(
        self, name: str, config: SinkConfig, destination: Destination, stop: asyncio.Event
    ) -> None:
        webhook = config.webhook
        concurrency = CONCURRENCY if webhook is None else webhook.concurrency
        sender = Sender(
            name,
            destination,
            SinkStore(self._redis, self._keys, name),
            concurrency=concurrency,
            per_second=0.0 if webhook is None else webhook.requests_per_second,
            policy=self._policy,
            outage=self._outage,
        )
        follower = EventFollower(
            self._redis,
            self._keys,
            follower_name(name),
            sender.handle,
            concurrency=concurrency,
            wants=Route(config).wants,
            beside=sender.lead,
            outage=self._outage,
        )
        await follower.run(stop)


def create_destination(
    name: str, config: SinkConfig, redis: Redis, tracer: DeliveryTracer | None = None
) -> Destination:
    """Returns where a sink's events go; it connects when it sends."""
    if config.webhook is not None:
        return Webhook(name, config.webhook, tracer=tracer)
    if config.redis is not None:
        return RedisTarget(config.redis, redis)
    assert config.broker is not None  # noqa: S101 - the file has exactly one of them
    return Broker(name, config.broker)


def check_sinks(keys: Keys, sinks: Mapping[str, SinkConfig]) -> None:
    """Looks at what can be known of destinations before anything is sent.

    A URL that was not looked up, for it lies elsewhere, is passed over.

    Raises:
        SettingError: a URL is no webhook's, or a key is one of our own.
    """
    problems: list[Problem] = []
    for name, config in sinks.items():
        if config.webhook is not None and config.webhook.url.value:
            try:
                url = config.webhook.url.value.decode()
                check_url(url, allow_private=config.webhook.allow_private)
            except ValueError as exc:
                problems.append(Problem(path=f"[sinks.{name}.webhook] url", message=str(exc)))
        elif config.redis is not None and config.redis.url is None:
            field = "stream" if config.redis.stream is not None else "list"
            key = config.redis.stream or config.redis.list or ""
            if key.startswith(keys.prefix):
                told = f"{key} would be one of our own keys: choose another name"
                problems.append(Problem(path=f"[sinks.{name}.redis] {field}", message=told))
    if problems:
        told = "; ".join(f"{each.path} {each.message}" for each in problems)
        raise SettingError(told, code=ErrorCode.INVALID_SETTING, problems=problems)
