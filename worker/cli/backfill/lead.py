"""Leads a backfill in the foreground, or follows it, and tells how it ended."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import orjson

from schemas.enums import EventState
from schemas.wording import counted
from worker.backfill.errors import BackfillError
from worker.backfill.event_builder import backfill_event
from worker.backfill.leader import LEASE_SECONDS, AlreadyLed, Leader
from worker.backfill.results.finalization import finalize, with_warnings
from worker.backfill.results.output import Output
from worker.backfill.results.summary import reason_of
from worker.backfill.status import BackfillState, BackfillStatus, Origin
from worker.backfill.store import BackfillStore
from worker.cli.backfill.progress import Display, drawing_shown, limits_at_work
from worker.cli.backfill.status import show_status
from worker.cli.output import FAILED, safe_text, shell_word
from worker.logging import configure
from worker.queue.ledger.connection import PASSING_TROUBLE, RETRYABLE_REDIS_ERRORS
from worker.queue.ledger.outage import STILL_LOST_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from worker.backfill.plan import Plan
    from worker.cli.context import LedgerContext

_WATCH_SECONDS: Final = 0.5


def store_of(ledger: LedgerContext, redis: Redis) -> BackfillStore:
    """Returns the backfills of a ledger."""
    return BackfillStore(
        redis,
        ledger.keys,
        retention_seconds=ledger.settings.id_retention_seconds,
        reply_retention_seconds=ledger.settings.event_retention_seconds,
    )


async def begin_backfill(
    store: BackfillStore, backfill_id: str, plan: Plan, render: str = ""
) -> Plan:
    """Begins a backfill of the console unless it was begun before; returns the plan that it has."""
    entry = f"bf-{uuid.uuid4().hex[:12]}"
    now_ms = int(await store.now() * 1000)
    event = backfill_event(backfill_id, plan, entry, EventState.ACCEPTED, {}, now_ms=now_ms)
    return await store.open(backfill_id, plan, Origin.CONSOLE, entry, event, render)


def lead_backfill(ledger: LedgerContext, backfill_id: str, *, as_json: bool) -> None:
    """Leads a backfill in the foreground, or follows whoever leads it; ends the program."""
    # The display tells what the leader logs.
    configure("ERROR", "auto")
    with Display(backfill_id, quiet=as_json) as display:
        told_at = float("-inf")

        def tell_trouble(exc: BaseException) -> None:
            nonlocal told_at
            if time.monotonic() - told_at >= STILL_LOST_SECONDS:
                told_at = time.monotonic()
                display.say(f"{ledger.trouble(exc)}; the backfill goes on when Redis does")

        async def lead(redis: Redis) -> BackfillStatus:
            store = store_of(ledger, redis)
            over = asyncio.Event()
            looking = asyncio.create_task(_watch_limits(redis, ledger, display, over))
            try:
                leader = Leader(
                    store,
                    backfill_id,
                    announces=True,
                    watch=display.show,
                    trouble=tell_trouble,
                )
                while isinstance(found := await leader.work(), AlreadyLed):
                    display.say(
                        f"another process leads it; this one looks again in {LEASE_SECONDS:.0f} s"
                    )
                    try:
                        await follow(store, backfill_id, display.show, found.seconds + 0.1)
                    except PASSING_TROUBLE as exc:
                        tell_trouble(exc)
                        await asyncio.sleep(_WATCH_SECONDS)
                return found
            finally:
                # Not cancelled: redis-py may swallow that, and the loop would wait for ever.
                over.set()
                await looking

        try:
            status = ledger.run(lead)
        except BackfillError as exc:
            raise click.ClickException(str(exc)) from exc
        except KeyboardInterrupt:
            click.echo(
                "stopped leading it, and nothing is lost; to go on: "
                f"trainmaster backfill resume {shell_word(backfill_id)}",
                err=True,
            )
            raise SystemExit(FAILED) from None
    end_backfill(ledger, status, as_json=as_json)


def end_backfill(ledger: LedgerContext, status: BackfillStatus, *, as_json: bool) -> None:
    """Draws the pictures that are still missing, shows the status, and exits with it."""
    drawn = True
    if status.render and status.state is BackfillState.SUCCEEDED:
        drawn = _draw(ledger, status, quiet=as_json)
    show_status(status, as_json=as_json)
    if status.state is not BackfillState.SUCCEEDED or status.failed or not drawn:
        raise SystemExit(FAILED)


def write_again(ledger: LedgerContext, status: BackfillStatus) -> BackfillStatus:
    """Writes the last files of a backfill that has ended once more."""
    result = status.result or {}
    configure("ERROR", "auto")
    warnings = finalize(status, Output(status.plan.output), result["seconds"])
    amended = with_warnings(result, warnings)
    ledger.run(lambda redis: store_of(ledger, redis).amend_result(status.id, orjson.dumps(amended)))
    return replace(status, result=amended)


async def _watch_limits(
    redis: Redis, ledger: LedgerContext, display: Display, over: asyncio.Event
) -> None:
    while not over.is_set():
        with suppress(*RETRYABLE_REDIS_ERRORS):
            display.limits = await limits_at_work(redis, ledger.keys)
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), 1.0)


async def follow(
    store: BackfillStore,
    backfill_id: str,
    show: Callable[[BackfillStatus], None],
    seconds: float | None = None,
) -> BackfillStatus | None:
    """Shows a backfill's progress until it has ended or the time is up."""
    loop = asyncio.get_running_loop()
    end = None if seconds is None else loop.time() + seconds
    while True:
        status = await store.look(backfill_id)
        if status is None or status.state.ended or (end is not None and loop.time() > end):
            return status
        show(status)
        await asyncio.sleep(_WATCH_SECONDS)


def check_drawing() -> None:
    """Does nothing if pictures can be drawn here.

    Raises:
        ClickException: a package is missing.
    """
    try:
        import_module("worker.backfill.results.pictures")
    except ImportError as exc:
        raise click.ClickException(
            f"--render needs the package {exc.name}: install trainmaster[report]"
        ) from exc


def _draw(ledger: LedgerContext, status: BackfillStatus, *, quiet: bool) -> bool:
    """Draws what was found onto the pictures; returns whether the folder holds them now."""
    again = f"Once fixed: trainmaster backfill resume {shell_word(status.id)}"
    try:
        check_drawing()
        pictures = import_module("worker.backfill.results.pictures")
        with drawing_shown(status, quiet=quiet) as tell:
            rendered = pictures.render_all(Output(status.plan.output), Path(status.render), tell)
    except click.ClickException as exc:
        click.echo(f"pictures  {exc.message}. {again}", err=True)
        return False
    except Exception as exc:  # noqa: BLE001 - the backfill has ended well without them
        click.echo(f"pictures  not all were drawn: {safe_text(reason_of(exc))}. {again}", err=True)
        return False
    ledger.run(lambda redis: store_of(ledger, redis).pictures_drawn(status.id))
    said = [f"{counted(rendered.drawn, 'picture')} in {status.render}"]
    if rendered.without_file:
        said.append(f"{counted(rendered.without_file, 'item')} without a file here")
    if rendered.skipped.times:
        said.append(f"{rendered.skipped.times:,} not drawn; the first: {rendered.skipped.first}")
    click.echo(safe_text("; ".join(said)), err=True)
    return True
