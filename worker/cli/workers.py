"""`trainmaster workers`: the worker processes that run."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from worker.cli.arguments import json_option
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.formatting import show_duration
from worker.cli.output import Column, Row, print_json, print_table
from worker.queue.ledger.workers import Workers

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.workers import WorkerStatus

_COLUMNS: Final = (
    Column("name", shorten=True),
    Column("host", drop=4),
    Column("pid", drop=3),
    Column("version", drop=2),
    Column("python", drop=5),
    Column("up for", drop=1),
    Column("slots used"),
    Column("loop late by", drop=6),
    Column("state"),
)


@click.command()
@json_option
@ledger_command
def workers(*, ledger: LedgerContext, as_json: bool) -> None:
    """Show the worker processes that run, as they tell of themselves.

    Each does so every five seconds; one that died is gone within fifteen. A worker whose breaker is
    open takes the API for down and claims nothing. See also: trainmaster holds.
    """

    async def look(redis: Redis) -> list[WorkerStatus]:
        return await Workers(redis, ledger.keys).list()

    found = ledger.run(look)
    if as_json:
        for each in found:
            print_json(asdict(each))
    elif not found:
        click.echo("no worker runs")
    else:
        print_table(_COLUMNS, [_row(each, time.time()) for each in found])


def _row(status: WorkerStatus, now: float) -> Row:
    state = "stopping" if status.stopping else "running"
    if status.breaker_open:
        state = f"{state}, breaker open"
    return Row((
        status.name,
        status.host,
        str(status.pid),
        status.version,
        status.python,
        show_duration(max(0.0, now - status.started_ms / 1000)),
        f"{status.slots_used} of {status.slots}",
        f"{status.loop_lag_seconds:.3f} s",
        state,
    ))
