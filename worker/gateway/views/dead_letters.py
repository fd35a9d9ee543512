"""Dead letters over HTTP: which ones are meant, and sending many of them again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from schemas.claim_check import parse_message
from schemas.events import ErrorCode
from schemas.partial import read_partial
from worker.gateway.models import BulkAnswer
from worker.gateway.problems import ProblemError
from worker.queue.ledger.dead_letters import DeadLetters
from worker.queue.ledger.replay import Replay, prepare_replay
from worker.times import milliseconds_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from worker.gateway.access.callers import Caller
    from worker.gateway.gateway import Gateway
    from worker.queue.ledger.actions import Entry
    from worker.queue.ledger.command_status import CommandStatus
    from worker.queue.ledger.dead_letters import DeadLetter
    from worker.queue.ledger.replay import Edit, Refusal

MAX_NAMED: Final = 1000
# Of one request, so that it takes seconds and no memory to speak of.
MOST_AT_A_TIME: Final = 10_000
REPLAYED: Final = "replayed"
FAILED: Final = "failed"
# A letter is written together with the event of the end; a clock that was set back keeps the
# stream's ids ahead of it for a while.
_NEAR_MILLISECONDS: Final = 1_000
_REJECTIONS: Final = frozenset(code for code in ErrorCode if code.fate == "rejected")


@dataclass(frozen=True, slots=True)
class LetterChoice:
    """Which dead letters are meant; None is all.

    Attributes:
        state: `failed`, or `rejected` for what was never accepted.
        names: keys of letters or ids of their commands.
        ids: of their commands alone. An id may look like a key, of another letter: a command that
            was sent without one has that of its entry.
    """

    reason: str | None = None
    state: str | None = None
    command_type: str | None = None
    correlation_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    names: frozenset[str] | None = None
    ids: frozenset[str] | None = None

    async def so_far(self, gateway: Gateway) -> LetterChoice:
        """Returns the choice without what dies from now on, as what is sent again may."""
        now = await moment_after(gateway)
        return self if self.until is not None and self.until < now else replace(self, until=now)

    async def find(self, gateway: Gateway, caller: Caller) -> AsyncIterator[DeadLetter]:
        """Yields those that the caller may know of, oldest first."""
        letters = DeadLetters(gateway.redis, gateway.keys).list(
            reason=self.reason,
            command_type=self.command_type,
            since_ms=milliseconds(self.since),
            before=milliseconds(self.until),
        )
        async for letter in letters:
            if caller.sees(letter.type) and self._fits(letter):
                yield letter

    def _fits(self, letter: DeadLetter) -> bool:
        if self.names is not None and not {letter.key, letter.command_id} & self.names:
            return False
        if self.ids is not None and letter.command_id not in self.ids:
            return False
        if self.state not in {None, state_of(letter)}:
            return False
        return self.correlation_id in {None, correlation_id_of(letter.text)}


async def moment_after(gateway: Gateway) -> datetime:
    """Returns the next millisecond by Redis' clock: what is there by now is before it."""
    now = await DeadLetters(gateway.redis, gateway.keys).now()
    return datetime.fromtimestamp((int(now * 1000) + 1) / 1000, UTC)


def state_of(letter: DeadLetter) -> str:
    """Returns how the letter's command ended."""
    return "rejected" if letter.reason in _REJECTIONS else FAILED


def correlation_id_of(text: bytes) -> str | None:
    """Returns the correlation id of a command as it was sent, None where it has none."""
    return read_partial(text).attributes.correlationid


def milliseconds(time: datetime | None) -> int | None:
    """Returns a time as streams count it, which begin in 1970."""
    return None if time is None else max(0, milliseconds_of(time))


async def letter_of(
    gateway: Gateway, command_id: str, row: CommandStatus | None
) -> DeadLetter | None:
    """Returns the letter of a command, None where there is none: by its id, never by a key.

    Args:
        gateway: that it is asked of.
        command_id: of the command.
        row: of the command; None where nothing, or a rejected message, had the id. What is rejected
            under the id of a command that was accepted is none of that command.
    """
    letters = DeadLetters(gateway.redis, gateway.keys)
    if row is None:
        return await _first(letters.list(newest_first=True), command_id)
    if row.state != FAILED:
        return None
    if row.last_event_id:
        ended_ms = int(row.last_event_id.partition("-")[0])
        near = letters.list(since_ms=ended_ms, before=ended_ms + _NEAR_MILLISECONDS)
        if (found := await _first(near, command_id, FAILED)) is not None:
            return found
    return await _first(letters.list(newest_first=True), command_id, FAILED)


async def _first(
    letters: AsyncIterator[DeadLetter], command_id: str, state: str | None = None
) -> DeadLetter | None:
    async for letter in letters:
        if letter.command_id == command_id and state in {None, state_of(letter)}:
            return letter
    return None


async def replay_letter(
    gateway: Gateway,
    caller: Caller,
    letter: DeadLetter,
    edit: Edit,
    *,
    may_be_done: bool,
    dry_run: bool,
) -> Replay | Refusal:
    """Sends a letter's command again, unless it would be rejected or it is a dry run.

    Raises:
        ProblemError: the caller may not send this command.
    """
    letters = DeadLetters(gateway.redis, gateway.keys)
    now = await letters.now()
    outcome = prepare_replay(letter.key, letter, edit, now, may_be_done=may_be_done)
    if isinstance(outcome, Replay):
        # What it is may be part of the edit.
        caller.check_command(parse_message(orjson.dumps(outcome.command)).command)
        if not dry_run:
            await letters.replay(outcome.letter, command_id=edit.command_id)
    return outcome


async def replay_all(
    gateway: Gateway,
    caller: Caller,
    choice: LetterChoice,
    edit: Edit,
    entry: Entry,
    *,
    dry_run: bool,
) -> BulkAnswer:
    """Sends the commands of letters of a choice again, or tells what that would come to.

    What may have been done is left out, unless the choice names it. What is sent, the entry is
    told.
    """
    letters = DeadLetters(gateway.redis, gateway.keys)
    outcomes: Counter[str] = Counter()
    ids: list[str] = []
    matched, more = 0, False
    choice = await choice.so_far(gateway)
    # Those that are refused stay, and must not keep others from their turn.
    async for found in choice.find(gateway, caller):
        if outcomes[REPLAYED] >= MOST_AT_A_TIME:
            more = True
            break
        matched += 1
        # It was read with many others; somebody else may have sent it again since.
        letter = await letters.get(found.key)
        if letter is None or letter.key != found.key:
            outcomes["gone"] += 1
            continue
        if len(ids) < MAX_NAMED:
            ids.append(letter.command_id)
        named = (choice.names or choice.ids) is not None or choice.reason == letter.reason
        try:
            outcome = await replay_letter(
                gateway, caller, letter, edit, may_be_done=named, dry_run=dry_run
            )
        except ProblemError as exc:
            outcomes[exc.code] += 1
        else:
            sent = isinstance(outcome, Replay)
            outcomes[REPLAYED if sent else _code_of(outcome)] += 1
            if sent:
                # Should what follows be broken off, it is known how far this came.
                entry.done(matched=matched, outcomes=outcomes)
    entry.done(matched=matched, outcomes=+outcomes, more=more)
    return BulkAnswer(
        dry_run=dry_run,
        matched=matched,
        done=0 if dry_run else outcomes[REPLAYED],
        outcomes=+outcomes,
        ids=ids,
        more=more,
        until=choice.until,
    )


def _code_of(outcome: Any) -> str:
    return str(outcome.error.code)
