"""`trainmaster listen`: forwards events to a URL, for developing what consumes them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import click

from worker.cli.arguments import EVENT_STATES, EVENT_TYPE, PAST, json_option
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.forwarding import (
    Forwarder,
    ForwardUrl,
    forward_option,
    forwarded_for_machines,
    narrate_forwarded,
    secret_option,
)
from worker.cli.gateway_events import GatewayEvents
from worker.cli.output import open_console, print_json, safe_text
from worker.integrations.patterns import Patterns, fits_no_event
from worker.integrations.standard_webhooks import SigningKey
from worker.queue.ledger.streams import newest_entry
from worker.redaction import redact_url
from worker.times import milliseconds_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from click import Context, Parameter
    from redis.asyncio import Redis

_FIRST: Final = "0-0"


class EventPattern(click.ParamType[str]):
    """A pattern of event types, or what `events --type` takes."""

    name = "event type"

    def convert(self, value: str, param: Parameter | None, ctx: Context | None) -> str:
        """Returns a pattern; a name that is none of an event is wrong usage."""
        if "*" in value:
            if told := fits_no_event(value):
                self.fail(told, param, ctx)
            return value
        name = EVENT_TYPE.convert(value, param, ctx)
        if "." in name:
            return name
        return f"*.{name}" if name in EVENT_STATES else f"{name}.*"


@click.command()
@forward_option
@click.option(
    "--type",
    "types",
    type=EventPattern(),
    multiple=True,
    metavar="TYPE",
    help="Only these: train, failed, train.failed, or a pattern like train.*",
)
@click.option(
    "--since", type=PAST, help="Begin here instead of now: RFC 3339, or a duration like 10m."
)
@secret_option
@click.option(
    "--url",
    type=ForwardUrl(),
    metavar="URL",
    help="Follow the events of this gateway instead of those in Redis.",
)
@click.option(
    "--token",
    envvar="TRAINMASTER_TOKEN",
    metavar="tm_…",
    help="For the gateway; process lists show it, so prefer TRAINMASTER_TOKEN.",
)
@json_option
@ledger_command
def listen(  # noqa: PLR0913 - one for each option
    *,
    ledger: LedgerContext,
    forward_to: str,
    types: tuple[str, ...],
    since: datetime | None,
    secret: SigningKey | None,
    url: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """Forward events to a URL, to develop what consumes them.

    Until interrupted; they are signed as sinks sign them.

    Prints the secret that the receiver verifies with, then a line for each event with what was
    answered. Where nobody answers it says so, tries a little and goes on with the next event:
    nothing is kept for later, unlike by a sink.

        trainmaster listen --forward-to localhost:8000/hook --type train.*
    """
    if token and url is None:
        # From the environment it may be there for other commands.
        token = None
    shared = secret or SigningKey.new()
    after = None if since is None else f"{max(milliseconds_of(since) - 1, 0)}-{2**64 - 1}"
    console = open_console()
    try:
        with Forwarder(forward_to, shared) as forwarder:
            for event in _events(ledger, url, token or "", types, after):
                if event is None:
                    _print_ready(forward_to, shared, as_json=as_json)
                    continue
                found = forwarder.send(event)
                if as_json:
                    print_json(forwarded_for_machines(event, found))
                else:
                    console.print(narrate_forwarded(event, found), soft_wrap=True)
    except KeyboardInterrupt:
        return


def _print_ready(forward_to: str, secret: SigningKey, *, as_json: bool) -> None:
    shown = redact_url(forward_to)
    if as_json:
        print_json({"forward_to": shown, "secret": secret.reveal()})
        return
    click.echo(f"forwarding events to {safe_text(shown)}; verify them with this secret:")
    click.echo(secret.reveal())


def _events(
    ledger: LedgerContext, url: str | None, token: str, types: Sequence[str], after: str | None
) -> Iterator[dict[str, Any] | None]:
    """Yields None once it listens, then events."""
    if url is None:
        yield from _events_of_redis(ledger, types, after)
        return
    ready = False
    for event in GatewayEvents(url, token, types, after, _tell):
        if event is not None or not ready:
            yield event
        ready = True


def _events_of_redis(
    ledger: LedgerContext, types: Sequence[str], after: str | None
) -> Iterator[dict[str, Any] | None]:
    wanted = Patterns(types) if types else None

    async def newest(redis: Redis) -> str:
        found = await newest_entry(redis, ledger.keys.events)
        return found[0].decode() if found else _FIRST

    # A wrong address or password ends it at once; only a Redis that was there is waited for.
    start = ledger.run(newest)
    yield None
    with ledger.client(math.inf) as client:
        for event in client.events(
            after=after or start,
            follow=True,
            on_trouble=lambda error: _tell(f"{ledger.trouble(error)}; waiting for it"),
        ):
            if wanted is None or wanted.match(event.type):
                yield dict(event.attributes)


def _tell(text: str) -> None:
    click.echo(f"trainmaster: {safe_text(text)}", err=True)
