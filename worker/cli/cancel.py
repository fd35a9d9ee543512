"""`trainmaster cancel`: ends commands, and says what goes on nevertheless."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from worker.acts import Act
from worker.cli.arguments import json_option
from worker.cli.completion import complete_open_ids
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.output import FAILED, print_json, safe_text
from worker.queue.ledger.cancellation import CancelOutcome, CancelStatus
from worker.queue.ledger.cancellation import cancel as cancel_command
from worker.queue.ledger.models import RowState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...", shell_complete=complete_open_ids)
@json_option
@ledger_command
def cancel(*, ledger: LedgerContext, ids: tuple[str, ...], as_json: bool) -> None:
    """Cancel commands that have not ended.

    Workers do nothing more for them; a backfill first writes the results that it has. What was done
    at the API stays: a running training goes on, because the API cannot stop it. Exits with 1 if an
    id is unknown, for example because no worker has accepted the command yet.
    """
    outcomes = ledger.run_by_id(
        ids, _cancel_all, is_known=lambda each: each.status is not CancelStatus.UNKNOWN_ID
    )
    for command_id, outcome in zip(ids, outcomes, strict=True):
        if as_json:
            print_json({
                "id": command_id,
                "verdict": outcome.status,
                "state": outcome.state,
                "training_uuid": outcome.leaves.get("training_uuid"),
                "in_doubt": outcome.in_doubt,
            })
        else:
            click.echo(f"{safe_text(command_id)}: {_describe(outcome)}")
    if not all(_is_cancelled(outcome) for outcome in outcomes):
        raise SystemExit(FAILED)


async def _cancel_all(
    ledger: LedgerContext, redis: Redis, ids: Sequence[str]
) -> list[CancelOutcome]:
    """Cancels commands; one entry of the log of acts tells of all."""
    found: list[CancelOutcome] = []
    counts: Counter[str] = Counter()
    if len(ids) == 1:
        recorded = ledger.recorded(redis, Act.COMMAND_CANCEL, ids[0])
    else:
        told: dict[str, Any] = {
            "filter": {"ids": ids},
            "matched": len(ids),
            "outcomes": counts,
        }
        recorded = ledger.recorded(redis, Act.COMMANDS_CANCEL, **told)
    async with recorded as entry:
        for command_id in ids:
            outcome = await cancel_command(
                redis,
                ledger.keys,
                command_id,
                retention_seconds=ledger.settings.id_retention_seconds,
                reply_retention_seconds=ledger.settings.event_retention_seconds,
            )
            found.append(outcome)
            counts[outcome.status] += 1
            if outcome.is_done:
                entry.done(**({"state_before": outcome.state} if len(ids) == 1 else {}))
    return found


def _is_cancelled(outcome: CancelOutcome) -> bool:
    return outcome.is_done or outcome.state == RowState.CANCELLED


def _describe(outcome: CancelOutcome) -> str:
    match outcome.status:
        case CancelStatus.UNKNOWN_ID:
            return (
                "no command has this id: it is not accepted yet, or ended too long ago. A command "
                "that is still in a stream can be cancelled once a worker has accepted it; for a "
                "backfill see `trainmaster backfill cancel`"
            )
        case CancelStatus.MEMBER_OF_GROUP:
            return "it is an item of a backfill; see `trainmaster backfill cancel`"
        case CancelStatus.ALREADY_ENDED:
            return f"it had already ended: {outcome.state}"
        case CancelStatus.CANCELLING:
            return (
                "no further item of the backfill starts; it is cancelled once a worker has written "
                "the results so far. See `trainmaster backfill status`"
            )
        case CancelStatus.CANCELLED:
            return f"cancelled{_consequence(outcome)}"


def _consequence(outcome: CancelOutcome) -> str:
    training_uuid = outcome.leaves.get("training_uuid")
    if training_uuid is not None:
        return (
            f"; its training {training_uuid} goes on at the API, which can't stop it. "
            "To wait for it again, submit watch_training"
        )
    if outcome.in_doubt:
        return (
            "; a change was under way at the API, and no worker will find out whether it happened: "
            "look there before you send it again"
        )
    if outcome.state == RowState.POLLING:
        return "; the training that it watched goes on at the API, which can't stop it"
    if outcome.state == RowState.RUNNING:
        return "; a call of the API that is under way may still be carried out"
    return "; nothing had been started"
