"""`trainmaster describe`: what a command takes, with an example that can be sent."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from schemas.commands import COMMAND_CLASSES
from schemas.fields import parameters_of
from worker.cli.arguments import COMMAND_TYPE
from worker.cli.examples import submit_line
from worker.cli.output import print_json

if TYPE_CHECKING:
    from schemas.fields import Parameter


@click.command()
@click.argument("command_type", metavar="[TYPE]", type=COMMAND_TYPE, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object on a line.")
def describe(*, command_type: str | None, as_json: bool) -> None:
    """Show a command's parameters and an example.

    Without TYPE lists the types of commands.
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
