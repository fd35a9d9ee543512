"""`trainmaster dead-letters replay`: sends what failed again, as it was or changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from schemas.wording import counted
from worker.cli.arguments import (
    ERROR_CODE,
    LETTER_TYPE,
    ArgumentError,
    json_option,
    read_data,
    read_value,
)
from worker.cli.completion import complete_letters
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.formatting import describe_error
from worker.cli.output import FAILED, print_json, safe_text
from worker.cli.replaying import PERHAPS_DONE, Edit, Replay, ReplayError, prepare
from worker.queue.ledger.dead_letters import DeadLetters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis


reason_option: Final = click.option(
    "--reason", type=ERROR_CODE, metavar="CODE", help="Only with this error code."
)
type_option: Final = click.option(
    "--type",
    "command_type",
    type=LETTER_TYPE,
    metavar="TYPE",
    help="Only of this command type; `command` is a message whose type can't be read.",
)


@click.command()
@click.argument("keys", nargs=-1, metavar="[KEY]...", shell_complete=complete_letters)
@reason_option
@type_option
@click.option("--all", "everything", is_flag=True, help="All of this reason or type, or all.")
@click.option("--dry-run", is_flag=True, help="Show the commands that would be sent.")
@click.option("--data", metavar="JSON", help="Send this in place of the command's data.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Change the data.")
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change an attribute of the command; null removes it.",
)
@json_option
@ledger_command
def replay(  # noqa: PLR0913 - one for each option
    *,
    ledger: LedgerContext,
    keys: tuple[str, ...],
    reason: str | None,
    command_type: str | None,
    everything: bool,
    dry_run: bool,
    data: str | None,
    pairs: tuple[str, ...],
    attributes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Send commands again, as they were or changed; their letters are removed.

    Each gets an id of its own and names the old one in causationid; a deadline that has passed is
    dropped.
    What would be rejected is not sent. Where nobody knows whether a change happened
    (outcome_unknown), look at the API first: --all leaves those out unless --reason names them.
    """
    if bool(keys) == everything:
        raise click.UsageError("name letters by KEY, or take them with --all")
    edit = _read_edit(data, pairs, attributes)

    async def act(redis: Redis) -> list[Replay | ReplayError]:
        letters = DeadLetters(redis, ledger.keys)
        found = await letters.select(keys, reason=reason, command_type=command_type)
        now = await letters.now()
        outcomes: list[Replay | ReplayError] = []
        for key, letter in found:
            try:
                made = prepare(key, letter, edit, now, by_reason=reason, by_key=bool(keys))
            except ReplayError as exc:
                outcomes.append(exc)
                continue
            if not dry_run:
                await letters.replay(made.letter)
            outcomes.append(made)
        return outcomes

    outcomes = ledger.run(act)
    for outcome in outcomes:
        _print_outcome(outcome, dry_run=dry_run, as_json=as_json)
    refused = sum(isinstance(outcome, ReplayError) for outcome in outcomes)
    if not as_json:
        done = "would be sent" if dry_run else "sent"
        rest = f", {refused} not" if refused else ""
        click.echo(f"{counted(len(outcomes) - refused, 'command')} {done}{rest}", err=True)
    if refused:
        raise SystemExit(FAILED)


def _read_edit(data: str | None, pairs: Sequence[str], attributes: Sequence[str]) -> Edit:
    replacement = None
    if data is not None:
        replacement = read_value(data)
        if not isinstance(replacement, dict):
            raise click.UsageError("--data must be a JSON object")
    changes: dict[str, Any] = {}
    for attribute in attributes:
        name, equals, text = attribute.partition("=")
        if not equals or not name or name in {"data", "id"}:
            raise click.UsageError(f"--attribute {attribute!r}: give an attribute as key=value")
        changes[name] = read_value(text)
    try:
        # The pairs are read again for each letter's type; here only for what is wrong with them.
        read_data(pairs, "")
    except ArgumentError as exc:
        raise click.UsageError(f"--set: {exc}") from exc
    return Edit(replacement, tuple(pairs), changes)


def _print_outcome(outcome: Replay | ReplayError, *, dry_run: bool, as_json: bool) -> None:
    if isinstance(outcome, ReplayError):
        if as_json:
            print_json({"key": outcome.key, "error": outcome.error})
        else:
            click.echo(safe_text(f"{outcome.key}: {describe_error(outcome.error)}"), err=True)
        return
    if as_json:
        print_json({
            "key": outcome.letter.key,
            "causationid": outcome.letter.command_id,
            "id": outcome.command["id"],
            "command": outcome.command,
            "deadline_dropped": outcome.deadline_dropped,
            "sent": not dry_run,
        })
        return
    done = "would be sent" if dry_run else "sent"
    click.echo(safe_text(f"{outcome.letter.key}: {done} as {outcome.command['id']}"))
    if dry_run:
        print_json(outcome.command)
    if outcome.deadline_dropped:
        click.echo("  its deadline had passed and is dropped", err=True)
    if outcome.letter.reason in PERHAPS_DONE:
        click.echo("  its outcome was unknown: what it creates may then exist twice", err=True)
