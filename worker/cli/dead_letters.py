"""`trainmaster dead-letters`: looks at what failed, sends it again, or deletes it."""

from __future__ import annotations

import base64
import time
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from schemas.events import ErrorCode
from schemas.parsing import InvalidCommandError
from schemas.wording import counted
from worker.acts import Act
from worker.cli.arguments import (
    DURATION,
    ERROR_CODE,
    LETTER_TYPE,
    PAST,
    ArgumentError,
    Group,
    json_option,
    newest_option,
    read_data,
    read_value,
)
from worker.cli.completion import complete_letters
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.formatting import describe_error, show_timestamp
from worker.cli.output import (
    FAILED,
    Column,
    Row,
    open_console,
    print_fields,
    print_json,
    print_table,
    safe_text,
)
from worker.queue.ledger.dead_letters import DeadLetter, DeadLetters
from worker.queue.ledger.replay import PERHAPS_DONE, Edit, Refusal, Replay, prepare_replay
from worker.times import milliseconds_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime, timedelta

    from redis.asyncio import Redis

    from worker.queue.ledger.actions import Entry

    _Found = list[tuple[str, DeadLetter | None]]

_COLUMNS: Final = (
    Column("key"),
    # Its key names a letter; the id need not be whole.
    Column("id", shorten=True, least=20),
    Column("type", drop=1, shorten=True, least=16),
    Column("died", drop=3),
    Column("attempts", drop=4),
    Column("reason"),
)
_REPLAY: Final = (Act.DEAD_LETTER_REPLAY, Act.DEAD_LETTERS_REPLAY)
_PURGE: Final = (Act.DEAD_LETTER_PURGE, Act.DEAD_LETTERS_PURGE)

reason_option: Final = click.option(
    "--reason", type=ERROR_CODE, metavar="CODE", help="Only with this error code."
)
type_option: Final = click.option(
    "--type",
    "command_type",
    type=LETTER_TYPE,
    metavar="TYPE",
    help="Only this command type; `command` means a message whose type can't be read.",
)


@click.group("dead-letters", cls=Group)
def dead_letters() -> None:
    """Look at what failed or was rejected; send it again or delete it.

    A KEY is the letter's own key, or the id of its command.
    """


@dead_letters.command("list")
@reason_option
@type_option
@click.option("--since", type=PAST, help="Only newer than this: RFC 3339, or a duration like 2h.")
@newest_option
@json_option
@ledger_command
def list_letters(
    *,
    ledger: LedgerContext,
    reason: str | None,
    command_type: str | None,
    since: datetime | None,
    newest: int,
    as_json: bool,
) -> None:
    """List dead letters, newest first.

    A narrow terminal shows shortened ids and fewer columns; a pipe and --json get everything.
    """

    async def look(redis: Redis) -> list[DeadLetter]:
        letters = DeadLetters(redis, ledger.keys).list(
            reason=reason,
            command_type=command_type,
            since_ms=None if since is None else milliseconds_of(since),
            limit=newest,
            newest_first=True,
        )
        return [letter async for letter in letters]

    letters = ledger.run(look)
    if as_json:
        for letter in letters:
            print_json(_for_machines(letter))
        return
    if not letters:
        click.echo("no dead letters")
        return
    rows = [
        Row(
            (
                letter.key,
                letter.command_id,
                letter.type,
                show_timestamp(letter.at_ms),
                str(letter.attempts),
                letter.reason,
            ),
            message=str(letter.error["message"]),
        )
        for letter in letters
    ]
    print_table(_COLUMNS, rows)
    if len(letters) == newest:
        click.echo(f"there may be more than the {newest} shown: see --newest and --since")


@dead_letters.command()
@click.argument("key", shell_complete=complete_letters)
@json_option
@ledger_command
def show(*, ledger: LedgerContext, key: str, as_json: bool) -> None:
    """Show a dead letter whole: its error, its history, its original text."""

    async def look(redis: Redis) -> DeadLetter | None:
        return await DeadLetters(redis, ledger.keys).get(key)

    letter = ledger.run(look)
    if letter is None:
        raise click.ClickException(f"no dead letter has the key or the id {safe_text(key)}")
    if as_json:
        print_json(_for_machines(letter))
        return
    console = open_console()
    problems = letter.error.get("problems") or []
    fields = [
        ("key", letter.key),
        ("id", letter.command_id),
        ("type", letter.type),
        ("died", show_timestamp(letter.at_ms)),
        ("attempts", str(letter.attempts)),
        ("error", describe_error({**letter.error, "problems": None})),
    ]
    fields += [
        (f"problem {number}", f"{problem['path']} {problem['message']}".strip())
        for number, problem in enumerate(problems, 1)
    ]
    fields += [
        (f"history {number}", f"{error.get('at', '')} {describe_error(error)}".strip())
        for number, error in enumerate(letter.history, 1)
    ]
    print_fields(console, fields)
    console.print(f"\n{safe_text(letter.text.decode('utf-8', 'replace'))}", soft_wrap=True)


@dead_letters.command()
@click.argument("keys", nargs=-1, metavar="[KEY]...", shell_complete=complete_letters)
@reason_option
@type_option
@click.option("--all", "everything", is_flag=True, help="All, or all with this reason and type.")
@click.option("--dry-run", is_flag=True, help="Show the commands that would be sent.")
@click.option("--data", metavar="JSON", help="Send this in place of the command's data.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Change the data.")
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change an attribute of the command; null removes it.",
)
@json_option
@ledger_command
def replay(  # noqa: PLR0913 - one for each option
    *,
    ledger: LedgerContext,
    keys: tuple[str, ...],
    reason: str | None,
    command_type: str | None,
    everything: bool,
    dry_run: bool,
    data: str | None,
    pairs: tuple[str, ...],
    attributes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Send commands again, as they were or changed, and remove their letters.

    Each gets a new id and names the old one in causationid; a deadline that has passed is dropped.
    What would be rejected is not sent. Where nobody knows whether a change happened
    (outcome_unknown), look at the API first: --all leaves those out unless --reason names them.
    """
    if bool(keys) == everything:
        raise click.UsageError("name letters by KEY, or take all of them with --all")
    edit = _read_edit(data, pairs, attributes)
    given = {"data": data, "set": pairs, "attributes": attributes}
    edited = [name for name, value in given.items() if value]
    choice = _Choice(keys, reason, command_type)

    async def act(redis: Redis) -> list[Replay | Refusal]:
        letters = DeadLetters(redis, ledger.keys)
        found = await choice.find(letters)
        now = await letters.now()
        outcomes: list[Replay | Refusal] = []
        counts: Counter[str] = Counter()
        told: dict[str, Any] = {"edited": edited, "outcomes": counts}
        async with choice.recorded(ledger, redis, _REPLAY, found, told, dry_run=dry_run) as entry:
            for key, letter in found:
                may_be_done = bool(keys) or (letter is not None and letter.reason == reason)
                outcome = prepare_replay(key, letter, edit, now, may_be_done=may_be_done)
                outcomes.append(outcome)
                if isinstance(outcome, Refusal):
                    counts[outcome.error.code] += 1
                    continue
                counts["replayed"] += 1
                if not dry_run:
                    await letters.replay(outcome.letter)
                    entry.done()
        return outcomes

    outcomes = ledger.run(act)
    for outcome in outcomes:
        _print_outcome(outcome, dry_run=dry_run, as_json=as_json)
    refused = sum(isinstance(outcome, Refusal) for outcome in outcomes)
    if not as_json:
        done = "would be sent" if dry_run else "sent"
        rest = f", {refused} not" if refused else ""
        click.echo(f"{counted(len(outcomes) - refused, 'command')} {done}{rest}", err=True)
    if refused:
        raise SystemExit(FAILED)


@dead_letters.command()
@click.argument("keys", nargs=-1, metavar="[KEY]...", shell_complete=complete_letters)
@reason_option
@click.option("--older-than", type=DURATION, help="Only older than this, like 7d.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@ledger_command
def purge(
    *,
    ledger: LedgerContext,
    keys: tuple[str, ...],
    reason: str | None,
    older_than: timedelta | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete dead letters for good."""
    by_rule = reason is not None or older_than is not None
    if bool(keys) == by_rule:
        raise click.UsageError("name letters by KEY, or by --reason or --older-than")
    before_ms = None
    if older_than is not None:
        before_ms = int((time.time() - older_than.total_seconds()) * 1000)

    choice = _Choice(keys, reason, before_ms=before_ms)
    found = ledger.run(lambda redis: choice.find(DeadLetters(redis, ledger.keys)))
    missing = [key for key, letter in found if letter is None]
    for key in missing:
        click.echo(f"no dead letter has the key or the id {safe_text(key)}", err=True)
    doomed = list(dict.fromkeys(letter.key for _, letter in found if letter is not None))
    if doomed and not yes:
        click.confirm(
            f"Delete {counted(len(doomed), 'dead letter')} for good?", abort=True, err=True
        )

    async def act(redis: Redis) -> int:
        async with choice.recorded(ledger, redis, _PURGE, found, {}) as entry:
            purged = await DeadLetters(redis, ledger.keys).purge(doomed)
            entry.done(purged=purged)
        return purged

    purged = ledger.run(act) if doomed else 0
    if as_json:
        print_json({"purged": purged, "missing": missing})
    else:
        click.echo(f"{counted(purged, 'dead letter')} deleted")
    if missing:
        raise SystemExit(FAILED)


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which letters an act is for: those of the keys, or else all that fit the rest."""

    keys: Sequence[str]
    reason: str | None = None
    command_type: str | None = None
    before_ms: int | None = None

    async def find(self, letters: DeadLetters) -> _Found:
        """Returns them, with None for a key that no letter has."""
        return await letters.select(
            self.keys,
            reason=self.reason,
            command_type=self.command_type,
            before_ms=self.before_ms,
        )

    def recorded(
        self,
        ledger: LedgerContext,
        redis: Redis,
        acts: tuple[Act, Act],
        found: _Found,
        details: Mapping[str, Any],
        *,
        dry_run: bool = False,
    ) -> AbstractAsyncContextManager[Entry]:
        """Records the first act on the one that was named, else the second on all of them."""
        on_one, on_many = acts
        one = found[0][1] if len(self.keys) == 1 else None
        if one is not None:
            told = {"key": one.key, "type": one.type, "reason": one.reason, **details}
            return ledger.recorded(redis, on_one, one.command_id, dry_run=dry_run, **told)
        said = {
            "keys": self.keys,
            "reason": self.reason,
            "type": self.command_type,
            "before_ms": self.before_ms,
        }
        filter_told = {name: value for name, value in said.items() if value} or {"all": True}
        told = {"filter": filter_told, "matched": len(found), **details}
        return ledger.recorded(redis, on_many, dry_run=dry_run, **told)


def _read_edit(data: str | None, pairs: Sequence[str], attributes: Sequence[str]) -> Edit:
    replacement = None
    if data is not None:
        replacement = read_value(data)
        if not isinstance(replacement, dict):
            raise click.UsageError("--data must be a JSON object")
    changes: dict[str, Any] = {}
    for attribute in attributes:
        name, equals, text = attribute.partition("=")
        if not equals or not name or name in {"data", "id"}:
            raise click.UsageError(f"--attribute {attribute!r}: give an attribute as key=value")
        changes[name] = read_value(text)
    try:
        # The pairs are read again for each letter's type; here only for what is wrong with them.
        read_data(pairs, "")
    except ArgumentError as exc:
        raise click.UsageError(f"--set: {exc}") from exc
    return Edit(replacement, partial(_read_changes, pairs), changes)


def _read_changes(pairs: Sequence[str], command_type: str) -> dict[str, Any]:
    try:
        return read_data(pairs, command_type)
    except ArgumentError as exc:
        raise InvalidCommandError(ErrorCode.INVALID_ARGUMENTS, str(exc)) from exc


def _print_outcome(outcome: Replay | Refusal, *, dry_run: bool, as_json: bool) -> None:
    if isinstance(outcome, Refusal):
        error = outcome.error.model_dump(mode="json", exclude_none=True)
        if as_json:
            print_json({"key": outcome.place, "error": error})
        else:
            click.echo(safe_text(f"{outcome.place}: {describe_error(error)}"), err=True)
        return
    if as_json:
        print_json({
            "key": outcome.letter.key,
            "causationid": outcome.letter.command_id,
            "id": outcome.command["id"],
            "command": outcome.command,
            "deadline_dropped": outcome.deadline_dropped,
            "sent": not dry_run,
        })
        return
    done = "would be sent" if dry_run else "sent"
    click.echo(safe_text(f"{outcome.letter.key}: {done} as {outcome.command['id']}"))
    if dry_run:
        print_json(outcome.command)
    if outcome.deadline_dropped:
        click.echo("  its deadline had passed and is dropped", err=True)
    if outcome.letter.reason in PERHAPS_DONE:
        click.echo("  its outcome was unknown: what it creates may then exist twice", err=True)


def _for_machines(letter: DeadLetter) -> dict[str, Any]:
    """Returns a letter's fields; a text that is no UTF-8 is in `text_base64` alone."""
    shown = asdict(letter)
    try:
        shown["text"], shown["text_base64"] = letter.text.decode("utf-8"), None
    except UnicodeDecodeError:
        shown["text"], shown["text_base64"] = None, base64.b64encode(letter.text).decode()
    return shown
