"""`trainmaster lanes`: lanes that were paused because nearly everything in them failed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from schemas.enums import Priority
from worker.cli.arguments import json_option
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.formatting import show_duration
from worker.cli.output import Column, Row, print_json, print_table
from worker.queue.ledger.lanes import Lanes

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.lanes import Pause


_COLUMNS: Final = (Column("lane"), Column("state"), Column("next probe"))


@click.group(invoke_without_command=True)
@json_option
@ledger_command
@click.pass_context
def lanes(ctx: click.Context, *, ledger: LedgerContext, as_json: bool) -> None:
    """Show paused lanes, or resume one.

    A lane is paused when nearly everything in it fails for good. Now and then one command is let
    through; the first that succeeds resumes the lane.
    """
    if ctx.invoked_subcommand is not None:
        if (ledger.redis_url, ledger.namespace, as_json) != (None, None, False):
            # They would be lost, and the wrong Redis changed.
            raise click.UsageError(f"put the options after {ctx.invoked_subcommand}")
        return

    async def look(redis: Redis) -> list[Pause]:
        return await Lanes(redis, ledger.keys).paused()

    paused = {pause.lane: pause for pause in ledger.run(look)}
    if not as_json:
        print_table(_COLUMNS, [_table_row(lane, paused.get(lane)) for lane in Priority], "reason")
        return
    for lane in Priority:
        pause = paused.get(lane)
        print_json({
            "lane": lane,
            "paused": pause is not None,
            "reason": pause.reason if pause else None,
            "next_probe_ms": pause.next_probe_ms if pause else None,
        })


def _table_row(lane: Priority, pause: Pause | None) -> Row:
    if pause is None:
        return Row((lane, "open", ""))
    rest = show_duration(pause.next_probe_ms / 1000 - time.time())
    return Row((lane, "paused", f"in {rest}"), state="paused", message=pause.reason)


@lanes.command()
@click.argument("lane", type=click.Choice([str(each) for each in Priority]))
@json_option
@ledger_command
def resume(*, ledger: LedgerContext, lane: str, as_json: bool) -> None:
    """Resume a lane; what waits in it is carried out."""

    async def act(redis: Redis) -> bool:
        return await Lanes(redis, ledger.keys).resume(Priority(lane))

    resumed = ledger.run(act)
    if as_json:
        print_json({"lane": lane, "resumed": resumed})
    else:
        click.echo(f"{lane}: {'resumed' if resumed else 'was not paused'}")
