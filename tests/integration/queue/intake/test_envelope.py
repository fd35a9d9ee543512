"""Celery's queue of submissions: emptied by the intake, whoever wrote the message."""

from __future__ import annotations

import base64
import bz2
import gzip
import lzma
import sys
import time
import tracemalloc
import uuid
import zlib
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest
from celery import Celery
from kombu.utils import json as kombu_json
from redis.exceptions import ResponseError

from schemas.events import ErrorCode
from schemas.parsing import InvalidCommandError
from tests.integration.ledger_acts import events
from worker.queue.intake.celery_body import MOST_BODY_BYTES, MOST_MESSAGE_BYTES, plain
from worker.queue.intake.consumer import StreamConsumer
from worker.queue.intake.envelope import command_text, unwrap
from worker.queue.intake.list_bridge import ListForwarder, ListSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

COMMAND = {"type": "list_models", "data": {}}
SPAN = f"00-{7:032x}-{7:016x}-01"
TRACE = {"traceparent": f"00-{8:032x}-{8:016x}-01", "tracestate": "vendor=1"}
BOMB_BYTES = 64 * 2**20


@pytest.fixture
def producer(redis_url: str, keys: Keys) -> Iterator[Celery]:
    """A Celery app that knows nothing of ours but the name of the task and the prefix of keys."""
    app = Celery("producer", broker=redis_url, set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": keys.prefix}
    yield app
    app.close()


async def taken_in(redis: Redis, ledger: Ledger, keys: Keys) -> list[dict[str, Any]]:
    """Moves and reads all that is there; returns the events."""
    intake = StreamConsumer(
        redis, ledger, consumer="c", batch=50, consumer_idle_seconds=5, on_accepted=lambda _: None
    )
    await intake._create_groups()
    await ListForwarder(redis, keys, ListSource.celery(keys), 50).move_once()
    while await redis.xlen(keys.commands) or await redis.xlen(keys.bulk_commands):
        await intake._read_once()
    return await events(redis, keys.events)


async def test_a_submission_takes_the_way_of_every_command(
    producer: Celery, redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    producer.send_task("trainmaster.submit", [{**COMMAND, "id": "mine"}])
    producer.send_task("trainmaster.submit", kwargs={"command": {**COMMAND, "id": "named"}})
    found = await taken_in(redis, ledger, keys)
    assert {event["subject"]: event["type"] for event in found} == {
        "mine": "list_models.accepted",
        "named": "list_models.accepted",
    }


async def test_celerys_priority_chooses_the_stream_and_the_commands_own_the_lane(
    producer: Celery, redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """Celery's 0 is the most urgent; what lies behind it waits in the stream for bulk."""
    said = {"said": {"priority": "interactive"}}
    sent = {"default": None, "0": 0, "2": 2, "3": 3, "8": 8, "9": 9, "said": 9}
    for name, priority in sent.items():
        command = {**COMMAND, **said.get(name, {}), "id": name}
        producer.send_task("trainmaster.submit", [command], priority=priority)
    found = await taken_in(redis, ledger, keys)
    assert {event["subject"] for event in found} == set(sent)
    from_bulk = {event["subject"] for event in found if event["id"].startswith("b")}
    assert from_bulk == {"3", "8", "9", "said"}
    assert set(await redis.zrange(keys.due_interactive, 0, -1)) == {b"default", b"0", b"2", b"said"}
    assert set(await redis.zrange(keys.due_bulk, 0, -1)) == {b"3", b"8", b"9"}
    lists = ListSource.celery(keys)
    assert not await redis.exists(lists.name, *lists.low_names, lists.moving)


async def test_what_the_stream_for_bulk_does_not_take_stays_in_celerys_list(
    producer: Celery, redis: Redis, keys: Keys
) -> None:
    producer.send_task("trainmaster.submit", [COMMAND], priority=9)
    await redis.xadd(keys.bulk_commands, {"x": "y"}, id=f"{2**64 - 1}-{2**64 - 1}")
    with pytest.raises(ResponseError):
        await ListForwarder(redis, keys, ListSource.celery(keys), 50).move_once()
    assert await redis.llen(ListSource.celery(keys).low_names[-1]) == 1


async def test_a_bulk_stream_that_is_none_keeps_no_submission_waiting_that_is_not_for_it(
    redis: Redis, keys: Keys
) -> None:
    """Someone pushed to it as if it were a list."""
    await redis.rpush(keys.bulk_commands, "{}")
    await ListForwarder(redis, keys, ListSource.celery(keys), 50).move_once()


async def test_tasks_of_every_priority_are_found_and_their_events_tell_it(
    producer: Celery, redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    for priority in range(10):
        command = {**COMMAND, "id": f"p{priority}"}
        producer.send_task("trainmaster.submit", [command], priority=priority)
    found = await taken_in(redis, ledger, keys)
    told = {event["subject"]: event.get("celerypriority") for event in found}
    assert told == {f"p{priority}": priority or None for priority in range(10)}


async def test_without_an_id_the_tasks_own_serves_so_a_message_may_come_twice(
    producer: Celery, redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    sent = producer.send_task("trainmaster.submit", [COMMAND])
    (message,) = await redis.lrange(keys.celery_queue, 0, -1)
    await redis.lpush(keys.celery_queue, message)
    found = await taken_in(redis, ledger, keys)
    assert [event["subject"] for event in found] == [sent.id]


async def test_what_is_no_submission_is_rejected_whole(
    producer: Celery, redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    producer.send_task("somebody.elses", [COMMAND], queue="celery")
    producer.send_task("trainmaster.submit", ["text"])
    await redis.lpush(keys.celery_queue, "not JSON")
    found = await taken_in(redis, ledger, keys)
    assert sorted(event["data"]["error"]["code"] for event in found) == [
        ErrorCode.INVALID_COMMAND,
        ErrorCode.INVALID_COMMAND,
        ErrorCode.NOT_JSON,
    ]
    assert await redis.xlen(keys.dead_letters) == 3


def message(**changes: Any) -> bytes:
    """Returns a good message, changed."""
    body = orjson.dumps([[COMMAND], {}, {}])
    return orjson.dumps({
        "body": base64.b64encode(body).decode(),
        "content-type": "application/json",
        "headers": {"task": "trainmaster.submit", "id": "task-1"},
        "properties": {"body_encoding": "base64"},
        **changes,
    })


def test_a_body_that_is_not_encoded_is_read_too() -> None:
    plain = message(body=orjson.dumps([[COMMAND]]).decode(), properties={})
    assert orjson.loads(unwrap(plain)) == {**COMMAND, "id": "task-1"}


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"headers": {"task": "other"}}, "headers.task"),
        ({"headers": None}, "headers.task"),
        ({"content-type": "application/x-python-serialize"}, "content-type"),
        ({"body": 7}, "body"),
        ({"body": "%%%"}, "body"),
        ({"body": base64.b64encode(b"[[1], {}, {}]").decode()}, "args"),
        ({"body": base64.b64encode(b"{}").decode()}, "args"),
    ],
)
def test_the_problem_names_the_part_of_the_message(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidCommandError) as caught:
        unwrap(message(**changes))
    assert [problem.path for problem in caught.value.problems] == [path]


@pytest.mark.parametrize("raw", [b"[]", b"null", b"1", b'"x"'])
def test_an_envelope_is_an_object(raw: bytes) -> None:
    with pytest.raises(InvalidCommandError, match="must be an object"):
        unwrap(raw)


def sent(producer: Celery, **options: Any) -> None:
    producer.send_task("trainmaster.submit", **{"args": [COMMAND], **options})


async def read_back(redis: Redis, keys: Keys) -> dict[str, Any]:
    """Returns the command in the one message of Celery's queue."""
    (raw,) = await redis.lrange(keys.celery_queue, 0, -1)
    return cast("dict[str, Any]", orjson.loads(unwrap(cast("bytes", raw))))


async def test_an_id_that_is_null_is_the_tasks_own(
    producer: Celery, redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    task = producer.send_task("trainmaster.submit", [{**COMMAND, "id": None}])
    (raw,) = await redis.lrange(keys.celery_queue, 0, -1)
    await redis.lpush(keys.celery_queue, raw)
    found = await taken_in(redis, ledger, keys)
    assert [event["subject"] for event in found] == [task.id]


async def test_eta_and_expires_become_notbefore_and_deadline(
    producer: Celery, redis: Redis, keys: Keys
) -> None:
    eta, expires = "2030-01-01T00:00:00+00:00", "2031-01-01T00:00:00+00:00"
    own = {**COMMAND, "notbefore": "2029-01-01T00:00:00Z", "deadline": "2032-01-01T00:00:00Z"}
    sent(
        producer,
        args=[own],
        eta=datetime.fromisoformat(eta),
        expires=datetime.fromisoformat(expires),
    )
    found = await read_back(redis, keys)
    assert (found["notbefore"], found["deadline"]) == (eta, expires)


async def test_a_command_s_own_times_hold_where_they_are_the_stricter_ones(
    producer: Celery, redis: Redis, keys: Keys
) -> None:
    """It starts no earlier, and ends no later, than either of the two says."""
    own = {**COMMAND, "notbefore": "2030-06-01T02:00:00+02:00", "deadline": "2030-07-01T00:00:00Z"}
    eta, expires = datetime(2030, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)
    sent(producer, args=[own], eta=eta, expires=expires)
    found = await read_back(redis, keys)
    assert datetime.fromisoformat(found["notbefore"]) == datetime(2030, 6, 1, tzinfo=UTC)
    assert datetime.fromisoformat(found["deadline"]) == datetime(2030, 7, 1, tzinfo=UTC)


def test_a_time_without_an_offset_is_utc_wherever_the_worker_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So Celery means it where `enable_utc` is on, and so it sends what it was told as UTC."""
    headers = {"task": "trainmaster.submit", "id": "task-1", "eta": "2030-01-01T00:00:00"}
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        found = orjson.loads(unwrap(message(headers=headers)))
    time.tzset()
    assert found["notbefore"] == "2030-01-01T00:00:00+00:00"


async def test_a_time_of_the_command_that_is_none_is_left_for_the_intake_to_reject(
    producer: Celery, redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    sent(producer, args=[{**COMMAND, "notbefore": "soon"}], eta=datetime(2030, 1, 1, tzinfo=UTC))
    (event,) = await taken_in(redis, ledger, keys)
    assert event["type"] == "list_models.rejected"
    assert [problem["path"] for problem in event["data"]["error"]["problems"]] == ["notbefore"]


@pytest.mark.parametrize("protocol", [1, 2])
async def test_a_task_s_id_may_be_a_uuid_of_python_s(
    producer: Celery, redis: Redis, keys: Keys, protocol: int
) -> None:
    producer.conf.task_protocol = protocol
    sent(producer, task_id=cast("str", uuid.UUID(int=7)))
    assert (await read_back(redis, keys))["id"] == str(uuid.UUID(int=7))


@pytest.mark.parametrize("protocol", [1, 2])
async def test_a_trace_that_celery_s_instrumentation_sends_as_headers_goes_on(
    producer: Celery, redis: Redis, keys: Keys, protocol: int
) -> None:
    producer.conf.task_protocol = protocol
    sent(producer, headers=TRACE)
    found = await read_back(redis, keys)
    assert {name: found[name] for name in TRACE} == TRACE


@pytest.mark.parametrize("own", [{"traceparent": SPAN}, {"traceparent": SPAN, "tracestate": "o=1"}])
async def test_a_command_s_own_trace_is_no_mixture_with_its_task_s(
    producer: Celery, redis: Redis, keys: Keys, own: dict[str, str]
) -> None:
    sent(producer, args=[COMMAND | own], headers=TRACE)
    found = await read_back(redis, keys)
    assert {name: found[name] for name in TRACE if name in found} == own


def test_headers_may_be_what_kombu_calls_a_mark() -> None:
    with pytest.raises(InvalidCommandError, match=r"headers\.task must be"):
        unwrap(message(headers={"__type__": "bytes", "__value__": "x"}))


def test_a_decimal_that_no_float_can_be_is_a_text() -> None:
    """JSON has no word for infinity, so that the whole message would be none."""
    assert orjson.loads(command_text({"n": Decimal("1E+999")})) == {"n": "1E+999"}


async def test_retries_are_told(producer: Celery, redis: Redis, keys: Keys) -> None:
    sent(producer, retries=2)
    assert (await read_back(redis, keys))["celeryretries"] == 2


async def test_what_celery_says_of_itself_by_default_is_not_told(
    producer: Celery, redis: Redis, keys: Keys
) -> None:
    sent(producer)
    assert (await read_back(redis, keys)).keys() == {*COMMAND, "id"}


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        *((name, 2) for name in ("link", "link_error", "chain", "chord", "time_limit")),
        # Protocol 1 has no chains: Celery sends them as links.
        *((name, 1) for name in ("link", "link_error", "chord", "time_limit", "soft_time_limit")),
    ],
)
async def test_what_can_not_be_kept_is_rejected_by_name(
    producer: Celery, redis: Redis, keys: Keys, name: str, protocol: int
) -> None:
    producer.conf.task_protocol = protocol
    value: Any = 5 if "time_limit" in name else producer.signature("other.task")
    sent(producer, **{name: [value] if name == "chain" else value})
    (raw,) = await redis.lrange(keys.celery_queue, 0, -1)
    with pytest.raises(InvalidCommandError, match=f"{name.removeprefix('soft_')} can't be kept"):
        unwrap(cast("bytes", raw))


@pytest.mark.parametrize("compression", ["zlib", "bzip2", "lzma"])
async def test_a_packed_body_is_read(
    producer: Celery, redis: Redis, keys: Keys, compression: str
) -> None:
    sent(producer, compression=compression)
    assert (await read_back(redis, keys))["type"] == COMMAND["type"]


@pytest.mark.parametrize(
    ("compression", "pack"),
    [
        ("application/x-gzip", zlib.compress),
        ("application/x-gzip", gzip.compress),
        ("application/x-bz2", bz2.compress),
        ("application/x-lzma", lambda raw: lzma.compress(raw, preset=0)),
    ],
)
def test_a_body_is_unpacked_within_a_bound(
    compression: str, pack: Callable[[bytes], bytes]
) -> None:
    """What it would unfold to is never held: many of them are read at the same time."""
    bomb = message(
        body=base64.b64encode(pack(bytes(BOMB_BYTES))).decode(),
        headers={"task": "trainmaster.submit", "id": "x", "compression": compression},
    )
    tracemalloc.start()
    try:
        with pytest.raises(InvalidCommandError, match="once it is unpacked"):
            unwrap(bomb)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < BOMB_BYTES / 2


async def test_types_of_python_are_read_as_what_they_mean(
    producer: Celery, redis: Redis, keys: Keys
) -> None:
    one = uuid.UUID(int=7)
    data = {"model_uuid": one, "share": Decimal("0.5"), "count": Decimal(8), "deep": [{"a": [one]}]}
    sent(producer, args=[{**COMMAND, "data": data}])
    found = (await read_back(redis, keys))["data"]
    said = str(one)
    assert found == {"model_uuid": said, "share": 0.5, "count": 8, "deep": [{"a": [said]}]}
    assert type(found["count"]) is int, "8.0 is no batch size"


async def test_protocol_1_is_read(producer: Celery, redis: Redis, keys: Keys) -> None:
    producer.conf.task_protocol = 1
    sent(producer, countdown=3600)
    found = await read_back(redis, keys)
    assert found["id"]
    assert found["notbefore"]


def test_pickle_is_named_with_what_to_set() -> None:
    with pytest.raises(InvalidCommandError, match=r"pickle.* set task_serializer to json"):
        unwrap(message(**{"content-type": "application/x-python-serialize"}))


async def test_a_byte_order_mark_is_no_part_of_a_message(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await redis.lpush(keys.celery_queue, b"\xef\xbb\xbf" + message())
    await redis.xadd(keys.commands, {"command": b"\xef\xbb\xbf" + orjson.dumps(COMMAND)})
    await redis.rpush(keys.inbox, b"\xef\xbb\xbf" + orjson.dumps(COMMAND))
    await ListForwarder(redis, keys, ListSource.inbox(keys), 50).move_once()
    found = await taken_in(redis, ledger, keys)
    assert [event["type"] for event in found] == ["list_models.accepted"] * 3


def test_a_byte_order_mark_is_no_part_of_a_body() -> None:
    body = base64.b64encode(b"\xef\xbb\xbf" + orjson.dumps([[COMMAND], {}, {}])).decode()
    assert orjson.loads(unwrap(message(body=body)))["type"] == "list_models"


def test_a_message_that_is_too_large_is_refused_before_it_is_read() -> None:
    with pytest.raises(InvalidCommandError) as caught:
        unwrap(b"[" * (MOST_MESSAGE_BYTES + 1))
    assert caught.value.code is ErrorCode.TOO_LARGE


def test_the_largest_body_is_read_in_base64_too() -> None:
    """Blanks and escapes may make it far larger than its command, and base64 by a third more."""
    body = orjson.dumps([[COMMAND], {}, {}]).ljust(MOST_BODY_BYTES)
    largest = message(body=base64.b64encode(body).decode())
    assert orjson.loads(unwrap(largest)) == {**COMMAND, "id": "task-1"}


def called(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Returns the command in the message of such a call."""
    body = base64.b64encode(orjson.dumps([args, kwargs, {}])).decode()
    found: dict[str, Any] = orjson.loads(unwrap(message(body=body)))
    return found


def test_keywords_besides_the_command_are_its_attributes() -> None:
    wanted = {**COMMAND, "id": "mine", "priority": "bulk"}
    assert called(COMMAND, id="mine", priority="bulk") == wanted
    assert called(command=COMMAND, id="mine", priority="bulk") == wanted
    assert called(**COMMAND, id="mine", priority="bulk") == wanted
    assert called(wanted, priority="bulk") == wanted
    assert called({**COMMAND, "id": None}, id="mine", priority="bulk") == wanted
    assert called(wanted, id=None, priority=None) == wanted
    with pytest.raises(InvalidCommandError, match=r"kwargs\.priority says something else"):
        called(wanted, priority="interactive")


@pytest.mark.parametrize("call", [((COMMAND, COMMAND), {}), ((), {}), ((), {"id": "mine"})])
def test_a_call_without_one_command_is_told_so(call: tuple[Any, Any]) -> None:
    with pytest.raises(InvalidCommandError, match="args must be one object: the command"):
        called(*call[0], **call[1])


@pytest.mark.skipif(sys.version_info < (3, 14), reason="Python reads zstd from 3.14 on")
def test_a_body_packed_by_zstd_is_read() -> None:
    packed = import_module("compression.zstd").compress(orjson.dumps([[COMMAND], {}, {}]))
    found = unwrap(
        message(
            body=base64.b64encode(packed).decode(),
            headers={"task": "trainmaster.submit", "compression": "application/zstd"},
        )
    )
    assert orjson.loads(found)["type"] == "list_models"


def test_what_kombu_has_read_is_written_as_the_intake_reads_its_marks() -> None:
    """A task that a worker of another queue gets carries Python's types, not kombu's marks."""
    values = {
        "uuid": uuid.UUID(int=7),
        "moment": datetime(2026, 1, 31, 12, tzinfo=UTC),
        "day": date(2026, 1, 31),
        "share": Decimal("0.5"),
        "tiny": Decimal("5E-7"),
        "count": Decimal(8),
        "text": b"text",
        "bytes": b"\xff\x00",
    }
    read = orjson.loads(command_text(values))
    assert read == plain(orjson.loads(kombu_json.dumps(values)))
    assert (read["share"], read["tiny"]) == (0.5, 0.000_000_5)
    assert type(read["count"]) is int


REFUSED_WHOLE: list[tuple[str, dict[str, Any]]] = [
    ("bytes", {"args": [b"text"]}),
    ("a uuid", {"args": [uuid.UUID(int=1)]}),
    ("marked keywords", {"args": [], "kwargs": {"__type__": "bytes", "__value__": "x"}}),
    ("a long decimal", {"args": [{**COMMAND, "id": "long", "n": Decimal("1" * 5_000)}]}),
]


@pytest.mark.parametrize("call", [call for _, call in REFUSED_WHOLE], ids=dict(REFUSED_WHOLE))
async def test_no_argument_of_a_submission_ends_the_intake(
    producer: Celery, redis: Redis, ledger: Ledger, keys: Keys, call: dict[str, Any]
) -> None:
    """Whatever ended one worker would be read by the next, and end that too."""
    producer.send_task("trainmaster.submit", **call)
    (event,) = await taken_in(redis, ledger, keys)
    assert event["type"].endswith(".rejected")
    assert event["data"]["error"]["code"] == ErrorCode.INVALID_COMMAND


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"content-type": ["application/json"]}, "content-type"),
        ({"content-type": {}}, "content-type"),
        ({"headers": {"task": "trainmaster.submit", "timelimit": 5}}, "time_limit"),
        ({"headers": {"task": "trainmaster.submit", "timelimit": {}, "compression": []}}, "body"),
    ],
)
def test_a_field_of_the_envelope_may_be_of_any_type(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidCommandError) as caught:
        unwrap(message(**changes))
    assert [problem.path for problem in caught.value.problems] == [path]


async def test_what_the_intake_stumbles_over_is_rejected_and_the_next_message_read(
    redis: Redis, ledger: Ledger, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumbles(text: bytes) -> bytes:
        if b"odd" in text:
            raise AttributeError(text)
        return unwrap(text)

    monkeypatch.setattr("worker.queue.intake.validation.unwrap", stumbles)
    odd = message(headers={"task": "trainmaster.submit", "id": "odd"})
    await redis.rpush(keys.celery_queue, odd, message())
    found = {event["type"]: event for event in await taken_in(redis, ledger, keys)}
    assert found.keys() == {"command.rejected", "list_models.accepted"}
    assert found["command.rejected"]["data"]["error"] == {
        "code": ErrorCode.INTERNAL_ERROR,
        "message": "the message can't be judged: AttributeError",
    }
    ((_, letter),) = cast("list[Any]", await redis.xrange(keys.dead_letters))
    assert orjson.loads(letter[b"dead_letter"])["text"] == odd.decode()


@pytest.mark.parametrize("protocol", [1, 2])
async def test_the_sender_of_a_submission_that_is_refused_learns_of_it_by_its_id(
    producer: Celery, redis: Redis, ledger: Ledger, keys: Keys, protocol: int
) -> None:
    producer.conf.task_protocol = protocol
    command = {**COMMAND, "id": "mine", "replyto": "shop", "correlationid": "order-7"}
    sent(producer, args=[command], link=producer.signature("other.task"))
    sent(producer, args=[COMMAND], time_limit=5, task_id="its-task")
    mine, made = await taken_in(redis, ledger, keys)
    assert (mine["subject"], mine["type"]) == ("mine", "list_models.rejected")
    assert mine["correlationid"] == "order-7"
    assert made["subject"] == "its-task"
    assert await events(redis, keys.replies("shop")) == [mine]


async def test_nothing_of_celerys_envelope_is_an_attribute_of_the_rejection(
    producer: Celery, redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    producer.send_task("somebody.elses", [COMMAND], queue="celery")
    sent(producer, args=["text"])
    for event in await taken_in(redis, ledger, keys):
        assert event.keys() == {
            *("specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data")
        }
