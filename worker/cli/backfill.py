"""`trainmaster backfill`: predictions on all items of a source."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import click

from schemas.attributes import is_valid_id
from schemas.commands import ItemField
from schemas.enums import EventState, PartFormat, PredictTask, SourceFormat
from worker.backfill.errors import BackfillError, SourceError
from worker.backfill.leader import LEASE_SECONDS, Busy, Leader, backfill_event
from worker.backfill.output import Output
from worker.backfill.plan import (
    PART_ITEMS,
    STDIN,
    WINDOW,
    FailureLimits,
    Plan,
    SourcePlan,
)
from worker.backfill.sources import guess_format
from worker.backfill.steering import cancel_backfill, pause, resume
from worker.backfill.store import BackfillState, BackfillStore, Origin, Standing
from worker.cli.backfill_progress import Display, fields_of, limits_at_work, standing_json
from worker.cli.output import open_console, print_fields, print_json, safe_text
from worker.cli.target import Target, json_option, ledger_command
from worker.ledger.connection import LEDGER_TROUBLE
from worker.logging import configure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from redis.asyncio import Redis

FAILED: Final = 1
_WATCH_SECONDS: Final = 0.5
# An id names a folder, and stands in the ids of its items.
_MOST_ID_CHARACTERS: Final = 200

id_argument: Final = click.argument("backfill_id", metavar="ID")


@click.group("backfill")
def backfill() -> None:
    """Predict on all items of a source, however many.

    A worker must run beside it. Kill anything at any time: `backfill resume` goes on, and no item
    runs again that had ended.
    """


@backfill.command("run")
@click.argument("source")
@click.option("--project", type=click.UUID, required=True, help="The project.")
@click.option("--attachment", type=click.UUID, required=True, help="The attached model.")
@click.option("--training", type=click.UUID, required=True, help="The iteration.")
@click.option("--task", type=click.Choice([str(each) for each in PredictTask]), required=True)
@click.option("--id", "backfill_id", help="Names the backfill; the same again goes on with it.")
@click.option("--output", metavar="DIR", help="Folder or URL of the results.  [default: the id]")
@click.option(
    "--format",
    "source_format",
    type=click.Choice([str(each) for each in SourceFormat]),
    help="Of the source, where its name does not tell.",
)
@click.option(
    "--map",
    "mapped",
    multiple=True,
    metavar="NAME=COLUMN",
    help="The source's column of an item's data_uuid, data_path, conf_thresh and so on.",
)
@click.option("--conf-thresh", type=click.FloatRange(0, 1), help="For items that say none.")
@click.option("--iou-thresh", type=click.FloatRange(0, 1), help="For items that say none.")
@click.option("--rdp-thresh", type=click.FloatRange(0, 0.01), help="For items that say none.")
@click.option(
    "--window",
    type=click.IntRange(1, 100_000),
    default=WINDOW,
    show_default=True,
    help="Most items that wait or run.",
)
@click.option(
    "--part-items",
    type=click.IntRange(1),
    default=PART_ITEMS,
    show_default=True,
    help="Items in one part of the results.",
)
@click.option(
    "--part-format",
    type=click.Choice([str(each) for each in PartFormat]),
    default=str(PartFormat.JSONL),
    show_default=True,
)
@click.option("--max-failures", type=click.IntRange(1), help="So many failures pause it.")
@click.option(
    "--max-failure-share",
    type=click.FloatRange(0, 1),
    help="A larger share of failures pauses it, once 100 items have ended.",
)
@click.option("--item-events", is_flag=True, help="Publish an event for the end of each item.")
@click.option(
    "--render",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Draw what was found on the pictures, into this folder.",
)
@json_option
@ledger_command
def run(  # noqa: PLR0913 - the options of a command
    *,
    target: Target,
    source: str,
    backfill_id: str | None,
    output: str | None,
    source_format: str | None,
    mapped: tuple[str, ...],
    render: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Predict on all items of SOURCE and wait for the end.

    SOURCE is a file of JSON lines, CSV or Parquet, here or behind any URL that fsspec knows; a
    folder of images; or - for standard input. Each item names its data_uuid, or its data_path,
    which the workers read below their data roots. Ends with 1 where an item failed.
    """
    given_id = backfill_id or f"backfill-{uuid.uuid4().hex[:8]}"
    if not is_valid_id(given_id) or "/" in given_id or len(given_id) > _MOST_ID_CHARACTERS:
        raise click.BadParameter("must be printable, without a slash", param_hint="--id")
    plan = _plan(source, source_format, mapped, output or given_id, options)

    async def begin(redis: Redis) -> Plan:
        store = _store(target, redis)
        entry = f"bf-{uuid.uuid4().hex[:12]}"
        return await store.open(
            given_id, plan, Origin.CONSOLE, entry, _accepted(given_id, plan, entry)
        )

    kept = target.run(begin)
    if kept != plan:
        raise click.UsageError(
            f"the backfill {safe_text(given_id)} was begun with other options; see: "
            f"trainmaster backfill status {safe_text(given_id)}"
        )
    _lead(target, given_id, as_json=as_json, render=render)


def _plan(
    source: str,
    source_format: str | None,
    mapped: tuple[str, ...],
    output: str,
    options: Mapping[str, Any],
) -> Plan:
    try:
        found = SourceFormat(source_format) if source_format else None
        # The folder of the command line is not that of whoever goes on.
        is_local = source != STDIN and "://" not in source
        location = str(Path(source).absolute()) if is_local else source
        if source == STDIN:
            found = found or SourceFormat.JSONL
            if found not in {SourceFormat.JSONL, SourceFormat.CSV}:
                raise click.UsageError("standard input is JSON lines or CSV")
        else:
            found = found or guess_format(location)
    except SourceError as exc:
        raise click.ClickException(str(exc)) from exc
    defaults = {
        name: options[name]
        for name in ("conf_thresh", "iou_thresh", "rdp_thresh")
        if options[name] is not None
    }
    return Plan(
        common={
            "task": options["task"],
            "project_uuid": str(options["project"]),
            "project_model_uuid": str(options["attachment"]),
            "training_uuid": str(options["training"]),
            **defaults,
        },
        source=SourcePlan(location, found, _columns(mapped)),
        output=output if "://" in output else str(Path(output).absolute()),
        part_format=PartFormat(options["part_format"]),
        window=options["window"],
        part_items=options["part_items"],
        limits=FailureLimits(options["max_failures"], options["max_failure_share"]),
        item_events=options["item_events"],
    )


def _columns(mapped: tuple[str, ...]) -> dict[str, str]:
    columns = {}
    for each in mapped:
        name, separator, column = each.partition("=")
        if not separator or not column or name not in get_args(ItemField):
            known = ", ".join(get_args(ItemField))
            raise click.BadParameter(f"{each!r}: NAME is one of {known}", param_hint="--map")
        columns[name] = column
    return columns


def _accepted(backfill_id: str, plan: Plan, entry: str) -> bytes:
    return backfill_event(backfill_id, plan, entry, EventState.ACCEPTED, {})


def _store(target: Target, redis: Redis) -> BackfillStore:
    return BackfillStore(
        redis,
        target.keys,
        retention_seconds=target.settings.id_retention_seconds,
        reply_retention_seconds=target.settings.event_retention_seconds,
    )


def _lead(target: Target, backfill_id: str, *, as_json: bool, render: Path | None) -> None:
    """Leads a backfill in the foreground, or follows whoever leads it; ends the program."""
    # The display tells what the leader logs.
    configure("ERROR", "auto")
    with Display(backfill_id, quiet=as_json) as display:

        async def lead(redis: Redis) -> Standing:
            store = _store(target, redis)
            over = asyncio.Event()
            looking = asyncio.create_task(_watch_limits(redis, target, display, over))
            try:
                leader = Leader(store, backfill_id, announces=True, watch=display.show)
                while isinstance(found := await leader.work(), Busy):
                    display.say(
                        f"another process leads it; this one looks again in {LEASE_SECONDS:.0f} s"
                    )
                    await _follow(store, backfill_id, display.show, found.seconds + 0.1)
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
    _print(standing, as_json=as_json)
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


async def _follow(
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


def _print(standing: Standing, *, as_json: bool) -> None:
    if as_json:
        print_json(standing_json(standing))
    else:
        print_fields(open_console(), fields_of(standing))


@backfill.command("status")
@click.argument("backfill_id", metavar="ID", required=False)
@click.option("--watch", is_flag=True, help="Go on until it has ended.")
@json_option
@ledger_command
def status(*, target: Target, backfill_id: str | None, watch: bool, as_json: bool) -> None:
    """Tell how a backfill stands, or all of them without an ID."""
    if backfill_id is None:
        for standing in target.run(lambda redis: _all(_store(target, redis))):
            _print(standing, as_json=as_json)
        return
    wanted = backfill_id
    with Display(wanted, quiet=as_json or not watch) as display:

        async def look(redis: Redis) -> Standing | None:
            store = _store(target, redis)
            if watch:
                return await _follow(store, wanted, display.show)
            return await store.look(wanted)

        found = target.run(look)
    if found is None:
        raise _unknown(wanted)
    _print(found, as_json=as_json)


async def _all(store: BackfillStore) -> list[Standing]:
    found = [await store.look(backfill_id) for backfill_id in await store.ids()]
    return [standing for standing in found if standing is not None]


def _unknown(backfill_id: str) -> click.ClickException:
    return click.ClickException(f"no backfill has the id {safe_text(backfill_id)}")


@backfill.command("pause")
@id_argument
@json_option
@ledger_command
def pause_command(*, target: Target, backfill_id: str, as_json: bool) -> None:
    """Start no further item until the backfill is resumed; those that run may end."""
    _steer(target, lambda store: pause(store, backfill_id), backfill_id, as_json=as_json)


@backfill.command("resume")
@id_argument
@json_option
@ledger_command
def resume_command(*, target: Target, backfill_id: str, as_json: bool) -> None:
    """Go on with a backfill that is paused, or whose reader was killed.

    One that was begun with `backfill run` is led by this command from now on; one that came
    through the queue by a worker.
    """
    standing = _steer(
        target, lambda store: resume(store, backfill_id), backfill_id, as_json=as_json, quiet=True
    )
    if standing.origin is Origin.CONSOLE and not standing.state.ended:
        _lead(target, backfill_id, as_json=as_json, render=None)
        return
    _print(standing, as_json=as_json)


@backfill.command("cancel")
@id_argument
@json_option
@ledger_command
def cancel_command(*, target: Target, backfill_id: str, as_json: bool) -> None:
    """End a backfill: what waits never runs; what has ended stands in the results."""
    _steer(target, lambda store: cancel_backfill(store, backfill_id), backfill_id, as_json=as_json)


def _steer(
    target: Target,
    act: Callable[[BackfillStore], Any],
    backfill_id: str,
    *,
    as_json: bool,
    quiet: bool = False,
) -> Standing:
    async def steer(redis: Redis) -> Standing | None:
        found: Standing | None = await act(_store(target, redis))
        return found

    standing = target.run(steer)
    if standing is None:
        raise _unknown(backfill_id)
    if not quiet:
        _print(standing, as_json=as_json)
    return standing


@backfill.command("retry-failed")
@id_argument
@json_option
@ledger_command
def retry_failed(*, target: Target, backfill_id: str, as_json: bool) -> None:
    """Run the failed items of a backfill that has ended again, as the backfill ID.retry.

    Its results lie in the folder `retry` below those of the first.
    """
    standing = target.run(lambda redis: _store(target, redis).look(backfill_id))
    if standing is None:
        raise _unknown(backfill_id)
    if not standing.state.ended:
        raise click.ClickException("it has not ended; its failures are not all known yet")
    if not standing.failed:
        raise click.ClickException("none of its items failed")
    retry_id = f"{backfill_id}.retry"

    async def begin(redis: Redis) -> None:
        entry = f"bf-{uuid.uuid4().hex[:12]}"
        plan = retry_plan(standing)
        await _store(target, redis).open(
            retry_id, plan, Origin.CONSOLE, entry, _accepted(retry_id, plan, entry)
        )

    target.run(begin)
    _lead(target, retry_id, as_json=as_json, render=None)


def retry_plan(standing: Standing) -> Plan:
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
