"""Completion, asked for the way shells do: by the environment, and by bash itself."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from schemas.commands import COMMAND_CLASSES
from tests.console import SCRIPT, TIMEOUT_SECONDS
from tests.integration.ledger_acts import LIST, TRAIN, accept
from worker.backfill.keys import backfills_key
from worker.cli.main import COMMANDS
from worker.queue.ledger.dead_letters import FIELD, dead_letter_json

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.console import Console
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

BASH = shutil.which("bash") or ""


def complete(console: Console, *words: str, shell: str = "bash") -> list[str]:
    """Returns what is offered for the last word, without the kind that stands before each."""
    environment = {
        "_TRAINMASTER_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": " ".join(("trainmaster", *words)),
        "COMP_CWORD": words[-1] if shell == "fish" else str(len(words)),
    }
    said = console.run(environment=environment)
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    if shell == "zsh":
        return lines[1::3]
    return [line.partition(",")[2].partition("\t")[0] for line in lines if line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("submit", "tr"), ["train"]),
        (("describe", "get_m"), ["get_model"]),
        (("submit", "list_models", "order"), ["order_by=", "order_asc="]),
        (("submit", "list_models", "order_by=ti"), ["order_by=title"]),
        (("submit", "list_models", "order_asc=f"), ["order_asc=false"]),
        (("submit", "predict", "task=ob"), ["task=object_detection"]),
        (("events", "--type", "fai"), ["failed"]),
        (("events", "--type", "train.fai"), ["train.failed"]),
        (("dead-letters", "list", "--reason", "poi"), ["poison"]),
        (("list", "--type", "watch"), ["watch_training"]),
        (("dead-l",), ["dead-letters"]),
        (("dead-letters", "rep"), ["replay"]),
    ],
)
def test_types_parameters_and_values_are_offered(
    console: Console, shell: str, words: tuple[str, ...], offered: list[str]
) -> None:
    assert complete(console, *words, shell=shell) == offered


def test_everything_is_offered_for_nothing_typed(console: Console) -> None:
    assert set(COMMANDS) < set(complete(console, "''"))
    assert complete(console, "submit", "''") == list(COMMAND_CLASSES)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("order_by", "="), ["createdAt", "title"]),
        (("order_by", "=", "ti"), ["title"]),
        (("query", "=", "x", "order_a"), ["order_asc="]),
    ],
)
def test_bash_that_splits_at_the_equals_sign_gets_the_value_alone(
    console: Console, words: tuple[str, ...], offered: list[str]
) -> None:
    assert complete(console, "submit", "list_models", *words) == offered


async def test_ids_are_offered_where_they_fit(
    console: Console, redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await accept(redis, ledger, **TRAIN, id="night-1")
    await accept(redis, ledger, **LIST, id="night-2")
    await accept(redis, ledger, **LIST, id="day-1")
    assert console.run("cancel", "night-2").code == 0
    await bury(redis, keys, "night-3")
    await redis.zadd(backfills_key(keys), {"night-old": 1, "night-new": 2})

    assert set(complete(console, "status", "night")) == {"night-1", "night-2"}
    assert complete(console, "events", "--id", "d") == ["day-1"]
    assert set(complete(console, "cancel", "''")) == {"night-1", "day-1"}
    assert complete(console, "cancel", "night-1", "''") == ["day-1"]
    for act in ("show", "replay", "purge"):
        key, command_id = complete(console, "dead-letters", act, "''")
        assert (key.count("-"), command_id) == (1, "night-3")
    for act in ("status", "pause", "resume", "cancel", "retry-failed"):
        assert complete(console, "backfill", act, "night") == ["night-new", "night-old"]
    assert complete(console, "status", "--namespace", "elsewhere", "''") == []


async def bury(redis: Redis, keys: Keys, command_id: str) -> None:
    values: dict[str, Any] = {
        "command_id": command_id,
        "command_type": "train",
        "error": {"code": "poison", "message": "m"},
        "text": b"{}",
        "at_ms": 1,
        "attempts": 1,
        "history": [],
    }
    await redis.xadd(keys.dead_letters, {FIELD: dead_letter_json(**values)})


async def test_an_id_that_would_break_the_lines_of_a_shell_is_not_offered(
    console: Console, redis: Redis, keys: Keys
) -> None:
    await bury(redis, keys, "a\nplain,rm")
    assert len(complete(console, "dead-letters", "show", "''")) == 1


@pytest.mark.parametrize("setting", ["redis://127.0.0.1:1", "nonsense"])
def test_without_redis_nothing_is_offered_and_nothing_is_said(
    console: Console, setting: str
) -> None:
    console.environment["TRAINMASTER_REDIS_URL"] = setting
    assert complete(console, "status", "''") == []
    assert complete(console, "submit", "tr") == ["train"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(console: Console, shell: str) -> None:
    said = console.run(environment={"_TRAINMASTER_COMPLETE": f"{shell}_source"})
    assert said.code == 0
    assert f"_TRAINMASTER_COMPLETE={shell}_complete" in said.out
    assert ("compopt -o nospace" in said.out) == (shell == "bash")


@pytest.mark.skipif(not BASH, reason="this machine has no bash")
def test_bash_itself_completes_a_line_with_the_script(console: Console) -> None:
    script = console.run(environment={"_TRAINMASTER_COMPLETE": "bash_source"}).out
    asked = (
        "COMP_WORDS=(trainmaster submit list_models order_b); COMP_CWORD=3; "
        "_trainmaster_completion trainmaster; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(
        [BASH, "--norc", "-c", f"{script}\n{asked}"],
        capture_output=True,
        env={**console.environment, "PATH": f"{SCRIPT.parent}:{console.environment['PATH']}"},
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.stdout.decode() == "order_by=\n", done.stderr.decode()
