"""`trainmaster describe` and `schemas`: the contract, for people and for programs."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from schemas.commands import COMMAND_CLASSES
from schemas.documents import documents, render, write
from schemas.fields import parameters_of
from worker.cli.arguments import COMMAND_TYPE, json_option
from worker.cli.output import print_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from schemas.fields import Parameter


_OPTIONS: Final = ("id", "replyto", "priority", "deadline", "notbefore", "correlationid")
_COLUMNS: Final = 88
_DOCUMENTS: Final = {
    "commands": "commands.schema.json",
    "events": "events.schema.json",
    "asyncapi": "asyncapi.json",
}


@click.command()
@click.argument("command_type", metavar="[TYPE]", type=COMMAND_TYPE, required=False)
@json_option
def describe(*, command_type: str | None, as_json: bool) -> None:
    """Show a command's parameters and an example.

    Without TYPE lists the command types.
    """
    wanted = list(COMMAND_CLASSES) if command_type is None else [command_type]
    if as_json:
        for each in wanted:
            print_json(_for_machines(each))
        return
    formatter = click.HelpFormatter()
    if command_type is None:
        with formatter.section("Command types"):
            formatter.write_dl([(each, _purpose(each)) for each in wanted])
    else:
        _write(formatter, command_type)
    click.echo(formatter.getvalue().rstrip())


@click.command()
@click.argument("name", type=click.Choice(list(_DOCUMENTS)), required=False)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write all three documents into this folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the written files as JSON.")
def schemas(*, name: str | None, output: Path | None, as_json: bool) -> None:
    """Print or write the contract as JSON.

    Prints one document: the JSON Schema of commands or of events, or the AsyncAPI document. Without
    arguments prints all three in one object.
    """
    if output is None:
        found = documents()
        click.echo(render(found if name is None else found[_DOCUMENTS[name]]), nl=False)
        return
    if name is not None:
        raise click.UsageError("--output writes all documents; name none")
    try:
        written = write(output)
    except OSError as exc:
        raise click.ClickException(f"{exc.filename or output}: {exc.strerror}") from exc
    if as_json:
        print_json({"files": [str(path) for path in written]})
        return
    for path in written:
        click.echo(path)


def _write(formatter: click.HelpFormatter, command_type: str) -> None:
    formatter.write_text(f"{command_type}: {_purpose(command_type)}")
    with formatter.section("Parameters"):
        formatter.write_dl([(each.name, _told(each)) for each in parameters_of(command_type)])
    with formatter.section("Result"):
        formatter.write_text(", ".join(_result(command_type)) or "null")
    example = COMMAND_CLASSES[command_type].example
    # Not wrapped: both are to be copied.
    formatter.write(f"\nExample:\n\n{submit_line(example)}\n")
    formatter.write(
        f"\nThe same as JSON, for a file or a stream:\n\n{json.dumps(example, indent=2)}\n"
    )


def _told(parameter: Parameter) -> str:
    if parameter.required:
        need = "required"
    elif parameter.default is None:
        need = "optional"
    else:
        need = f"default: {json.dumps(parameter.default)}"
    only = f" Only with the task {' or '.join(parameter.tasks)}." if parameter.tasks else ""
    return f"{parameter.meaning}{only}  [{parameter.values}; {need}]".strip()


def _purpose(command_type: str) -> str:
    return (COMMAND_CLASSES[command_type].__doc__ or "").partition("\n")[0]


def _result(command_type: str) -> list[str]:
    result_class = COMMAND_CLASSES[command_type].result
    return [] if result_class is None else list(result_class.model_fields)


def _for_machines(command_type: str) -> dict[str, object]:
    return {
        "type": command_type,
        "purpose": _purpose(command_type),
        "parameters": [asdict(each) for each in parameters_of(command_type)],
        "result": _result(command_type),
        "example": COMMAND_CLASSES[command_type].example,
        "submit": submit_line(COMMAND_CLASSES[command_type].example),
    }


def submit_line(command: Mapping[str, Any]) -> str:
    """Returns the `trainmaster submit` line that sends a command, broken if it is long.

    Attributes without an option of their own are left out.
    """
    words = [
        f"{name}={text}"
        for key, value in command["data"].items()
        for name, text in _pairs(key, value)
    ]
    words += [f"--{name}={command[name]}" for name in _OPTIONS if name in command]
    parts = [f"trainmaster submit {command['type']}", *map(shlex.quote, words)]
    line = " ".join(parts)
    return line if len(line) <= _COLUMNS else " \\\n  ".join(parts)


def _pairs(key: str, value: object) -> Iterator[tuple[str, str]]:
    """Yields arguments as `worker.cli.arguments` reads them."""
    if isinstance(value, dict) and value and not any("." in name for name in value):
        for name, inner in value.items():
            yield from _pairs(f"{key}.{name}", inner)
    elif isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        for each in value:
            yield key, each
    else:
        yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
