"""`trainmaster sinks`: where events go by the integrations file, and what became of them."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click
import uvloop

from schemas.suggestions import unknown
from schemas.wording import counted
from worker.acts import Act
from worker.cli.arguments import PAST, Group, json_option
from worker.cli.context import LedgerContext, ledger_command, namespace_option, naming_one
from worker.cli.formatting import show_duration, show_timestamp
from worker.cli.output import FAILED, Column, Row, print_json, print_table, safe_text
from worker.environment import load_gateway_settings
from worker.logging import configure
from worker.queue.ledger.connection import connect
from worker.queue.ledger.keys import Keys
from worker.sinks.destinations import Answer, DeliveryError
from worker.times import milliseconds_of
from worker.tracing.switch import SINKS, create_delivery_tracer, create_tracing

try:
    from worker.integrations.file import load_integrations
    from worker.processes import Processes
    from worker.sinks import operations
    from worker.sinks.service import SinkService, check_sinks
except ModuleNotFoundError as exc:
    if exc.name is None or exc.name.partition(".")[0] in {"worker", "schemas"}:
        raise
    raise click.UsageError(
        f"sinks needs the package {exc.name}: install trainmaster[gateway]"
    ) from exc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from redis.asyncio import Redis

    from worker.integrations.sink_config import SinkConfig
    from worker.sinks.operations import SinkStatus

_MOST_PROCESSES: Final = 16
# Of the processes of sinks: for what is under way, and for giving the lead to the next.
_STOP_SECONDS: Final = 60.0
_COLUMNS: Final = (
    Column("sink", shorten=True, least=12),
    Column("state"),
    Column("behind"),
    Column("waiting"),
    Column("unsent"),
    Column("delivered"),
    Column("failed", drop=2),
    Column("missed", drop=1),
    Column("goes to", drop=3, shorten=True, least=16),
)


@click.group(cls=Group)
def sinks() -> None:
    """Send events to webhooks, to Redis and to brokers.

    The file that TRAINMASTER_INTEGRATIONS_FILE names says which events go where. The gateway runs
    its sinks; `trainmaster sinks run` does so without HTTP.
    """


@sinks.command("list")
@json_option
@ledger_command
def list_sinks(*, ledger: LedgerContext, as_json: bool) -> None:
    """Show how the sinks of the file stand.

    behind: events that a sink has not looked at. waiting: events that failed, or stand behind such
    ones, and are tried again. unsent: events whose tries have ended. missed: events that were
    deleted before the sink looked at them.
    """
    found = _sinks(ledger)

    async def look(redis: Redis) -> list[SinkStatus]:
        return [
            await operations.sink_status(redis, ledger.keys, config) for config in found.values()
        ]

    told = ledger.run(look)
    if as_json:
        for each in told:
            print_json(asdict(each))
    elif told:
        print_table(_COLUMNS, [_row(each) for each in told])
    else:
        click.echo("no sinks: see docs/sinks.md")


@sinks.command()
@click.argument("name")
@click.option("--reason", default="by hand", help="Why; `sinks list` shows it.")
@ledger_command
def pause(*, ledger: LedgerContext, name: str, reason: str) -> None:
    """Pause a sink; its events wait."""
    _sink(ledger, name)

    async def act(redis: Redis) -> None:
        async with ledger.recorded(redis, Act.SINK_PAUSE, name, reason=reason) as entry:
            await operations.pause(redis, ledger.keys, name, reason)
            entry.done()

    ledger.run(act)
    click.echo(f"{name}: paused")


@sinks.command()
@click.argument("name")
@ledger_command
def resume(*, ledger: LedgerContext, name: str) -> None:
    """Let a paused sink go on; what waits is sent, and tried for three more days."""
    _sink(ledger, name)

    async def act(redis: Redis) -> bool:
        async with ledger.recorded(redis, Act.SINK_RESUME, name) as entry:
            was_paused = await operations.resume(redis, ledger.keys, name)
            entry.done(was_paused=was_paused)
        return was_paused

    was_paused = ledger.run(act)
    click.echo(f"{name}: {'resumed' if was_paused else 'was not paused'}")


@sinks.command()
@click.argument("name")
@click.option(
    "--since",
    type=PAST,
    required=True,
    help="Only events that are not older: RFC 3339, or a duration like 2h.",
)
@click.option(
    "--all", "everything", is_flag=True, help="Also what was delivered: all that the sink wants."
)
@ledger_command
def recover(*, ledger: LedgerContext, name: str, since: datetime, everything: bool) -> None:
    """Send events again that could not be sent, or with --all everything since a time.

    A sink must run for that, here or elsewhere. The messages have the same ids as the first time.
    """
    _sink(ledger, name)
    since_ms = milliseconds_of(since)

    async def act(redis: Redis) -> int | None:
        async with ledger.recorded(redis, Act.SINK_RECOVER, name, since=since) as entry:
            if everything:
                if not await operations.recover_all(redis, ledger.keys, name, since_ms):
                    return None
                entry.done(all=True)
                return 0
            number = await operations.recover(redis, ledger.keys, name, since_ms)
            entry.done(events=number)
        return number

    number = ledger.run(act)
    if not everything:
        click.echo(f"{name}: {counted(number or 0, 'event')} will be sent again")
    elif number is not None:
        click.echo(f"{name}: everything since {show_timestamp(since_ms)} will be sent again")
    else:
        click.echo(f"{name}: it has not reached that time yet; there is nothing to send again")


@sinks.command("test")
@click.argument("name")
@json_option
@ledger_command
def try_out(*, ledger: LedgerContext, name: str, as_json: bool) -> None:
    """Send an event of the type trainmaster.test, once, and show the answer."""
    config = _sink(ledger, name)
    begun = time.monotonic()

    async def send(redis: Redis) -> Answer | DeliveryError:
        try:
            return await operations.try_out(redis, ledger.keys, config)
        except DeliveryError as exc:
            return exc

    answer = ledger.run(send)
    seconds = time.monotonic() - begun
    delivered = isinstance(answer, Answer)
    told = answer.told if isinstance(answer, Answer) else str(answer)
    if as_json:
        shown = {"sink": name, "delivered": delivered, "told": told, "body": answer.body}
        print_json(shown | {"seconds": round(seconds, 3)})
    else:
        taken = "delivered" if delivered else "not delivered"
        click.echo(f"{name}: {taken} in {seconds:.2f} s: {safe_text(told)}")
        if answer.body:
            click.echo(safe_text(answer.body))
    if not delivered:
        raise SystemExit(FAILED)


@sinks.command()
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    help="How many share the sinks.  [default: one for each sink, 16 at most]",
)
@namespace_option
def run(processes: int | None, namespace: str | None) -> None:
    """Send events until told to stop, without HTTP."""
    with naming_one():
        settings = load_gateway_settings(namespace=namespace)
    configure(settings.log_level, settings.log_format)
    found = _sinks(LedgerContext(None, namespace))
    if not found:
        raise click.UsageError("the file that TRAINMASTER_INTEGRATIONS_FILE names has no [sinks.…]")
    keys = Keys(settings.namespace)
    check_sinks(keys, found)
    names = list(found)

    async def serve(share: Sequence[str]) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        redis = connect(settings.redis_url.get_secret_value(), keys.prefix)
        tracing = create_tracing(SINKS)
        tracer = create_delivery_tracer(tracing, settings.namespace)
        shared = {name: found[name] for name in share}
        try:
            await SinkService(redis, keys, shared, tracer=tracer).run(stop)
        finally:
            await redis.aclose()
            if tracing is not None:
                await tracing.aclose()

    def serve_share(share: Sequence[str]) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(share))

    count = min(processes or _MOST_PROCESSES, len(names))
    if count == 1:
        serve_share(names)
        return
    shares = [names[number::count] for number in range(count)]

    def serve_one(number: int) -> int:
        serve_share(shares[number])
        return 0

    together = [", ".join(share) for share in shares]
    raise SystemExit(Processes(together, serve_one, stop_seconds=_STOP_SECONDS).run())


def _sinks(ledger: LedgerContext) -> Mapping[str, SinkConfig]:
    settings = load_gateway_settings(ledger.redis_url, ledger.namespace)
    if settings.integrations_file is None:
        raise click.UsageError(
            "TRAINMASTER_INTEGRATIONS_FILE is not set: it names the file with the sinks"
        )
    return load_integrations(settings.integrations_file).sinks


def _sink(ledger: LedgerContext, name: str) -> SinkConfig:
    found = _sinks(ledger)
    if name not in found:
        raise click.UsageError(unknown("sink", name, found))
    return found[name]


def _row(status: SinkStatus) -> Row:
    behind = "?" if status.behind is None else str(status.behind)
    if status.behind:
        behind += f" ({show_duration(status.behind_seconds)})"
    cells = (
        status.name,
        status.state,
        behind,
        str(status.waiting),
        str(status.unsent),
        str(status.delivered),
        str(status.failed),
        str(status.missed),
        status.destination,
    )
    return Row(cells, state=status.state, message=_message(status))


def _message(status: SinkStatus) -> str:
    told = []
    if status.reason:
        told.append(f"paused: {status.reason}")
    if status.last_error:
        told.append(f"{show_timestamp(status.last_error_at_ms)}: {status.last_error}")
    if status.missed:
        at = show_timestamp(status.missed_at_ms or 0)
        told.append(
            f"{counted(status.missed, 'event')} deleted before it looked at them, seen {at}"
        )
    return "; ".join(told)
