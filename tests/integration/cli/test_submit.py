"""What `trainmaster submit` sends, and what it refuses to send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.console import Console, Said
from trainmaster_client import Client
from worker.embedded import EmbeddedRedis
from worker.queue.ledger.keys import COMMAND_FIELD, CommandStream, Keys
from worker.queue.ledger.streams import entries_between

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

MODEL = "2f1c8a52-6f0f-4a57-9a0b-1f0a4d6c9e01"
PROJECT = "7c6f1c0e-3a55-4b0b-8d6e-0d2a55b5e0aa"
LIST = {"type": "list_models", "data": {}}


async def sent(redis: Redis, keys: Keys) -> list[dict[str, Any]]:
    """Returns the commands that were sent, those of the bulk stream first."""
    return [
        orjson.loads(fields[COMMAND_FIELD])
        for stream in (CommandStream.BULK, CommandStream.COMMON)
        for _, fields in await entries_between(redis, keys.stream(stream), "-", "+")
    ]


async def test_values_are_json_where_they_are_json_and_what_the_field_takes(
    console: Console, redis: Redis, keys: Keys
) -> None:
    said = console.run(
        "submit",
        "train",
        f"model_uuid={MODEL}",
        "batch_size=8",
        "epochs=2",
        f"features_mapping.{PROJECT}.car=vehicle",
        f"features_mapping.{PROJECT}.bus=vehicle",
        f"features_mapping.{PROJECT}.bus=coach",
        f"labels_uuids={MODEL}",
        "wait=false",
    )
    assert said.code == 0, said.err
    (command,) = await sent(redis, keys)
    assert command["id"] == said.out.strip()
    assert command["data"] == {
        "model_uuid": MODEL,
        "batch_size": 8,
        "epochs": 2,
        "features_mapping": {PROJECT: {"car": ["vehicle"], "bus": ["vehicle", "coach"]}},
        "labels_uuids": [MODEL],
        "wait": False,
    }


async def test_a_text_stays_text_though_it_looks_like_a_number(
    console: Console, redis: Redis, keys: Keys
) -> None:
    said = console.run(
        "submit", "create_model", "title=2024", "description=null", "model=vgg16", "features=true"
    )
    assert said.code == 0, said.err
    (command,) = await sent(redis, keys)
    assert command["data"] == {
        "title": "2024",
        "description": None,
        "model": "vgg16",
        "features": ["true"],
    }


async def test_options_become_attributes_and_spans_become_times(
    console: Console, redis: Redis, keys: Keys
) -> None:
    said = console.run(
        "submit",
        "list_models",
        "--id=mine",
        "--replyto=desk",
        "--priority=bulk",
        "--correlationid=c-1",
        "--deadline=2h",
        "--notbefore=2031-01-31T12:00:00+02:00",
        "--json",
    )
    (command,) = await sent(redis, keys)
    (line,) = said.lines
    assert (line["id"], line["type"]) == ("mine", "list_models")
    assert command["replyto"] == "desk"
    assert command["priority"] == "bulk"
    assert command["correlationid"] == "c-1"
    assert command["notbefore"] == "2031-01-31T10:00:00.000+00:00"
    assert command["deadline"].endswith("+00:00")


async def test_an_option_goes_before_what_the_file_says(
    console: Console, redis: Redis, keys: Keys
) -> None:
    said = {"id": "of-the-file", "priority": "interactive", "correlationid": "c-1"}
    options = ("--id=mine", "--priority=bulk")
    assert console.run("submit", "-", *options, stdin=orjson.dumps({**LIST, **said})).code == 0
    (command,) = await sent(redis, keys)
    told = [command[name] for name in ("id", "priority", "correlationid")]
    assert told == ["mine", "bulk", "c-1"]


@pytest.mark.parametrize("form", ["one", "array", "lines", "stdin"])
async def test_a_file_holds_one_command_an_array_or_lines(
    console: Console, redis: Redis, keys: Keys, tmp_path: Path, form: str
) -> None:
    commands = [LIST, {**LIST, "id": "two", "traceparent": "00-1", "ownextension": 7}]
    text = {
        "one": orjson.dumps(commands[1], option=orjson.OPT_INDENT_2),
        "array": orjson.dumps(commands),
        "lines": b"\n\n".join(map(orjson.dumps, commands)) + b"\n",
        "stdin": orjson.dumps(commands),
    }[form]
    file = tmp_path / "commands"
    file.write_bytes(text)
    said = console.run("submit", "-" if form == "stdin" else str(file), stdin=text)
    assert said.code == 0, said.err
    found = await sent(redis, keys)
    assert [command["id"] for command in found] == said.out.split()
    assert found[-1] == commands[1]
    assert len(found) == (1 if form == "one" else 2)


@pytest.mark.parametrize("way", ["file", "stdin"])
@pytest.mark.parametrize("form", ["one", "array", "lines"])
async def test_a_byte_order_mark_is_no_part_of_a_command_file(
    console: Console, redis: Redis, keys: Keys, tmp_path: Path, form: str, way: str
) -> None:
    mark, one = b"\xef\xbb\xbf", orjson.dumps(LIST)
    text = {
        "one": mark + one,
        "array": mark + b"[" + one + b"," + one + b"]",
        "lines": mark + one + b"\r\n" + mark + one + b"\r\n",
    }[form]
    file = tmp_path / "commands.json"
    file.write_bytes(text)
    said = (
        console.run("submit", "-", stdin=text)
        if way == "stdin"
        else console.run("submit", str(file))
    )
    assert said.code == 0, said.err
    assert len(await sent(redis, keys)) == (1 if form == "one" else 2)


def test_a_bad_line_is_named_as_an_editor_counts_it(console: Console) -> None:
    """Blank lines are none of the commands, but they are lines."""
    one = orjson.dumps(LIST)
    said = console.run("submit", "-", stdin=one + b"\n\n\n" + one + b"\nnonsense\n")
    assert said.code == 2
    assert "line 5: not JSON" in said.err


async def test_null_as_an_argument_is_the_same_as_none(
    console: Console, redis: Redis, keys: Keys
) -> None:
    said = console.run("submit", "list_models", "order_by=null", "query=null", "order_asc=null")
    assert said.code == 0, said.err
    assert (await sent(redis, keys))[0]["data"] == dict.fromkeys(("order_by", "query", "order_asc"))
    said = console.run("submit", "get_model", "model_uuid=null")
    assert "data.model_uuid is required" in said.err


async def test_an_id_that_is_null_is_none_and_each_command_gets_its_own(
    console: Console, redis: Redis, redis_url: str, keys: Keys
) -> None:
    """Programs write null for what they lack; sent again it is another command."""
    nothing = dict.fromkeys(("id", "priority", "deadline", "replyto"))
    said = console.run("submit", "-", stdin=orjson.dumps([{**LIST, **nothing}] * 2))
    assert said.code == 0, said.err
    with Client(redis_url, namespace=keys.namespace) as producer:
        made = producer.submit("list_models", {}, **nothing)
    ids = [command["id"] for command in await sent(redis, keys)]
    assert ids == [*said.out.split(), made]
    assert len(set(ids)) == 3
    assert min(map(len, ids)) == 36, "a UUID each"


async def test_a_thousand_and_more_commands_arrive_in_order(
    console: Console, redis: Redis, keys: Keys
) -> None:
    ids = [f"n{number}" for number in range(1_201)]
    text = b"\n".join(orjson.dumps({**LIST, "id": command_id}) for command_id in ids)
    said = console.run("submit", "-", stdin=text)
    assert said.out.split() == ids
    assert [command["id"] for command in await sent(redis, keys)] == ids


async def test_every_problem_is_shown_with_its_path_and_nothing_is_sent(
    console: Console, redis: Redis, keys: Keys
) -> None:
    text = b"\n".join([
        orjson.dumps(LIST),
        orjson.dumps({"type": "get_model", "data": {"model_uid": MODEL}}),
        b'{"type": "list_models", "type": "list_models", "data": {}}',
        b"{",
    ])
    said = console.run("submit", "-", stdin=text)
    assert (said.code, said.out) == (2, "")
    told = said.err.splitlines()
    assert "trainmaster: line 2: data.model_uuid is required" in told
    assert any(
        "line 2: data.model_uid is unknown; did you mean model_uuid?" in line for line in told
    )
    assert any(line.startswith("trainmaster: line 3: not JSON") for line in told)
    assert any(line.startswith("trainmaster: line 4: not JSON") for line in told)
    assert told[-1] == "trainmaster: nothing was sent"
    assert await sent(redis, keys) == []

    as_json = console.run("submit", "--json", "-", stdin=text)
    assert as_json.code == 2
    assert [line["place"] for line in as_json.lines] == ["line 2", "line 3", "line 4"]
    assert as_json.lines[0]["error"]["code"] == "invalid_command"


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (("get_models",), b"", "Unknown command type 'get_models'. Did you mean 'get_model'?"),
        (
            ("no/such/file",),
            b"",
            "Unknown command type 'no/such/file'. Known: create_model, get_model,",
        ),
        (("list_models", "query"), b"", "'query' is not key=value"),
        (
            ("attach", "features_mapping=1", "features_mapping.a=b"),
            b"",
            "which already has a value",
        ),
        (("list_models", "--timeout", "1s"), b"", "--timeout needs --wait"),
        (("list_models", "--deadline", "soon"), b"", "a duration like 10m"),
        (("list_models", "--replyto", "A B"), b"", "replyto must match"),
        (("-",), b"[]", "standard input holds no command"),
        (("-",), b"\n", "standard input holds no command"),
        (("-",), b"[1]", "[0]: a command must be an object"),
        (("-",), b'{"type": "list_models", "data": {"order_asc": NaN}}', "not JSON"),
        (("-",), b'{"type": "list_models\xff", "data": {}}', "not JSON"),
        (("-",), b"[" * 100_000, "not JSON"),
        (("-",), b'{"type":"list_models","data":{"query":"%s"}}' % (b"x" * 2**20), "at most"),
        (("-", "--id", "one"), b'[{"type": "a"}, {"type": "b"}]', "--id names one command"),
        (
            ("-",),
            b'[{"type":"list_models","id":"x","data":{}},{"type":"list_models","id":"x","data":{}}]',
            "the input has the id 'x' 2 times",
        ),
    ],
)
def test_what_can_not_be_sent_is_wrong_usage_in_a_line(
    console: Console, arguments: tuple[str, ...], stdin: bytes, message: str
) -> None:
    said = console.run("submit", *arguments, stdin=stdin)
    assert (said.code, said.out) == (2, "")
    assert message in said.err
    assert max(map(len, said.err.splitlines())) < 400


async def test_python_producers_send_the_same(redis_url: str, redis: Redis, keys: Keys) -> None:
    with Client(redis_url, namespace=keys.namespace) as producer:
        one = producer.submit("list_models", {"query": "x"}, priority="bulk", replyto=None)
        two = producer.submit({"type": "list_models", "data": {}, "id": "given"})
        many = producer.submit_many([LIST, {**LIST, "id": None}])
    assert two == "given"
    assert len({one, *many, "None"}) == 4, "null counts as absent: one is made"
    found = await sent(redis, keys)
    assert [command["id"] for command in found] == [one, two, *many]
    assert found[0] == {
        "type": "list_models",
        "data": {"query": "x"},
        "priority": "bulk",
        "id": one,
    }


def test_a_full_redis_is_told_in_a_line_without_the_command(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis", config={"maxmemory": "100kb"}) as server:
        said = Console(server.url, "full").run("submit", "list_models", "query=b0dy", "--id=one")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("Error: Redis: command not allowed when used memory")
    assert "Redis confirmed 0 of 1 command" in said.err
    assert said.err.endswith("with the same id: one\n")
    assert "b0dy" not in said.err


U = f"--project={MODEL} --attachment={MODEL} --training={MODEL} --task=object_detection".split()
ODD = "a\udcffb"


@pytest.mark.parametrize(
    "arguments",
    [
        ["backfill", "run", f"{ODD}.jsonl", *U],
        ["backfill", "run", "items.jsonl", *U, "--id", "one", "--output", ODD],
        ["backfill", "run", "items.jsonl", *U, "--id", "one", "--render", ODD],
        ["backfill", "run", "items.jsonl", *U, "--id", ODD],
        *(["backfill", act, ODD] for act in ("status", "pause", "resume", "cancel")),
        ["backfill", "retry-failed", ODD],
        ["submit", f"none-{ODD}.json"],
        ["submit", "list_models", f"query={ODD}"],
        ["submit", "list_models", "--id", ODD],
        ["status", "--json", ODD],
        ["cancel", ODD],
        ["events", "--replyto", ODD],
        ["events", "--type", ODD],
        ["list", "--namespace", ODD],
        ["dead-letters", "show", ODD],
        ["dead-letters", "purge", "--json", ODD],
        ["dead-letters", "replay", ODD],
        ["lanes", "resume", ODD],
        ["schemas", ODD],
        ["sandbox", "--state", ODD],
        [ODD],
    ],
    ids=lambda arguments: " ".join(arguments).replace(ODD, "X"),
)
def test_an_argument_that_is_not_utf8_is_wrong_usage(
    console: Console, arguments: list[str]
) -> None:
    said = console.run(*arguments)
    assert said.code == 2, said.err
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith("Error: ")


async def test_a_file_of_commands_may_have_any_name(
    console: Console, redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    path = tmp_path / f"{ODD}.json"
    path.write_bytes(orjson.dumps(LIST))
    assert console.run("submit", str(path)).code == 0
    assert len(await sent(redis, keys)) == 1


def test_a_backfill_in_a_folder_whose_name_is_not_utf8_is_wrong_usage(
    console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ODD
    folder.mkdir()
    (folder / "items.jsonl").write_bytes(b'{"data_path": "/a.png"}')
    monkeypatch.chdir(folder)
    said = console.run("backfill", "run", "items.jsonl", *U, "--id", "one")
    assert said.code == 2
    assert "is not UTF-8" in said.err


def test_completion_suggests_nothing_for_what_is_not_utf8(console: Console) -> None:
    asked = {
        "_TRAINMASTER_COMPLETE": "bash_complete",
        "COMP_WORDS": f"trainmaster submit {ODD}",
        "COMP_CWORD": "2",
    }
    assert console.run(environment=asked) == Said(0, "", "")
