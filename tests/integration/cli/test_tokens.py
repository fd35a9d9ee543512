"""`trainmaster tokens` in processes of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from rich.cells import cell_len

from tests.console import ROOT, SCRIPT, run_on_terminal
from tests.pages import snippet
from worker.gateway.access.tokens import Scope, Tokens

if TYPE_CHECKING:
    from pathlib import Path

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


async def test_a_secret_that_somebody_else_made_is_taken_from_a_file_again_and_again(
    console: Console, redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    """As orchestrators mount it: each start of a gateway makes sure that its tokens are there."""
    secret = f"tm_0123456789ab_{'A' * 43}"
    file = tmp_path / "token"
    file.write_text(f"{secret}\n")
    create = ("tokens", "create", "prometheus", "--secret-file", str(file), "--scope", "read")
    tokens = Tokens(redis, keys)
    for told in ("is there now", "was there already"):
        made = console.run(*create)
        assert (made.code, made.out) == (0, "")
        assert told in made.err
        assert secret not in made.err
        token = await tokens.find(secret)
        assert token is not None
        assert token.name == "prometheus"
        assert token.scopes == {Scope.READ}
    assert "is there now" in console.run(*create, "--scope", "submit").err
    token = await tokens.find(secret)
    assert token is not None
    assert token.scopes == {Scope.READ, Scope.SUBMIT}
    narrow = ("--type", "train", "--project", PROJECT)
    assert "is there now" in console.run(*create[:-2], "--scope", "submit", *narrow).err
    token = await tokens.find(secret)
    assert token is not None
    assert token.scopes == {Scope.SUBMIT}
    assert token.types == {"train"}
    assert token.projects == {PROJECT}
    acts = [each["act"] for each in console.run("actions", "--json").lines]
    assert acts == ["token.create"] * 3, "what changed nothing is no act"
    console.run("tokens", "revoke", "prometheus")
    revoked = console.run(*create)
    assert revoked.code == 2
    assert "revoked" in revoked.err
    assert await tokens.find(secret) is None
    file.write_text(f"tm_0123456789ab_{'B' * 43}\n")
    assert "another secret begins with" in console.run(*create).err
    for text, said in (("hunter2", "not like one of ours"), ("", "is empty")):
        file.write_text(text)
        wrong = console.run(*create)
        assert wrong.code == 2
        assert said in wrong.err
    assert "hunter2" not in wrong.err
    file.unlink()
    assert "can't be read" in console.run(*create).err
    assert "give one of them" in console.run(*create, "--expires", "1d").err


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


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not on PATH")
@pytest.mark.parametrize("page", ["gateway.md", "deploy.md"])
def test_secrets_that_are_made_as_the_pages_say_are_taken(
    console: Console, tmp_path: Path, page: str
) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    path = f"{SCRIPT.parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        ["/bin/sh", "-ec", snippet(text, "sh", "tm_%s_%s")],
        cwd=tmp_path,
        env={**console.environment, "PATH": path},
        check=True,
        capture_output=True,
    )
    files = sorted(tmp_path.glob("*.token"))
    assert files
    for file in files:
        made = console.run(*(
            "tokens",
            "create",
            file.stem,
            "--scope",
            "read",
            "--secret-file",
            str(file),
        ))
        assert made.code == 0, made.err
