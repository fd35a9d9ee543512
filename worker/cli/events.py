"""`trainmaster events`: prints events, and further ones as they come."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from worker.cli.choices import EVENT_TYPE
from worker.cli.completion import complete_ids
from worker.cli.narration import narrate
from worker.cli.output import open_console, print_json
from worker.cli.target import Target, json_option, ledger_command
from worker.cli.times import PAST, milliseconds
from worker.ledger.connection import LEDGER_TROUBLE
from worker.ledger.event_stream import read

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from redis.asyncio import Redis


_PAUSE_SECONDS: Final = 1.0


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Wait for further events.")
@click.option("--replyto", metavar="NAME", help="Only the events that went to this reply stream.")
@click.option(
    "--type",
    "types",
    type=EVENT_TYPE,
    multiple=True,
    metavar="TYPE",
    help="Only these: a command's type, a state, or both (train, failed, train.failed).",
)
@click.option(
    "--id",
    "ids",
    multiple=True,
    metavar="ID",
    shell_complete=complete_ids,
    help="Only the events of this command.",
)
@click.option("--since", type=PAST, help="Only events since then: RFC 3339, or like 10m ago.")
@json_option
@ledger_command
def events(  # noqa: PLR0913 - one for each option
    *,
    target: Target,
    follow: bool,
    replyto: str | None,
    types: tuple[str, ...],
    ids: tuple[str, ...],
    since: datetime | None,
    as_json: bool,
) -> None:
    """Print events, oldest first.

    Prints all that are kept; with --follow waits for more, until it is interrupted. For new ones
    only: --follow --since 0s
    """
    console = open_console()
    # The entry before the first of that millisecond.
    start = "0-0" if since is None else f"{max(milliseconds(since) - 1, 0)}-{2**64 - 1}"

    def print_one(event: dict[str, Any]) -> None:
        if ids and event["subject"] not in ids:
            return
        if as_json:
            print_json(event)
        else:
            console.print(narrate(event), soft_wrap=True)

    choice = _Choice(replyto, types, start, follow)
    try:
        target.run(lambda redis: _print_all(redis, target, choice, print_one))
    except KeyboardInterrupt:
        if not follow:
            raise


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which events are wanted: of which stream, which types, from where, and further ones too."""

    reply_to: str | None
    types: tuple[str, ...]
    start: str
    follow: bool


async def _print_all(
    redis: Redis, target: Target, choice: _Choice, print_one: Callable[[dict[str, Any]], None]
) -> None:
    """Prints events; while it follows, an outage of Redis is waited for and told once."""
    # Whoever can't get in learns it at once; only a connection that was there is waited for.
    await redis.ping()
    position, told = choice.start, False
    while True:
        stream = read(
            redis,
            target.keys,
            reply_to=choice.reply_to,
            types=choice.types,
            start=position,
            follow=choice.follow,
        )
        try:
            async for entry_id, event in stream:
                print_one(event)
                position, told = entry_id, False
            return
        except LEDGER_TROUBLE as exc:
            if not choice.follow or isinstance(exc, BrokenPipeError):
                raise
            if not told:
                click.echo(f"{target.trouble(exc)}; waiting for it", err=True)
                told = True
            await asyncio.sleep(_PAUSE_SECONDS)
