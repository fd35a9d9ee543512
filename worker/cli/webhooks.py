"""`trainmaster webhooks`: the file that names sources, rules and sinks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from schemas.wording import counted
from worker.cli.arguments import Group, json_option
from worker.cli.formatting import show_duration
from worker.cli.output import FAILED, open_console, print_json, safe_text
from worker.environment import load_ledger_settings
from worker.errors import SettingError
from worker.queue.ledger.keys import Keys

try:
    from worker.cli import deliveries
    from worker.integrations.file import load_integrations
    from worker.sinks.service import check_sinks
except ModuleNotFoundError as exc:
    if exc.name is None or exc.name.partition(".")[0] in {"worker", "schemas"}:
        raise
    raise click.UsageError(
        f"webhooks needs the package {exc.name}: install trainmaster[gateway]"
    ) from exc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console

    from schemas.events import Problem
    from worker.integrations.file import Integrations
    from worker.integrations.rules import Rule
    from worker.integrations.sink_config import SinkConfig
    from worker.integrations.sources import Source

_FILE_VARIABLE: Final = "TRAINMASTER_INTEGRATIONS_FILE"


@click.group(cls=Group)
def webhooks() -> None:
    """Look at deliveries, and check the file of webhooks and sinks."""


for _command in deliveries.COMMANDS:
    webhooks.add_command(_command)


@webhooks.command()
@click.argument(
    "file", required=False, envvar=_FILE_VARIABLE, type=click.Path(dir_okay=False, path_type=Path)
)
@click.option(
    "--without-secrets", is_flag=True, help="Don't look for the secrets: they lie elsewhere."
)
@json_option
def check(*, file: Path | None, without_secrets: bool, as_json: bool) -> None:
    """Check the integrations file: sources, rules, templates, sinks and secrets.

    Names everything that is wrong, and shows what the file does. Without FILE checks the one that
    TRAINMASTER_INTEGRATIONS_FILE names. Exits with 1 if the gateway could not work with it.
    """
    if file is None:
        raise click.UsageError(f"name a FILE, or set {_FILE_VARIABLE}")
    namespaces = load_ledger_settings(partitions=True).namespaces
    try:
        found = load_integrations(file, looks_up_secrets=not without_secrets)
        for namespace in namespaces:
            check_sinks(Keys(namespace), found.sinks)
    except SettingError as exc:
        _print_problems(file, exc.problems, as_json=as_json)
        raise SystemExit(FAILED) from None
    if as_json:
        print_json({"file": str(file), "valid": True, "problems": [], **_for_machines(found)})
    else:
        _print_overview(file, found)


def _print_problems(file: Path, problems: Iterable[Problem], *, as_json: bool) -> None:
    tables: dict[str, list[tuple[str, str]]] = {}
    for problem in problems:
        table, field = _split(problem.path)
        tables.setdefault(table, []).append((field, problem.message))
    if as_json:
        told = [
            {"table": table, "field": field, "message": message}
            for table, several in tables.items()
            for field, message in several
        ]
        print_json({"file": str(file), "valid": False, "problems": told})
        return
    console = open_console()
    count = sum(map(len, tables.values()))
    console.print(f"{safe_text(file)}: {counted(count, 'problem')}", style="red", soft_wrap=True)
    for table, several in tables.items():
        console.print()
        if table:
            console.print(safe_text(table), style="bold", soft_wrap=True)
        for field, message in several:
            _print_indented(console, field, message)


def _print_indented(console: Console, field: str, message: str) -> None:
    """Prints a field in a line of its own and what is wrong below it, as wide as the terminal."""
    formatter = click.HelpFormatter(width=max(console.width, 40))
    if field:
        console.print(f"  {safe_text(field)}", style="yellow", soft_wrap=True)
    formatter.current_indent = 4 if field else 2
    formatter.write_text(safe_text(message))
    console.print(formatter.getvalue().rstrip("\n"), soft_wrap=True)


def _split(path: str) -> tuple[str, str]:
    """Returns the table and the field that a problem's path names."""
    table, mark, field = path.partition("] ")
    return (f"{table}]", field) if mark else (path, "")


def _print_overview(file: Path, found: Integrations) -> None:
    rules = sum(len(source.rules) for source in found.sources.values())
    console = open_console()
    counts = ", ".join((
        counted(len(found.sources), "source"),
        counted(rules, "rule"),
        counted(len(found.sinks), "sink"),
    ))
    console.print(f"{safe_text(file)}: {counts}; no problems", style="green", soft_wrap=True)
    for name, source in found.sources.items():
        console.print(f"\n[sources.{name}]", style="bold")
        _print_lines(console, [_source_line(source)], 2)
        for rule in source.rules:
            console.print(f"  {rule.name}", style="cyan")
            _print_lines(console, _rule_lines(rule), 4)
    for name, sink in found.sinks.items():
        console.print(f"\n[sinks.{name}]", style="bold")
        _print_lines(console, _sink_lines(sink), 2)


def _print_lines(console: Console, lines: Iterable[str], indent: int) -> None:
    formatter = click.HelpFormatter(width=max(console.width, 40))
    formatter.current_indent = indent
    for line in lines:
        formatter.write_text(safe_text(line))
    console.print(formatter.getvalue().rstrip("\n"), soft_wrap=True)


def _source_line(source: Source) -> str:
    if source.scheme == "events":
        return "our own events"
    return f"POST /v1/webhooks/{source.name}, signed as {source.scheme} with {_secrets(source)}"


def _secrets(part: Any) -> str:
    return " or ".join(each.origin for each in part.secrets)


def _rule_lines(rule: Rule) -> Iterator[str]:
    on = ", ".join(rule.on.texts) if rule.on else "every delivery"
    several = ", one for each element" if rule.for_each else ""
    yield f"{on} -> {rule.command.type}{several}"
    if rule.when is not None:
        yield f"when {rule.when.text}"
    if rule.allow is not None:
        yield f"allows {counted(len(rule.allow), 'project')}"
    if rule.coalesce is not None:
        window = show_duration(rule.coalesce.window_seconds)
        yield f"joins what has the same {rule.coalesce.key.text} within {window}"
    if rule.key is not None:
        yield f"once for each {rule.key.text}"


def _sink_lines(sink: SinkConfig) -> Iterator[str]:
    types = ", ".join(sink.types.texts) if sink.types else "every event"
    replies = f" of commands with replyto {', '.join(sink.reply_to)}" if sink.reply_to else ""
    yield f"{types}{replies} -> {_target(sink)}"
    if sink.when is not None:
        yield f"when {sink.when.text}"


def _target(sink: SinkConfig) -> str:
    if sink.webhook is not None:
        return f"{sink.webhook.url.origin}, signed with {_secrets(sink.webhook)}"
    if sink.redis is not None:
        kind = "stream" if sink.redis.stream else "list"
        server = sink.redis.url.origin if sink.redis.url else "our own Redis"
        return f"{kind} {sink.redis.stream or sink.redis.list} in {server}"
    if sink.broker is not None:
        return f"exchange {sink.broker.exchange} at {sink.broker.url.origin}"
    return ""


def _for_machines(found: Integrations) -> dict[str, Any]:
    return {
        "sources": [
            {
                "name": name,
                "scheme": source.scheme,
                "rules": [
                    {
                        "name": rule.name,
                        "on": list(rule.on.texts) if rule.on else None,
                        "type": rule.command.type,
                    }
                    for rule in source.rules
                ],
            }
            for name, source in found.sources.items()
        ],
        "sinks": [
            {
                "name": name,
                "types": list(sink.types.texts) if sink.types else None,
                "target": _target(sink),
            }
            for name, sink in found.sinks.items()
        ],
    }
