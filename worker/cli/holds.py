"""`trainmaster holds` and `lanes`: what keeps workers from claiming, and how to end it."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from schemas.enums import Priority
from schemas.wording import counted
from worker.acts import Act
from worker.cli.arguments import Group, json_option
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.formatting import show_duration, show_timestamp
from worker.cli.output import Column, Row, print_json, print_table
from worker.queue.ledger.holds import Holds, HoldScope
from worker.queue.ledger.lanes import Lanes

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.holds import Hold, Released
    from worker.queue.ledger.lanes import Pause


_HOLD_COLUMNS: Final = (
    Column("who is held", shorten=True),
    Column("since", drop=1),
    Column("ends"),
)
_LANE_COLUMNS: Final = (Column("lane"), Column("state"), Column("next probe"))


@click.group(cls=Group, invoke_without_command=True)
@json_option
@ledger_command
@click.pass_context
def holds(ctx: click.Context, *, ledger: LedgerContext, as_json: bool) -> None:
    """Show what keeps workers from claiming commands, or release it.

    A 429 from the API holds all workers for as long as it asks, at most
    TRAINMASTER_RETRY_AFTER_MAX_SECONDS. A worker whose key the API refuses (401) holds only itself,
    and goes on once the API accepts the key.
    """
    if _has_subcommand(ctx, ledger, as_json=as_json):
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
        print_table(_HOLD_COLUMNS, [_hold_row(hold) for hold in found], "reason")


@holds.command()
@json_option
@ledger_command
def release(*, ledger: LedgerContext, as_json: bool) -> None:
    """Release every hold; workers claim again within a second.

    Commands that a 429 put off are due at once. If the API still wants a pause, its next 429 holds
    the workers again. A worker whose key was refused asks the API at once.
    """

    async def act(redis: Redis) -> Released:
        async with ledger.recorded(redis, Act.HOLDS_RELEASE) as entry:
            released = await Holds(redis, ledger.keys).release()
            entry.done(holds=len(released.holds), commands=released.commands)
        return released

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
            f"released {counted(len(released.holds), 'hold')}; "
            f"{counted(released.commands, 'command')} that had to wait can go on now"
        )


@click.group(cls=Group, invoke_without_command=True)
@json_option
@ledger_command
@click.pass_context
def lanes(ctx: click.Context, *, ledger: LedgerContext, as_json: bool) -> None:
    """Show paused lanes, or resume one.

    A lane is paused when nearly every command in it fails for good. Now and then one command is
    tried; the first that succeeds resumes the lane.
    """
    if _has_subcommand(ctx, ledger, as_json=as_json):
        return

    async def look(redis: Redis) -> list[Pause]:
        return await Lanes(redis, ledger.keys).paused()

    paused = {pause.lane: pause for pause in ledger.run(look)}
    if not as_json:
        rows = [_lane_row(lane, paused.get(lane)) for lane in Priority]
        print_table(_LANE_COLUMNS, rows, "reason")
        return
    for lane in Priority:
        pause = paused.get(lane)
        print_json({
            "lane": lane,
            "paused": pause is not None,
            "reason": pause.reason if pause else None,
            "next_probe_ms": pause.next_probe_ms if pause else None,
        })


@lanes.command()
@click.argument("lane", type=click.Choice([str(each) for each in Priority]))
@json_option
@ledger_command
def resume(*, ledger: LedgerContext, lane: str, as_json: bool) -> None:
    """Resume a lane; the commands that wait in it run."""

    async def act(redis: Redis) -> bool:
        async with ledger.recorded(redis, Act.LANE_RESUME, lane) as entry:
            resumed = await Lanes(redis, ledger.keys).resume(Priority(lane))
            entry.done(was_paused=resumed)
        return resumed

    resumed = ledger.run(act)
    if as_json:
        print_json({"lane": lane, "resumed": resumed})
    else:
        click.echo(f"{lane}: {'resumed' if resumed else 'was not paused'}")


def _has_subcommand(ctx: click.Context, ledger: LedgerContext, *, as_json: bool) -> bool:
    if ctx.invoked_subcommand is None:
        return False
    if (ledger.redis_url, ledger.namespace, as_json) != (None, None, False):
        # They would be lost, and the wrong Redis changed.
        raise click.UsageError(f"put the options after {ctx.invoked_subcommand}")
    return True


def _hold_row(hold: Hold) -> Row:
    alone = hold.scope is HoldScope.WORKER
    return Row(
        (
            hold.worker if alone else "all workers",
            show_timestamp(hold.since_ms),
            "when the API accepts its key"
            if alone
            else f"in {show_duration((hold.rest_ms or 0) / 1000)}",
        ),
        message=hold.reason,
    )


def _lane_row(lane: Priority, pause: Pause | None) -> Row:
    if pause is None:
        return Row((lane, "open", ""))
    rest = show_duration(pause.next_probe_ms / 1000 - time.time())
    return Row((lane, "paused", f"in {rest}"), state="paused", message=pause.reason)
