"""`trainmaster dead-letters`: looks at what failed, sends it again, or deletes it."""

from __future__ import annotations

import base64
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from schemas.events import ErrorCode
from worker.cli.arguments import ArgumentError, read_data, read_value
from worker.cli.narration import describe_error
from worker.cli.output import (
    counted,
    make_table,
    open_console,
    print_fields,
    print_json,
    safe_text,
)
from worker.cli.replaying import Edit, Replay, ReplayError, prepare
from worker.cli.target import Target, json_option, ledger_command
from worker.cli.times import PAST, SPAN, milliseconds, show_moment
from worker.ledger.dead_letters import DeadLetter, DeadLetters

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from redis.asyncio import Redis

FAILED: Final = 1
_SHOWN_MESSAGE_CHARACTERS: Final = 80

reason_option: Final = click.option("--reason", metavar="CODE", help="Only with this error code.")
type_option: Final = click.option("--type", "command_type", help="Only of this command type.")


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at what failed or was rejected; send it again or delete it.

    A KEY is the letter's own key, or the id of its command.
    """


@dead_letters.command("list")
@reason_option
@type_option
@click.option("--since", type=PAST, help="Only what died since then: RFC 3339, or like 2h ago.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
@json_option
@ledger_command
def list_letters(
    *,
    target: Target,
    reason: str | None,
    command_type: str | None,
    since: datetime | None,
    limit: int,
    as_json: bool,
) -> None:
    """List dead letters, oldest first."""

    async def look(redis: Redis) -> list[DeadLetter]:
        letters = DeadLetters(redis, target.keys).list(
            reason=reason,
            command_type=command_type,
            since_ms=None if since is None else milliseconds(since),
            limit=limit,
        )
        return [letter async for letter in letters]

    letters = target.run(look)
    if as_json:
        for letter in letters:
            print_json(_for_machines(letter))
        return
    console = open_console()
    if not letters:
        console.print("no dead letters")
        return
    table = make_table("key", "id", "type", "died", "attempts", "reason", "message")
    for letter in letters:
        table.add_row(
            letter.key,
            safe_text(letter.command_id),
            safe_text(letter.type),
            show_moment(letter.at_ms),
            str(letter.attempts),
            letter.reason,
            safe_text(letter.error["message"])[:_SHOWN_MESSAGE_CHARACTERS],
        )
    console.print(table)
    if len(letters) == limit:
        console.print(f"there may be more than these {limit}: see --limit and --since")


@dead_letters.command()
@click.argument("key")
@json_option
@ledger_command
def show(*, target: Target, key: str, as_json: bool) -> None:
    """Show a dead letter whole: its error, its history, its original text."""

    async def look(redis: Redis) -> DeadLetter | None:
        return await DeadLetters(redis, target.keys).get(key)

    letter = target.run(look)
    if letter is None:
        raise click.ClickException(f"no dead letter has the key or the id {safe_text(key)}")
    if as_json:
        print_json(_for_machines(letter))
        return
    console = open_console()
    fields = [
        ("key", letter.key),
        ("id", letter.command_id),
        ("type", letter.type),
        ("died", show_moment(letter.at_ms)),
        ("attempts", str(letter.attempts)),
        ("error", describe_error(letter.error)),
    ]
    fields += [
        (f"problem {number}", f"{problem['path']} {problem['message']}".strip())
        for number, problem in enumerate(letter.error.get("problems") or [], 1)
    ]
    fields += [
        (f"history {number}", f"{error['at']} {describe_error(error)}")
        for number, error in enumerate(letter.history, 1)
    ]
    print_fields(console, fields)
    console.print(f"\n{safe_text(letter.text.decode('utf-8', 'replace'))}", soft_wrap=True)


@dead_letters.command()
@click.argument("keys", nargs=-1, metavar="[KEY]...")
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
    target: Target,
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
        letters = DeadLetters(redis, target.keys)
        found = await _select(letters, keys, reason, command_type)
        outcomes: list[Replay | ReplayError] = []
        for key, letter in found:
            try:
                made = prepare(key, letter, edit, by_reason=reason, by_key=bool(keys))
            except ReplayError as exc:
                outcomes.append(exc)
                continue
            if not dry_run:
                await letters.replay(made.letter)
            outcomes.append(made)
        return outcomes

    outcomes = target.run(act)
    for outcome in outcomes:
        _print_outcome(outcome, dry_run=dry_run, as_json=as_json)
    refused = sum(isinstance(outcome, ReplayError) for outcome in outcomes)
    if not as_json:
        done = "would be sent" if dry_run else "sent"
        rest = f", {refused} not" if refused else ""
        click.echo(f"{counted(len(outcomes) - refused, 'command')} {done}{rest}", err=True)
    if refused:
        raise SystemExit(FAILED)


@dead_letters.command()
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@reason_option
@click.option("--older-than", type=SPAN, help="Only what died so long ago, like 7d.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@json_option
@ledger_command
def purge(
    *,
    target: Target,
    keys: tuple[str, ...],
    reason: str | None,
    older_than: timedelta | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete dead letters for good."""
    by_rule = reason is not None or older_than is not None
    if bool(keys) == by_rule:
        raise click.UsageError("name letters by KEY, or by --reason or --older-than")
    before_ms = None
    if older_than is not None:
        before_ms = int((time.time() - older_than.total_seconds()) * 1000)

    async def look(redis: Redis) -> list[tuple[str, DeadLetter | None]]:
        return await _select(DeadLetters(redis, target.keys), keys, reason, None, before_ms)

    found = target.run(look)
    missing = [key for key, letter in found if letter is None]
    for key in missing:
        click.echo(f"no dead letter has the key or the id {safe_text(key)}", err=True)
    doomed = list(dict.fromkeys(letter.key for _, letter in found if letter is not None))
    if doomed and not yes:
        click.confirm(
            f"Delete {counted(len(doomed), 'dead letter')} for good?", abort=True, err=True
        )

    async def act(redis: Redis) -> int:
        return await DeadLetters(redis, target.keys).purge(doomed)

    purged = target.run(act) if doomed else 0
    if as_json:
        print_json({"purged": purged, "missing": missing})
    else:
        click.echo(f"{counted(purged, 'dead letter')} deleted")
    if missing:
        raise SystemExit(FAILED)


async def _select(
    letters: DeadLetters,
    keys: Sequence[str],
    reason: str | None,
    command_type: str | None,
    before_ms: int | None = None,
) -> list[tuple[str, DeadLetter | None]]:
    """Returns letters by key, with None where there is none, or else all that fit."""
    if keys:
        return [(key, await letters.get(key)) for key in keys]
    found: list[tuple[str, DeadLetter | None]] = []
    async for letter in letters.list(reason=reason, command_type=command_type):
        if before_ms is not None and letter.at_ms >= before_ms:
            continue
        found.append((letter.key, letter))
    return found


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
    if outcome.letter.reason == ErrorCode.OUTCOME_UNKNOWN:
        click.echo("  its outcome was unknown: what it creates may then exist twice", err=True)


def _for_machines(letter: DeadLetter) -> dict[str, Any]:
    """Returns a letter's fields; a text that is no UTF-8 is in `text_base64` alone."""
    shown = asdict(letter)
    try:
        shown["text"], shown["text_base64"] = letter.text.decode("utf-8"), None
    except UnicodeDecodeError:
        shown["text"], shown["text_base64"] = None, base64.b64encode(letter.text).decode()
    return shown
