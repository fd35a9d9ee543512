"""`trainmaster events`: prints events, and further ones as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from worker.cli.narration import narrate
from worker.cli.output import open_console, print_json
from worker.cli.target import Target, json_option, ledger_command
from worker.cli.times import PAST, milliseconds
from worker.ledger.event_stream import read

if TYPE_CHECKING:
    from datetime import datetime

    from redis.asyncio import Redis


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Wait for further events.")
@click.option("--replyto", metavar="NAME", help="Only the events that went to this reply stream.")
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="TYPE",
    help="Only these: a command's type, a state, or both (train, failed, train.failed).",
)
@click.option("--id", "ids", multiple=True, metavar="ID", help="Only the events of this command.")
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

    async def print_all(redis: Redis) -> None:
        stream = read(redis, target.keys, reply_to=replyto, types=types, start=start, follow=follow)
        async for _, event in stream:
            if ids and event["subject"] not in ids:
                continue
            if as_json:
                print_json(event)
            else:
                console.print(narrate(event), soft_wrap=True)

    try:
        target.run(print_all)
    except KeyboardInterrupt:
        if not follow:
            raise
