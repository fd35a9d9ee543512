"""Receives deliveries: verifies them, applies their source's rules, and records all in one step."""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import structlog

from worker.integrations.sources import HmacSource
from worker.logging import LimitedLog
from worker.webhooks.deliveries import Deliveries
from worker.webhooks.effects import Received, effects_of
from worker.webhooks.records import Delivery, summary
from worker.webhooks.schemes import RefusedDeliveryError, UnsupportedVersionError, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from redis.asyncio import Redis

    from worker.integrations.sources import Source
    from worker.queue.ledger.keys import Keys

log = structlog.get_logger(__name__)

# Words in the names of headers whose values prove who sent something, or let in who has them.
_SECRET_WORDS: Final = (
    "authorization",
    "authentication",
    "cookie",
    "signature",
    "secret",
    "token",
    "credential",
    "password",
    "api-key",
    "apikey",
    "hmac",
    "session",
)
_MOST_HEADER_CHARACTERS: Final = 4096


@dataclass(frozen=True, slots=True)
class Answer:
    """What a sender is told.

    Attributes:
        status: of HTTP.
        outcome: what became of the delivery; empty where it was not taken.
        delivery_id: empty likewise.
        is_repeat: whether the delivery was recorded before.
    """

    status: HTTPStatus
    outcome: str = ""
    delivery_id: str = ""
    is_repeat: bool = False


# What becomes of a delivery that nobody proves to be from its source.
REFUSED: Final = "refused"


class WebhookReceiver:
    """Receives the deliveries of all sources.

    Args:
        redis: client that returns bytes.
        keys: the namespace.
        sources: as the file has them, by name.
        retention_seconds: how long deliveries are kept.
        clock: seconds since 1970.
        on_answered: called with a source and what became of a delivery to it.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        sources: Mapping[str, Source],
        *,
        retention_seconds: int,
        clock: Callable[[], float] = time.time,
        on_answered: Callable[[str, str], None] = lambda _source, _outcome: None,
    ) -> None:
        self._on_answered = on_answered
        self._deliveries = Deliveries(redis, keys, retention_seconds=retention_seconds)
        self._sources = {name: each for name, each in sources.items() if each.scheme != "events"}
        self._clock = clock
        # Anyone who reaches the gateway can have deliveries refused, as many as they like.
        self._refusals = LimitedLog(log)

    def takes(self, source_name: str) -> bool:
        """Tells whether there is a source of this name."""
        return source_name in self._sources

    async def receive(
        self, source_name: str, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> Answer:
        """Returns the answer to a delivery, once Redis has it and all that came of it.

        The answer to what is refused tells no reason; our log does.

        Raises:
            RedisError: Redis is away, or refuses it: nothing is recorded, or all of it.
            OSError: likewise.
        """
        source = self._sources.get(source_name)
        if source is None:
            return Answer(HTTPStatus.NOT_FOUND)
        now = self._clock()
        try:
            verified = verify(source, headers, body, now)
        except RefusedDeliveryError as exc:
            self._refusals.warning(
                "delivery.refused", source_name, source=source_name, reason=exc.reason
            )
            self._on_answered(source_name, REFUSED)
            return Answer(HTTPStatus.UNAUTHORIZED)
        except UnsupportedVersionError as exc:
            self._refusals.warning(
                "delivery.unsupported", source_name, source=source_name, reason=str(exc)
            )
            self._on_answered(source_name, "unsupported")
            return Answer(HTTPStatus.NOT_IMPLEMENTED)
        delivery = Delivery(
            source=source_name,
            id=verified.delivery_id,
            type=verified.event_type or "",
            received_at_ms=int(now * 1000),
            headers=kept_headers(headers, source),
            body=body,
        )
        effects = effects_of(source, Received(delivery, verified.body, verified.problem))
        receipt = await self._deliveries.record(delivery, effects)
        outcome = summary(receipt.outcomes)
        log.info(
            "delivery.received" if receipt.is_new else "delivery.repeated",
            source=source_name,
            id=delivery.id,
            type=delivery.type,
            outcome=outcome,
            commands=sum(len(each.command_ids) for each in receipt.outcomes),
        )
        self._on_answered(source_name, outcome if receipt.is_new else "repeated")
        return Answer(HTTPStatus.OK, outcome, delivery.id, not receipt.is_new)


def kept_headers(headers: Sequence[tuple[bytes, bytes]], source: Source) -> dict[str, str]:
    """Returns the headers that are kept, with names in lower case: none that proves anything."""
    proof = source.header if isinstance(source, HmacSource) else None
    kept: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1").lower()
        if name == proof or any(word in name for word in _SECRET_WORDS):
            continue
        value = raw_value.decode("latin-1").strip()
        whole = f"{kept[name]}, {value}" if name in kept else value
        kept[name] = whole[:_MOST_HEADER_CHARACTERS]
    return kept
