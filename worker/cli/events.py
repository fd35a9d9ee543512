"""`trainmaster events`: prints events, and waits for more if asked to."""

from __future__ import annotations

import heapq
import math
import queue
import threading
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import click

from worker.cli.arguments import EVENT_TYPE, PAST, REPLY_NAME, json_option
from worker.cli.completion import complete_ids
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.formatting import narrate
from worker.cli.output import open_console, print_json
from worker.times import milliseconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from trainmaster_client import Event

# One who follows events waits for Redis for as long as it is away.
_PATIENCE_SECONDS: Final = math.inf
# Read ahead of what is printed, where several namespaces are followed.
_MOST_WAITING: Final = 1_000


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
    events only: --follow --since 0s. Of several namespaces it prints those of all.
    """
    console = open_console()
    # The entry before the first of that millisecond.
    start = "0-0" if since is None else f"{max(milliseconds_of(since) - 1, 0)}-{2**64 - 1}"

    def print_one(event: Event) -> None:
        if ids and event.command_id not in ids:
            return
        if as_json:
            print_json(event.attributes)
        else:
            console.print(narrate(event.attributes), soft_wrap=True)

    def tell_trouble(error: BaseException) -> None:
        click.echo(f"{ledger.trouble(error)}; waiting for it", err=True)

    def read(one: LedgerContext, after: str, *, follows: bool) -> Iterator[Event]:
        with one.client(_PATIENCE_SECONDS if follows else 0.0) as client:
            yield from client.events(
                types, after=after, follow=follows, reply_to=replyto, on_trouble=tell_trouble
            )

    # A wrong address or password ends it at once; only a Redis that was there is waited for.
    for one in ledger.partitions:
        with one.client() as client:
            client.ping()
    try:
        for event in _told(ledger.partitions, read, start, follow=follow):
            print_one(event)
    except KeyboardInterrupt:
        if not follow:
            raise


class _Read(Protocol):
    def __call__(self, one: LedgerContext, after: str, *, follows: bool) -> Iterator[Event]:
        """Yields the events of a namespace behind an entry."""
        ...


def _told(
    ledgers: Sequence[LedgerContext], read: _Read, start: str, *, follow: bool
) -> Iterator[Event]:
    """Yields what namespaces have, by the time of its entries, then what comes as it comes."""
    if len(ledgers) == 1:
        yield from read(ledgers[0], start, follows=follow)
        return
    last = [start] * len(ledgers)

    def past(number: int) -> Iterator[Event]:
        for event in read(ledgers[number], start, follows=False):
            last[number] = event.entry_id
            yield event

    yield from heapq.merge(*map(past, range(len(ledgers))), key=_entry)
    if follow:
        yield from _coming([partial(read, *each) for each in zip(ledgers, last, strict=True)])


def _coming(reads: Sequence[Callable[..., Iterator[Event]]]) -> Iterator[Event]:
    """Yields what comes in each of several namespaces, for ever."""
    found: queue.Queue[Event | Exception] = queue.Queue(_MOST_WAITING)

    def wait(read: Callable[..., Iterator[Event]]) -> None:
        try:
            for event in read(follows=True):
                found.put(event)
        except Exception as exc:  # noqa: BLE001 - raised where it is printed
            found.put(exc)

    for each in reads:
        # Whoever is interrupted waits for none of them.
        threading.Thread(target=wait, args=(each,), daemon=True).start()
    while True:
        event = found.get()
        if isinstance(event, Exception):
            raise event
        yield event


def _entry(event: Event) -> tuple[int, int]:
    """Returns the numbers of an entry, by which entries are in their order."""
    at_ms, _, number = event.entry_id.partition("-")
    return int(at_ms), int(number)
