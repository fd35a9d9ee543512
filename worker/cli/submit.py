"""`trainmaster submit`: sends commands, and waits for their end if asked to."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from schemas.commands import COMMAND_CLASSES
from schemas.enums import Priority
from schemas.suggestions import unknown
from schemas.wording import counted
from trainmaster_client import RedisTroubleError, WaitTimeoutError
from trainmaster_client.names import Names
from worker.cli.arguments import AHEAD, DURATION, ArgumentError, json_option, read_data
from worker.cli.completion import complete_pairs, complete_types
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.drafts import Draft, Refusal, Source, draft_all, read_sources
from worker.cli.formatting import show_duration
from worker.cli.output import (
    FAILED,
    WRONG_USAGE,
    print_json,
    print_pretty_json,
    safe_text,
    shell_word,
)
from worker.cli.watching import JsonWatcher, LineWatcher

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from trainmaster_client import Client, CommandId, Ending

_SHOWN_IDS: Final = 5
# Long enough for a failover; whoever waits for days should not lose the wait to one.
PATIENCE_SECONDS: Final = 120.0


@click.command()
@click.argument("what", metavar="TYPE|FILE|-", shell_complete=complete_types)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=complete_pairs)
@click.option("--wait", is_flag=True, help="Show what happens until the end, then the result.")
@click.option("--timeout", type=DURATION, help="Wait no longer than this, like 10m.")
@click.option("--id", "command_id", help="The idempotency key: sent again it does nothing more.")
@click.option("--replyto", metavar="NAME", help="Send the events to this reply stream too.")
@click.option("--priority", type=click.Choice([str(each) for each in Priority]))
@click.option("--deadline", type=AHEAD, help="Start nothing after this: RFC 3339, or like 2h.")
@click.option("--notbefore", type=AHEAD, help="Start nothing before this: RFC 3339, or like 2h.")
@click.option("--correlationid", metavar="TEXT", help="Copied to every event.")
@json_option
@ledger_command
def submit(
    *,
    ledger: LedgerContext,
    what: str,
    pairs: tuple[str, ...],
    wait: bool,
    timeout: timedelta | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Send commands.

    TYPE with its parameters as KEY=VALUE (see: trainmaster describe TYPE), for example

        trainmaster submit --wait get_model model_uuid=…

    A value is JSON where it is JSON, else text; a dotted key goes into an object
    (features_mapping.car=…) and a key that comes again makes a list. FILE holds one command, a
    JSON array of them or one on each line; - reads them from stdin.

    Prints the ids. With --wait prints the result, and ends with 0 only if all succeeded; with
    --json too, prints every event on a line.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout needs --wait")
    drafts = _compose(what, pairs, _attributes(**options), as_json=as_json)
    if not wait:
        with ledger.client() as client:
            sent = _send(client, ledger, drafts)
        _print_sent(drafts, sent, Names(ledger.settings.namespace), as_json=as_json)
        return
    patience = None if timeout is None else timeout.total_seconds()
    submission = _Submission(ledger, drafts, patience, as_json=as_json)
    try:
        endings = submission.carry_out()
    except KeyboardInterrupt:
        submission.tell_how_to_go_on()
        raise SystemExit(FAILED) from None
    _print_endings(endings, as_json=as_json)
    if len(endings) < len(drafts) or not all(each.succeeded for each in endings.values()):
        raise SystemExit(FAILED)


@dataclass(slots=True)
class _Submission:
    """Sends drafts and waits for their ends."""

    ledger: LedgerContext
    drafts: Sequence[Draft]
    patience_seconds: float | None
    as_json: bool
    sent: bool = field(default=False, init=False)

    def carry_out(self) -> Mapping[str, Ending]:
        """Returns how the commands ended; those that have not in time are missing."""
        self.sent = True
        with self.ledger.client() as client:
            sent = _send(client, self.ledger, self.drafts)
        make_watcher: type[LineWatcher] = JsonWatcher if self.as_json else LineWatcher
        with (
            self.ledger.client(PATIENCE_SECONDS) as client,
            make_watcher(len(sent), self.ledger.trouble) as watcher,
        ):
            try:
                return client.wait_all(sent, timeout=self.patience_seconds, observer=watcher)
            except WaitTimeoutError as exc:
                late = exc
            except RedisTroubleError:
                self.tell_how_to_go_on()
                raise
        _say(f"not ended after {show_duration(self.patience_seconds or 0.0)}")
        self.tell_how_to_go_on(late.command_ids)
        return late.endings

    def tell_how_to_go_on(self, waiting: Sequence[str] = ()) -> None:
        """Says that commands go on without us, and how to look after them."""
        if not self.sent:
            return
        ids = waiting or [each.command_id for each in self.drafts]
        if len(ids) == 1:
            _say(f"the command goes on; look with: trainmaster status {shell_word(ids[0])}")
        else:
            _say("the commands go on; look with: trainmaster list, or trainmaster status ID")


def _attributes(
    *,
    command_id: str | None,
    deadline: datetime | None,
    notbefore: datetime | None,
    **texts: str | None,
) -> dict[str, str]:
    found = {"id": command_id, **texts}
    found |= {
        name: None if moment is None else moment.isoformat(timespec="milliseconds")
        for name, moment in (("deadline", deadline), ("notbefore", notbefore))
    }
    return {name: value for name, value in found.items() if value is not None}


def _compose(
    what: str, pairs: Sequence[str], attributes: dict[str, str], *, as_json: bool
) -> list[Draft]:
    sources = _read(what, pairs)
    if not sources:
        raise click.UsageError(f"{what} holds no command")
    if "id" in attributes and len(sources) > 1:
        raise click.UsageError("--id names one command, and there are several")
    found = draft_all(sources, attributes)
    refusals = [each for each in found if isinstance(each, Refusal)]
    if refusals:
        _refuse(refusals, as_json=as_json)
    return [each for each in found if isinstance(each, Draft)]


def _read(what: str, pairs: Sequence[str]) -> list[Source | Refusal]:
    if what in COMMAND_CLASSES:
        try:
            return [Source({"type": what, "data": read_data(pairs, what)})]
        except ArgumentError as exc:
            raise click.UsageError(str(exc)) from exc
    if what == "-" and not pairs:
        return read_sources(sys.stdin.buffer.read())
    if pairs or not Path(what).exists():
        nor = "" if pairs else " (there is no such file either)"
        raise click.UsageError(f"{unknown('command type', what, COMMAND_CLASSES)}{nor}")
    try:
        return read_sources(Path(what).read_bytes())
    except OSError as exc:
        raise click.UsageError(f"{what} can't be read: {exc.strerror}") from exc


def _refuse(refusals: Sequence[Refusal], *, as_json: bool) -> NoReturn:
    """Shows every problem and ends with wrong usage; nothing was sent."""
    for refusal in refusals:
        error = refusal.error.model_dump(mode="json", exclude_none=True)
        if as_json:
            print_json({"place": refusal.place, "error": error})
            continue
        place = f"{refusal.place}: " if refusal.place else ""
        problems = refusal.error.problems or []
        named = [f"{each.path} {each.message}" for each in problems if each.path]
        # The message is the only problem with its path, and says more of one with the type.
        for said in named if len(named) > 1 else [refusal.error.message]:
            _say(f"{place}{said}")
    if not as_json:
        _say("nothing was sent")
    raise SystemExit(WRONG_USAGE)


def _send(client: Client, ledger: LedgerContext, drafts: Sequence[Draft]) -> list[CommandId]:
    try:
        return client.submit_many(each.message for each in drafts)
    except RedisTroubleError as exc:
        trouble = ledger.trouble(exc.__cause__ or exc)
        doubtful = exc.command_ids
        ids = ", ".join(doubtful[:_SHOWN_IDS])
        more = len(doubtful) - _SHOWN_IDS
        rest = f" and {more} more" if more > 0 else ""
        raise click.ClickException(
            f"{trouble}; {len(drafts) - len(doubtful)} of {counted(len(drafts), 'command')} surely "
            f"sent. It is safe to send again with the same id: {safe_text(ids)}{rest}"
        ) from exc


def _print_sent(
    drafts: Sequence[Draft], sent: Sequence[CommandId], names: Names, *, as_json: bool
) -> None:
    for draft, command_id in zip(drafts, sent, strict=True):
        if as_json:
            print_json({
                "id": command_id,
                "type": draft.type,
                "entry_id": command_id.entry_id,
                "stream": names.commands(command_id.stream),
            })
        else:
            click.echo(safe_text(command_id))


def _print_endings(endings: Mapping[str, Ending], *, as_json: bool) -> None:
    """Prints the results; of one command bare, so that it can go into other programs."""
    if as_json:
        return
    for command_id, ending in endings.items():
        if not ending.succeeded or ending.event is None:
            continue
        reference = ending.event.dataref
        shown = {"dataref": reference} if reference else ending.event.result
        if len(endings) == 1:
            print_pretty_json(shown)
        else:
            print_pretty_json({"id": command_id, "result": shown})


def _say(text: str) -> None:
    click.echo(f"trainmaster: {text}", err=True)
