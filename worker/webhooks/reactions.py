"""Reactions: sources whose deliveries are our own events; one command follows on another."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import structlog

from schemas.events import EVENT_SOURCE
from worker.integrations.event_follower import EventFollower
from worker.integrations.templates import REACTION_DEPTH
from worker.webhooks.deliveries import Deliveries
from worker.webhooks.effects import Received, effects_of
from worker.webhooks.records import Delivery, RuleResult, derived_id, summary

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from redis.asyncio import Redis

    from trainmaster_client import Event
    from worker.integrations.sources import Source
    from worker.queue.ledger.keys import Keys

log = structlog.get_logger(__name__)

EVENTS_SCHEME: Final = "events"
# Of the rules of one source; each waits for Redis most of the time.
CONCURRENCY: Final = 16
# What a command of a reaction takes over from the event, unless its template says otherwise.
_TAKEN_OVER: Final = ("correlationid", "traceparent", "tracestate")


def received_event(source_name: str, event: Mapping[str, Any], text: bytes, now: float) -> Received:
    """Returns an event as a delivery of a source whose rules are about events.

    Args:
        source_name: of the source.
        event: one of ours.
        text: its JSON.
        now: seconds since 1970.
    """
    event_id = str(event["id"])
    if event.get("source") not in {None, EVENT_SOURCE}:
        # Events of a group's members have ids that a command's may have too.
        event_id = f"{event['source']}#{event_id}"
    attributes = {
        name: value for name in _TAKEN_OVER if isinstance(value := event.get(name), str) and value
    }
    attributes["causationid"] = str(event["subject"])
    return Received(
        Delivery(
            source=source_name,
            id=derived_id(event_id),
            type=str(event["type"]),
            received_at_ms=int(now * 1000),
            headers={},
            body=text,
        ),
        event,
        depth=depth_of(event) + 1,
        attributes=attributes,
    )


def depth_of(event: Mapping[str, Any]) -> int:
    """Returns how many reactions have led to an event."""
    depth = event.get(REACTION_DEPTH)
    return max(depth, 0) if isinstance(depth, int) and not isinstance(depth, bool) else 0


class Reactor:
    """Makes the commands that follow on our own events, for one source of that scheme.

    Args:
        redis: client that returns bytes.
        keys: the namespace.
        source: the source.
        retention_seconds: how long it is kept what became of an event.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        source: Source,
        *,
        retention_seconds: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._deliveries = Deliveries(redis, keys, retention_seconds=retention_seconds)
        self._clock = clock
        # A name that is new begins with the events from then on, not with the whole past.
        self._follower = EventFollower(
            redis,
            keys,
            f"webhooks.{source.name}",
            self.handle,
            concurrency=CONCURRENCY,
            wants=self.wants,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Follows the events until `stop` is set."""
        await self._follower.run(stop)

    def wants(self, event: Event) -> bool:
        """Tells whether a rule is about events of this type."""
        return any(rule.on is None or rule.on.match(event.type) for rule in self._source.rules)

    async def handle(self, event: Event, text: bytes) -> None:
        """Makes what follows on an event, once however often it is handed over."""
        received = received_event(self._source.name, event.attributes, text, self._clock())
        effects = effects_of(self._source, received)
        if all(each.result is RuleResult.NO_MATCH for each in effects.outcomes):
            # Most events are about nothing that a rule wants: nobody looks for those.
            return
        receipt = await self._deliveries.record(received.delivery, effects)
        if receipt.is_new:
            log.info(
                "reaction.recorded",
                source=self._source.name,
                event_id=event.id,
                type=event.type,
                outcome=summary(receipt.outcomes),
                command_ids=[one for each in receipt.outcomes for one in each.command_ids],
            )
