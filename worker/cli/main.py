"""`trainmaster`: gathers the commands."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from typing import Final

import click

from worker.cli.serving import worker
from worker.errors import SettingError

WRONG_USAGE: Final = 2

# Other packages add commands here: the sandbox adds its own, so that nobody imports it in vain.
PLUGINS: Final = "trainmaster.commands"


class Commands(click.Group):
    """Our commands, and those that installed packages add by an entry point."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of all commands."""
        return sorted({*super().list_commands(ctx), *(e.name for e in entry_points(group=PLUGINS))})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns a command; one of a package whose extra is missing says so."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        for found in entry_points(group=PLUGINS, name=cmd_name):
            try:
                loaded: click.Command = found.load()
            except ModuleNotFoundError as exc:
                raise click.UsageError(
                    f"{cmd_name} needs the package {exc.name}: install trainmaster[{cmd_name}]"
                ) from exc
            return loaded
        return None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="trainmaster")
def commands() -> None:
    """Train, attach and run models from a Redis queue."""


commands.add_command(worker)


def main() -> None:
    """Runs the console script; a wrong setting is one line and exit code 2."""
    try:
        commands(prog_name="trainmaster")
    except SettingError as exc:
        click.echo(f"trainmaster: {exc.message}", err=True)
        sys.exit(WRONG_USAGE)
