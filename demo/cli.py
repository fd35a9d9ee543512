"""The command line of the demo: `trainmaster demo`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from demo.run import Options, prepare_output, run_demo


@click.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    help="Folder for events, pictures, curves, logs and the page that shows them.",
)
@click.option("--quick", is_flag=True, help="Less of everything, and scores are not judged.")
@click.option("--keep", is_flag=True, help="Leave the servers' state, and say how to go on.")
@click.option(
    "--open",
    "stays_open",
    is_flag=True,
    help="Run a gateway too, print the address of its page, and leave all running until Ctrl-C.",
)
def main(output: Path, *, quick: bool, keep: bool, stays_open: bool) -> None:
    """Train, attach and predict on this machine, all through the stream; about three minutes."""
    try:
        prepare_output(output)
    except OSError as exc:
        message = f"--output: {output} can't be written: {exc.strerror}"
        raise click.UsageError(message) from exc
    options = Options(output, quick=quick, keep=keep, stays_open=stays_open)
    raise SystemExit(run_demo(options, Console()))
