"""`trainmaster worker`."""

from __future__ import annotations

import click

from worker.app import create_credentials, run_worker
from worker.settings import load_settings


@click.command()
@click.option("--name", help="Name of this worker in Celery's tools; `%h` is the host.")
def worker(name: str | None) -> None:
    """Carry out commands until told to stop."""
    settings = load_settings()
    # A wrong key is found before anything starts.
    create_credentials(settings)
    raise SystemExit(run_worker(settings, name=name))
