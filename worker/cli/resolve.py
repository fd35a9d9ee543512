"""`trainmaster resolve`: settles a command in doubt by the word of a person."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

import click

from worker.acts import Act
from worker.cli.arguments import json_option
from worker.cli.completion import complete_open_ids
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.output import FAILED, print_json, safe_text, shell_word
from worker.encord.creation.resolution import Resolution, ResolveOutcome, ResolveStatus
from worker.encord.creation.resolution import resolve as resolve_command
from worker.queue.ledger.models import RowState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from redis.asyncio import Redis


@click.command()
@click.argument("command_id", metavar="ID", shell_complete=complete_open_ids)
@click.option("--created", type=click.UUID, metavar="UUID", help="The lost call created this.")
@click.option(
    "--not-created", is_flag=True, help="The lost call created nothing; it is sent again, once."
)
@click.option("--by", metavar="NAME", help="Who says so.  [default: your user name]")
@json_option
@ledger_command
def resolve(
    *,
    ledger: LedgerContext,
    command_id: str,
    created: UUID | None,
    not_created: bool,
    by: str | None,
    as_json: bool,
) -> None:
    """Settle a command in doubt: say whether its lost call created something.

    Look at Encord first; `trainmaster status ID` says where. With --created the command goes on as
    if the API had answered; with --not-created its call is sent again, once. The event `resolved`
    and the status say who settled it, and when. Exits with 1 if the command is not in doubt.
    """
    if (created is None) == (not not_created):
        raise click.UsageError("say either --created UUID or --not-created")
    resolution = Resolution(created, " ".join((by or "").split()) or _whoever_runs_this())

    async def act(one: LedgerContext, redis: Redis, _: Sequence[str]) -> list[ResolveOutcome]:
        async with one.recorded(redis, Act.COMMAND_RESOLVE, command_id) as entry:
            outcome = await resolve_command(
                redis,
                one.keys,
                command_id,
                resolution,
                reply_retention_seconds=one.settings.event_retention_seconds,
            )
            if outcome.status is ResolveStatus.RESOLVED:
                entry.done(created=created, by=resolution.by)
        return [outcome]

    (outcome,) = ledger.run_by_id(
        [command_id], act, is_known=lambda each: each.status is not ResolveStatus.UNKNOWN_ID
    )
    if as_json:
        print_json({"id": command_id, "status": outcome.status, "state": outcome.state})
    else:
        click.echo(f"{safe_text(command_id)}: {_describe(command_id, created, outcome)}")
    if outcome.status is not ResolveStatus.RESOLVED:
        raise SystemExit(FAILED)


def _whoever_runs_this() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "the console"


def _describe(command_id: str, created: UUID | None, outcome: ResolveOutcome) -> str:
    match outcome.status:
        case ResolveStatus.UNKNOWN_ID:
            return "no command has this id: it is not accepted yet, or ended too long ago"
        case ResolveStatus.NOT_IN_DOUBT:
            return (
                f"it is not in doubt: {outcome.state}. A command is in doubt only once the answer "
                "to its call is lost"
            )
        case ResolveStatus.ALREADY_ENDED if outcome.state != RowState.FAILED:
            return f"it had already ended: {outcome.state}"
        case ResolveStatus.ALREADY_ENDED:
            return (
                f"it had already ended: {outcome.state}. If its error is outcome_unknown: where "
                "nothing was created, send it again by "
                f"`trainmaster dead-letters replay {shell_word(command_id)}`; a training that was "
                "created can be followed by watch_training"
            )
        case ResolveStatus.RESOLVED if created is None:
            return "the call is sent again, once"
        case ResolveStatus.RESOLVED:
            return f"goes on with {created}"
