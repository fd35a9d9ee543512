"""`trainmaster status`: how commands stand."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click
from redis.exceptions import ResponseError

from schemas.events import ErrorCode
from worker.backfill.keys import backfills_key
from worker.cli.arguments import json_option
from worker.cli.command_texts import (
    KNOWN_STATES,
    describe_next_look,
    describe_resolution,
    fields_for_machines,
    progress_fields,
)
from worker.cli.completion import complete_ids
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.formatting import (
    describe_error,
    show_duration,
    show_timestamp,
    summarise,
)
from worker.cli.output import (
    FAILED,
    open_console,
    print_fields,
    print_json,
    safe_text,
    shell_word,
)
from worker.queue.ledger.dead_letters import DeadLetters
from worker.queue.ledger.holds import Holds, HoldScope
from worker.queue.ledger.lanes import Lanes
from worker.queue.ledger.models import Phase
from worker.queue.ledger.queries import LedgerReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from trainmaster_client import Event
    from worker.queue.ledger.command_status import CommandStatus
    from worker.queue.ledger.dead_letters import DeadLetter
    from worker.queue.ledger.keys import Keys

# So that nobody who only wants to see commands waits for a search through all of a large Redis.
_SEARCH_SECONDS: Final = 2.0
_REJECTIONS: Final = {str(each) for each in ErrorCode if each.fate == "rejected"}


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
        print_json({**fields_for_machines(found.row), **told})
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


def _fields(row: CommandStatus, event: Event | None, now: float) -> list[tuple[str, str]]:
    accepted = row.accepted_at_ms / 1000
    known = row.state in KNOWN_STATES
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
        told = describe_resolution(row.resolution, now)
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
    fields.append(("next look", describe_next_look(row, now)))
    if row.claims > 1:
        fields.append(("unended runs", f"{row.claims}, counted until a run makes progress"))
    fields += progress_fields(row, now)
    if row.last_error:
        fields.append(("last error", describe_error(row.last_error)))
    return fields
