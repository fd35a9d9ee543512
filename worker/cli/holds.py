"""`trainmaster holds`: why workers claim nothing, and how to lift that."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from schemas.wording import counted
from worker.cli.arguments import json_option
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.formatting import show_duration, show_timestamp
from worker.cli.output import Column, Row, print_json, print_table
from worker.queue.ledger.holds import Holds, HoldScope

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.holds import Hold, Released


_COLUMNS: Final = (
    Column("who is held", shorten=True),
    Column("since", drop=1),
    Column("ends when"),
)


@click.group(invoke_without_command=True)
@json_option
@ledger_command
@click.pass_context
def holds(ctx: click.Context, *, ledger: LedgerContext, as_json: bool) -> None:
    """Show what keeps workers from claiming, or lift it.

    A 429 of the API holds the whole fleet for as long as it asks, up to
    TRAINMASTER_RETRY_AFTER_MAX_SECONDS. A worker whose key the API refuses (401) holds only itself,
    and goes on by itself once the API takes the key.
    """
    if ctx.invoked_subcommand is not None:
        if (ledger.redis_url, ledger.namespace, as_json) != (None, None, False):
            # They would be lost, and the wrong Redis changed.
            raise click.UsageError(f"put the options after {ctx.invoked_subcommand}")
        return

    async def look(redis: Redis) -> list[Hold]:
        return await Holds(redis, ledger.keys).list()

    found = ledger.run(look)
    if as_json:
        for hold in found:
            print_json(asdict(hold))
    elif not found:
        click.echo("no holds: workers claim what is due")
    else:
        print_table(_COLUMNS, [_table_row(hold) for hold in found], "reason")


@holds.command()
@json_option
@ledger_command
def release(*, ledger: LedgerContext, as_json: bool) -> None:
    """Lift every hold; workers claim again within a second.

    Commands that a 429 had told to come back later are due at once. If the API still wants a pause,
    its next 429 holds the fleet again. A worker whose key was refused asks the API at once.
    """

    async def act(redis: Redis) -> Released:
        return await Holds(redis, ledger.keys).release()

    released = ledger.run(act)
    if as_json:
        print_json({
            "released": [asdict(hold) for hold in released.holds],
            "commands": released.commands,
        })
    elif not released.holds and not released.commands:
        click.echo("there was no hold")
    else:
        click.echo(
            f"lifted {counted(len(released.holds), 'hold')}; "
            f"{counted(released.commands, 'command')} that had to wait can go on now"
        )


def _table_row(hold: Hold) -> Row:
    alone = hold.scope is HoldScope.WORKER
    return Row(
        (
            hold.worker if alone else "the whole fleet",
            show_timestamp(hold.since_ms),
            "the API takes its key"
            if alone
            else f"{show_duration((hold.rest_ms or 0) / 1000)} are over",
        ),
        message=hold.reason,
    )
