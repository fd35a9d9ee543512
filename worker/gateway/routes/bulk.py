"""`/v1/commands/cancel` and `/v1/commands/replay`: many commands at a time, by a filter."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Depends

from worker.acts import Act
from worker.gateway.access.callers import Caller, Operates
from worker.gateway.act_route import ActRoute
from worker.gateway.gateway import Gateway, GatewayOf
from worker.gateway.json_bodies import documented, json_body
from worker.gateway.models import BulkAnswer, BulkBody
from worker.gateway.problems import ProblemError, no_filter
from worker.gateway.views.dead_letters import (
    MAX_NAMED,
    MOST_AT_A_TIME,
    LetterChoice,
    correlation_id_of,
    moment_after,
    replay_all,
)
from worker.queue.ledger.cancellation import Canceller, CancelStatus
from worker.queue.ledger.models import RowState
from worker.queue.ledger.queries import RowChoice
from worker.queue.ledger.replay import Edit
from worker.times import milliseconds_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from worker.queue.ledger.actions import Entry
    from worker.queue.ledger.command_status import CommandStatus

router: Final = APIRouter(prefix="/v1/commands", tags=["commands"], route_class=ActRoute)

# Of these each may have a megabyte.
_AT_A_TIME: Final = 32
_TEXTS: Final = 16
_OPEN: Final = tuple(str(state) for state in RowState if not state.ended)
_DEAD: Final = ("failed", "rejected")
_DONE: Final = (CancelStatus.CANCELLED, CancelStatus.CANCELLING)

BodyOf = Annotated[BulkBody, Depends(json_body(BulkBody))]


@router.post("/cancel", openapi_extra=documented(BulkBody))
async def cancel_commands(gateway: GatewayOf, caller: Operates, body: BodyOf) -> BulkAnswer:
    """Cancels commands that fit and have not ended; a dry run unless `dry_run` is false.

    So many at a time as `more` says: send the same again until it is false.

    What was done at the API stays. Commands that no worker has read yet are not among them.
    """
    _check(body, _OPEN)
    # As it was asked for: that is recorded.
    asked, now = body.filter(), await moment_after(gateway)
    if body.until is None or now < body.until:
        body = body.model_copy(update={"until": now})
    found: dict[str, str] = {}
    more = False
    async for row in _open_commands(gateway, caller, body):
        # One that moves while all are read comes twice.
        if row.id not in found and len(found) >= MOST_AT_A_TIME:
            more = True
            break
        found[row.id] = row.state
    if body.dry_run:
        outcomes = Counter(found.values())
    else:
        told: dict[str, Any] = {"filter": asked, "matched": len(found)}
        async with gateway.recorded(caller, Act.COMMANDS_CANCEL, **told) as entry:
            outcomes = await _cancel_all(gateway, list(found), entry)
    return BulkAnswer(
        dry_run=body.dry_run,
        matched=len(found),
        done=0 if body.dry_run else sum(outcomes[status] for status in _DONE),
        outcomes=outcomes,
        ids=list(found)[:MAX_NAMED],
        more=more,
        until=body.until,
    )


@router.post("/replay", openapi_extra=documented(BulkBody))
async def replay_commands(gateway: GatewayOf, caller: Operates, body: BodyOf) -> BulkAnswer:
    """Sends again commands that failed or were rejected and fit; a dry run unless told not to.

    They are those that have a dead letter. What would be rejected again stays, and so does what
    may have been done (`outcome_unknown`), unless `ids` name it.
    """
    _check(body, _DEAD)
    choice = LetterChoice(
        state=body.state,
        command_type=body.type,
        correlation_id=body.correlationid,
        since=body.since,
        until=body.until,
        ids=None if body.ids is None else frozenset(body.ids),
    )
    async with gateway.recorded(
        caller, Act.COMMANDS_REPLAY, dry_run=body.dry_run, filter=body.filter()
    ) as entry:
        return await replay_all(gateway, caller, choice, Edit(), entry, dry_run=body.dry_run)


def _check(body: BulkBody, states: Sequence[str]) -> None:
    if body.is_unfiltered and not body.all:
        raise no_filter()
    if body.state is not None and body.state not in states:
        raise ProblemError(
            422, "invalid_parameters", f"state must be one of {', '.join(states)} here."
        )


async def _open_commands(
    gateway: Gateway, caller: Caller, body: BulkBody
) -> AsyncIterator[CommandStatus]:
    """Yields the commands that fit; items of backfills are none."""
    choice = RowChoice(
        state=None if body.state is None else RowState(body.state), command_type=body.type
    )
    # Who names them has not all that is open read for it.
    pages = (
        gateway.reader.open_rows(choice)
        if body.ids is None
        else gateway.reader.rows(list(dict.fromkeys(body.ids)), choice)
    )
    async for page in pages:
        rows = [
            row
            for row in page
            if row.group is None
            and not row.ended
            and caller.sees(row.type)
            and _is_between(row, body)
        ]
        for row in rows if body.correlationid is None else await _of(gateway, rows, body):
            yield row


def _is_between(row: CommandStatus, body: BulkBody) -> bool:
    since = 0 if body.since is None else milliseconds_of(body.since)
    until = float("inf") if body.until is None else milliseconds_of(body.until)
    return since <= row.accepted_at_ms < until


async def _of(
    gateway: Gateway, rows: Sequence[CommandStatus], body: BulkBody
) -> list[CommandStatus]:
    """Returns the rows of one correlation id, which stands only in the commands as sent."""
    found: list[CommandStatus] = []
    for start in range(0, len(rows), _TEXTS):
        some = rows[start : start + _TEXTS]
        texts = await gateway.reader.texts([row.id for row in some])
        found += [
            row
            for row, text in zip(some, texts, strict=True)
            if text is not None and correlation_id_of(text) == body.correlationid
        ]
    return found


async def _cancel_all(gateway: Gateway, ids: Sequence[str], entry: Entry) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    canceller = Canceller(
        gateway.redis,
        gateway.keys,
        gateway.settings.id_retention_seconds,
        gateway.settings.event_retention_seconds,
    )
    for start in range(0, len(ids), _AT_A_TIME):
        done = await canceller.cancel_all(ids[start : start + _AT_A_TIME])
        outcomes.update(str(each.status) for each in done.values())
        # Should what follows be broken off, it is known how far this came.
        entry.done(outcomes=outcomes)
    entry.done(outcomes=outcomes)
    return outcomes
