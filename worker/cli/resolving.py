"""`trainmaster resolve`: says what became of a call that left a command in doubt."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

import click

from worker.cli.arguments import json_option
from worker.cli.completion import complete_open_ids
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.output import FAILED, print_json, safe_text, shell_word
from worker.encord.creation.resolution import Resolution, ResolveOutcome, ResolveStatus
from worker.encord.creation.resolution import resolve as resolve_command
from worker.queue.ledger.models import RowState

if TYPE_CHECKING:
    from uuid import UUID


@click.command()
@click.argument("command_id", metavar="ID", shell_complete=complete_open_ids)
@click.option("--created", type=click.UUID, metavar="UUID", help="What its lost call created.")
@click.option(
    "--not-created", is_flag=True, help="It created nothing: the call is sent again, once."
)
@click.option("--by", metavar="NAME", help="Who says so.  [default: who runs this]")
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
    """Say what became of a call that left a command in doubt.

    Look at Encord first; `trainmaster status ID` says where. What was created is adopted as if the
    API had told of it; after --not-created the call is sent again, once. Who said so, and when,
    stands in the event `resolved` and in the status. Ends with 1 where the command is in no doubt.
    """
    if (created is None) == (not not_created):
        raise click.UsageError("say either --created UUID or --not-created")
    outcome = ledger.run(
        lambda redis: resolve_command(
            redis,
            ledger.keys,
            command_id,
            Resolution(created, " ".join((by or "").split()) or _whoever_runs_this()),
            reply_retention_seconds=ledger.settings.event_retention_seconds,
        )
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
                f"it is in no doubt now: {outcome.state}. A call that is under way is in doubt "
                "once its answer is surely lost"
            )
        case ResolveStatus.ALREADY_ENDED if outcome.state != RowState.FAILED:
            return f"it had ended before: {outcome.state}"
        case ResolveStatus.ALREADY_ENDED:
            return (
                f"it had ended before: {outcome.state}. If that was as outcome_unknown, "
                f"`trainmaster dead-letters replay {shell_word(command_id)}` sends it anew; with "
                "what was created you can go on yourself, with a training by watch_training"
            )
        case ResolveStatus.RESOLVED if created is None:
            return "the call is sent again, once"
        case ResolveStatus.RESOLVED:
            return f"goes on with {created}"
