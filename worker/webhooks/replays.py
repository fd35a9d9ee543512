"""Deliveries whose rules run again, or are only tried: on what the file says now."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from worker.webhooks.effects import Received, effects_of
from worker.webhooks.reactions import EVENTS_SCHEME, received_event
from worker.webhooks.records import Delivery
from worker.webhooks.schemes import read_unverified

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.integrations.sources import Source
    from worker.webhooks.deliveries import Deliveries, Receipt
    from worker.webhooks.records import Effects, RecordedDelivery


class NoDeliveryError(ValueError):
    """What is to be tried can't be a delivery of this source."""


def received_again(source: Source, delivery: Delivery) -> Received:
    """Returns a stored delivery as its rules look at it."""
    headers = [(name.encode(), value.encode()) for name, value in delivery.headers.items()]
    read = read_unverified(source, headers, delivery.body)
    if source.scheme == EVENTS_SCHEME and read.body is not None:
        if not _is_event(read.body):
            # The source was one of another scheme when it came.
            return Received(delivery, None, _takes_events(source))
        now = delivery.received_at_ms / 1000
        return received_event(source.name, read.body, delivery.body, now)
    return Received(delivery, read.body, read.problem)


def received_from_file(
    source: Source, body: bytes, headers: Sequence[tuple[bytes, bytes]], now: float
) -> Received:
    """Returns a body as a delivery that comes now.

    Raises:
        NoDeliveryError: the source is about events, and this is none.
    """
    read = read_unverified(source, headers, body)
    if source.scheme == EVENTS_SCHEME:
        if read.body is None or not _is_event(read.body):
            raise NoDeliveryError(_takes_events(source))
        return received_event(source.name, read.body, body, now)
    delivery = Delivery(
        source=source.name,
        id=read.delivery_id,
        type=read.event_type or "",
        received_at_ms=int(now * 1000),
        headers={name.decode().lower(): value.decode() for name, value in headers},
        body=body,
    )
    return Received(delivery, read.body, read.problem)


def _is_event(body: Mapping[str, Any]) -> bool:
    return body.keys() >= {"id", "type", "subject"}


def _takes_events(source: Source) -> str:
    return f"the source {source.name} takes events: id, type, subject, data"


def replay_effects(source: Source, recorded: RecordedDelivery, *, again: bool) -> Effects:
    """Returns what rules make of a delivery beside what they made of it before.

    Args:
        source: as the file has it now.
        recorded: the delivery.
        again: makes all of it once more, under new ids.
    """
    received = received_again(source, recorded.delivery)
    suffix = secrets.token_hex(4) if again else ""
    return effects_of(source, received, recorded=recorded, again=suffix)


async def replay(deliveries: Deliveries, recorded: RecordedDelivery, effects: Effects) -> Receipt:
    """Carries the effects of a replay out, unless another replay was faster."""
    return await deliveries.record(recorded.delivery, effects, replayed=recorded)
