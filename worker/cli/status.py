"""`trainmaster status` and `list`: how commands stand."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click
from redis.exceptions import NoPermissionError, ResponseError

from schemas.events import ErrorCode
from worker.backfill.keys import backfills_key
from worker.cli.arguments import COMMAND_TYPE, PAST, json_option, newest_option
from worker.cli.completion import complete_ids
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.formatting import (
    UNREAD_LIST_ADVICE,
    describe_creation,
    describe_error,
    describe_unread_list,
    show_duration,
    show_timestamp,
    summarise,
)
from worker.cli.output import (
    FAILED,
    Column,
    Row,
    open_console,
    print_fields,
    print_json,
    print_table,
    safe_text,
    shell_word,
)
from worker.queue.intake.list_bridge import unread_lists
from worker.queue.ledger.command_status import is_error
from worker.queue.ledger.dead_letters import DeadLetters
from worker.queue.ledger.holds import Holds, HoldScope
from worker.queue.ledger.lanes import Lanes
from worker.queue.ledger.models import Phase, RowState
from worker.queue.ledger.queries import LedgerReader, RowChoice
from worker.times import milliseconds_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from redis.asyncio import Redis

    from trainmaster_client import Event
    from worker.queue.ledger.command_status import CommandStatus
    from worker.queue.ledger.dead_letters import DeadLetter
    from worker.queue.ledger.keys import Keys

# So that nobody who only wants to see commands waits for a search through all of a large Redis.
_SEARCH_SECONDS: Final = 2.0
_KNOWN_STATES = frozenset(RowState)
_REJECTIONS: Final = {str(each) for each in ErrorCode if each.fate == "rejected"}
_COLUMNS: Final = (
    Column("id", shorten=True),
    Column("type", shorten=True, least=16),
    Column("state"),
    Column("lane", drop=4),
    Column("attempts", drop=3),
    Column("changed", drop=1),
    Column("next look", drop=2),
)


@click.command()
@click.argument(
    "command_ids", metavar="ID...", nargs=-1, required=True, shell_complete=complete_ids
)
@click.option("--item", is_flag=True, help="ID is a backfill's item, like night/17.")
@json_option
@ledger_command
def status(
    *, ledger: LedgerContext, command_ids: tuple[str, ...], item: bool, as_json: bool
) -> None:
    """Show the status of commands.

    An ID may also be that of a backfill's item that has not ended; if a command has the same ID,
    --item shows the item. Of a command that was rejected, or ended too long ago, shows the dead
    letter; of one that was accepted, also the letter of a later message with the same ID that was
    rejected. Exits with 1 if no worker has accepted such a command, or if it ended too long ago.
    """

    async def look(one: LedgerContext, redis: Redis, ids: Sequence[str]) -> list[_Found]:
        return [await _look(redis, one.keys, each, item=item) for each in ids]

    found = ledger.run_by_id(command_ids, look, is_known=lambda each: each.is_known)
    for number, (command_id, each) in enumerate(zip(command_ids, found, strict=True)):
        if number and not as_json:
            click.echo()
        _print_found(command_id, each, as_json=as_json)
    if any(each.row is None for each in found):
        raise SystemExit(FAILED)


@click.command("list")
@click.option(
    "--state", type=click.Choice([str(each) for each in RowState]), help="Only this state."
)
@click.option("--type", "command_type", type=COMMAND_TYPE, metavar="TYPE", help="Only this type.")
@click.option("--since", type=PAST, help="Only changed after: RFC 3339, or a duration like 2h.")
@newest_option
@json_option
@ledger_command
def list_commands(
    *,
    ledger: LedgerContext,
    state: str | None,
    command_type: str | None,
    since: datetime | None,
    newest: int,
    as_json: bool,
) -> None:
    """List commands and how many there are.

    What changed last comes first. A command changes when it is accepted, makes progress, fails an
    attempt, or ends. A narrow terminal shows shortened ids and fewer columns; a pipe and --json get
    everything, one line per command. Lists in Redis that hold commands but that no worker reads are
    named on standard error.
    """
    choice = RowChoice(
        None if state is None else RowState(state),
        command_type,
        None if since is None else milliseconds_of(since),
    )

    counts: Counter[str] = Counter()
    rows: list[CommandStatus] = []
    unread: dict[str, int] = {}
    for one in ledger.partitions:

        async def look(
            redis: Redis, one: LedgerContext = one
        ) -> tuple[dict[str, int], list[CommandStatus], dict[str, int]]:
            reader = LedgerReader(redis, one.keys)
            counts, rows = await reader.counts(), await reader.newest(newest, choice)
            return counts, rows, await _unread(redis, one.keys)

        its_counts, its_rows, its_unread = one.run(look)
        counts.update(its_counts)
        rows += its_rows
        unread |= its_unread
    rows = sorted(rows, key=lambda row: row.changed_at_ms, reverse=True)[:newest]
    for name, messages in unread.items():
        # Not among the rows, which other programs read.
        click.echo(f"{describe_unread_list(name, messages)}: {UNREAD_LIST_ADVICE}", err=True)
    if as_json:
        for row in rows:
            print_json(_for_machines(row))
        return
    for line in _counts(counts):
        click.echo(line)
    if rows:
        _print_rows(rows)
    if len(rows) == newest:
        click.echo(f"there may be more than the {newest} shown: see --newest and --since")


@dataclass(frozen=True, slots=True)
class _Found:
    """What is known of an id: its row with the event of its end, else its dead letter.

    Beside a row, `letter` is of the latest message with its id that was rejected after it.
    """

    row: CommandStatus | None = None
    event: Event | None = None
    letter: DeadLetter | None = None
    causes: list[str] = field(default_factory=list)
    is_backfill: bool = False

    @property
    def is_known(self) -> bool:
        """Whether anything is known."""
        return self.row is not None or self.letter is not None or self.is_backfill


async def _look(redis: Redis, keys: Keys, command_id: str, *, item: bool) -> _Found:
    reader = LedgerReader(redis, keys)
    row = None if item else await reader.status(command_id)
    row = row or await reader.item(command_id)
    if row is not None:
        causes = [] if row.ended_at_ms is not None else await _causes(redis, keys, row)
        letter = None if row.group else await _rejection(redis, keys, row)
        return _Found(row, await reader.terminal_event(row), letter, causes)
    letter = None if item else await DeadLetters(redis, keys).get(command_id)
    # One of the console has no command.
    is_backfill = await redis.zscore(backfills_key(keys), command_id) is not None
    return _Found(letter=letter, is_backfill=is_backfill)


async def _rejection(redis: Redis, keys: Keys, row: CommandStatus) -> DeadLetter | None:
    """Returns the letter of the latest message with a command's id that was rejected since."""
    letters = DeadLetters(redis, keys).list(since_ms=row.accepted_at_ms, newest_first=True)
    try:
        async with asyncio.timeout(_SEARCH_SECONDS):
            async for letter in letters:
                if letter.command_id == row.id and letter.reason in _REJECTIONS:
                    return letter
    except (ResponseError, TimeoutError):
        # No right to look, or no stream: the command itself is still to be seen.
        pass
    return None


def _print_found(command_id: str, found: _Found, *, as_json: bool) -> None:
    if found.row is not None and as_json:
        told = {
            "last_event": None if found.event is None else found.event.attributes,
            "held_by": found.causes,
            "rejected_since": None if found.letter is None else _letter_json(found.letter),
        }
        print_json({**_for_machines(found.row), **told})
    elif found.row is not None:
        fields = _fields(found.row, found.event, time.time())
        fields += [("held by", each) for each in found.causes]
        if found.letter is not None:
            fields.append(("rejected since", _tell_rejection(found.letter)))
        print_fields(open_console(), fields)
    elif found.letter is not None:
        _print_letter(found.letter, as_json=as_json)
    elif found.is_backfill:
        click.echo(
            f"Error: no command has the id {safe_text(command_id)}, but a backfill has; see: "
            f"trainmaster backfill status {shell_word(command_id)}",
            err=True,
        )
    else:
        click.echo(
            f"Error: no command has the id {safe_text(command_id)}: it is not accepted yet, or "
            "ended too long ago; no dead letter has it either",
            err=True,
        )


async def _causes(redis: Redis, keys: Keys, row: CommandStatus) -> list[str]:
    """Returns what keeps a command that has not ended from being carried out."""
    causes = []
    for hold in await Holds(redis, keys).list():
        if hold.scope is HoldScope.FLEET:
            rest = show_duration((hold.rest_ms or 0) / 1000)
            causes.append(f"a pause of all workers for another {rest}: {hold.reason}")
        else:
            causes.append(f"worker {hold.worker}, which claims nothing: {hold.reason}")
    causes += [
        f"the paused lane {pause.lane}: {pause.reason}"
        for pause in await Lanes(redis, keys).paused()
        if pause.lane == row.lane
    ]
    return causes


def _tell_rejection(letter: DeadLetter) -> str:
    return (
        f"a later message with this id, at {show_timestamp(letter.at_ms)}: "
        f"{describe_error(letter.error)}; see: trainmaster dead-letters show {letter.key}"
    )


def _letter_json(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.command_id,
        "type": letter.type,
        "state": _letter_state(letter),
        "dead_letter": letter.key,
        "error": letter.error,
        "at_ms": letter.at_ms,
    }


def _letter_state(letter: DeadLetter) -> str:
    return "rejected" if letter.reason in _REJECTIONS else "failed"


def _print_letter(letter: DeadLetter, *, as_json: bool) -> None:
    if as_json:
        print_json(_letter_json(letter))
        return
    print_fields(
        open_console(),
        [
            ("id", letter.command_id),
            ("type", letter.type),
            ("state", _letter_state(letter)),
            ("since", show_timestamp(letter.at_ms)),
            ("error", describe_error(letter.error)),
            ("dead letter", f"{letter.key}; see: trainmaster dead-letters show {letter.key}"),
        ],
    )


def _counts(counts: dict[str, int]) -> list[str]:
    lanes = ("interactive", "bulk", "suspect")
    unread = (
        f"{counts['unread']} in the stream, {counts['unread_bulk']} in the bulk stream, "
        f"{counts['inbox']} in the inbox"
    )
    return [
        *(
            f"{name}: " + ", ".join(f"{counts[f'{name}_{lane}']} {lane}" for lane in lanes)
            for name in ("open", "due")
        ),
        f"unread: {unread}",
        f"dead letters: {counts['dead_letters']}",
    ]


async def _unread(redis: Redis, keys: Keys) -> dict[str, int]:
    """Returns lists of commands that no worker reads, as far as they can be found."""
    try:
        async with asyncio.timeout(_SEARCH_SECONDS):
            return await unread_lists(redis, keys)
    except (NoPermissionError, TimeoutError):
        return {}


def _print_rows(rows: list[CommandStatus]) -> None:
    now = time.time()
    print_table(_COLUMNS, [_table_row(row, now) for row in rows], "error")
    if unknown := sorted({row.state for row in rows} - _KNOWN_STATES):
        click.echo(f"this version does not know: {safe_text(', '.join(unknown))}")


def _table_row(row: CommandStatus, now: float) -> Row:
    return Row(
        (
            row.id,
            row.type,
            row.state,
            row.lane,
            str(row.attempts),
            f"{show_duration(now - row.changed_at_ms / 1000)} ago",
            _next_look(row, now),
        ),
        state=row.state,
        message=describe_error(row.last_error) if row.last_error else "",
    )


def _for_machines(row: CommandStatus) -> dict[str, Any]:
    told = asdict(row)
    # The one kind of group that there is for people.
    backfill = told.pop("group")
    return {**told, "backfill": backfill, "changed_at_ms": row.changed_at_ms}


def _fields(row: CommandStatus, event: Event | None, now: float) -> list[tuple[str, str]]:
    accepted = row.accepted_at_ms / 1000
    known = row.state in _KNOWN_STATES
    fields = [
        ("id", row.id),
        *([("item of", f"the backfill {row.group}")] if row.group else []),
        ("type", row.type),
        ("state", row.state if known else f"{row.state}, which this version does not know"),
        ("priority", row.lane),
        ("attempts", str(row.attempts)),
        ("accepted", f"{show_timestamp(row.accepted_at_ms)}, {show_duration(now - accepted)} ago"),
    ]
    if row.resolution is not None:
        told = _describe_resolution(row.resolution, now)
        if row.phase is Phase.IN_DOUBT and row.resolution.get("created") is not None:
            told += "; the API does not have it, or it is another command's, so the doubt goes on"
        fields.append(("resolved", told))
    if row.ended_at_ms is not None:
        ended = row.ended_at_ms / 1000
        fields += [
            (
                "ended",
                f"{show_timestamp(row.ended_at_ms)}, after {show_duration(ended - accepted)}",
            ),
            (
                "outcome",
                "its event is no longer kept" if event is None else summarise(event.attributes),
            ),
        ]
        return fields
    fields.append(("next look", _next_look(row, now)))
    if row.claims > 1:
        fields.append(("unended runs", f"{row.claims}, counted until a run makes progress"))
    fields += _progress_fields(row, now)
    if row.last_error:
        fields.append(("last error", describe_error(row.last_error)))
    return fields


def _describe_resolution(resolution: dict[str, Any], now: float) -> str:
    at_ms = resolution.get("at_ms")
    what = describe_creation(resolution.get("created"))
    since = f", {show_duration(now - at_ms / 1000)} ago" if isinstance(at_ms, int) else ""
    return f"by {resolution.get('by')}: {what}{since}"


def _progress_fields(row: CommandStatus, now: float) -> list[tuple[str, str]]:
    """Returns what is known of a change at the API: what it made, or why that is not known."""
    progress = row.progress or {}
    at = progress.get("at")
    age = show_duration(now - at) if isinstance(at, int | float) else ""
    ago, lasting = (f", {age} ago", f", for {age}") if age else ("", "")
    match row.phase:
        case Phase.APPLIED:
            noun = "training" if row.type == "train" else "created"
            return [(noun, f"{progress.get('uuid')}{ago}")]
        case Phase.INTENDED:
            return [("under way", f"a change at the API{lasting}; its answer is not known yet")]
        case Phase.IN_DOUBT:
            error, check = progress.get("error"), progress.get("check")
            why = describe_error(error) if is_error(error) else ""
            if not isinstance(check, str):
                check = "the API is asked whether it happened; nothing is sent again meanwhile"
            return [("in doubt", f"{why}{lasting}"), ("check", check)]
        case _:
            waits = row.state == RowState.POLLING and age
            return [("waiting", f"{age}, for the end of a training")] if waits else []


def _next_look(row: CommandStatus, now: float) -> str:
    if row.due_at_ms is None:
        return ""
    rest = row.due_at_ms / 1000 - now
    if row.state == RowState.RUNNING:
        return "running now" if rest > 0 else f"its lease ended {show_duration(-rest)} ago"
    return f"in {show_duration(rest)}" if rest > 0 else f"due for {show_duration(-rest)}"
