"""`trainmaster tokens`: makes, lists and revokes what lets clients into the gateway."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from worker.acts import Act
from worker.cli.arguments import AHEAD, COMMAND_TYPE, Group, json_option
from worker.cli.context import LedgerContext, ledger_command
from worker.cli.formatting import show_timestamp
from worker.cli.output import FAILED, Column, Row, print_json, print_table, safe_text
from worker.gateway.access.tokens import Scope, Token, TokenError, Tokens
from worker.secret_files import SecretFileError, read_secret, shown_path
from worker.times import milliseconds_of

if TYPE_CHECKING:
    from datetime import datetime

    from redis.asyncio import Redis

_COLUMNS: Final = (
    Column("token"),
    Column("name", shorten=True, least=12),
    Column("state"),
    Column("scopes"),
    Column("ends", drop=1),
    Column("made", drop=2),
)


@click.group(cls=Group)
def tokens() -> None:
    """Make, list and revoke tokens of the gateway.

    A client sends its token's secret as Authorization: Bearer tm_…
    """


@tokens.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([str(each) for each in Scope]),
    multiple=True,
    required=True,
    help="What it may do; may be given several times.",
)
@click.option(
    "--type",
    "types",
    type=COMMAND_TYPE,
    multiple=True,
    metavar="TYPE",
    help="Only for commands of this type; may be given several times.",
)
@click.option(
    "--project",
    "projects",
    multiple=True,
    metavar="UUID",
    help="Only for commands of this project; may be given several times. With submit alone.",
)
@click.option("--expires", type=AHEAD, help="When it ends: RFC 3339, or a duration like 90d.")
@click.option(
    "--secret-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take the secret from this file instead of making one. Again, it does nothing.",
)
@json_option
@ledger_command
def create(  # noqa: PLR0913 - one for each option
    *,
    ledger: LedgerContext,
    name: str,
    scopes: tuple[str, ...],
    types: tuple[str, ...],
    projects: tuple[str, ...],
    expires: datetime | None,
    secret_file: Path | None,
    as_json: bool,
) -> None:
    """Make a token and print its secret, once.

    submit sends commands; read shows commands and events; operate cancels, replays and resolves. On
    stdout stands the secret alone: trainmaster tokens create ci --scope submit > ci.token

    With --secret-file nothing is printed on stdout, and the token is there afterwards with these
    scopes, types and projects, however often it is run.
    """
    if secret_file is not None:
        if expires is not None:
            raise click.UsageError("--secret-file and --expires: give one of them")
        token, is_new = _adopt(ledger, secret_file, name, scopes, types, projects)
        if as_json:
            print_json(_for_machines(token))
        told = "is there now" if is_new else "was there already"
        click.echo(f"trainmaster: {token.prefix} ({safe_text(token.name)}) {told}", err=True)
        return

    async def make(redis: Redis) -> tuple[Token, str]:
        async with ledger.recorded(redis, Act.TOKEN_CREATE, name) as entry:
            token, secret = await Tokens(redis, ledger.keys).create(
                name,
                [Scope(each) for each in scopes],
                types,
                projects,
                None if expires is None else milliseconds_of(expires),
            )
            entry.done(**_for_the_log(token))
        return token, secret

    try:
        token, secret = ledger.run(make)
    except TokenError as exc:
        raise click.UsageError(str(exc)) from exc
    if as_json:
        print_json({**_for_machines(token), "secret": secret})
        return
    click.echo(secret)
    click.echo(
        f"trainmaster: this is the only time that the secret of {safe_text(token.name)} is shown; "
        "keep it as you keep a password",
        err=True,
    )


@tokens.command("list")
@json_option
@ledger_command
def list_tokens(*, ledger: LedgerContext, as_json: bool) -> None:
    """List tokens, oldest first; secrets are not known."""

    async def look(redis: Redis) -> list[Token]:
        return await Tokens(redis, ledger.keys).list()

    found = ledger.run(look)
    if as_json:
        for token in found:
            print_json(_for_machines(token))
    elif not found:
        click.echo("no tokens: the gateway answers on loopback only, to everybody there")
    else:
        print_table(_COLUMNS, [_row(token) for token in found], "limits")


@tokens.command()
@click.argument("token", metavar="ID|NAME")
@json_option
@ledger_command
def revoke(*, ledger: LedgerContext, token: str, as_json: bool) -> None:
    """Revoke a token; gateways refuse it within a few seconds.

    Exits with 1 if there is no such token.
    """

    async def act(redis: Redis) -> bool:
        async with ledger.recorded(redis, Act.TOKEN_REVOKE) as entry:
            revoked = await Tokens(redis, ledger.keys).revoke(token)
            if revoked is not None:
                # What was typed may be a whole secret.
                entry.subject = revoked.name
                entry.done(id=revoked.prefix)
        return revoked is not None

    try:
        revoked = ledger.run(act)
    except TokenError as exc:
        raise click.UsageError(str(exc)) from exc
    # Who pastes a whole secret does not want to read it again.
    shown = f"{token[:15]}…" if token.startswith("tm_") and len(token) > 15 else token
    if as_json:
        print_json({"token": shown, "revoked": revoked})
    elif revoked:
        click.echo(f"{safe_text(shown)}: revoked")
    if not revoked:
        click.echo(
            f"trainmaster: there is no token {safe_text(shown)!r}; see: tokens list", err=True
        )
        raise SystemExit(FAILED)


def _adopt(
    ledger: LedgerContext,
    file: Path,
    name: str,
    scopes: tuple[str, ...],
    types: tuple[str, ...],
    projects: tuple[str, ...],
) -> tuple[Token, bool]:
    try:
        secret = read_secret(file, shown_path(file)).decode()
    except SecretFileError as exc:
        raise click.UsageError(f"--secret-file: {exc}") from exc

    async def adopt(redis: Redis) -> tuple[Token, bool]:
        tokens = Tokens(redis, ledger.keys)
        asked = [Scope(each) for each in scopes]
        async with ledger.recorded(redis, Act.TOKEN_CREATE, name) as entry:
            token, is_new = await tokens.adopt(secret, name, asked, types, projects)
            if is_new:
                entry.done(**_for_the_log(token))
        return token, is_new

    try:
        return ledger.run(adopt)
    except TokenError as exc:
        raise click.UsageError(f"--secret-file: {exc}") from exc


def _for_the_log(token: Token) -> dict[str, Any]:
    """Returns what a token lets its bearer do, for whoever asks who made it."""
    told = {
        "id": token.prefix,
        "scopes": [each for each in Scope if each in token.scopes],
        "types": sorted(token.types),
        "projects": sorted(token.projects),
        "expires_at_ms": token.expires_at_ms,
    }
    return {name: value for name, value in told.items() if value}


def _for_machines(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "scopes": [each for each in Scope if each in token.scopes],
        "types": sorted(token.types),
        "projects": sorted(token.projects),
        "created_at_ms": token.created_at_ms,
        "expires_at_ms": token.expires_at_ms,
        "revoked": token.revoked,
    }


def _row(token: Token) -> Row:
    valid = token.is_valid(int(time.time() * 1000))
    limits = [
        f"{name}: {', '.join(sorted(values))}"
        for name, values in (("types", token.types), ("projects", token.projects))
        if values
    ]
    return Row(
        (
            token.prefix,
            token.name,
            "revoked" if token.revoked else "valid" if valid else "ended",
            ", ".join(each for each in Scope if each in token.scopes),
            "never" if token.expires_at_ms is None else show_timestamp(token.expires_at_ms),
            show_timestamp(token.created_at_ms),
        ),
        message="; ".join(limits),
    )
