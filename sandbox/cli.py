"""The command line of the sandbox."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import click

from sandbox.errors import StateError
from sandbox.server import serve
from sandbox.settings import SandboxSettings
from sandbox.training_process import MOST_PARALLEL

_WRONG_USAGE = 2


def _finite(context: click.Context, parameter: click.Parameter, value: float) -> float:
    """Refuses what no clock can add; the range takes it, for it compares with nothing."""
    if not math.isfinite(value):
        raise click.BadParameter("must be a number of seconds", context, parameter)
    return value


@click.command(context_settings={"show_default": True})
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option(
    "--port",
    default=0,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".sandbox"),
    help="Folder that keeps everything; a restart goes on with it.",
)
@click.option(
    "--import",
    "import_folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with COCO JSON and its pictures, or with one folder per class.",
)
@click.option(
    "--faults",
    "faults_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file with fault rules.",
)
@click.option("--seed", default=7, type=click.IntRange(0), help="Seed of the generated data.")
@click.option("--page-size", default=20, type=click.IntRange(1, 1000), help="Results on a page.")
@click.option(
    "--parallel-trainings",
    default=2,
    type=click.IntRange(1, MOST_PARALLEL),
    help="Trainings at one time; each uses one core.",
)
@click.option(
    "--link-seconds",
    default=3600.0,
    type=click.FloatRange(0),
    callback=_finite,
    help="How long a weights link works, in seconds.",
)
def main(  # noqa: PLR0913, PLR0917 - one for each option
    host: str,
    port: int,
    state: Path,
    import_folder: Path | None,
    faults_file: Path | None,
    seed: int,
    page_size: int,
    parallel_trainings: int,
    link_seconds: float,
) -> None:
    """Serve a local stand-in for the ML-models API.

    It really trains small nets and predicts on pixels; they are not Encord's models.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    settings = SandboxSettings(
        state=state,
        host=host,
        port=port,
        import_folder=import_folder,
        faults_file=faults_file,
        seed=seed,
        page_size=page_size,
        parallel_trainings=parallel_trainings,
        link_seconds=link_seconds,
    )
    try:
        serve(settings)
    except StateError as exc:
        click.echo(f"sandbox: {exc}", err=True)
        raise SystemExit(_WRONG_USAGE) from exc
