"""`trainmaster`: gathers the commands.

A command's module is imported when the command runs: the worker's alone costs most of a second,
and `submit` stands in other people's loops.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from importlib.metadata import entry_points
from traceback import format_exception
from typing import TYPE_CHECKING, Final, NamedTuple

import click
from click.shell_completion import CompletionItem

from schemas.suggestions import unknown
from worker.errors import SettingError
from worker.garbage import collect_again
from worker.interrupts import interrupts_end_us
from worker.paths import is_file
from worker.redaction import redact_text
from worker.utf8 import is_utf8

if TYPE_CHECKING:
    from types import TracebackType

FAILED: Final = 1
WRONG_USAGE: Final = 2

# Standard output accepts no more: a full disk, a device that is gone.
_OUTPUT_TROUBLE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})

# Other distributions add commands here: the sandbox and the demo do, and stay out of the worker's.
PLUGINS: Final = "trainmaster.commands"


class Listed(NamedTuple):
    """A command as the overview lists it."""

    target: str
    help: str


COMMANDS: Final = {
    "actions": Listed("worker.cli.actions:actions", "Show who did what, the latest first."),
    "backfill": Listed(
        "worker.cli.backfill.commands:backfill", "Predict on all items of a source, however many."
    ),
    "cancel": Listed("worker.cli.cancel:cancel", "Cancel commands that have not ended."),
    "dead-letters": Listed(
        "worker.cli.dead_letters:dead_letters",
        "Look at what failed or was rejected; send it again or delete it.",
    ),
    "describe": Listed(
        "worker.cli.describe:describe", "Show a command's parameters and an example."
    ),
    "doctor": Listed("worker.cli.doctor.command:doctor", "Check everything that a worker needs."),
    "events": Listed("worker.cli.events:events", "Print events, oldest first."),
    "gateway": Listed("worker.cli.gateway:gateway", "Serve HTTP: commands, events, webhooks."),
    "holds": Listed(
        "worker.cli.holds:holds", "Show what keeps workers from claiming commands, or release it."
    ),
    "lanes": Listed("worker.cli.holds:lanes", "Show paused lanes, or resume one."),
    "list": Listed(
        "worker.cli.list_commands:list_commands", "List commands and how many there are."
    ),
    "listen": Listed(
        "worker.cli.listen:listen", "Forward events to a URL, to develop what consumes them."
    ),
    "resolve": Listed(
        "worker.cli.resolve:resolve",
        "Settle a command in doubt: say whether its lost call created something.",
    ),
    "schemas": Listed("worker.cli.describe:schemas", "Print or write the contract as JSON."),
    "sinks": Listed("worker.cli.sinks:sinks", "Send events to webhooks, to Redis and to brokers."),
    "status": Listed("worker.cli.status:status", "Show the status of commands."),
    "submit": Listed("worker.cli.submit:submit", "Send commands."),
    "tokens": Listed("worker.cli.tokens:tokens", "Make, list and revoke tokens of the gateway."),
    "webhooks": Listed(
        "worker.cli.webhooks:webhooks",
        "Look at deliveries, and check the file of webhooks and sinks.",
    ),
    "trigger": Listed(
        "worker.cli.trigger:trigger", "Send a made-up event to a URL, to develop what consumes it."
    ),
    "worker": Listed("worker.cli.worker:worker", "Run commands until told to stop."),
    "workers": Listed(
        "worker.cli.workers:workers",
        "Show the worker processes that run, as they tell of themselves.",
    ),
}

# Ours among the plugins: the overview must not import one only to list it, and an error names the
# extra of one that is not installed.
PLUGIN_HELP: Final = {
    "demo": (
        "Train, attach and predict on this machine, all through the stream; about three minutes."
    ),
    "sandbox": "Serve a local stand-in for the ML-models API.",
}


class Commands(click.Group):
    """Our commands, and those that installed packages add by an entry point."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of all commands."""
        plugins = (plugin.name for plugin in entry_points(group=PLUGINS))
        return sorted({*super().list_commands(ctx), *COMMANDS, *plugins})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns a command; of one that is not installed says which extra has it."""
        try:
            return self._import_command(ctx, cmd_name)
        finally:
            collect_again()

    def _import_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if listed := COMMANDS.get(cmd_name):
            module, _, attribute = listed.target.partition(":")
            with interrupts_end_us():
                own: click.Command = getattr(import_module(module), attribute)
            return own
        for found in entry_points(group=PLUGINS, name=cmd_name):
            try:
                with interrupts_end_us():
                    loaded: click.Command = found.load()
            except ModuleNotFoundError as exc:
                raise click.UsageError(
                    f"{cmd_name} needs the package {exc.name}: install trainmaster[{cmd_name}]"
                ) from exc
            return loaded
        if cmd_name in PLUGIN_HELP:
            raise click.UsageError(
                f"{cmd_name} is a package of its own: install trainmaster[{cmd_name}]"
            )
        return super().get_command(ctx, cmd_name)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the arguments; one that is not UTF-8 is wrong usage, whatever it was meant for."""
        # Ids, names and paths go into the ledger, which holds text. These only read or write files.
        takes_any = args[:1] == ["schemas"]
        for arg in args:
            if takes_any or is_utf8(arg) or (args[0] == "submit" and is_file(arg)):
                continue
            raise click.UsageError(
                f"{_readable(arg)!r} is not UTF-8: type it in UTF-8, or rename the file or folder",
                ctx=ctx,
            )
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Returns the command that is called; of an unknown one suggests what was meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as exc:
            name = args[0]
            # Imported here: their classes take longer to build than all else that the help needs.
            if name in import_module("schemas.commands").COMMAND_CLASSES:
                raise click.UsageError(
                    f"{name!r} is sent by submit: trainmaster submit {name} …", ctx=ctx
                ) from exc
            # The group does not know ours: they are imported when they are called.
            raise click.UsageError(unknown("command", name, self.list_commands(ctx)), ctx) from exc

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Returns the commands that begin so, without importing them."""
        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        helps = PLUGIN_HELP | {name: listed.help for name, listed in COMMANDS.items()}
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return [CompletionItem(name, help=helps.get(name)) for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the overview without importing what it lists."""
        helps = PLUGIN_HELP | {name: listed.help for name, listed in COMMANDS.items()}
        with formatter.section("Commands"):
            formatter.write_dl([
                (name, helps.get(name, "From another package.")) for name in self.list_commands(ctx)
            ])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="trainmaster")
def commands() -> None:
    """Train, attach and run models from a Redis queue."""


def _readable(arg: str) -> str:
    return arg.encode(errors="replace").decode()


def main() -> None:
    """Runs the console script; a wrong setting is one line and exit code 2, never a traceback."""
    sys.excepthook = _show_defect
    if "_TRAINMASTER_COMPLETE" in os.environ:
        if not is_utf8(os.environ.get("COMP_WORDS", "")):
            # Nothing of ours begins so.
            return
        # It has a script for bash of its own.
        import_module("worker.cli.completion")
    try:
        commands(prog_name="trainmaster")
    except SettingError as exc:
        click.echo(f"trainmaster: {exc.message}", err=True)
        sys.exit(WRONG_USAGE)
    except OSError as exc:
        if exc.errno not in _OUTPUT_TROUBLE:
            raise
        click.echo(f"trainmaster: {exc.strerror or exc}", err=True)
        sys.exit(FAILED)


def _show_defect(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Prints a traceback as Python does, but without what URLs in it hide."""
    click.echo(redact_text("".join(format_exception(kind, error, trace))), err=True, nl=False)
