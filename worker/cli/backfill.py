"""`trainmaster backfill`: predictions on all items of a source."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from schemas.enums import SourceFormat
from worker.backfill.conclusion import FAILURES
from worker.backfill.output import Output
from worker.backfill.plan import Plan, SourcePlan
from worker.backfill.standing import BackfillStatus, Origin
from worker.backfill.steering import cancel_backfill, pause, resume
from worker.cli.arguments import json_option
from worker.cli.backfill_advice import file_warnings
from worker.cli.backfill_lead import (
    begin_backfill,
    end_backfill,
    follow,
    lead_backfill,
    show_standing,
    store_of,
    write_again,
)
from worker.cli.backfill_progress import Display, standing_json
from worker.cli.backfill_run import run
from worker.cli.completion import complete_backfills
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.formatting import show_duration
from worker.cli.output import Column, Row, print_json, print_table, safe_text
from worker.redaction import redact_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from worker.backfill.store import BackfillStore

_COLUMNS: Final = (
    Column("id", shorten=True),
    Column("state"),
    Column("done"),
    Column("failed"),
    Column("in flight", drop=3),
    Column("begun", drop=1),
    Column("took", drop=2),
    Column("results", drop=4, shorten=True),
)

id_argument: Final = click.argument("backfill_id", metavar="ID", shell_complete=complete_backfills)


@click.group("backfill")
def backfill() -> None:
    """Predict on all items of a source, however many.

    A worker must run beside it. Kill anything at any time: `backfill resume` goes on, and no item
    runs again that had ended.
    """


backfill.add_command(run)


@backfill.command("status")
@click.argument("backfill_id", metavar="[ID]", required=False, shell_complete=complete_backfills)
@click.option("--watch", is_flag=True, help="Go on until it has ended.")
@json_option
@ledger_command
def status(*, ledger: LedgerContext, backfill_id: str | None, watch: bool, as_json: bool) -> None:
    """Tell how a backfill stands, or list all of them without an ID, newest first."""
    if backfill_id is None:
        _list(ledger.run(lambda redis: _all(store_of(ledger, redis))), as_json=as_json)
        return
    wanted = backfill_id
    with Display(wanted, quiet=as_json or not watch) as display:

        async def look(redis: Redis) -> BackfillStatus | None:
            store = store_of(ledger, redis)
            if watch:
                return await follow(store, wanted, display.show)
            return await store.look(wanted)

        found = ledger.run(look)
    if found is None:
        raise _unknown(wanted)
    show_standing(found, as_json=as_json)


async def _all(store: BackfillStore) -> list[BackfillStatus]:
    found = [await store.look(backfill_id) for backfill_id in await store.ids()]
    known = [standing for standing in found if standing is not None]
    # What has not ended changes all the time.
    return sorted(
        known,
        key=lambda each: (each.ended_ms is None, each.ended_ms or each.begun_ms),
        reverse=True,
    )


def _list(found: list[BackfillStatus], *, as_json: bool) -> None:
    if as_json:
        for standing in found:
            print_json(standing_json(standing))
    elif not found:
        click.echo("no backfills")
    else:
        print_table(_COLUMNS, [_table_row(each, time.time()) for each in found], "reason")


def _table_row(standing: BackfillStatus, now: float) -> Row:
    total = "" if standing.total is None else f" of {standing.total}"
    ended = standing.ended_ms or now * 1000
    return Row(
        (
            standing.id,
            standing.state,
            f"{standing.ended}{total}",
            str(standing.failed),
            str(standing.open),
            f"{show_duration(now - standing.begun_ms / 1000)} ago",
            show_duration((ended - standing.begun_ms) / 1000),
            redact_url(standing.plan.output),
        ),
        state=standing.state,
        message=standing.reason,
    )


def _unknown(backfill_id: str) -> click.ClickException:
    return click.ClickException(f"no backfill has the id {safe_text(backfill_id)}")


@backfill.command("pause")
@id_argument
@json_option
@ledger_command
def pause_command(*, ledger: LedgerContext, backfill_id: str, as_json: bool) -> None:
    """Start no further item until the backfill is resumed; those that run may end."""
    _steer(ledger, lambda store: pause(store, backfill_id), backfill_id, as_json=as_json)


@backfill.command("resume")
@id_argument
@json_option
@ledger_command
def resume_command(*, ledger: LedgerContext, backfill_id: str, as_json: bool) -> None:
    """Go on with a backfill that is paused, or whose reader was killed.

    One that was begun with `backfill run` is led by this command from now on; one that came
    through the queue by a worker, unless its command has failed. Of one that has ended it draws
    the pictures and writes the last files that are missing.
    """
    standing = _steer(
        ledger, lambda store: resume(store, backfill_id), backfill_id, as_json=as_json, quiet=True
    )
    if standing.origin is Origin.CONSOLE and not standing.state.ended:
        lead_backfill(ledger, backfill_id, as_json=as_json)
    elif standing.unwritten:
        end_backfill(ledger, write_again(ledger, standing), as_json=as_json)
    elif standing.render and standing.state.ended:
        end_backfill(ledger, standing, as_json=as_json)
    else:
        show_standing(standing, as_json=as_json)


@backfill.command("cancel")
@id_argument
@json_option
@ledger_command
def cancel_command(*, ledger: LedgerContext, backfill_id: str, as_json: bool) -> None:
    """End a backfill: what waits never runs; what has ended stands in the results."""
    _steer(ledger, lambda store: cancel_backfill(store, backfill_id), backfill_id, as_json=as_json)


def _steer(
    ledger: LedgerContext,
    act: Callable[[BackfillStore], Any],
    backfill_id: str,
    *,
    as_json: bool,
    quiet: bool = False,
) -> BackfillStatus:
    async def steer(redis: Redis) -> BackfillStatus | None:
        found: BackfillStatus | None = await act(store_of(ledger, redis))
        return found

    standing = ledger.run(steer)
    if standing is None:
        raise _unknown(backfill_id)
    if not quiet:
        show_standing(standing, as_json=as_json)
    return standing


@backfill.command("retry-failed")
@id_argument
@json_option
@ledger_command
def retry_failed(*, ledger: LedgerContext, backfill_id: str, as_json: bool) -> None:
    """Run the failed items of a backfill that has ended again, as the backfill ID.retry.

    Its results lie in the folder `retry` below those of the first. What fails again is run again
    by the next call, as ID.retry.retry.
    """
    standing = ledger.run(lambda redis: _latest(store_of(ledger, redis), backfill_id))
    if standing is None:
        raise _unknown(backfill_id)
    if standing.state.ended:
        standing = _retried(ledger, standing)
    elif standing.id == backfill_id:
        raise click.ClickException("it has not ended; its failures are not all known yet")
    lead_backfill(ledger, standing.id, as_json=as_json)


async def _latest(store: BackfillStore, backfill_id: str) -> BackfillStatus | None:
    """Returns a backfill, or the last of those by which its failures were run again."""
    found = await store.look(backfill_id)
    while found is not None and (later := await store.look(f"{found.id}.retry")) is not None:
        if later.plan.source != retry_plan(found).source:
            # Someone chose this id for a backfill that has nothing to do with it.
            return found
        found = later
    return found


def _retried(ledger: LedgerContext, standing: BackfillStatus) -> BackfillStatus:
    """Begins the backfill of another one's failures."""
    if not standing.failed:
        raise click.ClickException(f"none of the items of {safe_text(standing.id)} failed")
    if FAILURES in standing.unwritten:
        standing = write_again(ledger, standing)
    if FAILURES in standing.unwritten:
        raise click.ClickException(safe_text(" ".join(file_warnings(standing))))
    retry_id = f"{standing.id}.retry"

    async def begin(redis: Redis) -> BackfillStatus | None:
        store = store_of(ledger, redis)
        plan = retry_plan(standing)
        if await begin_backfill(store, retry_id, plan) != plan:
            raise click.ClickException(
                f"another backfill has the id {safe_text(retry_id)}; run "
                f"{safe_text(plan.source.location)} by `trainmaster backfill run` and an id of "
                "your own"
            )
        return await store.look(retry_id)

    begun = ledger.run(begin)
    if begun is None:
        raise _unknown(retry_id)
    return begun


def retry_plan(standing: BackfillStatus) -> Plan:
    """Returns the plan by which the failures of a backfill run again."""
    plan = standing.plan
    output = Output(plan.output)
    return Plan(
        common=plan.common,
        source=SourcePlan(output.path("failures.jsonl"), SourceFormat.JSONL),
        output=output.path("retry"),
        part_format=plan.part_format,
        window=plan.window,
        part_items=plan.part_items,
        item_events=plan.item_events,
        context=plan.context,
        reply_to=plan.reply_to,
    )
