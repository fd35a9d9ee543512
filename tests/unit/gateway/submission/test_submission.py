"""What is submitted for a command: as it was sent, with an id, and with a trace where there is."""

from __future__ import annotations

from uuid import UUID

import orjson
import pytest

from schemas.parsing import MAX_COMMAND_BYTES, InvalidCommandError
from worker.gateway.submission.submission import (
    MADE_REMEMBERED_SECONDS,
    REMEMBERED_SECONDS,
    SubmitStatus,
    prepare,
    with_attributes,
)

GOOD = b'{"type":"list_models","data":{}}'
TRACE = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}


@pytest.mark.parametrize(
    ("raw", "key", "is_alone", "remembered"),
    [
        (b'{"type":"list_models","data":{},"id":"one"}', None, True, REMEMBERED_SECONDS),
        (b'{"type":"list_models","data":{},"id":"one"}', None, False, REMEMBERED_SECONDS),
        (GOOD, "one", True, REMEMBERED_SECONDS),
        (b'{"type":"list_models","data":{},"id":"one"}', "one", True, REMEMBERED_SECONDS),
        # Who waits for one whose id was made asks for it soon; nobody asks so for each of many.
        (GOOD, None, True, MADE_REMEMBERED_SECONDS),
        (GOOD, None, False, 0),
    ],
)
def test_an_id_is_the_senders_or_made_and_is_known_for_as_long_as_it_may_come_again(
    raw: bytes, key: str | None, remembered: int, *, is_alone: bool
) -> None:
    found = prepare(raw, key, is_alone=is_alone)
    told = orjson.loads(found.text)
    assert told["id"] == found.command_id
    assert found.remembered_seconds == remembered
    if key is None and raw == GOOD:
        assert str(UUID(found.command_id)) == found.command_id
    else:
        assert found.command_id == "one"
    assert (told["type"], told["data"]) == ("list_models", {})


def test_the_same_type_and_data_are_the_same_command_whatever_else_is_said() -> None:
    one = prepare(GOOD)
    again = prepare(b' { "data" : { } , "type" : "list_models" , "correlationid":"c"}', "x")
    other = prepare(b'{"type":"list_models","data":{"query":"a"}}', "x")
    assert one.fingerprint == again.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("key", "command_id", "path"),
    [
        ("", None, "Idempotency-Key"),
        ("a" * 256, None, "Idempotency-Key"),
        ("a\nb", None, "Idempotency-Key"),
        ("two", "one", "id"),
    ],
)
def test_a_key_that_is_no_id_or_not_this_commands_is_named(
    key: str, command_id: str | None, path: str
) -> None:
    raw = orjson.dumps({**orjson.loads(GOOD), **({} if command_id is None else {"id": command_id})})
    with pytest.raises(InvalidCommandError) as refused:
        prepare(raw, key)
    assert [each.path for each in refused.value.problems] == [path]


def test_a_trace_is_left_out_where_an_id_would_have_no_room_beside_it() -> None:
    head, tail = b'{"type":"list_models","data":{"query":"', b'"}}'
    for spare, has_trace in ((4096, True), (1024, False)):
        raw = head + b"x" * (MAX_COMMAND_BYTES - len(head + tail) - spare) + tail
        found = prepare(raw, trace=TRACE)
        assert (b"traceparent" in found.text) == has_trace
        assert len(found.text) <= MAX_COMMAND_BYTES


@pytest.mark.parametrize(
    ("priority", "is_bulk"), [(None, False), ("interactive", False), ("bulk", True)]
)
def test_only_a_bulk_command_goes_where_no_interactive_one_waits(
    priority: str | None, *, is_bulk: bool
) -> None:
    raw = orjson.dumps({**orjson.loads(GOOD), **({"priority": priority} if priority else {})})
    assert prepare(raw).is_bulk == is_bulk


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1}',
        b'{"a":1,"id":null}',
        b' {"a" : 1} \n',
        b'{"a":1 \t}',
        b'{"a":"\\ud83d\\ude00","id":null}',
    ],
)
def test_attributes_are_added_to_a_command_whatever_stands_around_it(raw: bytes) -> None:
    found = orjson.loads(with_attributes(raw, {"id": 'x"y'}))
    assert found == {**orjson.loads(raw), "id": 'x"y'}
    assert with_attributes(raw, {"id": "x"}).count(b'"id"') == 1


def test_what_became_of_a_command_is_told_as_the_script_says_it() -> None:
    assert [SubmitStatus(number).name for number in range(4)] == [
        *("ADDED", "KNOWN", "CONFLICT", "REFUSED"),
    ]
