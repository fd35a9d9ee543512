"""Rules of the intake: everything that was sent ends as one accepted or one rejected."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from celery import Celery
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from schemas.commands import COMMAND_CLASSES
from tests.integration.intake_acts import (
    GOOD,
    good,
    intake_of,
    letters,
    running,
    settled,
    take_in,
    until,
)
from tests.integration.ledger_acts import MODEL_UUID, TEXT, events, now_ms, open_group
from worker.batching import BatchInterval
from worker.queue.heartbeat import Heartbeat
from worker.queue.intake import consumer, rejecting
from worker.queue.intake.envelope import SUBMIT_TASK
from worker.queue.intake.list_bridge import ListForwarder, ListSource
from worker.queue.intake.pace import ReadPace, parts_of
from worker.queue.intake.validation import Entry
from worker.queue.ledger.keys import COMMAND_FIELD, GROUP, CommandStream, Keys
from worker.queue.ledger.ledger import Ledger
from worker.queue.ledger.streams import entries_between
from worker.queue.pool.tasks import RUN_TASK, register_tasks
from worker.queue.telemetry import Listener

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from worker.queue.ledger.models import Rejection


# Number and bytes of entries.
SIZES = ((0, 4), (1, 6), (2, 30), (3, 1), (4, 9), (5, 1))


DEEP = b'{"type":"get_model","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
# So far apart that a busy machine, too, sends many commands in between.
LONG_INTERVAL_SECONDS = 0.3
BAD: dict[str, tuple[bytes, str, str, str | None]] = {
    # name: message, code, type of its event, id that could be read
    "empty": (b"", "not_json", "command", None),
    "not JSON": (b"train the model please", "not_json", "command", None),
    "cut": (good(id="a")[:-3], "not_json", "command", None),
    "bad UTF-8": (b'{"type":"get_model","id":"\xff\xfe"}', "not_json", "command", None),
    "NaN": (b'{"type":"get_model","data":{"x":NaN}}', "not_json", "command", None),
    "duplicate keys": (b'{"type":"get_model","type":"train"}', "not_json", "command", None),
    "lone surrogate": (b'{"type":"get_model","id":"\\ud800"}', "not_json", "command", None),
    "100,000 deep": (DEEP, "not_json", "command", None),
    "2 MB": (b'{"type":"' + b"x" * 2_000_000 + b'"}', "too_large", "command", None),
    "a list": (b"[]", "invalid_command", "command", None),
    "a string": (b'"train"', "invalid_command", "command", None),
    "null": (b"null", "invalid_command", "command", None),
    "no type": (b'{"id":"a","data":{}}', "invalid_command", "command", "a"),
    "unknown type": (b'{"type":"fly","id":"a"}', "invalid_command", "command", "a"),
    "type is no string": (b'{"type":["train"]}', "invalid_command", "command", None),
    "no data": (b'{"type":"get_model","id":"a"}', "invalid_command", "get_model", "a"),
    "data is a list": (good(id="a", data=[]), "invalid_command", "get_model", "a"),
    "unknown parameter": (
        good(id="a", data={**GOOD["data"], "uuid": 1}),
        "invalid_command",
        "get_model",
        "a",
    ),
    "unknown attribute": (good(id="a", replyTo="b"), "invalid_command", "get_model", "a"),
    "wrong parameter": (
        good(id="a", data={"model_uuid": 7}),
        "invalid_command",
        "get_model",
        "a",
    ),
    "blank id": (good(id="   "), "invalid_command", "get_model", None),
    "empty id": (good(id=""), "invalid_command", "get_model", None),
    "overlong id": (good(id="x" * 256), "invalid_command", "get_model", None),
    "control character in the id": (good(id="a\nb"), "invalid_command", "get_model", None),
    "id is a number": (good(id=7), "invalid_command", "get_model", None),
    "wrong priority": (good(id="a", priority="high"), "invalid_command", "get_model", "a"),
    "wrong replyto": (good(id="a", replyto="a b"), "invalid_command", "get_model", "a"),
    "wrong deadline": (good(id="a", deadline="soon"), "invalid_command", "get_model", "a"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_message_has_one_rejected_event_and_one_dead_letter(
    redis: Redis, ledger: Ledger, keys: Keys, name: str
) -> None:
    """And the good command behind it ends as always."""
    message, code, command_type, command_id = BAD[name]
    await take_in(redis, ledger, message, good(id="good"))
    rejected, accepted = await events(redis, keys.events)
    if rejected["type"].endswith("accepted"):
        rejected, accepted = accepted, rejected
    (letter,) = await letters(redis, keys)
    assert rejected["type"] == f"{command_type}.rejected"
    assert rejected["data"]["error"]["code"] == letter.reason == code
    assert rejected["data"]["raw"] == message[:4096].decode("utf-8", "replace")
    assert letter.text == message
    entry_id = rejected["id"].removesuffix("/rejected")
    assert rejected["subject"] == letter.command_id == (command_id or entry_id)
    assert (accepted["type"], accepted["subject"]) == ("get_model.accepted", "good")
    assert (await redis.xpending(keys.commands, GROUP))["pending"] == 0


def test_there_are_more_than_twenty_classes_of_bad_messages() -> None:
    assert len(BAD) >= 20


async def test_a_rejection_that_redis_refuses_keeps_nothing_waiting_and_is_made_once_it_may(
    redis: Redis, ledger: Ledger, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejecting, "REFUSED_SECONDS", 0.1)
    await open_group(redis, keys)
    await redis.set(keys.dead_letters, "no stream")
    for message in (b"bad", good(id="one"), b"worse"):
        await redis.xadd(keys.commands, {COMMAND_FIELD: message})
    with capture_logs() as lines:
        async with running(intake_of(redis, ledger, batch=2).read):
            await until(lambda: _exists(redis, keys.command("one")))
            # What comes later than the refusal waits no more than what came before.
            await redis.xadd(keys.commands, {COMMAND_FIELD: good(id="two")})
            await until(lambda: _exists(redis, keys.command("two")))
            await redis.delete(keys.dead_letters)
            await until(lambda: settled(redis, keys))
            # Nor does what comes once the rejections are made.
            await redis.xadd(keys.commands, {COMMAND_FIELD: good(id="three")})
            await until(lambda: _exists(redis, keys.command("three")))
    told = [event["type"] for event in await events(redis, keys.events)]
    assert told.count("command.rejected") == 2
    assert len(await letters(redis, keys)) == 2
    (line,) = [line for line in lines if line["log_level"] == "error"]
    assert (line["event"], line["stream"]) == ("intake.rejection_refused", keys.commands)
    assert line["refused_by"] == [keys.dead_letters]
    assert "rename it" in line["advice"]
    assert not [line for line in lines if line["event"].startswith("redis.")], "Redis is not away"


@pytest.mark.parametrize("came_in", CommandStream)
@pytest.mark.parametrize("stream", ["events", "dead_letters"])
async def test_a_full_stream_that_refuses_a_rejection_is_told_by_its_name(
    redis: Redis, ledger: Ledger, keys: Keys, stream: str, came_in: CommandStream
) -> None:
    """Several that are refused together are tried one by one, in the stream that they came in."""
    await open_group(redis, keys)
    greatest = "-".join(["18446744073709551615"] * 2)
    await redis.xadd(getattr(keys, stream), {"full": "1"}, id=greatest)
    bad = [await redis.xadd(keys.stream(came_in), {COMMAND_FIELD: b"bad"}) for _ in range(3)]
    with capture_logs() as told:

        async def is_told() -> bool:
            return any(line["event"] == "intake.rejection_refused" for line in told)

        async with running(intake_of(redis, ledger).read):
            await until(is_told)
    line, *_ = [line for line in told if line["event"] == "intake.rejection_refused"]
    assert line["stream"] == keys.stream(came_in)
    assert line["entry"].encode() in bad
    assert getattr(keys, stream) in line["refused_by"]
    assert "doctor" in line["advice"]


class LosingLedger(Ledger):
    """A ledger whose Redis goes as it is asked for the first rejection."""

    loses = True

    async def reject(
        self, batch: Sequence[Rejection], stream: CommandStream = CommandStream.COMMON
    ) -> int:
        """Rejects, or fails as it does when the connection ends."""
        if self.loses:
            self.loses = False
            raise RedisConnectionError("connection closed by server")
        return await super().reject(batch, stream)


async def test_what_was_accepted_beside_a_rejection_that_got_no_reply_is_counted(
    redis: Redis, keys: Keys
) -> None:
    """Read again it is known, so that the count missed it for good."""
    counts: list[int] = []

    class Counting(Listener):
        def accepted(self, count: int) -> None:
            counts.append(count)

    ledger = LosingLedger(
        redis, keys, lease_seconds=30, retention_seconds=60, reply_retention_seconds=60
    )
    ledger.telemetry = Counting()
    await take_in(redis, ledger, good(id="one"), b"no JSON", good(id="two"))
    assert not ledger.loses
    assert (sum(counts), len(await letters(redis, keys))) == (2, 1)


async def test_an_entry_without_the_field_is_rejected_with_what_it_holds(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await redis.xadd(keys.commands, {"comand": TEXT, b"\xff": b"\xfe"})
    await take_in(redis, ledger)
    (told,) = await events(redis, keys.events)
    assert told["type"] == "command.rejected"
    assert told["data"]["error"]["problems"][0]["path"] == "command"
    assert "comand" in told["data"]["raw"]
    assert len(await letters(redis, keys)) == 1


@pytest.mark.parametrize("way", ["read", "take_over"])
@pytest.mark.parametrize("field", ["command", "celery"])
async def test_an_entry_with_two_commands_is_rejected_with_both_of_them(
    redis: Redis, ledger: Ledger, keys: Keys, way: str, field: str
) -> None:
    """Or all but the last would be lost without a word, as clients make a dict of the fields."""
    await open_group(redis, keys)
    fields = (field, good(id="one"), "trace", "x", field, good(id="two"), field, good(id="three"))
    await redis.execute_command("XADD", keys.commands, "*", *fields)  # type: ignore[no-untyped-call]
    intake = intake_of(redis, ledger, consumer_idle_seconds=0.05)
    if way == "take_over":
        await redis.xreadgroup(GROUP, "dead", {keys.commands: ">"})
    async with running(getattr(intake, way)):
        await until(lambda: settled(redis, keys))
    (told,) = await events(redis, keys.events)
    assert told["type"] == "command.rejected"
    assert "has more than one field 'command'" in told["data"]["error"]["message"]
    (letter,) = await letters(redis, keys)
    assert all(good(id=each) in letter.text for each in ("one", "two", "three"))


async def test_an_entry_may_have_other_fields_beside_the_command(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    fields = ("trace", "x", "trace", "y", "command", good(id="a"))
    await redis.execute_command("XADD", keys.commands, "*", *fields)  # type: ignore[no-untyped-call]
    await take_in(redis, ledger)
    assert [event["type"] for event in await events(redis, keys.events)] == ["get_model.accepted"]


async def test_a_rejection_reaches_the_reply_stream_and_repeats_what_can_be_read(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """Who waits for an answer waits there; what is wrong with the rest doesn't matter."""
    bad = good(id="a", data={}, replyto="shop", correlationid="c", shopnumber=7, priority="high")
    await take_in(redis, ledger, bad)
    (told,) = await events(redis, keys.replies("shop"))
    assert told == (await events(redis, keys.events))[0]
    assert (told["correlationid"], told["shopnumber"]) == ("c", 7)


async def test_an_event_repeats_context_and_extensions_of_its_command(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    command = good(
        specversion="1.0",
        source="/shop",
        id="a",
        subject="s",
        time="2026-01-01T00:00:00Z",
        datacontenttype="application/json",
        correlationid="c",
        traceparent="t",
        tracestate="u",
        replyto="shop",
        shop="berlin",
        floor=3,
        vip=True,
        nothing=None,
    )
    await take_in(redis, ledger, command)
    (told,) = await events(redis, keys.replies("shop"))
    assert told["source"] == "/trainmaster"
    assert told["subject"] == "a"
    copied = {
        name: told.get(name)
        for name in ("correlationid", "traceparent", "tracestate", "shop", "floor", "vip")
    }
    assert copied == {
        "correlationid": "c",
        "traceparent": "t",
        "tracestate": "u",
        "shop": "berlin",
        "floor": 3,
        "vip": True,
    }
    assert "nothing" not in told


async def test_the_entry_id_serves_where_no_id_is_given(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await redis.xadd(keys.commands, {COMMAND_FIELD: good()}, id="1234567890123-5")
    await take_in(redis, ledger)
    (told,) = await events(redis, keys.events)
    assert told["subject"] == "1234567890123-5"
    assert told["id"] == f"{told['subject']}/accepted"


@pytest.mark.parametrize(
    "command_id", ['it\'s "quoted"', "a b", "ключ-鍵🔑", "a:b{c}", "../../x", "%00", "x" * 255]
)
async def test_ids_of_odd_characters_are_as_good_as_any(
    redis: Redis, ledger: Ledger, keys: Keys, command_id: str
) -> None:
    await take_in(redis, ledger, good(id=command_id), good(id=command_id))
    assert [event["subject"] for event in await events(redis, keys.events)] == [command_id]


async def test_the_same_command_in_another_spelling_is_the_same(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """The order of keys, blanks, escapes and attributes other than type and data don't matter."""
    data = {"model_uuid": MODEL_UUID, "title": "Stra\u00dfe"}
    first = orjson.dumps({"type": "update_model", "id": "a", "data": data})
    second = (
        b'{ "data": {"title": "Stra\\u00dfe",\n "model_uuid": "%s"}, "correlationid": "other",'
        b' "id": "\\u0061", "type": "update_model" }' % MODEL_UUID.encode()
    )
    await take_in(redis, ledger, first, second, first)
    assert [event["type"] for event in await events(redis, keys.events)] == [
        "update_model.accepted"
    ]
    assert await letters(redis, keys) == []


@pytest.mark.parametrize(
    "other",
    [
        {"type": "get_model", "data": {"model_uuid": MODEL_UUID.replace("2", "3")}},
        {"type": "delete_model", "data": {"model_uuid": MODEL_UUID}},
    ],
    ids=["other data", "other type"],
)
async def test_another_command_under_a_known_id_is_a_conflict_that_leaves_the_first_alone(
    redis: Redis, ledger: Ledger, keys: Keys, other: dict[str, Any]
) -> None:
    await take_in(redis, ledger, good(id="a"))
    row = await redis.dump(keys.command("a"))
    await take_in(redis, ledger, orjson.dumps({**other, "id": "a", "replyto": "shop"}))
    _, told = await events(redis, keys.events)
    assert told["type"] == f"{other['type']}.rejected"
    assert told["data"]["error"]["code"] == "idempotency_conflict"
    assert await events(redis, keys.replies("shop")) == [told]
    assert await redis.dump(keys.command("a")) == row
    assert await redis.get(keys.text("a")) == good(id="a")
    (letter,) = await letters(redis, keys)
    assert letter.reason == "idempotency_conflict"


async def test_priority_notbefore_and_deadline_decide_lane_and_due_time(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    now = datetime.now(UTC)
    soon, later = (now + timedelta(hours=hours) for hours in (1, 2))
    past = (now - timedelta(days=1)).isoformat()
    await take_in(
        redis,
        ledger,
        good(id="bulk", priority="bulk"),
        good(id="later", notbefore=later.isoformat()),
        good(id="never", notbefore=later.isoformat(), deadline=soon.isoformat()),
        good(id="past", deadline=past),
    )
    assert await redis.zrange(keys.due_bulk, 0, -1) == [b"bulk"]
    due = {name: await redis.zscore(keys.due_interactive, name) for name in ("later", "never")}
    assert due["later"] == int(later.timestamp() * 1000)
    assert due["never"] == int(soon.timestamp() * 1000), "it fails at its deadline, no later"
    past_due = await redis.zscore(keys.due_interactive, "past")
    assert past_due is not None
    assert past_due <= await now_ms(redis), "it is accepted, and fails in its first run"


async def test_a_mixed_batch_of_256_is_judged_one_by_one(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    messages = [
        BAD["not JSON"][0] if number % 4 == 0 else good(id=f"id-{number % 128}")
        for number in range(256)
    ]
    counted: list[int] = []
    for message in messages:
        await redis.xadd(keys.commands, {COMMAND_FIELD: message})
    async with running(intake_of(redis, ledger, on_accepted=counted.append).read):
        await until(lambda: settled(redis, keys))
        await until(lambda: _adds_up(counted, 96))
    kinds = [event["type"] for event in await events(redis, keys.events)]
    assert kinds.count("command.rejected") == 64
    assert kinds.count("get_model.accepted") == 96
    assert len(kinds) == 160


async def test_every_type_of_command_is_accepted_with_its_own_event(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await take_in(redis, ledger, *(orjson.dumps(each.example) for each in COMMAND_CLASSES.values()))
    told = {event["type"] for event in await events(redis, keys.events)}
    assert told == {f"{name}.accepted" for name in COMMAND_CLASSES}


async def test_the_group_is_created_at_the_beginning_of_the_stream(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """What was sent before the first worker ever ran is read."""
    await redis.xadd(keys.commands, {COMMAND_FIELD: good(id="early")})
    await take_in(redis, ledger)
    assert await redis.exists(keys.command("early"))


@pytest.mark.parametrize("loss", ["group", "stream"])
async def test_a_group_that_is_gone_is_made_again_and_nothing_after_it_is_missed(
    redis: Redis, ledger: Ledger, keys: Keys, loss: str
) -> None:
    intake = intake_of(redis, ledger, consumer_idle_seconds=0.05)
    async with running(intake.read, intake.take_over, intake.move_inbox):
        await redis.xadd(keys.commands, {COMMAND_FIELD: good(id="before")})
        await until(lambda: _exists(redis, keys.command("before")))
        if loss == "group":
            await redis.xgroup_destroy(keys.commands, GROUP)
        else:
            await redis.delete(keys.commands)
        await redis.xadd(keys.commands, {COMMAND_FIELD: good(id="after")})
        await until(lambda: _exists(redis, keys.command("after")))
    assert len(await events(redis, keys.events)) == 2


async def _exists(redis: Redis, key: str) -> bool:
    return bool(await redis.exists(key))


async def test_a_cancelled_loop_ends_even_where_the_client_swallows_the_cancellation(
    redis: Redis, ledger: Ledger
) -> None:
    """redis-py does so in about one of fifteen cancellations; a worker waits for its loops."""
    hung = 0
    for _ in range(4):
        intakes = []
        for number in range(20):
            keys = Keys(f"{ledger.keys.namespace}-{number}")
            own = Ledger(
                redis, keys, lease_seconds=9, retention_seconds=9, reply_retention_seconds=9
            )
            await redis.xadd(keys.commands, {COMMAND_FIELD: good(id=f"id-{number}")})
            intakes.append((keys, asyncio.ensure_future(intake_of(redis, own).read())))
        for keys, task in intakes:
            await until(lambda keys=keys: settled(redis, keys))  # type: ignore[misc]
            task.cancel()
        _, pending = await asyncio.wait([task for _, task in intakes], timeout=60)
        hung += len(pending)
    assert hung == 0


async def test_entries_that_a_dead_worker_had_read_are_taken_over(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    for number in range(5):
        await redis.xadd(keys.commands, {COMMAND_FIELD: good(id=f"id-{number}")})
    await redis.xreadgroup(GROUP, "dead", {keys.commands: ">"})
    intake = intake_of(redis, ledger, consumer_idle_seconds=0.05, batch=2)
    async with running(intake.take_over):
        await until(lambda: settled(redis, keys))
    assert len(await events(redis, keys.events)) == 5


async def test_a_worker_reads_again_what_it_had_read_and_not_judged(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    await redis.xadd(keys.commands, {COMMAND_FIELD: good(id="a")})
    await redis.xreadgroup(GROUP, "tester", {keys.commands: ">"})
    await take_in(redis, ledger)
    assert len(await events(redis, keys.events)) == 1


async def test_a_pending_entry_that_someone_deleted_is_let_go(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    await redis.xadd(keys.commands, {COMMAND_FIELD: good(id="a")}, id="1-1")
    await redis.xreadgroup(GROUP, "tester", {keys.commands: ">"})
    await redis.xdel(keys.commands, "1-1")
    await take_in(redis, ledger, good(id="b"))
    assert (await redis.xpending(keys.commands, GROUP))["pending"] == 0
    assert [event["subject"] for event in await events(redis, keys.events)] == ["b"]


async def test_a_stopping_worker_leaves_the_group_unless_it_holds_something(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await take_in(redis, ledger, good(id="a"))
    await redis.xadd(keys.commands, {COMMAND_FIELD: good(id="b")})
    await redis.xreadgroup(GROUP, "holder", {keys.commands: ">"})
    for name in ("tester", "holder"):
        await intake_of(redis, ledger, consumer=name).leave()
    left = [consumer["name"] for consumer in await redis.xinfo_consumers(keys.commands, GROUP)]
    assert left == [b"holder"]


async def test_a_worker_that_has_nothing_to_read_is_seen_all_the_same(
    redis: Redis, ledger: Ledger, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`doctor` tells by the group which workers are there."""
    monkeypatch.setattr(consumer, "BLOCK_MILLISECONDS", 200)
    monkeypatch.setattr(consumer, "PRESENT_SECONDS", 0.1)
    intake = intake_of(redis, ledger)
    await intake._create_groups()
    await intake._read_once()

    async def idle_ms() -> int:
        (found,) = await redis.xinfo_consumers(keys.commands, GROUP)
        return int(found["idle"])

    await asyncio.sleep(1.5)
    assert await idle_ms() >= 1_500
    begun = time.monotonic()
    await intake._read_once()
    assert await idle_ms() <= (time.monotonic() - begun) * 1000 + 100


async def test_the_inbox_is_moved_in_its_order_and_as_it_is(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    intake = intake_of(redis, ledger, batch=7)
    texts = [good(id=f"id-{number}") for number in range(30)]
    await redis.rpush(keys.inbox, *texts[:20], b"\xff bad")
    async with running(intake.move_inbox, intake.read):
        await until(lambda: settled(redis, keys))
        await redis.rpush(keys.inbox, *texts[20:])
        await until(lambda: _has_events(redis, keys, 31))
    told = [event["subject"] for event in await events(redis, keys.events)]
    accepted = [subject for subject in told if subject.startswith("id-")]
    assert accepted == [f"id-{number}" for number in range(30)]


@pytest.mark.parametrize("which", ["inbox", "celery"])
async def test_a_move_of_a_list_ends_with_the_message_that_makes_it_large_enough(
    redis: Redis, keys: Keys, which: str
) -> None:
    pushed = ListSource.inbox(keys) if which == "inbox" else ListSource.celery(keys)
    push = redis.rpush if pushed.oldest == "LEFT" else redis.lpush
    texts = [b"%02d" % number + b"x" * 1000 for number in range(30)]
    await push(pushed.name, *texts)
    mover = ListForwarder(redis, keys, pushed, 256, 6500)
    lengths = []
    while await redis.llen(pushed.name):
        await mover.move_once()
        lengths.append(await redis.xlen(keys.commands))
    assert lengths == [7, 14, 21, 28, 30]
    moved = await entries_between(redis, keys.commands, "-", "+")
    assert [fields[pushed.field] for _, fields in moved] == texts


async def test_a_read_asks_for_fewer_entries_after_large_ones_and_for_more_after_small_ones() -> (
    None
):
    pace = ReadPace(256, 1000)
    asked = []
    for size in (10, 10, 10, 10, 400, 2000, 300, 1, 1, 1, 1):
        asked.append(pace.count)
        pace.observe(pace.count, pace.count * size)
    assert asked == [4, 16, 64, 100, 100, 2, 1, 3, 12, 48, 192]


async def test_what_comes_closely_is_accepted_together(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """A thousand a second need no thousand scripts, however busy the machine is."""
    accepted: list[int] = []
    intake = intake_of(redis, ledger, on_accepted=accepted.append)
    intake._interval = BatchInterval(LONG_INTERVAL_SECONDS)
    begun = time.monotonic()
    async with running(intake.read):
        for number in range(100):
            await redis.xadd(keys.commands, {COMMAND_FIELD: good(id=f"id-{number}")})
            await asyncio.sleep(0.001)
        # The stream is empty before the last of them are counted.
        await until(lambda: _adds_up(accepted, 100))
    # What piles up while the machine is busy is accepted in four parts: 4, 16, 64 and the rest.
    assert len(accepted) <= 6 + (time.monotonic() - begun) / LONG_INTERVAL_SECONDS


async def test_a_large_batch_is_handled_in_parts_of_which_each_is_let_go() -> None:
    entries = [Entry(b"%d" % number, {b"command": b"x" * size}) for number, size in SIZES]
    parts = [[entry.entry_id for entry in part] for part in parts_of(entries, 10)]
    assert parts == [[b"0", b"1"], [b"2"], [b"3", b"4"], [b"5"]]
    assert entries == []


async def _adds_up(counts: list[int], total: int) -> bool:
    return sum(counts) == total


async def _has_events(redis: Redis, keys: Keys, number: int) -> bool:
    return await redis.xlen(keys.events) == number


async def test_what_a_dead_worker_had_taken_from_the_inbox_is_moved_first(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await redis.rpush(keys.inbox, good(id="second"))
    await redis.rpush(keys.processing, good(id="first"))
    intake = intake_of(redis, ledger)
    async with running(intake.move_inbox, intake.read):
        await until(lambda: _has_events(redis, keys, 2))
    assert [event["subject"] for event in await events(redis, keys.events)] == ["first", "second"]


async def test_every_message_sent_three_times_to_three_workers_is_accepted_once(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    pipe = redis.pipeline(transaction=False)
    for number in range(600):
        pipe.xadd(keys.commands, {COMMAND_FIELD: good(id=f"id-{number % 200}")})
    await pipe.execute()
    workers = [intake_of(redis, ledger, consumer=f"w{n}", batch=16).read for n in range(3)]
    async with running(*workers):
        await until(lambda: settled(redis, keys))
    assert len(await events(redis, keys.events)) == 200
    assert await redis.zcard(keys.due_interactive) == 200


async def test_a_command_given_to_celery_takes_the_way_of_an_xadd(
    redis: Redis, ledger: Ledger, keys: Keys, redis_url: str
) -> None:
    """Without an id the task's own id serves, so that Celery's second delivery does nothing.

    A wake-up of a newer version may carry something, and is one all the same.
    """
    sent: list[bytes] = []
    priorities: list[object] = []

    class Stream:
        """Adds what the task hands over, as the engine does from its loop."""

        def submit(self, text: bytes, priority: object = None) -> None:
            sent.append(text)
            priorities.append(priority)

        def drain(self) -> None:
            drains.append(None)

    drains: list[None] = []
    app = Celery("test", broker=redis_url, set_as_current=False)
    register_tasks(app, Stream)  # type: ignore[arg-type]
    for command in ({**GOOD, "id": "a"}, GOOD, GOOD):
        app.tasks[SUBMIT_TASK].apply(args=(command,), task_id="task-1")
    app.tasks[SUBMIT_TASK].apply(args=(GOOD,), kwargs={"id": "b", "priority": "bulk"})
    assert priorities == [None, None, None, "bulk"]
    app.tasks[RUN_TASK].apply()
    app.tasks[RUN_TASK].apply(args=("of a newer version",), kwargs={"due": 3})
    assert len(drains) == 2, "a wake-up wakes, whatever it carries"
    await take_in(redis, ledger, *sent)
    subjects = [event["subject"] for event in await events(redis, keys.events)]
    assert subjects == ["a", "task-1", "b"]


async def test_the_intake_beats_while_it_reads_in_vain_and_rests_once_it_ends(
    redis: Redis, ledger: Ledger
) -> None:
    heartbeat = Heartbeat("intake", 20)
    intake = intake_of(redis, ledger, heartbeat=heartbeat)
    assert heartbeat.age_seconds is None
    beats: list[float] = []
    async with running(intake.read):

        async def twice() -> bool:
            age = heartbeat.age_seconds
            if age is not None and (not beats or age < beats[-1]):
                beats.append(age)
            elif age is not None:
                beats[-1] = age
            return len(beats) > 1

        await until(twice)
    assert heartbeat.age_seconds is None
