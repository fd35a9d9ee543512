"""`trainmaster backfill` and its commands, `run` aside."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from schemas.enums import SourceFormat
from worker.acts import Act
from worker.backfill.errors import UnreadableBackfillError
from worker.backfill.plan import Plan, SourcePlan
from worker.backfill.results.finalization import FAILURES
from worker.backfill.results.output import Output
from worker.backfill.status import BackfillStatus, Origin
from worker.backfill.transitions import begin_cancel, begin_pause, begin_resume, cancel_backfill
from worker.cli.arguments import Group, json_option
from worker.cli.backfill.lead import (
    begin_backfill,
    end_backfill,
    follow,
    lead_backfill,
    store_of,
    write_again,
)
from worker.cli.backfill.progress import Display
from worker.cli.backfill.run import run
from worker.cli.backfill.status import file_warnings, show_status, status_json
from worker.cli.completion import complete_backfills
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.formatting import show_duration
from worker.cli.output import FAILED, Column, Row, print_json, print_table, safe_text
from worker.redaction import redact_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from worker.backfill.store import BackfillStore
    from worker.queue.ledger.actions import Entry

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


class _Commands(Group):
    """Those of backfills; what someone wrote over is one line, and the exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command that is named."""
        try:
            return super().invoke(ctx)
        except UnreadableBackfillError as exc:
            raise click.ClickException(safe_text(exc)) from exc


@click.group("backfill", cls=_Commands)
def backfill() -> None:
    """Predict on all items of a source, however many.

    Workers must be running. Kill anything at any time: `backfill resume` goes on, and no item that
    has ended runs again.
    """


backfill.add_command(run)


@backfill.command("status")
@click.argument("backfill_id", metavar="[ID]", required=False, shell_complete=complete_backfills)
@click.option("--watch", is_flag=True, help="Keep showing it until it has ended.")
@json_option
@ledger_command
def status_command(
    *, ledger: LedgerContext, backfill_id: str | None, watch: bool, as_json: bool
) -> None:
    """Show a backfill's status, or list all of them without an ID, newest first."""
    if backfill_id is None:
        odd: list[UnreadableBackfillError] = []
        _list(_of_all(ledger, odd), as_json=as_json)
        for each in odd:
            click.echo(f"Error: {safe_text(each)}", err=True)
        if odd:
            raise SystemExit(FAILED)
        return
    wanted = backfill_id
    ledger = _holding(ledger, wanted)
    with Display(wanted, quiet=as_json or not watch) as display:

        async def look(redis: Redis) -> BackfillStatus | None:
            store = store_of(ledger, redis)
            if watch:
                return await follow(store, wanted, display.show)
            return await store.look(wanted)

        found = ledger.run(look)
    if found is None:
        raise _unknown(wanted)
    show_status(found, as_json=as_json)


def _holding(ledger: LedgerContext, backfill_id: str) -> LedgerContext:
    """Returns the ledger of the namespace that has a backfill, where there are several."""

    async def is_known(one: LedgerContext, redis: Redis) -> bool:
        return await store_of(one, redis).look(backfill_id) is not None

    return ledger.holding(backfill_id, is_known)


def _of_all(ledger: LedgerContext, odd: list[UnreadableBackfillError]) -> list[BackfillStatus]:
    """Returns the backfills of all namespaces, newest first; adds to `odd` which can't be read."""
    known: list[BackfillStatus] = []
    for one in ledger.partitions:

        async def look(redis: Redis, one: LedgerContext = one) -> None:
            store = store_of(one, redis)
            for backfill_id in await store.ids():
                try:
                    status = await store.look(backfill_id)
                except UnreadableBackfillError as exc:
                    odd.append(exc)
                    continue
                if status is not None:
                    known.append(status)

        one.run(look)
    # What has not ended changes all the time.
    return sorted(
        known,
        key=lambda each: (each.ended_ms is None, each.ended_ms or each.begun_ms),
        reverse=True,
    )


def _list(found: list[BackfillStatus], *, as_json: bool) -> None:
    if as_json:
        for status in found:
            print_json(status_json(status))
    elif not found:
        click.echo("no backfills")
    else:
        print_table(_COLUMNS, [_table_row(each, time.time()) for each in found], "reason")


def _table_row(status: BackfillStatus, now: float) -> Row:
    total = "" if status.total is None else f" of {status.total}"
    ended = status.ended_ms or now * 1000
    return Row(
        (
            status.id,
            status.state,
            f"{status.ended}{total}",
            str(status.failed),
            str(status.open),
            f"{show_duration(now - status.begun_ms / 1000)} ago",
            show_duration((ended - status.begun_ms) / 1000),
            redact_url(status.plan.output),
        ),
        state=status.state,
        message=status.reason,
    )


def _unknown(backfill_id: str) -> click.ClickException:
    return click.ClickException(f"no backfill has the id {safe_text(backfill_id)}")


@backfill.command("pause")
@id_argument
@json_option
@ledger_command
def pause_command(*, ledger: LedgerContext, backfill_id: str, as_json: bool) -> None:
    """Start no further items until the backfill is resumed; running ones finish."""
    ledger = _holding(ledger, backfill_id)

    async def act(store: BackfillStore, entry: Entry) -> BackfillStatus | None:
        if await begin_pause(store, backfill_id):
            entry.done()
        return await store.look(backfill_id)

    show_status(_change(ledger, Act.BACKFILL_PAUSE, act, backfill_id), as_json=as_json)


@backfill.command("resume")
@id_argument
@json_option
@ledger_command
def resume_command(*, ledger: LedgerContext, backfill_id: str, as_json: bool) -> None:
    """Resume a backfill that is paused, or whose leader was killed.

    This command then leads it: it reads the source and writes the results. One that came through
    the queue is led by a worker, unless its command has failed. Of one that has ended, the pictures
    are drawn and the last files written that are missing.
    """
    ledger = _holding(ledger, backfill_id)

    async def act(store: BackfillStore, entry: Entry) -> BackfillStatus | None:
        if await begin_resume(store, backfill_id):
            entry.done()
        return await store.look(backfill_id)

    status = _change(ledger, Act.BACKFILL_RESUME, act, backfill_id)
    if status.origin is Origin.CONSOLE and not status.state.ended:
        lead_backfill(ledger, backfill_id, as_json=as_json)
    elif status.unwritten:
        end_backfill(ledger, write_again(ledger, status), as_json=as_json)
    elif status.render and status.state.ended:
        end_backfill(ledger, status, as_json=as_json)
    else:
        show_status(status, as_json=as_json)


@backfill.command("cancel")
@id_argument
@json_option
@ledger_command
def cancel_command(*, ledger: LedgerContext, backfill_id: str, as_json: bool) -> None:
    """Cancel a backfill: waiting items never run; the results so far are written."""
    ledger = _holding(ledger, backfill_id)

    async def act(store: BackfillStore, entry: Entry) -> BackfillStatus | None:
        before = await begin_cancel(store, backfill_id)
        if before is not None:
            entry.done(state_before=before)
        return await store.look(backfill_id)

    _change(ledger, Act.BACKFILL_CANCEL, act, backfill_id)
    # What it has is written by whoever leads it, or here, which may take a while.
    status = ledger.run(lambda redis: cancel_backfill(store_of(ledger, redis), backfill_id))
    if status is None:
        raise _unknown(backfill_id)
    show_status(status, as_json=as_json)


def _change(
    ledger: LedgerContext,
    act: Act,
    change: Callable[[BackfillStore, Entry], Awaitable[BackfillStatus | None]],
    backfill_id: str,
) -> BackfillStatus:
    """Changes a backfill by an act that is recorded; returns how it stands then."""

    async def changed(redis: Redis) -> BackfillStatus | None:
        async with ledger.recorded(redis, act, backfill_id) as entry:
            return await change(store_of(ledger, redis), entry)

    status = ledger.run(changed)
    if status is None:
        raise _unknown(backfill_id)
    return status


@backfill.command("retry-failed")
@id_argument
@json_option
@ledger_command
def retry_failed(*, ledger: LedgerContext, backfill_id: str, as_json: bool) -> None:
    """Run the failed items of an ended backfill again, as the backfill ID.retry.

    Its results go to the folder `retry` below those of the first. The next call runs what failed
    again, as ID.retry.retry.
    """
    ledger = _holding(ledger, backfill_id)
    status = ledger.run(lambda redis: _latest(store_of(ledger, redis), backfill_id))
    if status is None:
        raise _unknown(backfill_id)
    if status.state.ended:
        status = _retried(ledger, status)
    elif status.id == backfill_id:
        raise click.ClickException("it has not ended; its failures are not all known yet")
    lead_backfill(ledger, status.id, as_json=as_json)


async def _latest(store: BackfillStore, backfill_id: str) -> BackfillStatus | None:
    """Returns a backfill, or the last of those by which its failures were run again."""
    found = await store.look(backfill_id)
    while found is not None and (later := await store.look(f"{found.id}.retry")) is not None:
        if later.plan.source != retry_plan(found).source:
            # Someone chose this id for a backfill that has nothing to do with it.
            return found
        found = later
    return found


def _retried(ledger: LedgerContext, status: BackfillStatus) -> BackfillStatus:
    """Begins the backfill of another one's failures."""
    if not status.failed:
        raise click.ClickException(f"none of the items of {safe_text(status.id)} failed")
    if FAILURES in status.unwritten:
        status = write_again(ledger, status)
    if FAILURES in status.unwritten:
        raise click.ClickException(safe_text(" ".join(file_warnings(status))))
    retry_id = f"{status.id}.retry"

    async def begin(redis: Redis) -> BackfillStatus | None:
        store = store_of(ledger, redis)
        plan = retry_plan(status)
        async with ledger.recorded(redis, Act.BACKFILL_RETRY_FAILED, status.id) as entry:
            is_ours = await begin_backfill(store, retry_id, plan) == plan
            if is_ours:
                entry.done(new_id=retry_id, failed=status.failed)
        if not is_ours:
            raise click.ClickException(
                f"another backfill has the id {safe_text(retry_id)}; run "
                f"{safe_text(plan.source.location)} with `trainmaster backfill run` and another id"
            )
        return await store.look(retry_id)

    begun = ledger.run(begin)
    if begun is None:
        raise _unknown(retry_id)
    return begun


def retry_plan(status: BackfillStatus) -> Plan:
    """Returns the plan by which the failures of a backfill run again."""
    plan = status.plan
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
