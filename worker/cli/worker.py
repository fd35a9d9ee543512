"""`trainmaster worker`: runs commands."""

from __future__ import annotations

import os

import click

from worker.app import run_worker
from worker.bootstrap.encord import create_transport
from worker.bootstrap.queue import create_results
from worker.environment import load_settings
from worker.worker_processes import run_workers


@click.command()
@click.option(
    "--http",
    metavar="HOST:PORT",
    help="Answer /livez, /readyz and /metrics there.  [default: TRAINMASTER_HTTP]",
)
@click.option("--name", help="Name of this worker in Celery's tools; `%h` is the host.")
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Workers of each namespace beneath this one, which starts those again that die.",
)
def worker(name: str | None, http: str | None, processes: int) -> None:
    """Run commands until told to stop."""
    if http is not None:
        os.environ["TRAINMASTER_HTTP"] = http
    try:
        settings = load_settings(partitions=True)
        # So that a wrong key, domain or store ends it before anything starts.
        create_transport(settings)
        create_results(settings)
    except KeyboardInterrupt:
        # As at any later moment.
        raise SystemExit(0) from None
    if processes == 1 and len(settings.namespaces) == 1:
        raise SystemExit(run_worker(settings, name=name))
    raise SystemExit(run_workers(settings, processes, name=name))
