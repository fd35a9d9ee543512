"""`trainmaster dead-letters`: looks at what failed, sends it again, or deletes it."""

from __future__ import annotations

import base64
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from schemas.wording import counted
from worker.cli.arguments import DURATION, PAST, json_option, milliseconds, newest_option
from worker.cli.completion import complete_letters
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.formatting import describe_error, show_timestamp
from worker.cli.output import (
    FAILED,
    Column,
    Row,
    open_console,
    print_fields,
    print_json,
    print_table,
    safe_text,
)
from worker.cli.replay import reason_option, replay, type_option
from worker.queue.ledger.dead_letters import DeadLetter, DeadLetters

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from redis.asyncio import Redis

_COLUMNS: Final = (
    Column("key"),
    # Its key names a letter; the id need not be whole.
    Column("id", shorten=True, least=20),
    Column("type", drop=1, shorten=True, least=16),
    Column("died", drop=3),
    Column("attempts", drop=4),
    Column("reason"),
)


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at what failed or was rejected; send it again or delete it.

    A KEY is the letter's own key, or the id of its command.
    """


dead_letters.add_command(replay)


@dead_letters.command("list")
@reason_option
@type_option
@click.option("--since", type=PAST, help="Only what died since then: RFC 3339, or like 2h ago.")
@newest_option
@json_option
@ledger_command
def list_letters(
    *,
    ledger: LedgerContext,
    reason: str | None,
    command_type: str | None,
    since: datetime | None,
    newest: int,
    as_json: bool,
) -> None:
    """List dead letters, newest first.

    On a terminal ids are shortened and some columns left out where it is too narrow; through a pipe
    and with --json all of it stands in full.
    """

    async def look(redis: Redis) -> list[DeadLetter]:
        letters = DeadLetters(redis, ledger.keys).list(
            reason=reason,
            command_type=command_type,
            since_ms=None if since is None else milliseconds(since),
            limit=newest,
            newest_first=True,
        )
        return [letter async for letter in letters]

    letters = ledger.run(look)
    if as_json:
        for letter in letters:
            print_json(_for_machines(letter))
        return
    if not letters:
        click.echo("no dead letters")
        return
    rows = [
        Row(
            (
                letter.key,
                letter.command_id,
                letter.type,
                show_timestamp(letter.at_ms),
                str(letter.attempts),
                letter.reason,
            ),
            message=str(letter.error["message"]),
        )
        for letter in letters
    ]
    print_table(_COLUMNS, rows)
    if len(letters) == newest:
        click.echo(f"there may be more than the {newest} shown: see --newest and --since")


@dead_letters.command()
@click.argument("key", shell_complete=complete_letters)
@json_option
@ledger_command
def show(*, ledger: LedgerContext, key: str, as_json: bool) -> None:
    """Show a dead letter whole: its error, its history, its original text."""

    async def look(redis: Redis) -> DeadLetter | None:
        return await DeadLetters(redis, ledger.keys).get(key)

    letter = ledger.run(look)
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
        ("died", show_timestamp(letter.at_ms)),
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
@click.argument("keys", nargs=-1, metavar="[KEY]...", shell_complete=complete_letters)
@reason_option
@click.option("--older-than", type=DURATION, help="Only what died so long ago, like 7d.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@json_option
@ledger_command
def purge(
    *,
    ledger: LedgerContext,
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
        return await DeadLetters(redis, ledger.keys).select(
            keys, reason=reason, before_ms=before_ms
        )

    found = ledger.run(look)
    missing = [key for key, letter in found if letter is None]
    for key in missing:
        click.echo(f"no dead letter has the key or the id {safe_text(key)}", err=True)
    doomed = list(dict.fromkeys(letter.key for _, letter in found if letter is not None))
    if doomed and not yes:
        click.confirm(
            f"Delete {counted(len(doomed), 'dead letter')} for good?", abort=True, err=True
        )

    async def act(redis: Redis) -> int:
        return await DeadLetters(redis, ledger.keys).purge(doomed)

    purged = ledger.run(act) if doomed else 0
    if as_json:
        print_json({"purged": purged, "missing": missing})
    else:
        click.echo(f"{counted(purged, 'dead letter')} deleted")
    if missing:
        raise SystemExit(FAILED)


def _for_machines(letter: DeadLetter) -> dict[str, Any]:
    """Returns a letter's fields; a text that is no UTF-8 is in `text_base64` alone."""
    shown = asdict(letter)
    try:
        shown["text"], shown["text_base64"] = letter.text.decode("utf-8"), None
    except UnicodeDecodeError:
        shown["text"], shown["text_base64"] = None, base64.b64encode(letter.text).decode()
    return shown
