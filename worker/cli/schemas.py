"""`trainmaster schemas`: the contract as JSON Schema and AsyncAPI."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from schemas.documents import documents, render, write
from worker.cli.output import print_json

_NAMES: Final = {
    "commands": "commands.schema.json",
    "events": "events.schema.json",
    "asyncapi": "asyncapi.json",
}


@click.command()
@click.argument("name", type=click.Choice(list(_NAMES)), required=False)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write all three documents into this folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the written files as JSON.")
def schemas(*, name: str | None, output: Path | None, as_json: bool) -> None:
    """Print or write the contract as JSON.

    Prints the document NAME: the JSON Schema of commands or of events, or an AsyncAPI document.
    With neither NAME nor --output prints all three in one object.
    """
    if output is None:
        found = documents()
        click.echo(render(found if name is None else found[_NAMES[name]]), nl=False)
        return
    if name is not None:
        raise click.UsageError("--output writes all documents; leave NAME out")
    try:
        written = write(output)
    except OSError as exc:
        raise click.ClickException(f"{exc.filename or output}: {exc.strerror}") from exc
    if as_json:
        print_json({"files": [str(path) for path in written]})
        return
    for path in written:
        click.echo(path)
