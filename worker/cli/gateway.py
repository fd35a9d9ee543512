"""`trainmaster gateway`: commands, events and webhooks over HTTP."""

from __future__ import annotations

import os

import click

from worker.cli.context import LedgerContext, namespace_option, naming_one
from worker.environment import load_gateway_settings
from worker.logging import configure
from worker.queue.ledger.connection import PASSING_TROUBLE

try:
    from worker.gateway.server import serve
except ModuleNotFoundError as exc:
    if exc.name is None or exc.name.partition(".")[0] in {"worker", "schemas"}:
        raise
    raise click.UsageError(
        f"gateway needs the package {exc.name}: install trainmaster[gateway]"
    ) from exc


@click.command()
@click.option("--host", help="Address to listen on.  [default: TRAINMASTER_GATEWAY_HOST]")
@click.option(
    "--port", type=int, help="Port; 0 takes a free one.  [default: TRAINMASTER_GATEWAY_PORT]"
)
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes."
)
@namespace_option
def gateway(host: str | None, port: int | None, workers: int, namespace: str | None) -> None:
    """Serve HTTP: commands, events, webhooks.

    Without a token it answers this machine only; `trainmaster tokens create` makes one.
    """
    given = {"GATEWAY_HOST": host, "GATEWAY_PORT": port, "NAMESPACE": namespace}
    for name, value in given.items():
        if value is not None:
            os.environ[f"TRAINMASTER_{name}"] = str(value)
    with naming_one():
        settings = load_gateway_settings()
    configure(settings.log_level, settings.log_format)
    try:
        code = serve(settings, workers=workers, log_config=None)
    except PASSING_TROUBLE as exc:
        # Whether there is a token is asked before anybody may be let in.
        raise click.ClickException(LedgerContext(None, None).trouble(exc)) from exc
    raise SystemExit(code)
