"""`trainmaster tokens` in processes of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len

from tests.console import run_on_terminal
from worker.gateway.tokens import Scope, Tokens

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.console import Console
    from worker.queue.ledger.keys import Keys

PROJECT = "2f1c8a52-6f0f-4a57-9a0b-1f0a4d6c9e01"


async def test_a_secret_is_printed_once_and_its_token_can_be_revoked(
    console: Console, redis: Redis, keys: Keys
) -> None:
    assert "no tokens" in console.run("tokens", "list").out
    made = console.run(
        *("tokens", "create", "ci", "--scope", "submit", "--type", "train", "--project", PROJECT),
        *("--expires", "90d"),
    )
    assert (made.code, made.out.count("\n")) == (0, 1)
    assert "only time" in made.err
    secret = made.out.strip()
    tokens = Tokens(redis, keys)
    token = await tokens.find(secret)
    assert token is not None
    assert token.scopes == {Scope.SUBMIT}
    assert token.types == {"train"}
    assert token.projects == {PROJECT}
    listed = console.run("tokens", "list", "--json")
    assert listed.lines[0]["id"] == token.id
    assert secret[16:] not in listed.out + console.run("tokens", "list").out
    revoked = console.run("tokens", "revoke", secret)
    assert (revoked.code, revoked.out) == (0, f"{token.prefix}…: revoked\n")
    assert await tokens.find(secret) is None
    assert "revoked" in console.run("tokens", "list").out


def test_what_cannot_be_is_wrong_usage_and_what_is_not_there_fails(console: Console) -> None:
    limited = console.run(*(
        "tokens",
        "create",
        "ci",
        "--scope",
        "submit",
        "--scope",
        "read",
        "--project",
        PROJECT,
    ))
    assert limited.code == 2
    assert "does not tell its project" in limited.err
    assert console.run("tokens", "create", "ci").code == 2
    assert (
        "'train'"
        in console.run(*["tokens", "create", "ci", "--scope", "read", "--type", "trian"]).err
    )
    missing = console.run("tokens", "revoke", "ci", "--json")
    assert (missing.code, missing.lines) == (1, [{"token": "ci", "revoked": False}])
    assert "no token 'ci'" in missing.err


def test_the_list_fits_into_80_columns(console: Console) -> None:
    for name in ("ci", "n" * 64, "東京" * 20):
        made = console.run(
            *("tokens", "create", name, "--scope", "read", "--scope", "operate", "--json"),
            *("--scope", "submit", "--expires", "1d"),
        )
        assert made.lines[0]["secret"].startswith(f"tm_{made.lines[0]['id']}_")
    shown = run_on_terminal(console, "tokens", "list").out.splitlines()
    assert all(cell_len(line) <= 80 for line in shown)
    assert shown[1].split()[1:3] == ["ci", "valid"]
