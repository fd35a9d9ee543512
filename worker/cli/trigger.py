"""`trainmaster trigger`: sends a made-up event to a URL, for developing what consumes events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from schemas.event_examples import event_types, example_event
from schemas.suggestions import unknown
from worker.cli.arguments import ArgumentError, json_option, read_data
from worker.cli.forwarding import (
    Forwarder,
    ForwardUrl,
    forwarded_for_machines,
    narrate_forwarded,
    secret_option,
)
from worker.cli.output import FAILED, open_console, print_json, print_pretty_json
from worker.queue.ledger.replay import merge

if TYPE_CHECKING:
    from click import Context, Parameter

    from worker.integrations.standard_webhooks import SigningKey


# What every event has, and consumers rely on.
_TEXTS: Final = ("specversion", "id", "source", "type", "subject", "time")


def _complete(ctx: Context, param: Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    return [each for each in event_types() if each.startswith(incomplete)]


@click.command()
@click.argument("event_type", metavar="[TYPE]", required=False, shell_complete=_complete)
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--forward-to",
    "forward_to",
    type=ForwardUrl(),
    metavar="URL",
    help="Where it is sent by POST; without it the event is only printed.",
)
@secret_option
@click.option("--list", "list_types", is_flag=True, help="List the types of events.")
@json_option
def trigger(
    *,
    event_type: str | None,
    pairs: tuple[str, ...],
    forward_to: str | None,
    secret: SigningKey | None,
    list_types: bool,
    as_json: bool,
) -> None:
    """Send a made-up event to a URL, to develop what consumes it.

    It is signed as sinks sign.

    The event never goes to Redis: no rule and no sink acts on it. It is valid, tells of nothing
    that has happened, and says so by its extension `example`. KEY=VALUE sets a part of it, such as
    subject=night-7 or data.result.training_uuid=…

    With the secret that trainmaster listen has printed:

        trainmaster trigger train.succeeded --forward-to localhost:8000/hook --secret whsec_…
    """
    if list_types:
        for each in event_types():
            print_json({"type": each}) if as_json else click.echo(each)
        return
    event = _compose(event_type, pairs)
    if forward_to is None:
        print_json(event) if as_json else print_pretty_json(event)
        return
    if secret is None:
        raise click.UsageError(
            "give the secret that listen has printed, by --secret or TRAINMASTER_LISTEN_SECRET"
        )
    with Forwarder(forward_to, secret) as forwarder:
        found = forwarder.send(event)
    if as_json:
        print_json(forwarded_for_machines(event, found))
    else:
        open_console().print(narrate_forwarded(event, found), soft_wrap=True)
    if not found.taken:
        raise SystemExit(FAILED)


def _compose(event_type: str | None, pairs: tuple[str, ...]) -> dict[str, Any]:
    if event_type is None:
        raise click.UsageError("name the type of an event; trainmaster trigger --list shows all")
    if event_type not in event_types():
        raise click.UsageError(f"{unknown('event type', event_type, _near(event_type))}")
    try:
        event = merge(example_event(event_type), read_data(pairs, ""))
    except ArgumentError as exc:
        raise click.UsageError(str(exc)) from exc
    for name in _TEXTS:
        if not event.get(name) or not isinstance(event[name], str):
            raise click.UsageError(
                f"{name} of an event must be text; of digits it is {name}='\"5\"'"
            )
    if not isinstance(event.get("data"), dict):
        raise click.UsageError("data of an event must be an object")
    return event


def _near(event_type: str) -> list[str]:
    """Returns the types of the same command, or all: nobody reads through more than a hundred."""
    command_type = event_type.partition(".")[0]
    return [each for each in event_types() if each.startswith(f"{command_type}.")] or event_types()
