"""The parts of the documentation that the code tells: `python -m tools.reference --write`.

Each lies between two marks in a page and is replaced as a whole::

    <!-- from the code: settings -->
    …
    <!-- end: settings -->

Without `--write` nothing is changed, and the exit code is 1 where a page is stale.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import orjson

from schemas.attributes import Attributes
from schemas.commands import COMMAND_CLASSES
from schemas.events import EVENT_DATA, ErrorCode
from schemas.fields import data_classes, fields_of
from tools.integrations_reference import FieldRow, field_rows
from tools.settings_reference import SettingRow, gateway_rows, setting_rows
from worker.cli.describe import submit_line
from worker.cli.main import commands as console_script
from worker.gateway.metrics import gateway_metric_rows
from worker.integrations.rules import Rule
from worker.integrations.sink_config import SinkConfig
from worker.integrations.sources import SOURCE_CLASSES
from worker.monitoring.ledger_sample import metric_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pydantic.fields import FieldInfo

    from schemas.declaration import DeclaredCommand
    from worker.monitoring.metric_factory import MetricRow

STALE: Final = 1
PAGES: Final = ("contract.md", "settings.md", "cli.md", "webhooks.md", "monitoring.md")

_REGION: Final = re.compile(
    r"(?P<begin><!-- from the code: (?P<name>[a-z-]+) -->\n).*?(?P<end><!-- end: (?P=name) -->)",
    re.DOTALL,
)
# Of the console script's help, whatever terminal it is written in.
_HELP_COLUMNS: Final = 90


class UnknownRegionError(Exception):
    """A page has a region that nothing renders."""


def renew(page: str) -> str:
    """Returns a page with every region as the code tells it now.

    Raises:
        UnknownRegionError: a region's name is not one of `REGIONS`.
    """

    def rendered(found: re.Match[str]) -> str:
        render = REGIONS.get(found["name"])
        if render is None:
            raise UnknownRegionError(found["name"])
        return f"{found['begin']}\n{render()}\n\n{found['end']}"

    return _REGION.sub(rendered, page)


def region_names(page: str) -> list[str]:
    """Returns the names of a page's regions, in their order."""
    return [found["name"] for found in _REGION.finditer(page)]


def settings_table() -> str:
    """Returns every setting of a worker with its unit, range and default."""
    return _settings(setting_rows())


def gateway_settings_table() -> str:
    """Returns what a gateway has beside those of the ledger."""
    return _settings(gateway_rows())


def _settings(rows: Iterator[SettingRow]) -> str:
    return _table(
        ("Variable", "Value", "Unit", "Allowed", "Default", "Meaning"),
        (
            (
                _code(row.name),
                row.kind,
                row.unit,
                _code(row.allowed) if row.allowed.startswith("^") else row.allowed,
                "required" if row.required else _code(row.default),
                row.meaning,
            )
            for row in rows
        ),
    )


def sources_table() -> str:
    """Returns the fields of a source, each with the schemes that have it."""
    schemes: dict[FieldRow, list[str]] = {}
    for scheme, source_class in SOURCE_CLASSES.items():
        for row in field_rows(source_class):
            schemes.setdefault(row, []).append(_code(scheme))
    return _table(
        ("Field", "Of", "Value", "Default", "Meaning"),
        (
            (_code(row.name), ", ".join(several), *_value_of(row))
            for row, several in schemes.items()
        ),
    )


def rules_table() -> str:
    """Returns the fields of a rule."""
    return _fields(field_rows(Rule, named=True))


def sinks_table() -> str:
    """Returns the fields of a sink."""
    return _fields(field_rows(SinkConfig))


def _fields(rows: Iterable[FieldRow]) -> str:
    return _table(
        ("Field", "Value", "Default", "Meaning"),
        ((_code(row.name), *_value_of(row)) for row in rows),
    )


def _value_of(row: FieldRow) -> tuple[str, str, str]:
    return row.kind, "required" if row.required else _code(row.default), row.meaning


def metrics_table() -> str:
    """Returns every metric of a worker with its labels."""
    return _metrics(metric_rows())


def gateway_metrics_table() -> str:
    """Returns every metric of a gateway that workers don't tell too."""
    shared = {row.name for row in metric_rows()}
    return _metrics(row for row in gateway_metric_rows() if row.name not in shared)


def _metrics(rows: Iterable[MetricRow]) -> str:
    return _table(
        ("Metric", "Kind", "Labels", "Of", "Meaning"),
        (
            (
                _code(row.name),
                row.kind,
                ", ".join(map(_code, row.labels)),
                row.scope,
                row.meaning,
            )
            for row in rows
        ),
    )


def errors_table() -> str:
    """Returns every error code with its fate."""
    return _table(
        ("Code", "Fate", "Meaning"),
        ((_code(code), code.fate, code.meaning) for code in ErrorCode),
    )


def attributes_table() -> str:
    """Returns the attributes that a command may carry."""
    return _table(
        ("Attribute", "Meaning"),
        ((_code(name), field.description or "") for name, field in Attributes.model_fields.items()),
    )


def commands_table() -> str:
    """Returns every command with its parameters and its result."""
    return _table(
        ("`type`", "What it does", "`data`", "`result`"),
        (
            (
                _code(command_type),
                _first_line(command_class),
                _parameters(command_class.model_fields["data"].annotation),
                _result(command_class),
            )
            for command_type, command_class in COMMAND_CLASSES.items()
        ),
    )


def parameters_table() -> str:
    """Returns what the parameters mean whose names don't say it all."""
    meanings: dict[tuple[str, str], list[str]] = {}
    for command_type, command_class in COMMAND_CLASSES.items():
        for name, (field, _) in fields_of(command_class.model_fields["data"].annotation).items():
            if field.description:
                meanings.setdefault((name, field.description), []).append(_code(command_type))
    return _table(
        ("Parameter", "Of", "Meaning"),
        (
            (_code(name), ", ".join(dict.fromkeys(types)), meaning)
            for (name, meaning), types in meanings.items()
        ),
    )


def command_examples() -> str:
    """Returns an example of every command: the line that sends it, and its JSON."""
    return "\n\n".join(
        f"#### `{command_type}`\n\n"
        f"```sh\n{submit_line(command_class.example)}\n```\n\n"
        f"```json\n{json.dumps(command_class.example, indent=2)}\n```"
        for command_type, command_class in COMMAND_CLASSES.items()
    )


def events_table() -> str:
    """Returns every state of an event with its data."""
    return _table(
        ("State", "Meaning", "`data` holds"),
        (
            (
                _code(state),
                _sentence(_first_line(data_class).partition(": ")[2]),
                ", ".join(
                    _code(name if field.is_required() else f"{name}?")
                    for name, field in data_class.model_fields.items()
                ),
            )
            for state, data_class in EVENT_DATA.items()
        ),
    )


def console_help() -> str:
    """Returns the help of every command of the console script."""
    settings = console_script.context_settings
    context = click.Context(console_script, info_name="trainmaster", **settings)
    return "\n\n".join(_help_of(console_script, context))


def _help_of(command: click.Command, context: click.Context) -> Iterator[str]:
    depth = context.command_path.count(" ")
    if depth:
        # The same text whatever terminal it is made in.
        context.max_content_width = context.terminal_width = _HELP_COLUMNS
        help_text = command.get_help(context).rstrip()
        yield f"{'#' * (depth + 1)} {context.command_path}\n\n```text\n{help_text}\n```"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                settings = found.context_settings
                yield from _help_of(
                    found, click.Context(found, parent=context, info_name=name, **settings)
                )


def _parameters(annotation: Any) -> str:
    """Returns parameters as a contract writes them: `name`, `name?`, `name = default`."""
    fields = fields_of(annotation)
    alternatives = data_classes(annotation)
    parts: dict[tuple[str, ...], list[str]] = {}
    for name, (field, tasks) in sorted(
        fields.items(), key=lambda item: not item[1][0].is_required()
    ):
        only = () if len(tasks) == len(alternatives) else tasks
        parts.setdefault(only, []).append(_code(_parameter(name, field)))
    return "; ".join(
        f"with {' or '.join(map(_code, only))}: {', '.join(names)}" if only else ", ".join(names)
        for only, names in parts.items()
    )


def _parameter(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return name
    if field.default is None:
        return f"{name}?"
    return f"{name} = {orjson.dumps(field.default).decode()}"


def _result(command_class: type[DeclaredCommand]) -> str:
    result_class = command_class.result
    if result_class is None:
        return _code("null")
    return _code("{" + ", ".join(result_class.model_fields) + "}")


def _first_line(documented: type) -> str:
    return (documented.__doc__ or "").partition("\n")[0]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


REGIONS: Final[dict[str, Callable[[], str]]] = {
    "settings": settings_table,
    "gateway-settings": gateway_settings_table,
    "sources": sources_table,
    "rules": rules_table,
    "sinks": sinks_table,
    "metrics": metrics_table,
    "gateway-metrics": gateway_metrics_table,
    "errors": errors_table,
    "attributes": attributes_table,
    "commands": commands_table,
    "parameters": parameters_table,
    "examples": command_examples,
    "events": events_table,
    "console": console_help,
}


@click.command()
@click.option("--write", is_flag=True, help="Write what is stale; else only name it.")
@click.option(
    "--docs",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("docs"),
    show_default=True,
    help="Folder of the pages.",
)
def main(*, write: bool, docs: Path) -> None:
    """Bring the documentation's tables up to what the code says."""
    stale = []
    for name in PAGES:
        page = docs / name
        text = page.read_text("utf-8")
        renewed = renew(text)
        if renewed != text:
            stale.append(page)
            if write:
                page.write_text(renewed, "utf-8")
    for page in stale:
        click.echo(f"{page}: {'written' if write else 'stale'}")
    if stale and not write:
        raise SystemExit(STALE)


if __name__ == "__main__":
    main()
