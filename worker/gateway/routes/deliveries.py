"""`/v1/deliveries`: what came in by webhooks and what became of it; and from whom it may come."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from worker.acts import Act
from worker.gateway.access.callers import Operates, Reads
from worker.gateway.act_route import ActRoute
from worker.gateway.gateway import Gateway, GatewayOf
from worker.gateway.json_bodies import documented, json_body
from worker.gateway.problems import ProblemDetails, ProblemError, json_response
from worker.gateway.requests.text import name_in_address
from worker.webhooks.deliveries import Deliveries, Position
from worker.webhooks.reactions import EVENTS_SCHEME
from worker.webhooks.records import RecordedDelivery, RuleResult, delivery_name, shown_body
from worker.webhooks.replays import replay, replay_effects
from worker.webhooks.views import delivery_json, effects_json

router: Final = APIRouter(prefix="/v1", tags=["deliveries"], route_class=ActRoute)

# Of a body that is shown; one may have 25 MB.
MAX_SHOWN_BYTES: Final = 1024 * 1024

_ONE: Final[dict[int | str, dict[str, Any]]] = {404: {"model": ProblemDetails}}


class SourceView(BaseModel):
    """Who may send deliveries, by the file."""

    name: str
    scheme: str = Field(description="How deliveries are signed; `events` for our own events.")
    address: str | None = Field(description="Where they are sent to; null for our own events.")
    rules: list[str] = Field(description="The names of its rules.")
    commands: list[str] = Field(description="The types of the commands that its rules make.")


class SourceList(BaseModel):
    """All sources of the file."""

    items: list[SourceView]


class RuleOutcome(BaseModel):
    """What a rule made of a delivery."""

    rule: str
    outcome: RuleResult
    command_ids: list[str]
    window: str = Field(description="The name of the window that the delivery joined, or empty.")
    problem: str = Field(description="What is wrong, or why there is no command.")


class WindowView(BaseModel):
    """A window that a delivery joined, and how it ended; what is left out is yet to come."""

    id: str
    outcome: RuleResult | None = None
    command_ids: list[str] = []
    problem: str = ""


class DeliveryRow(BaseModel):
    """A delivery in a list."""

    source: str
    id: str = Field(description="The sender's name for it.")
    type: str | None
    received_at: datetime
    outcome: str = Field(description="Of all rules, in a few words.")
    rules: list[RuleOutcome]
    windows: list[WindowView]
    command_ids: list[str] = Field(description="Of the commands that were made of it.")


class DeliveryView(DeliveryRow):
    """A delivery whole."""

    headers: dict[str, str] = Field(description="None that proves who sent it.")
    body: Any = Field(description="JSON where it is that, else text.")
    body_bytes: int
    body_cut: bool = Field(description="Whether only the first MiB is shown, as text.")


class DeliveryPage(BaseModel):
    """A page of deliveries, newest first."""

    items: list[DeliveryRow]
    next_cursor: str | None = Field(description="Of the next page, null at the end.")


class DeliveriesQuery(BaseModel):
    """Which deliveries are listed; all that is given must fit."""

    model_config = {"extra": "forbid"}

    source: str | None = None
    outcome: RuleResult | None = Field(None, description="Of one of the rules.")
    limit: int = Field(100, ge=1, le=1000)
    cursor: str | None = Field(None, description="Of the page before.")


class DeliveryReplayBody(BaseModel):
    """How the rules of a delivery run again."""

    model_config = {"extra": "forbid"}

    again: bool = Field(
        False, description="Makes also what was made of it before once more, under new ids."
    )
    dry_run: bool = Field(False, description="Only shows what would be sent.")


class DeliveryReplayed(BaseModel):
    """What the rules of a delivery made of it, or would."""

    delivery: str = Field(description="Source, slash, id.")
    outcome: str
    rules: list[RuleOutcome]
    commands: list[dict[str, Any]]
    sent: bool = Field(description="False in a dry run.")


async def _read_name(
    source: Annotated[str, Path(description="The source's name.")],
    delivery_id: Annotated[str, Path(description="Percent-encoded.")],
) -> str:
    return delivery_name(name_in_address(source), name_in_address(delivery_id))


NameOf = Annotated[str, Depends(_read_name)]


@router.get("/webhooks")
async def list_sources(gateway: GatewayOf, caller: Reads) -> SourceList:
    """Lists from whom deliveries may come, by the gateway's file, and what rules there are."""
    caller.check_unlimited()
    items = [
        SourceView(
            name=name,
            scheme=source.scheme,
            address=None if source.scheme == EVENTS_SCHEME else f"/v1/webhooks/{quote(name)}",
            rules=[rule.name for rule in source.rules],
            commands=sorted({rule.command.type for rule in source.rules}),
        )
        for name, source in gateway.integrations.sources.items()
    ]
    return SourceList(items=items)


@router.get("/deliveries")
async def list_deliveries(
    gateway: GatewayOf, caller: Reads, query: Annotated[DeliveriesQuery, Query()]
) -> DeliveryPage:
    """Lists deliveries that are kept, newest first."""
    caller.check_unlimited()
    try:
        after = None if query.cursor is None else Position.read(query.cursor)
    except ValueError:
        raise ProblemError(422, "invalid_cursor", "The cursor is none of this list.") from None
    items: list[DeliveryRow] = []
    last = after
    async for position, each in _store(gateway).newest(query.source, query.outcome, after):
        if len(items) == query.limit:
            return DeliveryPage(items=items, next_cursor=str(last))
        items.append(DeliveryRow(**delivery_json(each)))
        last = position
    return DeliveryPage(items=items, next_cursor=None)


@router.get("/deliveries/{source}/{delivery_id}", response_model=DeliveryView, responses=_ONE)
async def read_delivery(name: NameOf, gateway: GatewayOf, caller: Reads) -> Response:
    """Shows a delivery whole: what each rule made of it, its headers and its body."""
    caller.check_unlimited()
    found = await _find(gateway, name)
    body = found.delivery.body
    is_cut = len(body) > MAX_SHOWN_BYTES
    return json_response({
        **delivery_json(found),
        "headers": dict(found.delivery.headers),
        "body": body[:MAX_SHOWN_BYTES].decode("utf-8", "replace") if is_cut else shown_body(body),
        "body_bytes": len(body),
        "body_cut": is_cut,
    })


@router.post(
    "/deliveries/{source}/{delivery_id}/replay",
    response_model=DeliveryReplayed,
    responses={
        **_ONE,
        409: {"model": ProblemDetails, "description": "Somebody else replayed it just now."},
    },
    openapi_extra=documented(DeliveryReplayBody),
)
async def replay_delivery(
    name: NameOf,
    gateway: GatewayOf,
    caller: Operates,
    body: Annotated[DeliveryReplayBody, Depends(json_body(DeliveryReplayBody))],
) -> Response:
    """Runs the rules of a delivery again, as the gateway's file has them.

    What was made of it before is not made again, unless `again` says so.
    """
    caller.check_unlimited()
    found = await _find(gateway, name)
    source = gateway.integrations.sources.get(found.delivery.source)
    if source is None:
        raise ProblemError(
            404,
            "unknown_source",
            f"The gateway's file has no source {found.delivery.source}, and so no rules for it.",
        )
    effects = replay_effects(source, found, again=body.again)
    if not body.dry_run:
        async with gateway.recorded(caller, Act.DELIVERY_REPLAY, name, again=body.again) as entry:
            receipt = await replay(_store(gateway), found, effects)
            if not receipt.is_new:
                raise ProblemError(
                    409,
                    "replayed_meanwhile",
                    "Somebody else replayed it just now, or it has expired: look at it again.",
                )
            entry.done(**effects.counts())
    return json_response(effects_json(name, effects, sent=not body.dry_run))


async def _find(gateway: Gateway, name: str) -> RecordedDelivery:
    found = await _store(gateway).get(name)
    if found is None:
        raise ProblemError(
            404,
            "unknown_delivery",
            "No delivery has this name: it never came, or came too long ago.",
        )
    return found


def _store(gateway: Gateway) -> Deliveries:
    retention = gateway.settings.delivery_retention_seconds
    return Deliveries(gateway.redis, gateway.keys, retention_seconds=retention)
