"""`trainmaster events`: prints events, and waits for more if asked to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import click

from worker.cli.arguments import EVENT_TYPE, PAST, REPLY_NAME, json_option, milliseconds
from worker.cli.completion import complete_ids
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.formatting import narrate
from worker.cli.output import open_console, print_json

if TYPE_CHECKING:
    from datetime import datetime

    from trainmaster_client import Event

# One who follows events waits for Redis for as long as it is away.
_PATIENCE_SECONDS: Final = math.inf


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Wait for further events.")
@click.option(
    "--replyto",
    type=REPLY_NAME,
    metavar="NAME",
    help="Only events that went to this reply stream.",
)
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
@click.option("--since", type=PAST, help="Only after this: RFC 3339, or a duration like 10m.")
@json_option
@ledger_command
def events(  # noqa: PLR0913 - one for each option
    *,
    ledger: LedgerContext,
    follow: bool,
    replyto: str | None,
    types: tuple[str, ...],
    ids: tuple[str, ...],
    since: datetime | None,
    as_json: bool,
) -> None:
    """Print events, oldest first.

    Prints all that Redis still has; with --follow waits for more until it is interrupted. For new
    events only: --follow --since 0s
    """
    console = open_console()
    # The entry before the first of that millisecond.
    start = "0-0" if since is None else f"{max(milliseconds(since) - 1, 0)}-{2**64 - 1}"

    def print_one(event: Event) -> None:
        if ids and event.command_id not in ids:
            return
        if as_json:
            print_json(event.attributes)
        else:
            console.print(narrate(event.attributes), soft_wrap=True)

    def tell_trouble(error: BaseException) -> None:
        click.echo(f"{ledger.trouble(error)}; waiting for it", err=True)

    # A wrong address or password ends it at once; only a Redis that was there is waited for.
    with ledger.client() as client:
        client.ping()
    try:
        with ledger.client(_PATIENCE_SECONDS if follow else 0.0) as client:
            for event in client.events(
                types, after=start, follow=follow, reply_to=replyto, on_trouble=tell_trouble
            ):
                print_one(event)
    except KeyboardInterrupt:
        if not follow:
            raise
