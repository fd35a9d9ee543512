"""`trainmaster doctor`: checks everything that a worker needs, as far as it can get."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import click
from rich.text import Text

from schemas.wording import counted
from worker.acts import Act
from worker.bootstrap.queue import create_witness
from worker.cli.arguments import json_option
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.doctor.api import check_api, check_credentials
from worker.cli.doctor.checks import Finding, Level
from worker.cli.doctor.cluster import check_cluster
from worker.cli.doctor.ledger import check_ledger, check_partitions
from worker.cli.doctor.machine import check_open_files, check_results
from worker.cli.doctor.server import check_server
from worker.cli.doctor.sinks import check_sinks
from worker.cli.output import FAILED, open_console, print_json, safe_text
from worker.environment import advice_on_unknown, load_settings, unknown_names
from worker.errors import SettingError
from worker.queue.ledger.epoch import Epoch

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.pool.witness import Witness
    from worker.settings import Settings

_SKIPPED: Final = Finding(
    "api.skipped",
    Level.OK,
    "the API was not asked: no credentials are set here; a worker needs ENCORD_SSH_KEY_FILE, "
    "ENCORD_SSH_KEY or TRAINMASTER_BEARER_TOKEN",
)
_STYLES: Final = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


@click.command()
@click.option(
    "--accept-loss",
    is_flag=True,
    help="Let workers start again after Redis was emptied. Look at the API first.",
)
@json_option
@ledger_command
def doctor(*, ledger: LedgerContext, accept_loss: bool, as_json: bool) -> None:
    """Check everything that a worker needs.

    Checks the settings, the key, the API (by one signed read), Redis, the clocks, the open work and
    the result store (by writing and reading), and says what to do about each finding. Exits with 1
    if a worker could not work.
    """
    findings, settings = _check_settings(ledger)
    if accept_loss:
        for one in _partitions(ledger):
            findings += _told_of(one, ledger, [_accept_loss(one, _settings_of(one, settings))])
    for one in _partitions(ledger):
        findings += _told_of(one, ledger, _check_ledger(one, _settings_of(one, settings)))
    if settings is not None:
        findings.append(check_open_files(settings))
        findings += asyncio.run(check_results(settings))
        has_credentials = _has_credentials(settings)
        credentials = list(check_credentials(settings)) if has_credentials else [_SKIPPED]
        findings += credentials
        if has_credentials and all(each.level is not Level.FAIL for each in credentials):
            findings += asyncio.run(check_api(settings))
    _print(findings, as_json=as_json)
    if any(finding.level is Level.FAIL for finding in findings):
        raise SystemExit(FAILED)


def _partitions(ledger: LedgerContext) -> tuple[LedgerContext, ...]:
    """Returns the ledger itself where it is one, or its settings can't be read."""
    try:
        found = ledger.partitions
    except SettingError:
        return (ledger,)
    return found if len(found) > 1 else (ledger,)


def _settings_of(one: LedgerContext, settings: Settings | None) -> Settings | None:
    return None if settings is None else settings.of(one.namespace or settings.namespace)


def _told_of(one: LedgerContext, ledger: LedgerContext, found: list[Finding]) -> list[Finding]:
    """Returns findings that name the partition that they are of, where there are several."""
    if one is ledger:
        return found
    return [replace(each, message=f"{one.namespace}: {each.message}") for each in found]


def _has_credentials(settings: Settings) -> bool:
    """Returns whether a key or a token is set: people who only look after Redis have none."""
    found = (settings.bearer_token, settings.encord_ssh_key, settings.encord_ssh_key_file)
    return any(each is not None for each in found)


def _check_settings(ledger: LedgerContext) -> tuple[list[Finding], Settings | None]:
    settings = None
    try:
        settings = load_settings(ledger.redis_url, ledger.namespace, partitions=True)
        findings = [Finding("settings", Level.OK, "all can be read")]
    except SettingError as exc:
        findings = [
            Finding(
                "settings",
                Level.FAIL,
                exc.message,
                "fix them; until then the key, the API and the result store are not checked",
            )
        ]
    findings += [
        Finding(
            "settings.unknown",
            Level.WARN,
            f"{name} is not a setting",
            advice_on_unknown(meant),
        )
        for name, meant in unknown_names().items()
    ]
    return findings, settings


def _witness(settings: Settings | None) -> Witness | None:
    try:
        return None if settings is None else create_witness(settings)
    except SettingError:
        # The check of the result store reports it.
        return None


def _check_ledger(ledger: LedgerContext, settings: Settings | None) -> list[Finding]:
    partitions = () if settings is None else settings.partitions

    async def look(redis: Redis) -> list[Finding]:
        return [
            *await check_server(redis, ledger.keys),
            *await check_cluster(redis, ledger.keys, ledger.address),
            *await check_ledger(redis, ledger.keys, _witness(settings)),
            *await check_partitions(redis, ledger.keys, partitions),
            *await check_sinks(redis, ledger.keys, ledger.redis_url),
        ]

    check = "redis.reachable"
    try:
        found = ledger.run(look)
    except SettingError as exc:
        return [Finding(check, Level.FAIL, f"not checked: {exc.message}", "fix the setting")]
    except click.ClickException as exc:
        return [
            Finding(
                check,
                Level.FAIL,
                exc.message,
                "is the server running, and do TRAINMASTER_REDIS_URL and the network lead to it?",
            )
        ]
    return [Finding(check, Level.OK, "Redis answers"), *found]


def _accept_loss(ledger: LedgerContext, settings: Settings | None) -> Finding:
    async def accept(redis: Redis) -> bool:
        witness = _witness(settings)
        recall = None if witness is None else witness.recall
        async with ledger.recorded(redis, Act.LEDGER_ACCEPT_LOSS) as entry:
            made = await Epoch(redis, ledger.keys).accept_loss(recall)
            if made:
                entry.done()
        if made and witness is not None:
            await witness.remember(made)
        return bool(made)

    if ledger.run(accept):
        return Finding("ledger.loss", Level.OK, "the loss is accepted; workers start again")
    return Finding("ledger.loss", Level.OK, "there was no loss to accept")


def _print(findings: list[Finding], *, as_json: bool) -> None:
    if as_json:
        for finding in findings:
            print_json(finding)
        return
    console = open_console()
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        line = Text(overflow="fold")
        line.append(f"{finding.level:<4}", style=_STYLES[finding.level])
        line.append(f"  {finding.check:<{width}}  {safe_text(finding.message)}")
        console.print(line, soft_wrap=True)
        if finding.advice and finding.level is not Level.OK:
            console.print(f"{'':<{width + 8}}-> {safe_text(finding.advice)}", soft_wrap=True)
    levels = [finding.level for finding in findings]
    console.print(
        f"\n{counted(levels.count(Level.FAIL), 'failure')}, "
        f"{counted(levels.count(Level.WARN), 'warning')}"
    )
