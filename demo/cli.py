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
def main(output: Path, *, quick: bool, keep: bool) -> None:
    """Train, attach and predict on this machine, all through the stream; about three minutes."""
    try:
        prepare_output(output)
    except OSError as exc:
        message = f"--output: {output} can't be written: {exc.strerror}"
        raise click.UsageError(message) from exc
    raise SystemExit(run_demo(Options(output, quick=quick, keep=keep), Console()))
