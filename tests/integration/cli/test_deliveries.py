"""`trainmaster webhooks list`, `show`, `replay` and `test`, as people call them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.webhooks.posting import (
    GET_MODEL,
    HEAD,
    MODEL,
    OTHER_PROJECT,
    PROJECT,
    SECRET,
    WINDOWED,
    commands_in,
    integrations_of,
    receiver_of,
    signed,
    submitted,
)

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.console import Console
    from worker.queue.ledger.keys import Keys

SECOND = """
[[sources.encord.rules]]
name = "second"
for_each = "body.payload.data_hashes"
[sources.encord.rules.command]
type = "get_model"
data.model_uuid = "item"
"""


class Desk:
    """Deliveries of an earlier file, and a console whose file is another one now."""

    def __init__(self, redis: Redis, keys: Keys, console: Console, folder: Path) -> None:
        self.redis = redis
        self.keys = keys
        self.console = console
        self.folder = folder

    async def receive(self, body: bytes, *rules: str) -> None:
        receiver = receiver_of(self.redis, self.keys, integrations_of(self.folder, HEAD, *rules))
        post = signed(body)
        answer = await receiver.receive("encord", post.headers, post.body)
        assert answer.status == 200

    def use(self, *rules: str) -> None:
        file = self.folder / "now.toml"
        file.write_text("".join([HEAD, *rules]), encoding="utf-8")
        self.console.environment["TRAINMASTER_INTEGRATIONS_FILE"] = str(file)

    async def ids(self) -> list[str]:
        return [one["id"] for one in await commands_in(self.redis, self.keys.commands)]


@pytest.fixture
def desk(redis: Redis, keys: Keys, console: Console, tmp_path: Path) -> Desk:
    made = Desk(redis, keys, console, tmp_path)
    made.use(GET_MODEL)
    return made


async def test_the_list_is_newest_first_and_tells_what_became_of_each(desk: Desk) -> None:
    await desk.receive(submitted("uid-1"), GET_MODEL)
    await desk.receive(submitted("uid-2", data=[17]), SECOND)
    await desk.receive(submitted("uid-3", project=OTHER_PROJECT), WINDOWED)

    shown = desk.console.run("webhooks", "list")
    machine = desk.console.run("webhooks", "list", "--json").lines
    invalid = desk.console.run("webhooks", "list", "--outcome", "invalid", "--json").lines
    none = desk.console.run("webhooks", "list", "--source", "other")

    assert [line.split()[0] for line in shown.out.splitlines()] == [
        *("delivery", "encord/uid-3", "encord/uid-2", "encord/uid-1")
    ]
    assert [one["outcome"] for one in machine] == ["not_allowed", "invalid", "submitted"]
    assert [one["id"] for one in invalid] == ["uid-2"]
    assert "model_uuid" in invalid[0]["rules"][0]["problem"]
    assert none.out == "no deliveries\n"
    assert SECRET not in shown.out


async def test_a_delivery_is_shown_whole_by_its_name_or_its_id(desk: Desk) -> None:
    await desk.receive(submitted("uid-1"), GET_MODEL, WINDOWED)

    shown = desk.console.run("webhooks", "show", "uid-1").out
    (machine,) = desk.console.run("webhooks", "show", "encord/uid-1", "--json").lines
    missing = desk.console.run("webhooks", "show", "uid-9")

    assert "submitted; encord/look/uid-1" in shown
    assert f"coalesced; waits in the window encord/train/{PROJECT}/" in shown
    assert '"event_type":"task_submitted_event"' in shown
    assert machine["body"]["uid"] == "uid-1"
    assert machine["command_ids"] == ["encord/look/uid-1"]
    assert len(machine["windows"]) == 1
    assert missing.code == 1
    assert "no delivery is kept as uid-9; see `trainmaster webhooks list`" in missing.err


async def test_a_replay_makes_what_the_file_says_now_and_nothing_twice(desk: Desk) -> None:
    await desk.receive(submitted("uid-1", data=[MODEL]), GET_MODEL)
    desk.use(GET_MODEL, SECOND)

    tried = desk.console.run("webhooks", "replay", "uid-1", "--dry-run")
    assert await desk.ids() == ["encord/look/uid-1"]
    first = desk.console.run("webhooks", "replay", "uid-1", "--json").lines
    second = desk.console.run("webhooks", "replay", "uid-1")
    again = desk.console.run("webhooks", "replay", "uid-1", "--again")

    assert "1 command would be sent" in tried.err
    assert [one["id"] for one in first[0]["commands"]] == ["encord/second/uid-1/0"]
    assert "0 commands sent" in second.err
    assert "2 commands sent" in again.err
    made = await desk.ids()
    assert len(made) == len(set(made)) == 4


async def test_a_replay_that_makes_a_dead_letter_says_so(desk: Desk) -> None:
    await desk.receive(submitted("uid-1", data=[17]), GET_MODEL)
    await desk.receive(submitted("uid-2", data=[MODEL]), GET_MODEL)
    desk.use(SECOND)

    several = desk.console.run("webhooks", "replay", "uid-1", "uid-2", "--dry-run", "--json")
    said = desk.console.run("webhooks", "replay", "uid-1")

    # Whichever of several it is.
    assert (several.code, len(several.lines)) == (1, 2)
    assert said.code == 1
    assert "rule second: invalid; command.data.model_uuid" in said.out
    assert "1 dead letter" in said.err


async def test_a_file_or_a_stored_delivery_is_tried_without_sending(
    desk: Desk, tmp_path: Path
) -> None:
    body = tmp_path / "body.json"
    body.write_bytes(submitted("uid-2", data=[MODEL]))
    desk.use(SECOND, WINDOWED)
    await desk.receive(submitted("uid-1", data=[17]), GET_MODEL)

    file = desk.console.run("webhooks", "test", str(body))
    stored = desk.console.run("webhooks", "test", "uid-1")
    machine = desk.console.run("webhooks", "test", str(body), "--json").lines
    missing = desk.console.run("webhooks", "test", "nothing.json")

    assert file.code == 0
    assert "encord/second/uid-2/0" in file.out
    assert f"joins encord/train/{PROJECT}" in file.out
    assert "1 command would be sent, 1 window would be joined" in file.err
    assert stored.code == 1
    assert "command.data.model_uuid" in stored.out
    assert machine[0]["sent"] is False
    assert "no file and no stored delivery is called nothing.json" in missing.err
    assert await desk.ids() == ["encord/look/uid-1"]


OTHERS = """
[sources.renamed]
scheme = "encord"
secrets = [{ env = "ENCORD_WEBHOOK_SECRET" }]
[[sources.renamed.rules]]
name = "mine"
[sources.renamed.rules.command]
type = "get_model"
data.model_uuid = "body.payload.data_hashes[0]"
[sources.follow]
scheme = "events"
[[sources.follow.rules]]
name = "look"
[sources.follow.rules.command]
type = "list_models"
data = {}
"""


async def test_a_stored_delivery_is_tried_by_the_rules_of_the_source_that_is_named(
    desk: Desk,
) -> None:
    await desk.receive(submitted("uid-1", data=[MODEL]), GET_MODEL)
    desk.use(GET_MODEL, OTHERS)

    other = desk.console.run("webhooks", "test", "uid-1", "--source", "renamed")
    events = desk.console.run("webhooks", "test", "uid-1", "--source", "follow")
    (desk.folder / "now.toml").write_text(OTHERS, encoding="utf-8")
    gone = desk.console.run("webhooks", "test", "uid-1", "--source", "renamed")

    for said in (other, gone):
        assert said.code == 0
        assert "renamed/mine/uid-1" in said.out
        assert "encord/look" not in said.out
    assert events.code == 1
    assert "takes events" in events.out


async def test_a_delivery_of_a_source_that_takes_events_by_now_is_unreadable(desk: Desk) -> None:
    await desk.receive(submitted("uid-1", data=[MODEL]), GET_MODEL)
    scheme = '[sources.encord]\nscheme = "events"\n'
    (desk.folder / "now.toml").write_text(scheme, encoding="utf-8")

    said = desk.console.run("webhooks", "replay", "uid-1", "--dry-run")

    assert said.code == 1
    assert "unreadable; the source encord takes events" in said.out


def test_a_header_that_is_given_twice_is_wrong_usage(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "now.toml"
    file.write_text(
        '[sources.hub]\nscheme = "github"\nsecrets = [{ env = "ENCORD_WEBHOOK_SECRET" }]\n',
        encoding="utf-8",
    )
    body = tmp_path / "body.json"
    body.write_text("{}", encoding="utf-8")
    twice = ("--header", "X-GitHub-Event=push", "--header", "x-github-event=ping")

    said = desk.console.run("webhooks", "test", str(body), *twice)

    assert said.code == 2
    assert "x-github-event is there 2 times" in said.err


def test_without_a_file_the_commands_say_what_to_set(console: Console) -> None:
    said = console.run("webhooks", "replay", "uid-1")

    assert said.code == 2
    assert "TRAINMASTER_INTEGRATIONS_FILE" in said.err


def test_an_event_is_what_a_source_of_events_takes(console: Console, tmp_path: Path) -> None:
    file = tmp_path / "now.toml"
    file.write_text(
        '[sources.follow]\nscheme = "events"\n[[sources.follow.rules]]\nname = "look"\n'
        'on = "get_model.succeeded"\n[sources.follow.rules.command]\ntype = "get_model"\n'
        'data.model_uuid = "body.data.result.model_uuid"\n'
    )
    console.environment["TRAINMASTER_INTEGRATIONS_FILE"] = str(file)
    event = tmp_path / "event.json"
    event.write_text(
        '{"id": "1-1/succeeded", "type": "get_model.succeeded", "subject": "c-1", '
        f'"data": {{"result": {{"model_uuid": "{MODEL}"}}}}}}'
    )
    other = tmp_path / "other.json"
    other.write_text("[]")

    said = console.run("webhooks", "test", str(event))
    refused = console.run("webhooks", "test", str(other))

    assert '"reactiondepth":1' in said.out
    assert refused.code == 1
    assert "takes events" in refused.err
