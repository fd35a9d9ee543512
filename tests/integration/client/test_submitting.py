"""Commands as a client puts them into their streams."""

from __future__ import annotations

import copy
import math
import pickle
import re
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from schemas.attributes import REPLY_TO_PATTERN
from schemas.claim_check import parse_message
from tests.integration.client.told import Told
from trainmaster_client import (
    AsyncClient,
    Client,
    InvalidCommandError,
    Message,
    RedisRefusedError,
    RedisUnavailableError,
    WaitTimeoutError,
)
from trainmaster_client.names import CommandStream, Names
from trainmaster_client.steps import Ask, Patience, Steps
from trainmaster_client.submitting import submit
from worker.embedded import EmbeddedRedis

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


MODEL_UUID = "11111111-1111-4111-8111-111111111111"


def sent(told: Told, stream: CommandStream = CommandStream.COMMON) -> list[dict[str, Any]]:
    """Returns the commands of a stream."""
    entries: Any = told.redis.xrange(told.names.commands(stream))
    return [orjson.loads(fields[b"command"]) for _, fields in entries]


def test_who_settles_a_doubt_says_what_was_created_be_it_nothing(client: Any, told: Told) -> None:
    """Said by leaving something out, a training would be started once more by mistake."""
    with pytest.raises(TypeError, match="created"):
        client.resolve("one")
    with suppress(WaitTimeoutError):
        client.resolve("one", created=None, timeout=0.1)
    (command,) = sent(told)
    assert command["data"] == {"command_id": "one", "not_created": True, "by": None}


def test_a_command_is_one_that_workers_accept(client: Any, told: Told) -> None:
    deadline = datetime(2030, 1, 31, 12, tzinfo=UTC)
    command_id = client.submit(
        "get_model", {"model_uuid": MODEL_UUID}, id="mine", deadline=deadline, replyto=None
    )
    assert command_id == "mine"
    (command,) = sent(told)
    assert command == {
        "type": "get_model",
        "id": "mine",
        "data": {"model_uuid": MODEL_UUID},
        "deadline": "2030-01-31T12:00:00+00:00",
    }
    assert parse_message(orjson.dumps(command)).command.id == "mine"


def test_without_an_id_each_call_is_a_command_of_its_own(client: Any, told: Told) -> None:
    first, second = (client.submit("list_models", {}) for _ in range(2))
    assert first != second
    assert [each["id"] for each in sent(told)] == [first, second]


def test_an_id_that_is_none_is_the_same_as_no_id(client: Any, told: Told) -> None:
    """A wait looks for the id that the command was sent with."""
    ids = [
        client.submit({"type": "list_models", "data": {}, "id": None}),
        client.submit("list_models", {}, id=None),
    ]
    assert [each["id"] for each in sent(told)] == ids
    assert len({*ids, "None"}) == 3


def test_bulk_commands_go_to_the_stream_for_bulk(client: Any, told: Told) -> None:
    client.submit("list_models", {}, id="a", priority="bulk")
    client.submit({"type": "list_models", "data": {}, "id": "b", "priority": "bulk"})
    client.submit("list_models", {}, id="c")
    assert [each["id"] for each in sent(told, CommandStream.BULK)] == ["a", "b"]
    assert [each["id"] for each in sent(told)] == ["c"]


def test_many_commands_are_added_in_order_and_their_ids_say_where(client: Any, told: Told) -> None:
    commands: list[Any] = [
        {"type": "list_models", "data": {}, "id": f"n-{number}"} for number in range(1_203)
    ]
    commands[7] = Message("n-7", b'{"type":"list_models","data":{},"id":"n-7"}')
    ids = client.submit_many(commands)
    assert [each["id"] for each in sent(told)] == [f"n-{number}" for number in range(1_203)] == ids
    entries: Any = told.redis.xrange(told.names.commands())
    assert [each.entry_id for each in ids] == [entry.decode() for entry, _ in entries]


def test_a_client_s_reply_stream_is_that_of_commands_that_name_none(
    open_client: Callable[..., Any], redis_url: str, namespace: str, told: Told
) -> None:
    client = open_client(redis_url, namespace=namespace, reply_to="mine")
    client.submit("list_models", {})
    client.submit("list_models", {}, replyto="another")
    many = {"type": "list_models", "data": {}}
    client.submit_many([many, {**many, "replyto": "another"}])
    assert [each["replyto"] for each in sent(told)] == ["mine", "another"] * 2


@pytest.mark.parametrize("name", ["Orders", "", "a:b", "x" * 65])
def test_a_reply_stream_that_workers_do_not_take_is_told_at_once(redis_url: str, name: str) -> None:
    """They would tell each rejection in the stream of all, and the client waits in its own."""
    assert not re.search(REPLY_TO_PATTERN, name)
    for kind in (Client, AsyncClient):
        with pytest.raises(InvalidCommandError, match="reply_to needs"):
            kind(redis_url, reply_to=name)


def test_integers_of_any_length_arrive_whole(client: Any, told: Told) -> None:
    client.submit("list_models", {"n": 10**30, "small": 1, "text": "ä"})
    entries: Any = told.redis.xrange(told.names.commands())
    assert b'"n":1' + b"0" * 30 in entries[0][1][b"command"]


def test_a_moment_beside_a_large_integer_and_no_value_beside_it_are_written(
    client: Any, told: Told
) -> None:
    client.submit("list_models", {"n": 10**30, "at": datetime(2030, 1, 31, tzinfo=UTC), "x": None})
    client.submit("list_models", {"at": datetime(2030, 1, 31, tzinfo=UTC), "x": None})
    for command in sent(told):
        assert (command["data"]["at"], command["data"]["x"]) == ("2030-01-31T00:00:00+00:00", None)


def test_a_copy_of_an_id_knows_where_the_command_was_added(client: Any) -> None:
    added = client.submit("list_models", {}, id="a", priority="bulk")
    texts = [pickle.dumps(added, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for each in (copy.copy(added), copy.deepcopy(added), *map(pickle.loads, texts)):  # noqa: S301 - our own
        assert (each, each.entry_id, each.stream) == ("a", added.entry_id, CommandStream.BULK)


@pytest.mark.parametrize(
    ("command", "attributes", "said"),
    [
        ({"data": {}}, {}, "needs a type"),
        ({"type": None}, {}, "needs a type"),
        ({"type": "train", "data": {"x": object()}}, {}, "written as JSON"),
        ({"type": "train", "data": {"x": "\ud800"}}, {}, "written as JSON"),
        ({"type": "train", "data": {"x": [math.nan]}}, {}, "written as JSON"),
        ({"type": "train", "data": {"x": math.inf, "n": 10**30}}, {}, "written as JSON"),
        ({"type": "train"}, {"deadline": datetime(2030, 1, 1)}, "time zone"),  # noqa: DTZ001
        ({"type": "train", "data": {"x": "x" * 1_048_576}}, {}, "at most 1048576 bytes"),
    ],
)
def test_what_is_no_command_is_told_and_nothing_is_added(
    client: Any, told: Told, command: dict[str, Any], attributes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidCommandError, match=said):
        client.submit(command, **attributes)
    with pytest.raises(InvalidCommandError):
        client.submit_many([{"type": "list_models"}, {**command, **attributes}])
    assert sent(told) == []


@pytest.mark.parametrize("commands", [{"type": "list_models", "data": {}}, "list_models"])
def test_one_command_is_not_taken_for_many(client: Any, told: Told, commands: Any) -> None:
    """Its keys, or letters, would be sent as types of commands."""
    with pytest.raises(InvalidCommandError, match="give one to submit"):
        client.submit_many(commands)
    assert sent(told) == []


def test_a_redis_that_is_away_is_named_with_the_commands_that_may_be_lost(
    open_client: Callable[..., Any],
) -> None:
    client = open_client("redis://127.0.0.1:1", patience_seconds=0.3)
    begun = time.monotonic()
    with pytest.raises(RedisUnavailableError, match=r"not answered for 0.3 s") as caught:
        client.submit("list_models", {}, id="lost")
    assert caught.value.command_ids == ("lost",)
    assert caught.value.__cause__ is not None
    assert time.monotonic() - begun >= 0.3


@pytest.mark.parametrize("secret", ["wrong-secret", "other"])
def test_a_redis_that_lets_nobody_in_is_told_at_once_and_shows_no_password(
    open_client: Callable[..., Any], redis_server: EmbeddedRedis, secret: str
) -> None:
    client = open_client(f"redis://:{secret}@127.0.0.1:{redis_server.port}", patience_seconds=900)
    with pytest.raises(RedisRefusedError) as caught:
        client.submit("list_models", {}, id="mine")
    assert caught.value.command_ids == ("mine",)
    assert secret not in str(caught.value) + repr(client)


@pytest.mark.parametrize("trouble", ["full", "following", "busy"])
def test_a_redis_that_is_full_or_follows_another_or_is_busy_is_asked_again(
    open_client: Callable[..., Any], tmp_path: Path, trouble: str
) -> None:
    """As each is during a failover, or until someone has made room."""
    with EmbeddedRedis(tmp_path) as server, Redis.from_url(server.url) as redis:
        client = open_client(server.url, patience_seconds=0.2)
        running = threading.Thread(target=_keep_busy, args=(server.url,))
        match trouble:
            case "full":
                redis.config_set("maxmemory", "1")
            case "following":
                redis.replicaof("127.0.0.1", "1")
            case _:
                redis.config_set("busy-reply-threshold", "1")
                running.start()
                while _answers(redis):
                    time.sleep(0.01)
        with pytest.raises(RedisUnavailableError) as caught:
            client.submit("list_models", {}, id="a")
        assert caught.value.command_ids == ("a",)
        match trouble:
            case "full":
                redis.config_set("maxmemory", "0")
            case "following":
                redis.replicaof("NO", "ONE")
            case _:
                redis.script_kill()
                running.join()
        assert client.submit("list_models", {}, id="a") == "a"


def _keep_busy(url: str) -> None:
    with Redis.from_url(url, socket_timeout=60) as redis, suppress(RedisError):
        redis.eval("while true do end", 0)


def _answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False


def test_a_stream_that_is_something_else_is_told_at_once(client: Any, told: Told) -> None:
    told.redis.set(told.names.commands(), "no stream")
    with pytest.raises(RedisRefusedError, match="WRONGTYPE"):
        client.submit("list_models", {})


def test_of_many_commands_only_those_that_were_refused_are_doubtful(
    client: Any, told: Told
) -> None:
    told.redis.set(told.names.commands(CommandStream.BULK), "no stream")
    commands = [{"type": "list_models", "id": "good"}]
    commands += [{"type": "list_models", "id": "bad", "priority": "bulk"}]
    with pytest.raises(RedisRefusedError) as caught:
        client.submit_many(commands)
    assert caught.value.command_ids == ("bad",)
    assert [each["id"] for each in sent(told)] == ["good"]


def test_a_restart_of_redis_loses_nothing_that_is_submitted_meanwhile(
    open_client: Callable[..., Any], tmp_path: Path
) -> None:
    with EmbeddedRedis(tmp_path) as server:
        client = open_client(server.url)
        client.submit("list_models", {}, id="before")
        server.kill()
        server.start()
        # The connection that is kept is broken now.
        client.submit("list_models", {}, id="after")
        told = Told(server.url, "trainmaster")
        assert [each["id"] for each in sent(told)] == ["before", "after"]
        told.close()


def test_a_refusal_that_lasts_is_told_at_once_though_one_beside_it_would_pass() -> None:
    """However often they go out again, that one is refused, and the caller waits for nothing."""
    messages = [Message("full", b"{}"), Message("wrong", b"{}", CommandStream.BULK)]
    steps = submit(Names("trainmaster"), messages, Patience(3_600))
    next(steps)
    refusals = [OutOfMemoryError("maxmemory"), ResponseError("WRONGTYPE no stream")]
    with pytest.raises(RedisRefusedError, match="WRONGTYPE") as caught:
        steps.send(refusals)
    assert caught.value.command_ids == ("full", "wrong")


def test_commands_go_out_in_pages_whose_size_a_server_takes() -> None:
    """Each of its clients has a limited buffer."""
    small, large = Message("small", b"{}"), Message("large", b"x" * 1_000_000)
    huge = Message("huge", b"x" * 10_000_000)
    messages = [*[small] * 1_100, *[large] * 10, huge, small]
    pages: list[int] = []
    added: list[str] = []

    def carried_out() -> Steps[None]:
        added.extend((yield from submit(Names("trainmaster"), messages, Patience(0))))

    steps = carried_out()
    step = next(steps, None)
    while isinstance(step, Ask):
        pages.append(len(step.commands))
        try:
            step = steps.send([b"1-1"] * len(step.commands))
        except StopIteration:
            break
    assert pages == [500, 500, 104, 4, 2, 1, 1]
    assert added == [message.command_id for message in messages]


def test_what_was_refused_goes_out_again_before_what_follows() -> None:
    """A deletion must not overtake what it is about because Redis was full for a moment."""
    messages = [Message(str(number), b"%d" % number) for number in range(700)]
    steps = submit(Names("trainmaster"), messages, Patience(3_600))
    asked = next(steps)
    assert isinstance(asked, Ask)
    full = OutOfMemoryError("maxmemory")
    steps.send([*[b"1-1"] * 498, full, full])
    asked = steps.send(None)
    assert isinstance(asked, Ask)
    assert [command[-1] for command in asked.commands] == [
        b"%d" % number for number in range(498, 700)
    ]


def test_patience_begins_anew_once_a_page_of_many_commands_was_added() -> None:
    """Two short outages hours apart are not one long one."""
    outages: list[BaseException] = []
    messages = [Message(str(number), b"{}") for number in range(1_000)]
    steps = submit(Names("trainmaster"), messages, Patience(3_600, outages.append))
    away, pauses = RedisConnectionError("away"), []
    next(steps)
    for _ in range(2):
        pauses.append(steps.throw(away))
        asked = steps.send(None)
        assert isinstance(asked, Ask)
        if len(pauses) == 1:
            steps.send([b"1-1"] * len(asked.commands))
    assert outages == [away, away]
    assert pauses[0] == pauses[1], "nor does the second begin with a long pause"
