"""`trainmaster describe`, and the examples of every command in it and in the contract."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis as redis_py
from click.testing import CliRunner

from schemas.commands import COMMAND_CLASSES
from schemas.fields import parameters_of
from schemas.parsing import parse_command
from worker.cli.describe import submit_line
from worker.cli.main import commands
from worker.queue.ledger.keys import COMMAND_FIELD, CommandStream, Keys

if TYPE_CHECKING:
    from tests.console import Console

CONTRACT = (Path(__file__).parents[3] / "docs" / "contract.md").read_text("utf-8")
# They have no option: what `submit` sends is no CloudEvent.
NOT_SENT = {"specversion", "source"}


@pytest.mark.parametrize("command_type", COMMAND_CLASSES)
def test_every_line_of_an_example_sends_what_its_json_says(
    redis_url: str, namespace: str, command_type: str
) -> None:
    """The real command line, on a real stream."""
    example = COMMAND_CLASSES[command_type].example
    words = shlex.split(submit_line(example).replace("\\\n", " "))
    target = ["--redis-url", redis_url, "--namespace", namespace]
    said = CliRunner().invoke(commands, [*words[1:], *target])
    assert said.exit_code == 0, said.output
    with redis_py.Redis.from_url(redis_url) as redis:
        keys = Keys(namespace)
        streams: Any = [redis.xrange(keys.stream(stream)) for stream in CommandStream]
        ((_, fields),) = [entry for entries in streams for entry in entries]
    sent = json.loads(fields[COMMAND_FIELD])
    if "id" not in example:
        del sent["id"]
    expected = {name: value for name, value in example.items() if name not in NOT_SENT}
    for command in (sent, expected):
        # The same moment, written otherwise.
        command["deadline"] = str(parse_command(json.dumps(command).encode()).command.deadline)
    assert sent == expected


@pytest.mark.parametrize("command_type", COMMAND_CLASSES)
def test_the_contract_has_an_example_of_every_command(command_type: str) -> None:
    example = COMMAND_CLASSES[command_type].example
    assert f"```sh\n{submit_line(example)}\n```" in CONTRACT
    assert f"```json\n{json.dumps(example, indent=2)}\n```" in CONTRACT


@pytest.mark.parametrize("command_type", COMMAND_CLASSES)
def test_every_parameter_has_a_meaning_and_its_values(command_type: str) -> None:
    assert [each.name for each in parameters_of(command_type) if not each.meaning] == []
    assert [each.name for each in parameters_of(command_type) if not each.values] == []


def test_a_description_has_parameters_values_defaults_and_an_example(console: Console) -> None:
    said = console.run("describe", "train")
    assert said.code == 0
    words = " ".join(said.out.split())
    assert "train: Trains a model" in words
    assert "timeout_seconds How long the training is waited for." in words
    assert "default: 604800]" in words
    assert "[list of UUID; required]" in words
    assert submit_line(COMMAND_CLASSES["train"].example) in said.out
    assert json.dumps(COMMAND_CLASSES["train"].example, indent=2) in said.out
    words = " ".join(console.run("describe", "predict").out.split())
    assert "[classification or object_detection or instance_segmentation; required]" in words
    assert "Only with the task instance_segmentation." in words


def test_without_a_type_all_are_listed_and_an_unknown_one_gets_a_suggestion(
    console: Console,
) -> None:
    listed = console.run("describe").out.splitlines()
    assert [line.split()[0] for line in listed if line.startswith("  ") and line[2] != " "] == list(
        COMMAND_CLASSES
    )
    assert [each["type"] for each in console.run("describe", "--json").lines] == list(
        COMMAND_CLASSES
    )
    said = console.run("describe", "trian")
    assert said.code == 2
    assert "Unknown command type 'trian'. Did you mean 'train'?" in said.err
