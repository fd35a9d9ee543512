"""What the routes of a gateway stand on."""

from __future__ import annotations

from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

from fastapi import Depends, Request

from worker.gateway.requests.bodies import BodyRoom

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from redis.asyncio import Redis

    from worker.acts import Act
    from worker.backfill.store import BackfillStore
    from worker.gateway.access.callers import Access, Caller
    from worker.gateway.access.limits import Backlog, RequestRates
    from worker.gateway.events.stream import EventStream
    from worker.gateway.files.pictures import Pictures
    from worker.gateway.metrics import GatewaySampler
    from worker.gateway.read_model.model import ReadModel
    from worker.gateway.services import Services
    from worker.gateway.submission.submitter import Submitter
    from worker.gateway.tallies import Tallies
    from worker.gateway_settings import GatewaySettings
    from worker.integrations.file import Integrations
    from worker.queue.ledger.actions import ActionLog, Entry
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.queries import LedgerReader
    from worker.webhooks.receiving import WebhookReceiver


@dataclass(slots=True)
class ActOutcome:
    """What the act of a request has come to so far."""

    may_be_done: bool = False


ACT_OUTCOME: Final[ContextVar[ActOutcome | None]] = ContextVar("act_outcome", default=None)
"""Of the request that is answered, where somebody wants to know."""


@dataclass(slots=True)
class Gateway:
    """Everything that a process of the gateway has, made once at its start."""

    settings: GatewaySettings
    redis: Redis
    keys: Keys
    integrations: Integrations
    reader: LedgerReader
    actions: ActionLog
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

    @asynccontextmanager
    async def recorded(
        self,
        caller: Caller,
        act: Act,
        subject: str | None = None,
        *,
        dry_run: bool = False,
        **details: Any,
    ) -> AsyncIterator[Entry]:
        """Records an act of a caller once it is over, if its entry is told that it is done.

        Every route that a token needs the scope `operate` for acts in this.
        """
        if caller.token is not None:
            # Several may have one name.
            details["token"] = caller.token.prefix
        begun: Entry | None = None
        recorded = self.actions.recorded(caller.name, act, subject, dry_run=dry_run, **details)
        try:
            async with recorded as begun:
                yield begun
        finally:
            outcome = ACT_OUTCOME.get()
            if outcome is not None and begun is not None and begun.is_done and not dry_run:
                outcome.may_be_done = True


async def gateway_of(request: Request) -> Gateway:
    """Returns the gateway that a request has come to.

    Of dependencies FastAPI hands those that are no coroutines to a thread, which costs a request
    more than all else.
    """
    return cast("Gateway", request.app.state.gateway)


GatewayOf = Annotated["Gateway", Depends(gateway_of)]
