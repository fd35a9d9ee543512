"""`trainmaster submit`: sends commands, and waits for their end if asked to."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

import click

from schemas.commands import COMMAND_CLASSES
from schemas.enums import Priority
from schemas.suggestions import unknown
from schemas.wording import counted
from trainmaster_client import Observer, RedisTroubleError, State, WaitTimeoutError
from trainmaster_client.names import Names
from worker.cli.arguments import AHEAD, DURATION, ArgumentError, json_option, read_data
from worker.cli.completion import complete_pairs, complete_types
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.formatting import narrate, show_duration
from worker.cli.output import (
    FAILED,
    WRONG_USAGE,
    open_console,
    print_json,
    print_pretty_json,
    safe_text,
    shell_word,
)
from worker.cli.prepare import Prepared, Source, prepare, read_sources
from worker.paths import is_there
from worker.queue.ledger.replay import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime, timedelta
    from types import TracebackType

    from trainmaster_client import CommandId, Ending, Event, Partitions

_SHOWN_IDS: Final = 5
# How long Redis may be away while one waits: long enough for a failover.
PATIENCE_SECONDS: Final = 120.0
# Between lines about a wait where there is no terminal.
LINE_SECONDS: Final = 60.0


@click.command()
@click.argument("what", metavar="TYPE|FILE|-", shell_complete=complete_types)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=complete_pairs)
@click.option("--wait", is_flag=True, help="Show events until the commands end, then the results.")
@click.option("--timeout", type=DURATION, help="Wait no longer than this, like 10m.")
@click.option("--id", "command_id", help="Idempotency key: sent again, it does nothing more.")
@click.option("--replyto", metavar="NAME", help="Send the events to this reply stream too.")
@click.option("--priority", type=click.Choice([str(each) for each in Priority]))
@click.option("--deadline", type=AHEAD, help="Do not start later than this: RFC 3339, or like 2h.")
@click.option("--notbefore", type=AHEAD, help="Do not start before this: RFC 3339, or like 2h.")
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

    A value is JSON if it can be read as JSON, else text. A dotted key sets a key of an object
    (features_mapping.car=…); a repeated key makes a list. FILE holds one command, a JSON array of
    commands, or one per line; - reads stdin.

    Prints the ids. With --wait prints the result, and exits with 0 only if all succeeded; with
    --json too, prints every event, one per line.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout needs --wait")
    commands = _compose(what, pairs, _attributes(**options), as_json=as_json)
    if not wait:
        with ledger.clients() as client:
            sent = _send(client, ledger, commands)
        _print_sent(commands, sent, ledger, as_json=as_json)
        return
    try:
        endings = _send_and_wait(ledger, commands, timeout, as_json=as_json)
    except KeyboardInterrupt:
        _say_how_to_go_on([each.command_id for each in commands])
        raise SystemExit(FAILED) from None
    _print_endings(endings, as_json=as_json)
    if len(endings) < len(commands) or not all(each.succeeded for each in endings.values()):
        raise SystemExit(FAILED)


def _send_and_wait(
    ledger: LedgerContext,
    commands: Sequence[Prepared],
    timeout: timedelta | None,
    *,
    as_json: bool,
) -> Mapping[str, Ending]:
    """Returns how the commands ended; those that did not end in time are missing."""
    with ledger.clients() as client:
        sent = _send(client, ledger, commands)
    seconds = None if timeout is None else timeout.total_seconds()
    make_progress: type[LineProgress] = JsonProgress if as_json else LineProgress
    with (
        ledger.clients(PATIENCE_SECONDS) as client,
        make_progress(len(sent), ledger.trouble) as progress,
    ):
        try:
            return client.wait_all(sent, timeout=seconds, observer=progress)
        except WaitTimeoutError as exc:
            late = exc
        except RedisTroubleError:
            _say_how_to_go_on(sent)
            raise
    _say(f"not ended after {show_duration(seconds or 0.0)}")
    _say_how_to_go_on(late.command_ids)
    return late.endings


def _say_how_to_go_on(ids: Sequence[str]) -> None:
    """Says that commands go on without us, and how to look after them."""
    if len(ids) == 1:
        _say(f"the command goes on; see: trainmaster status {shell_word(ids[0])}")
    else:
        _say("the commands go on; see: trainmaster list, or trainmaster status ID")


class LineProgress(Observer):
    """Prints on stderr what happens, and how long the wait has been.

    On a terminal the time ticks; in a log there is a line now and then.

    Args:
        commands: how many there are; a single one needs no name on every line.
        trouble: puts Redis' trouble into words.
        line_seconds: the time between two lines about the wait.
    """

    def __init__(
        self,
        commands: int,
        trouble: Callable[[BaseException], str],
        line_seconds: float = LINE_SECONDS,
    ) -> None:
        self._line_seconds = line_seconds
        self._commands = commands
        self._trouble = trouble
        self._console = open_console(stderr=True)
        self._status = self._console.status("")
        self._begun = self._line_at = time.monotonic()
        self._training_since: dict[str, float] = {}

    def __enter__(self) -> Self:
        """Shows the time on a terminal."""
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Clears the time."""
        self._status.stop()

    def on_event(self, event: Event) -> None:
        """Prints the event's line."""
        if event.state == State.STARTED:
            self._training_since[event.command_id] = time.monotonic()
        elif event.is_end:
            self._training_since.pop(event.command_id, None)
        line = narrate(event.attributes, with_subject=self._commands > 1)
        self._console.print(line, soft_wrap=True)

    def on_untaken(self, commands: int) -> None:
        """Says that no worker has accepted them."""
        self._console.print(
            f"no worker has taken {counted(commands, 'command')} yet; "
            "is one running? See: trainmaster doctor",
            soft_wrap=True,
        )

    def on_trouble(self, error: BaseException) -> None:
        """Says what is wrong with Redis."""
        self._console.print(f"{self._trouble(error)}; still waiting", soft_wrap=True)

    def on_tick(self, waiting: int) -> None:
        """Shows how long the wait has been, for trainings since they started."""
        now = time.monotonic()
        said = f"waiting for {counted(waiting, 'command')}, {show_duration(now - self._begun)}"
        if self._training_since:
            longest = show_duration(now - min(self._training_since.values()))
            said += f"; {counted(len(self._training_since), 'training')} for up to {longest}"
        self._status.update(said)
        if not self._console.is_terminal and now - self._line_at >= self._line_seconds:
            self._line_at = now
            self._console.print(said, soft_wrap=True)


class JsonProgress(LineProgress):
    """Prints every event on stdout as JSON; the rest goes to stderr, as for people."""

    def on_event(self, event: Event) -> None:
        """Prints the event."""
        print_json(event.attributes)


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
) -> list[Prepared]:
    sources = _read(what, pairs)
    if not sources:
        raise click.UsageError(f"{'standard input' if what == '-' else what} holds no command")
    if "id" in attributes and len(sources) > 1:
        raise click.UsageError("--id names one command, and there are several")
    found = prepare(sources, attributes)
    refusals = [each for each in found if isinstance(each, Refusal)]
    if refusals:
        _refuse(refusals, as_json=as_json)
    return [each for each in found if isinstance(each, Prepared)]


def _read(what: str, pairs: Sequence[str]) -> list[Source | Refusal]:
    if what in COMMAND_CLASSES:
        try:
            return [Source({"type": what, "data": read_data(pairs, what)})]
        except ArgumentError as exc:
            raise click.UsageError(str(exc)) from exc
    if what == "-" and not pairs:
        return _sources(sys.stdin.buffer.read())
    if pairs or not is_there(what):
        if what.lstrip().startswith(("{", "[")):
            raise click.UsageError("JSON is read from a file, or with - from standard input")
        nor = "" if pairs else " (there is no such file either)"
        raise click.UsageError(f"{unknown('command type', what, COMMAND_CLASSES)}{nor}")
    try:
        return _sources(Path(what).read_bytes())
    except OSError as exc:
        raise click.UsageError(f"{what} can't be read: {exc.strerror}") from exc


def _sources(text: bytes) -> list[Source | Refusal]:
    # Parsers tell of nothing in the words of a text that ends too early.
    return read_sources(text) if text.strip() else []


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


def _send(
    client: Partitions, ledger: LedgerContext, commands: Sequence[Prepared]
) -> list[CommandId]:
    try:
        return client.submit_many(each.message for each in commands)
    except RedisTroubleError as exc:
        trouble = ledger.trouble(exc.__cause__ or exc)
        doubtful = exc.command_ids
        ids = ", ".join(doubtful[:_SHOWN_IDS])
        more = len(doubtful) - _SHOWN_IDS
        rest = f" and {more} more" if more > 0 else ""
        raise click.ClickException(
            f"{trouble}; Redis confirmed {len(commands) - len(doubtful)} of "
            f"{counted(len(commands), 'command')}. It is safe to send again with the same "
            f"id: {safe_text(ids)}{rest}"
        ) from exc


def _print_sent(
    commands: Sequence[Prepared], sent: Sequence[CommandId], ledger: LedgerContext, *, as_json: bool
) -> None:
    for command, command_id in zip(commands, sent, strict=True):
        if as_json:
            print_json({
                "id": command_id,
                "type": command.type,
                "entry_id": command_id.entry_id,
                "stream": Names(ledger.of(command_id).settings.namespace).commands(
                    command_id.stream
                ),
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
