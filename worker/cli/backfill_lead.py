"""Leads a backfill in the foreground, or follows it, and tells how it ended."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final

import click

from schemas.enums import EventState
from worker.backfill.announcement import backfill_event
from worker.backfill.errors import BackfillError
from worker.backfill.leader import LEASE_SECONDS, Busy, Leader
from worker.backfill.output import Output
from worker.backfill.standing import BackfillState, Origin, Standing
from worker.backfill.store import BackfillStore
from worker.cli.backfill_advice import advice
from worker.cli.backfill_progress import Display, fields_of, limits_at_work, standing_json
from worker.cli.output import open_console, print_fields, print_json, safe_text
from worker.ledger.connection import LEDGER_TROUBLE
from worker.logging import configure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.backfill.plan import Plan
    from worker.cli.target import Target

FAILED: Final = 1
_WATCH_SECONDS: Final = 0.5


def store_of(target: Target, redis: Redis) -> BackfillStore:
    """Returns the backfills of a target."""
    return BackfillStore(
        redis,
        target.keys,
        retention_seconds=target.settings.id_retention_seconds,
        reply_retention_seconds=target.settings.event_retention_seconds,
    )


async def begin_backfill(store: BackfillStore, backfill_id: str, plan: Plan) -> Plan:
    """Begins a backfill of the console unless it was begun before; returns the plan that it has."""
    entry = f"bf-{uuid.uuid4().hex[:12]}"
    event = backfill_event(backfill_id, plan, entry, EventState.ACCEPTED, {})
    return await store.open(backfill_id, plan, Origin.CONSOLE, entry, event)


def lead_backfill(target: Target, backfill_id: str, *, as_json: bool, render: Path | None) -> None:
    """Leads a backfill in the foreground, or follows whoever leads it; ends the program."""
    # The display tells what the leader logs.
    configure("ERROR", "auto")
    with Display(backfill_id, quiet=as_json) as display:

        async def lead(redis: Redis) -> Standing:
            store = store_of(target, redis)
            over = asyncio.Event()
            looking = asyncio.create_task(_watch_limits(redis, target, display, over))
            try:
                leader = Leader(store, backfill_id, announces=True, watch=display.show)
                while isinstance(found := await leader.work(), Busy):
                    display.say(
                        f"another process leads it; this one looks again in {LEASE_SECONDS:.0f} s"
                    )
                    await follow(store, backfill_id, display.show, found.seconds + 0.1)
                return found
            finally:
                # Not cancelled: redis-py may swallow that, and the loop would wait for ever.
                over.set()
                await looking

        try:
            standing = target.run(lead)
        except BackfillError as exc:
            raise click.ClickException(str(exc)) from exc
    if render is not None and standing.state is BackfillState.SUCCEEDED:
        _render(standing, render)
    show_standing(standing, as_json=as_json)
    if standing.state is not BackfillState.SUCCEEDED or standing.failed:
        raise SystemExit(FAILED)


async def _watch_limits(
    redis: Redis, target: Target, display: Display, over: asyncio.Event
) -> None:
    while not over.is_set():
        with suppress(*LEDGER_TROUBLE):
            display.limits = await limits_at_work(redis, target.keys)
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), 1.0)


async def follow(
    store: BackfillStore,
    backfill_id: str,
    show: Callable[[Standing], None],
    seconds: float | None = None,
) -> Standing | None:
    """Shows how a backfill stands until it has ended or the time is up."""
    loop = asyncio.get_running_loop()
    end = None if seconds is None else loop.time() + seconds
    while True:
        standing = await store.look(backfill_id)
        if standing is None or standing.state.ended or (end is not None and loop.time() > end):
            return standing
        show(standing)
        await asyncio.sleep(_WATCH_SECONDS)


def _render(standing: Standing, folder: Path) -> None:
    try:
        pictures = import_module("worker.backfill.pictures")
    except ModuleNotFoundError as exc:
        raise click.ClickException(
            f"--render needs the package {exc.name}: install trainmaster[report]"
        ) from exc
    drawn, missed = pictures.render_all(Output(standing.plan.output), folder)
    said = f"{drawn} pictures in {folder}"
    click.echo(f"{said}; {missed} items have no file here" if missed else said, err=True)


def show_standing(standing: Standing, *, as_json: bool) -> None:
    """Prints how a backfill stands; of one that has ended, what failed and what to do."""
    if as_json:
        print_json(standing_json(standing))
        return
    print_fields(open_console(), fields_of(standing))
    for line in advice(standing):
        click.echo(safe_text(line))
