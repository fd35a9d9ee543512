"""`trainmaster backfill run`: begins a backfill and waits for its end."""

from __future__ import annotations

import uuid
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args
from urllib.parse import unquote

import click

from schemas.attributes import is_valid_id
from schemas.backfills import ItemField
from schemas.enums import PartFormat, PredictTask, SourceFormat
from worker.backfill.errors import BackfillError, SourceError
from worker.backfill.locations import STDIN
from worker.backfill.plan import (
    PART_ITEMS,
    WINDOW,
    FailureLimits,
    Plan,
    SourcePlan,
)
from worker.backfill.results.output import Output
from worker.backfill.sources.formats import guess_format
from worker.backfill.sources.reader import probe
from worker.cli.arguments import Share, json_option
from worker.cli.backfill.lead import begin_backfill, check_drawing, lead_backfill, store_of
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.output import safe_text
from worker.thread_pools import in_thread
from worker.utf8 import is_utf8

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis

# An id names a folder, and stands in the ids of its items.
_MOST_ID_CHARACTERS: Final = 200


@click.command("run")
@click.argument("source")
@click.option("--project", type=click.UUID, required=True, help="The project.")
@click.option("--attachment", type=click.UUID, required=True, help="The attached model.")
@click.option("--training", type=click.UUID, required=True, help="The iteration.")
@click.option("--task", type=click.Choice([str(each) for each in PredictTask]), required=True)
@click.option("--id", "backfill_id", help="Name of the backfill; the same name again resumes it.")
@click.option("--output", metavar="DIR", help="Folder or URL of the results.  [default: the id]")
@click.option(
    "--format",
    "source_format",
    type=click.Choice([str(each) for each in SourceFormat]),
    help="Format of the source, if its name does not tell.",
)
@click.option(
    "--map",
    "mapped",
    multiple=True,
    metavar="NAME=COLUMN",
    help="Column of the source with an item's data_uuid, data_path, conf_thresh and so on.",
)
@click.option("--conf-thresh", type=Share(), help="For items that have none.")
@click.option("--iou-thresh", type=Share(), help="For items that have none.")
@click.option("--rdp-thresh", type=Share(0.01), help="For items that have none.")
@click.option(
    "--window",
    type=click.IntRange(1, 100_000),
    default=WINDOW,
    show_default=True,
    help="Most items that wait or run at one time.",
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
@click.option("--max-failures", type=click.IntRange(1), help="Pause after this many failures.")
@click.option(
    "--max-failure-share",
    type=Share(),
    help="Pause at a larger share of failures, once 100 items have ended.",
)
@click.option("--item-events", is_flag=True, help="Publish an event for the end of each item.")
@click.option(
    "--render",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Draw the predictions onto the pictures, into this folder.",
)
@json_option
@ledger_command
def run(  # noqa: PLR0913 - the options of a command
    *,
    ledger: LedgerContext,
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

    SOURCE is a file of JSON lines, CSV or Parquet, a folder of images or of such files, each on
    this machine or behind any URL that fsspec knows; or - for standard input. Each item names its
    data_uuid, or its data_path, which the workers read below their data roots. Exits with 1 if an
    item failed.
    """
    given_id = backfill_id or f"backfill-{uuid.uuid4().hex[:8]}"
    if not is_valid_id(given_id) or "/" in given_id or len(given_id) > _MOST_ID_CHARACTERS:
        raise click.BadParameter("must be printable, without a slash", param_hint="--id")
    if not output and not _can_name_folder(given_id):
        raise click.BadParameter("can't be a folder's name: give --output", param_hint="--id")
    # Of several namespaces that which has commands of this id.
    ledger = ledger.of(given_id)
    plan = _plan(source, source_format, mapped, output or given_id, options)
    if render is not None:
        check_drawing()
    folder = "" if render is None else _kept(str(render.absolute()), "--render")

    async def begin(redis: Redis) -> Plan:
        store = store_of(ledger, redis)
        if await store.look(given_id) is None:
            # What is wrong with it is told before anything is begun, and the id stays free.
            await probe(plan)
            results = Output(plan.output)
            results.check_unused()
            await in_thread(results.check_writable)
        return await begin_backfill(store, given_id, plan, folder)

    try:
        kept = ledger.run(begin)
    except BackfillError as exc:
        raise click.ClickException(str(exc)) from exc
    if kept != plan:
        raise click.UsageError(
            f"the backfill {safe_text(given_id)} was begun with other options "
            f"({', '.join(_differing(kept, plan))}): give the same ones to go on with it, or "
            "another --id for a new one"
        )
    lead_backfill(ledger, given_id, as_json=as_json)


def _differing(kept: Plan, given: Plan) -> list[str]:
    """Returns the names of what a plan has otherwise than another."""
    one, other = asdict(kept), asdict(given)
    for part in ("common", "source", "limits"):
        one |= one.pop(part)
        other |= other.pop(part)
    return sorted(name for name in one | other if one.get(name) != other.get(name))


def _can_name_folder(backfill_id: str) -> bool:
    return backfill_id not in {".", ".."} and len(backfill_id.encode()) <= _MOST_ID_CHARACTERS


def _plan(
    source: str,
    source_format: str | None,
    mapped: tuple[str, ...],
    output: str,
    options: Mapping[str, Any],
) -> Plan:
    location, found = _located(source, SourceFormat(source_format) if source_format else None)
    columns = _columns(mapped)
    if columns and found is SourceFormat.FOLDER:
        raise click.BadParameter("a folder of images has no columns", param_hint="--map")
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
        source=SourcePlan(location, found, columns),
        output=output if "://" in output else _kept(str(Path(output).absolute()), "--output"),
        part_format=PartFormat(options["part_format"]),
        window=options["window"],
        part_items=options["part_items"],
        limits=FailureLimits(options["max_failures"], options["max_failure_share"]),
        item_events=options["item_events"],
    )


def _located(source: str, told: SourceFormat | None) -> tuple[str, SourceFormat]:
    """Returns where a source lies and what it is."""
    if not source.strip():
        # Of a variable that is not set: the folder that one stands in would be the source.
        raise click.BadParameter("is empty: name a file, a folder, a URL or -", param_hint="SOURCE")
    if source == STDIN:
        found = told or SourceFormat.JSONL
        if found not in {SourceFormat.JSONL, SourceFormat.CSV}:
            raise click.UsageError("standard input is JSON lines or CSV")
        return source, found
    if source.startswith("file://"):
        source = unquote(source.removeprefix("file://")) or source
    # The folder of the command line is not that of whoever goes on.
    location = source if "://" in source else _kept(str(Path(source).absolute()), "SOURCE")
    try:
        return location, told or guess_format(location)
    except SourceError as exc:
        raise click.ClickException(str(exc)) from exc


def _kept(path: str, hint: str) -> str:
    """Returns a path, which the ledger can keep; it is absolute, so that its folders count too."""
    if is_utf8(path):
        return path
    raise click.BadParameter(
        f"{safe_text(path)} is not UTF-8: rename the file, or the folder that it is in",
        param_hint=hint,
    )


def _columns(mapped: tuple[str, ...]) -> dict[str, str]:
    columns: dict[str, str] = {}
    for each in mapped:
        name, separator, column = each.partition("=")
        if not separator or not column or name not in get_args(ItemField):
            known = ", ".join(get_args(ItemField))
            raise click.BadParameter(f"{each!r}: NAME is one of {known}", param_hint="--map")
        if name in columns:
            raise click.BadParameter(
                f"{name} is mapped twice, onto {columns[name]} and {column}", param_hint="--map"
            )
        columns[name] = column
    return columns
