"""`backfill`: leads one in slices, so that leases and restarts work as for trainings."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import structlog

from schemas.backfills import Backfill
from schemas.enums import SourceFormat
from schemas.events import ErrorCode
from trainmaster_client.steps import passes
from worker.backfill.errors import (
    IdTakenError,
    LeadLostError,
    NewerPlanError,
    SourceError,
    SourceUnavailableError,
    UnreadableBackfillError,
)
from worker.backfill.leader import AlreadyLed, Leader
from worker.backfill.plan import FailureLimits, Plan, SourcePlan, common_data
from worker.backfill.results.output import folder_name
from worker.backfill.sources.formats import guess_format
from worker.backfill.status import BackfillState, Origin
from worker.errors import FencedError, RetryableError
from worker.files.file_access import input_error, is_below, local_path, may_be_read, outside
from worker.queue.ledger.cancellation import cancel
from worker.queue.ledger.models import RowState
from worker.queue.ledger.outage import ONCE, STILL_LOST_SECONDS
from worker.queue.outcome import Outcome, Snooze, Succeeded
from worker.queue.registry import handles
from worker.thread_pools import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from worker.backfill.status import BackfillStatus
    from worker.backfill.store import BackfillStore
    from worker.errors import InputError
    from worker.queue.ledger.outage import Outage
    from worker.queue.run_context import RunContext

log = structlog.get_logger(__name__)

# The source is opened anew in each slice and read over to the cursor: a second for a million rows.
SLICE_SECONDS: Final = 20.0
PAUSED_SECONDS: Final = 5.0
LEAD_LOST_SECONDS: Final = 1.0
# For a worker of a newer version, which leads what this one can't.
NEWER_SECONDS: Final = 5.0
# For a person, who puts right what somebody wrote over.
UNREADABLE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Backfills:
    """What backfills that a worker leads need.

    Attributes:
        output: folder or URL below which each has a folder for its results.
        window: most items of one that wait or run.
        part_items: items in one part of the results.
    """

    store: BackfillStore
    output: str
    window: int
    part_items: int


@handles(Backfill)
async def backfill(run: RunContext[Backfill]) -> Outcome:
    """Leads a backfill for a slice of time, until it has ended."""
    try:
        return await _lead(run)
    except LeadLostError:
        return _wait(run, LEAD_LOST_SECONDS)
    except NewerPlanError as exc:
        log.warning("backfill.newer", backfill=run.lease.command_id, reason=str(exc))
        return _wait(run, NEWER_SECONDS)
    except UnreadableBackfillError as exc:
        log.warning("backfill.unreadable", backfill=run.lease.command_id, reason=str(exc))
        return _wait(run, UNREADABLE_SECONDS)


async def _lead(run: RunContext[Backfill]) -> Outcome:
    backfills = run.dependencies.service(Backfills)
    backfill_id = run.lease.command_id
    known = await backfills.store.look(backfill_id)
    if known is None:
        # A folder is looked into, and a server asked for what it holds.
        plan = await in_thread(make_plan, run, backfills)
        try:
            await backfills.store.open_for(run.lease, plan)
        except IdTakenError as exc:
            raise _taken() from exc
    elif known.origin is not Origin.QUEUE or known.entry != run.lease.entry_id:
        raise _taken()
    ledger = run.dependencies.ledger
    leader = Leader(
        backfills.store,
        backfill_id,
        announces=False,
        epoch=ledger.epoch,
        trouble=_teller(ledger.outage, backfill_id),
    )
    status = await leader.work(
        _until_deadline(run, SLICE_SECONDS), read_seconds=_until_deadline(run, math.inf)
    )
    if isinstance(status, AlreadyLed):
        return _wait(run, status.seconds)
    return await _outcome(run, backfills, status)


def _teller(outage: Outage, backfill_id: str) -> Callable[[BaseException], None]:
    """Returns what tells of trouble: where a key of its own is refused, Redis is not away."""
    tell_at = -math.inf

    def tell(exc: BaseException) -> None:
        nonlocal tell_at
        if passes(exc):
            outage.failed(ONCE, exc)
        elif time.monotonic() >= tell_at:
            tell_at = time.monotonic() + STILL_LOST_SECONDS
            log.warning("backfill.refused", backfill=backfill_id, error=" ".join(str(exc).split()))

    return tell


def _until_deadline(run: RunContext[Backfill], most_seconds: float) -> float:
    """Returns so many seconds, or what is left of them until the deadline."""
    deadline = run.command.deadline
    if deadline is None:
        return most_seconds
    return max(0.0, min(most_seconds, deadline.timestamp() - run.now()))


def _wait(run: RunContext[Backfill], most_seconds: float) -> Snooze:
    """Ends a slice; past the deadline it ends the command, for its items would go on.

    Raises:
        DeadlineExceededError: the deadline has passed.
    """
    run.check_deadline()
    return Snooze(_until_deadline(run, most_seconds), RowState.RUNNING)


async def _outcome(
    run: RunContext[Backfill], backfills: Backfills, status: BackfillStatus
) -> Outcome:
    match status.state:
        case BackfillState.SUCCEEDED:
            return Succeeded(status.result)
        case BackfillState.FAILED:
            raise _refusal(status.reason)
        case BackfillState.CANCELLED:
            ledger = run.dependencies.ledger
            await cancel(
                ledger.redis,
                ledger.keys,
                status.id,
                retention_seconds=backfills.store.retention_seconds,
                reply_retention_seconds=backfills.store.reply_retention_seconds,
            )
            raise FencedError("the backfill was cancelled")
        case BackfillState.PAUSED | BackfillState.CANCELLING:
            return _wait(run, PAUSED_SECONDS)
        case _:
            return _wait(run, 0.0)


def make_plan(run: RunContext[Backfill], backfills: Backfills) -> Plan:
    """Returns the plan of a command.

    Raises:
        InputError: its source may not be read.
    """
    command = run.command
    data = command.data
    location = _allowed(data.source, run.dependencies.data_roots, run.dependencies.source_urls)
    try:
        source_format = data.format or guess_format(location, follows=False)
    except SourceUnavailableError as exc:
        raise RetryableError(str(exc), code=ErrorCode.DATA_UNAVAILABLE) from exc
    except SourceError as exc:
        raise _refusal(str(exc)) from exc
    if data.columns and source_format is SourceFormat.FOLDER:
        raise input_error("data.columns", "a folder of images has no columns")
    return Plan(
        common=common_data(data),
        source=SourcePlan(
            location,
            source_format,
            cast("dict[str, str]", data.columns or {}),
        ),
        output=f"{backfills.output}/backfill-{folder_name(run.lease.command_id)}",
        part_format=data.part_format,
        window=backfills.window,
        part_items=backfills.part_items,
        limits=FailureLimits(data.max_failures, data.max_failure_share),
        item_events=data.item_events,
        context=command.context(),
        reply_to=command.replyto,
    )


def _allowed(source: str, roots: tuple[Path, ...], urls: tuple[str, ...]) -> str:
    """Returns where a source lies, links resolved; others name it, so not all may be read."""
    if may_be_read(source, urls):
        return source
    path = local_path(source)
    if path is None:
        raise _refusal("the URL lies below none of TRAINMASTER_SOURCE_URLS")
    try:
        resolved = path.resolve()
    except (OSError, ValueError, RuntimeError) as exc:
        raise _refusal("not a usable path") from exc
    if not is_below(resolved, roots):
        raise _refusal(outside("source", path))
    return str(resolved)


def _taken() -> InputError:
    return input_error("id", "another backfill has this id; send the command with another one")


def _refusal(message: str) -> InputError:
    return input_error("data.source", message)
