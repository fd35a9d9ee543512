"""The commands of `trainmaster webhooks` about deliveries: what became of them, and what would."""

from __future__ import annotations

import time
from dataclasses import replace as replaced
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from schemas.events import ErrorCode
from schemas.json_text import RawJson
from schemas.wording import counted
from worker.acts import Act
from worker.cli.arguments import json_option, newest_option
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.formatting import show_duration, show_timestamp
from worker.cli.output import (
    FAILED,
    Column,
    Row,
    open_console,
    print_fields,
    print_json,
    print_table,
    safe_text,
    shell_word,
)
from worker.environment import load_gateway_settings
from worker.errors import SettingError
from worker.integrations.file import load_integrations
from worker.paths import is_file
from worker.webhooks.deliveries import Deliveries
from worker.webhooks.effects import effects_of
from worker.webhooks.records import RuleResult, shown_body, summary
from worker.webhooks.replays import (
    NoDeliveryError,
    received_again,
    received_from_file,
    replay_effects,
)
from worker.webhooks.replays import replay as replay_delivery
from worker.webhooks.schemes import RefusedDeliveryError
from worker.webhooks.views import delivery_json, effects_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis

    from worker.integrations.sources import Source
    from worker.webhooks.effects import Received
    from worker.webhooks.records import Effects, RecordedDelivery, RuleRecord

_COLUMNS: Final = (
    Column("delivery", shorten=True, least=24),
    Column("type", drop=1, shorten=True, least=12),
    Column("outcome"),
    Column("age", drop=2),
)
_NO_RULE: Final = "no rule is about it"
_EXPLANATIONS: Final = {
    RuleResult.NO_MATCH: "does not match",
    RuleResult.NOT_ALLOWED: "the project is not in allow",
}


@click.command("list")
@click.option("--source", metavar="NAME", help="Only deliveries of this source.")
@click.option(
    "--outcome",
    type=click.Choice([each.value for each in RuleResult]),
    help="Only those of which a rule made this.",
)
@newest_option
@json_option
@ledger_command
def list_deliveries(
    *,
    ledger: LedgerContext,
    source: str | None,
    outcome: str | None,
    newest: int,
    as_json: bool,
) -> None:
    """List deliveries, newest first."""

    async def look(redis: Redis) -> list[RecordedDelivery]:
        found = []
        only = None if outcome is None else RuleResult(outcome)
        async for _, each in _deliveries(redis, ledger).newest(source, only):
            found.append(each)
            if len(found) == newest:
                break
        return found

    found = ledger.run(look)
    if as_json:
        for each in found:
            print_json(delivery_json(each))
        return
    if not found:
        click.echo("no deliveries")
        return
    print_table(_COLUMNS, [_row(each) for each in found], "problem")
    if len(found) == newest:
        click.echo(f"there may be more than the {newest} shown: see --newest")


@click.command()
@click.argument("name", metavar="DELIVERY")
@json_option
@ledger_command
def show(*, ledger: LedgerContext, name: str, as_json: bool) -> None:
    """Show a delivery whole: what each rule made of it, its headers and its body.

    DELIVERY is SOURCE/ID, or the ID alone.
    """
    found = _one(ledger, name)
    if as_json:
        headers, body = dict(found.delivery.headers), shown_body(found.delivery.body)
        print_json({**delivery_json(found), "headers": headers, "body": body})
        return
    console = open_console()
    delivery = found.delivery
    fields = [
        ("source", delivery.source),
        ("id", delivery.id),
        ("type", delivery.type),
        ("received", show_timestamp(delivery.received_at_ms)),
        ("outcome", summary(found.outcomes)),
        *((f"rule {each.rule}".strip(), _said(each, found)) for each in found.outcomes),
    ]
    if not found.outcomes:
        fields.append(("rules", _NO_RULE))
    fields += [(f"header {header}", value) for header, value in delivery.headers.items()]
    print_fields(console, fields)
    console.print(f"\n{safe_text(delivery.body.decode('utf-8', 'replace'))}", soft_wrap=True)


@click.command()
@click.argument("names", metavar="DELIVERY...", nargs=-1, required=True)
@click.option("--again", is_flag=True, help="Make all of it once more, under new ids.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and send nothing.")
@json_option
@ledger_command
def replay(
    *, ledger: LedgerContext, names: Sequence[str], again: bool, dry_run: bool, as_json: bool
) -> None:
    """Run the rules of deliveries again, as the file has them now.

    What was made of a delivery before is not made again, unless you say --again.
    """
    sources = _sources(ledger)
    failed = False
    for name in names:
        found = _one(ledger, name)
        source = _source(sources, found.delivery.source)
        effects = replay_effects(source, found, again=again)
        if not dry_run:

            async def act(
                redis: Redis, found: RecordedDelivery = found, effects: Effects = effects
            ) -> bool:
                name = found.delivery.name
                async with ledger.recorded(redis, Act.DELIVERY_REPLAY, name, again=again) as entry:
                    receipt = await replay_delivery(_deliveries(redis, ledger), found, effects)
                    if receipt.is_new:
                        entry.done(**effects.counts())
                return receipt.is_new

            if not ledger.run(act):
                raise click.ClickException(
                    f"{safe_text(found.delivery.name)} was replayed by someone else just now, "
                    "or has expired: look at it with `trainmaster webhooks show`"
                )
        failed = failed or bool(effects.dead_letters)
        _print_effects(found.delivery.name, effects, sent=not dry_run, as_json=as_json)
    if failed:
        raise SystemExit(FAILED)


@click.command("test")
@click.argument("wanted", metavar="FILE|DELIVERY")
@click.option("--source", metavar="NAME", help="Whose rules to try; a must for a file.")
@click.option(
    "--header", "pairs", multiple=True, metavar="NAME=VALUE", help="A header that comes with FILE."
)
@json_option
@ledger_command
def try_rules(
    *,
    ledger: LedgerContext,
    wanted: str,
    source: str | None,
    pairs: Sequence[str],
    as_json: bool,
) -> None:
    """Show what the rules would make of a JSON file or a stored delivery; send nothing."""
    sources = _sources(ledger)
    path = Path(wanted)
    if is_file(path):
        tried = _source_for_file(sources, source)
        received = _from_file(tried, path, pairs)
    else:
        if pairs:
            raise click.UsageError("--header is for a FILE: a stored delivery has its own")
        stored = _one(ledger, wanted, "no file and no stored delivery is called").delivery
        tried = _source(sources, source or stored.source)
        received = received_again(tried, replaced(stored, source=tried.name))
    effects = effects_of(tried, received)
    _print_effects(received.delivery.name, effects, sent=False, as_json=as_json)
    if effects.dead_letters:
        raise SystemExit(FAILED)


COMMANDS: Final = (list_deliveries, show, replay, try_rules)


def _deliveries(redis: Redis, ledger: LedgerContext) -> Deliveries:
    retention = load_gateway_settings(ledger.redis_url, ledger.namespace).delivery_retention_seconds
    return Deliveries(redis, ledger.keys, retention_seconds=retention)


def _sources(ledger: LedgerContext) -> Mapping[str, Source]:
    path = load_gateway_settings(ledger.redis_url, ledger.namespace).integrations_file
    if path is None:
        raise SettingError(
            "TRAINMASTER_INTEGRATIONS_FILE names no file: set it to the TOML file with your rules",
            code=ErrorCode.INVALID_SETTING,
        )
    return load_integrations(path, looks_up_secrets=False).sources


def _source(sources: Mapping[str, Source], name: str) -> Source:
    if name not in sources:
        known = ", ".join(sources) or "none"
        raise click.ClickException(
            f"the integrations file has no source {safe_text(name)}; it has {known}"
        )
    return sources[name]


def _source_for_file(sources: Mapping[str, Source], name: str | None) -> Source:
    if name is not None:
        return _source(sources, name)
    if len(sources) != 1:
        raise click.UsageError(f"say whose rules to try by --source: {', '.join(sources)}")
    return next(iter(sources.values()))


def _from_file(source: Source, path: Path, pairs: Sequence[str]) -> Received:
    headers = []
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--header {pair!r}: give a header as name=value")
        headers.append((name.lower().encode(), value.encode()))
    try:
        return received_from_file(source, path.read_bytes(), headers, time.time())
    except NoDeliveryError as exc:
        raise click.ClickException(str(exc)) from exc
    except RefusedDeliveryError as exc:
        raise click.UsageError(f"--header: {exc.reason}; give it once") from exc
    except OSError as exc:
        raise click.ClickException(f"{safe_text(path)}: {exc.strerror}") from exc


def _one(
    ledger: LedgerContext, name: str, missing: str = "no delivery is kept as"
) -> RecordedDelivery:
    async def look(redis: Redis) -> list[RecordedDelivery]:
        return await _deliveries(redis, ledger).find(name)

    found = ledger.run(look)
    if not found:
        raise click.ClickException(f"{missing} {safe_text(name)}; see `trainmaster webhooks list`")
    if len(found) > 1:
        names = ", ".join(shell_word(each.delivery.name) for each in found)
        raise click.ClickException(f"several deliveries have this id; name one of {names}")
    return found[0]


def _row(found: RecordedDelivery) -> Row:
    delivery = found.delivery
    age = show_duration(time.time() - delivery.received_at_ms / 1000)
    problems = [each.problem for each in found.outcomes if each.problem]
    problems += [each.problem for each in found.window_ends.values() if each.problem]
    return Row(
        (delivery.name, delivery.type or "-", summary(found.outcomes), age),
        message="; ".join(problems),
    )


def _said(record: RuleRecord, found: RecordedDelivery) -> str:
    """Returns what a rule made of a delivery, in words."""
    said = [f"{record.result}"]
    if explanation := record.problem or _EXPLANATIONS.get(record.result):
        said.append(explanation)
    said += record.command_ids
    for window_id in found.window_ids:
        if record.window and window_id.rpartition("/")[0] == record.window:
            end = found.window_ends.get(window_id)
            if end is None:
                said.append(f"waits in the window {window_id}")
            else:
                said += [end.problem] if end.problem else end.command_ids
    return "; ".join(said)


def _print_effects(name: str, effects: Effects, *, sent: bool, as_json: bool) -> None:
    if as_json:
        print_json(effects_json(name, effects, sent=sent))
        return
    click.echo(safe_text(f"{name}: {summary(effects.outcomes)}"))
    for record in effects.outcomes:
        why = record.problem or _EXPLANATIONS.get(record.result, "")
        into = f"joins {record.window}" if record.window else ""
        told = "; ".join(part for part in (record.result.value, why, into) if part)
        click.echo(safe_text(f"  rule {record.rule or '-'}: {told}"))
    if not effects.outcomes:
        click.echo(f"  {_NO_RULE}")
    for command in effects.commands:
        print_json(RawJson(command.text))
    done = "sent" if sent else "would be sent"
    told = f"{counted(len(effects.commands), 'command')} {done}"
    if effects.window_items:
        joined = "joined" if sent else "would be joined"
        told = f"{told}, {counted(len(effects.window_items), 'window')} {joined}"
    if effects.dead_letters:
        told = f"{told}, {counted(len(effects.dead_letters), 'dead letter')}"
    click.echo(told, err=True)
