"""What the routes of a gateway stand on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Request

from worker.gateway.bodies import BodyRoom

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from worker.backfill.store import BackfillStore
    from worker.gateway.access import Access
    from worker.gateway.event_stream import EventStream
    from worker.gateway.limits import Backlog, RequestRates
    from worker.gateway.metrics import GatewaySampler
    from worker.gateway.pictures import Pictures
    from worker.gateway.read_model.model import ReadModel
    from worker.gateway.services import Services
    from worker.gateway.submitter import Submitter
    from worker.gateway.tallies import Tallies
    from worker.gateway_settings import GatewaySettings
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.queries import LedgerReader
    from worker.webhooks.receiving import WebhookReceiver


@dataclass(slots=True)
class Gateway:
    """Everything that a process of the gateway has, made once at its start."""

    settings: GatewaySettings
    redis: Redis
    keys: Keys
    reader: LedgerReader
    submitter: Submitter
    access: Access
    rates: RequestRates
    backlog: Backlog
    read_model: ReadModel
    events: EventStream
    webhooks: WebhookReceiver
    backfills: BackfillStore
    pictures: Pictures
    tallies: Tallies
    sampler: GatewaySampler
    services: Services
    close: Callable[[], Awaitable[None]]
    body_room: BodyRoom = field(default_factory=BodyRoom)


async def gateway_of(request: Request) -> Gateway:
    """Returns the gateway that a request has come to.

    Of dependencies FastAPI hands those that are no coroutines to a thread, which costs a request
    more than all else.
    """
    return cast("Gateway", request.app.state.gateway)


GatewayOf = Annotated["Gateway", Depends(gateway_of)]
