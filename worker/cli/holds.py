"""`trainmaster holds`: why workers claim nothing, and how to lift that."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from worker.cli.output import counted, print_json, safe_text
from worker.cli.target import Target, json_option, ledger_command
from worker.cli.times import show_moment, show_span
from worker.ledger.holds import Holds, HoldScope

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.ledger.holds import Hold, Released


@click.group(invoke_without_command=True)
@json_option
@ledger_command
@click.pass_context
def holds(ctx: click.Context, *, target: Target, as_json: bool) -> None:
    """Show what keeps workers from claiming, or lift it.

    A 429 of the API holds the whole fleet for as long as it asks, up to
    TRAINMASTER_RETRY_AFTER_MAX_SECONDS. A worker whose key the API refuses (401) holds only itself,
    and goes on by itself once the API takes the key.
    """
    if ctx.invoked_subcommand is not None:
        if (target.redis_url, target.namespace, as_json) != (None, None, False):
            # They would be lost, and the wrong Redis changed.
            raise click.UsageError(f"put the options after {ctx.invoked_subcommand}")
        return

    async def look(redis: Redis) -> list[Hold]:
        return await Holds(redis, target.keys).list()

    found = target.run(look)
    for hold in found:
        if as_json:
            print_json(asdict(hold))
        else:
            click.echo(describe_hold(hold))
    if not found and not as_json:
        click.echo("no holds: workers claim what is due")


@holds.command()
@json_option
@ledger_command
def release(*, target: Target, as_json: bool) -> None:
    """Lift every hold; workers claim again within a second.

    Commands that a 429 had told to come back later are due at once. If the API still wants a pause,
    its next 429 holds the fleet again. A worker whose key was refused asks the API at once.
    """

    async def act(redis: Redis) -> Released:
        return await Holds(redis, target.keys).release()

    released = target.run(act)
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


def describe_hold(hold: Hold) -> str:
    """Returns a hold as a line for people."""
    since = f"since {show_moment(hold.since_ms)}"
    reason = safe_text(hold.reason)
    if hold.scope is HoldScope.WORKER:
        return f"worker {safe_text(hold.worker)}: {reason}; {since}, until the API takes its key"
    rest = show_span((hold.rest_ms or 0) / 1000)
    return f"the whole fleet: {reason}; {since}, for another {rest}"
