"""The queue is the same whatever its commands are about: no script of it names a tenant."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Final, get_args

import pytest

from schemas.commands import COMMAND_CLASSES
from schemas.control import ControlCommand
from worker.queue.ledger import keys as queue_keys
from worker.queue.ledger.keys import Keys

SCRIPTS: Final = {
    file.name: file.read_text("utf-8")
    for folder in (resources.files("worker.queue.ledger").joinpath("scripts"),)
    for file in (*folder.iterdir(), *folder.joinpath("include").iterdir())
    if file.name.endswith(".lua")
}
TENANTS: Final = re.compile(
    r"backfill|training|predict|encord|creation|orphan_|ambiguous|\bmodel|attachment", re.IGNORECASE
)
_BUILT: Final = re.compile(r"prefix \.\. '([^']+)'")
_FAMILY: Final = re.compile(r'return f"\{self\.prefix\}([\w:-]+)')


def families() -> set[str]:
    """Returns how the keys begin that the queue has, without the namespace."""
    source = Path(queue_keys.__file__).read_text("utf-8")
    return set(_FAMILY.findall(source))


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_no_script_of_the_queue_names_a_tenant(script: str) -> None:
    assert TENANTS.findall(SCRIPTS[script]) == []


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_a_script_of_the_queue_builds_only_keys_of_the_queue(script: str) -> None:
    assert set(_BUILT.findall(SCRIPTS[script])) <= families()


def test_there_are_scripts_and_keys_to_look_at() -> None:
    assert len(SCRIPTS) > 15
    assert sum(bool(_BUILT.search(text)) for text in SCRIPTS.values()) > 5
    assert {"command:", "group:", "lock:"} <= families()
    assert Keys("n").command("a") == "{n}:command:a"


@pytest.mark.parametrize("word", [*COMMAND_CLASSES, "backfill-open:", "orphan:"])
def test_the_rule_sees_a_tenant(word: str) -> None:
    """Else it would hold whatever the scripts say."""
    generic = {each.command_type for each in get_args(ControlCommand)}
    named = f"redis.call('HGET', prefix .. '{word}', 'x')"
    assert word in generic or TENANTS.search(named) or not set(_BUILT.findall(named)) <= families()
