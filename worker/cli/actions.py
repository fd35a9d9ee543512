"""`trainmaster actions`: who did what, on the command line and over HTTP."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from schemas.json_text import encode_json
from worker.acts import Act
from worker.cli.arguments import PAST, json_option, newest_option
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.formatting import show_timestamp
from worker.cli.output import Column, Row, print_json, print_table
from worker.queue.ledger.actions import Action, ActionLog
from worker.times import milliseconds_of

if TYPE_CHECKING:
    from datetime import datetime

    from redis.asyncio import Redis

_COLUMNS: Final = (
    Column("when"),
    Column("who", shorten=True, least=16),
    Column("act"),
    Column("on what", drop=1, shorten=True, least=20),
)


@click.command()
@click.option("--who", metavar="NAME", help="Only what this one did: a token, or cli:USER@HOST.")
@click.option(
    "--act", type=click.Choice([str(each) for each in Act]), metavar="ACT", help="Only this."
)
@click.option("--on", "subject", metavar="NAME", help="Only what was done to this, by id or name.")
@click.option("--since", type=PAST, help="Only newer than this: RFC 3339, or a duration like 2h.")
@newest_option
@json_option
@ledger_command
def actions(  # noqa: PLR0913 - one for each option
    *,
    ledger: LedgerContext,
    who: str | None,
    act: str | None,
    subject: str | None,
    since: datetime | None,
    newest: int,
    as_json: bool,
) -> None:
    """Show who did what, the latest first.

    Each act of a person is recorded, here and over HTTP: cancel, resolve, replay, purge, release,
    pause, resume, recover, and tokens that are made and revoked. What is refused is not.
    """

    async def look(redis: Redis) -> list[Action]:
        found: list[Action] = []
        listed = ActionLog(redis, ledger.keys).list(
            who=who,
            act=act,
            subject=subject,
            since_ms=0 if since is None else milliseconds_of(since),
        )
        async for each in listed:
            found.append(each)
            if len(found) == newest:
                break
        return found

    found = ledger.run(look)
    if as_json:
        for each in found:
            print_json(asdict(each))
    elif not found:
        click.echo("no acts")
    else:
        print_table(_COLUMNS, [_row(each) for each in found], "details")
        if len(found) == newest:
            click.echo(f"there may be more than the {newest} shown: see --newest and --since")


def _row(action: Action) -> Row:
    told = "; ".join(f"{name}: {_said(value)}" for name, value in action.details.items())
    cells = (show_timestamp(action.at_ms), action.who, action.act, action.subject or "-")
    return Row(cells, message=told)


def _said(value: Any) -> str:
    return value if isinstance(value, str) else encode_json(value).decode()
