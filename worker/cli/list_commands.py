"""`trainmaster list`: all commands, what changed last first."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import click
from redis.exceptions import NoPermissionError

from worker.cli.arguments import COMMAND_TYPE, PAST, json_option, newest_option
from worker.cli.command_texts import KNOWN_STATES, describe_next_look, fields_for_machines
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.formatting import (
    UNREAD_LIST_ADVICE,
    describe_error,
    describe_unread_list,
    show_duration,
)
from worker.cli.output import Column, Row, print_json, print_table, safe_text
from worker.queue.intake.list_bridge import unread_lists
from worker.queue.ledger.models import RowState
from worker.queue.ledger.queries import LedgerReader, RowChoice
from worker.times import milliseconds_of

if TYPE_CHECKING:
    from datetime import datetime

    from redis.asyncio import Redis

    from worker.queue.ledger.command_status import CommandStatus
    from worker.queue.ledger.keys import Keys

# So that nobody who only wants to see commands waits for a search through all of a large Redis.
_SEARCH_SECONDS: Final = 2.0
_COLUMNS: Final = (
    Column("id", shorten=True),
    Column("type", shorten=True, least=16),
    Column("state"),
    Column("lane", drop=4),
    Column("attempts", drop=3),
    Column("changed", drop=1),
    Column("next look", drop=2),
)


@click.command("list")
@click.option(
    "--state", type=click.Choice([str(each) for each in RowState]), help="Only this state."
)
@click.option("--type", "command_type", type=COMMAND_TYPE, metavar="TYPE", help="Only this type.")
@click.option("--since", type=PAST, help="Only changed after: RFC 3339, or a duration like 2h.")
@newest_option
@json_option
@ledger_command
def list_commands(
    *,
    ledger: LedgerContext,
    state: str | None,
    command_type: str | None,
    since: datetime | None,
    newest: int,
    as_json: bool,
) -> None:
    """List commands and how many there are.

    What changed last comes first. A command changes when it is accepted, makes progress, fails an
    attempt, or ends. A narrow terminal shows shortened ids and fewer columns; a pipe and --json get
    everything, one line per command. Lists in Redis that hold commands but that no worker reads are
    named on standard error.
    """
    choice = RowChoice(
        None if state is None else RowState(state),
        command_type,
        None if since is None else milliseconds_of(since),
    )

    counts: Counter[str] = Counter()
    rows: list[CommandStatus] = []
    unread: dict[str, int] = {}
    for one in ledger.partitions:

        async def look(
            redis: Redis, one: LedgerContext = one
        ) -> tuple[dict[str, int], list[CommandStatus], dict[str, int]]:
            reader = LedgerReader(redis, one.keys)
            counts, rows = await reader.counts(), await reader.newest(newest, choice)
            return counts, rows, await _unread(redis, one.keys)

        its_counts, its_rows, its_unread = one.run(look)
        counts.update(its_counts)
        rows += its_rows
        unread |= its_unread
    rows = sorted(rows, key=lambda row: row.changed_at_ms, reverse=True)[:newest]
    for name, messages in unread.items():
        # Not among the rows, which other programs read.
        click.echo(f"{describe_unread_list(name, messages)}: {UNREAD_LIST_ADVICE}", err=True)
    if as_json:
        for row in rows:
            print_json(fields_for_machines(row))
        return
    for line in _counts(counts):
        click.echo(line)
    if rows:
        _print_rows(rows)
    if len(rows) == newest:
        click.echo(f"there may be more than the {newest} shown: see --newest and --since")


def _counts(counts: dict[str, int]) -> list[str]:
    lanes = ("interactive", "bulk", "suspect")
    unread = (
        f"{counts['unread']} in the stream, {counts['unread_bulk']} in the bulk stream, "
        f"{counts['inbox']} in the inbox"
    )
    return [
        *(
            f"{name}: " + ", ".join(f"{counts[f'{name}_{lane}']} {lane}" for lane in lanes)
            for name in ("open", "due")
        ),
        f"unread: {unread}",
        f"dead letters: {counts['dead_letters']}",
    ]


async def _unread(redis: Redis, keys: Keys) -> dict[str, int]:
    """Returns lists of commands that no worker reads, as far as they can be found."""
    try:
        async with asyncio.timeout(_SEARCH_SECONDS):
            return await unread_lists(redis, keys)
    except (NoPermissionError, TimeoutError):
        return {}


def _print_rows(rows: list[CommandStatus]) -> None:
    now = time.time()
    print_table(_COLUMNS, [_table_row(row, now) for row in rows], "error")
    if unknown := sorted({row.state for row in rows} - KNOWN_STATES):
        click.echo(f"this version does not know: {safe_text(', '.join(unknown))}")


def _table_row(row: CommandStatus, now: float) -> Row:
    return Row(
        (
            row.id,
            row.type,
            row.state,
            row.lane,
            str(row.attempts),
            f"{show_duration(now - row.changed_at_ms / 1000)} ago",
            describe_next_look(row, now),
        ),
        state=row.state,
        message=describe_error(row.last_error) if row.last_error else "",
    )
