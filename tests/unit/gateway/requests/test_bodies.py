"""Bodies: what is taken, how much of it, and how commands stand in them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson
import pytest
from starlette.requests import Request

from schemas.parsing import MAX_COMMAND_BYTES
from worker.gateway.problems import ProblemError
from worker.gateway.requests.bodies import (
    TAKEN,
    BodyKind,
    BodyRoom,
    Bounds,
    binary_event,
    kind_of,
    read_body,
    read_lines,
    split_array,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Message

BOUNDS = Bounds(most_bytes=1_000, idle_seconds=5.0)


def request(*parts: bytes) -> Request:
    """A request whose body comes in these parts."""

    def messages() -> Iterator[Message]:
        for number, part in enumerate(parts, 1):
            yield {"type": "http.request", "body": part, "more_body": number < len(parts)}

    coming = messages()

    async def receive() -> Message:
        return next(coming)

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def test_the_room_of_a_body_is_given_back_however_it_ends() -> None:
    """Or after so many deliveries each one is answered 503, until somebody restarts the gateway."""
    room = BodyRoom(10)
    for _ in range(3):
        async with room.read(request(b"four", b"five5"), BOUNDS) as body:
            assert body == b"fourfive5"
        with pytest.raises(ProblemError) as refused:
            async with room.read(request(b"sixsix", b"and more"), BOUNDS):
                pass
        assert refused.value.code == "too_many_bodies"
    async with room.read(request(b"x" * 10), BOUNDS) as whole:
        assert whole == b"x" * 10
        with pytest.raises(ProblemError) as refused:
            async with room.read(request(b"y"), BOUNDS):
                pass
        assert refused.value.status == 503


def of_type(content_type: str | None = None, **headers: str) -> Request:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    if content_type is not None:
        told["content-type"] = content_type
    raw = [(name.encode(), value.encode()) for name, value in told.items()]
    return Request({"type": "http", "method": "POST", "headers": raw})


@pytest.mark.parametrize(
    ("content_type", "headers", "kind"),
    [
        ("application/json", {}, BodyKind.ONE_OR_ARRAY),
        (" Application/JSON ; charset=UTF-8", {}, BodyKind.ONE_OR_ARRAY),
        ('application/json; charset="utf8"', {}, BodyKind.ONE_OR_ARRAY),
        ("application/json; charset=us-ascii", {}, BodyKind.ONE_OR_ARRAY),
        ("application/json", {"content_encoding": "identity"}, BodyKind.ONE_OR_ARRAY),
        ("application/x-ndjson", {}, BodyKind.LINES),
        ("application/ndjson", {}, BodyKind.LINES),
        ("application/jsonl", {"ce_type": "x"}, BodyKind.LINES),
        ("application/cloudevents+json", {"ce_type": "x"}, BodyKind.ONE_OR_ARRAY),
        ("application/cloudevents-batch+json", {}, BodyKind.ARRAY),
        ("application/json", {"ce_specversion": "1.0"}, BodyKind.BINARY),
        ("application/json", {"ce_type": "x"}, BodyKind.BINARY),
        (None, {"ce_type": "x"}, BodyKind.BINARY),
    ],
)
def test_how_commands_stand_in_a_body_is_told_by_its_type_first(
    content_type: str | None, headers: dict[str, str], kind: BodyKind
) -> None:
    assert kind_of(of_type(content_type, **headers)) is kind


@pytest.mark.parametrize(
    ("content_type", "headers", "code"),
    [
        ("text/plain", {}, "media_type_not_taken"),
        (None, {}, "media_type_not_taken"),
        ("application/json", {"content_encoding": "gzip"}, "encoding_not_taken"),
        ("application/json; version=1; charset=utf-16", {}, "encoding_not_taken"),
    ],
)
def test_what_is_not_taken_is_told_with_what_is(
    content_type: str | None, headers: dict[str, str], code: str
) -> None:
    with pytest.raises(ProblemError) as refused:
        kind_of(of_type(content_type, **headers))
    assert (refused.value.status, refused.value.code) == (415, code)
    if code == "media_type_not_taken":
        assert refused.value.headers == {"Accept-Post": ", ".join(TAKEN)}
        assert ", ".join(TAKEN) in refused.value.detail


async def lines_of(*parts: bytes, most: int = 1_000) -> list[bytes]:
    found = []
    async for some in read_lines(request(*parts), Bounds(most, 5.0)):
        found += some
    return found


async def test_a_line_may_be_as_long_as_a_command_and_a_longer_one_is_cut_behind_that() -> None:
    whole = b"x" * MAX_COMMAND_BYTES
    for end in (b"", b"\n"):
        assert await lines_of(whole + end) == [whole]
        assert await lines_of(b"a\n", whole[:-1], b"x" + end) == [b"a", whole]
    assert await lines_of(whole[:-5], b"y" * 10, b"\nb", most=2 * MAX_COMMAND_BYTES) == [
        whole[:-5] + b"y" * 6,
        b"b",
    ]


async def test_only_what_is_no_line_counts_for_the_bound_of_lines() -> None:
    assert await lines_of(*[b"0123456789\n"] * 500, most=20) == [b"0123456789"] * 500
    # Each end of a line that holds something is part of it.
    assert await lines_of(b"a\n" * 500, most=20) == [b"a"] * 500
    assert await lines_of(b"a\n" + b" " * 9 + b"\n", b"\n" * 10, most=20) == [b"a"]
    with pytest.raises(ProblemError) as refused:
        await lines_of(b"a\n" + b" " * 9 + b"\n", b"\n" * 11, most=20)
    assert (refused.value.status, refused.value.code) == (413, "too_large")


async def test_a_body_may_have_as_many_bytes_as_its_bound_says_and_not_one_more() -> None:
    assert await read_body(request(b"a" * 600, b"b" * 400), BOUNDS) == b"a" * 600 + b"b" * 400
    with pytest.raises(ProblemError, match="1000 bytes") as refused:
        await read_body(request(b"a" * 600, b"b" * 401), BOUNDS)
    assert (refused.value.status, refused.value.headers) == (413, {"Connection": "close"})


@pytest.mark.parametrize(("told", "is_refused"), [("1000", False), ("1001", True), ("-1", False)])
async def test_a_length_that_is_told_is_refused_before_anything_is_read(
    told: str, *, is_refused: bool
) -> None:
    coming = request(b"a")
    coming.scope["headers"] = [(b"content-length", told.encode())]
    if is_refused:
        with pytest.raises(ProblemError) as refused:
            await read_body(coming, BOUNDS)
        assert refused.value.code == "too_large"
        assert await coming.receive() == {
            "type": "http.request",
            "body": b"a",
            "more_body": False,
        }
    else:
        assert await read_body(coming, BOUNDS) == b"a"


async def test_who_is_gone_or_says_nothing_has_sent_no_body() -> None:
    async def gone() -> Message:
        return {"type": "http.disconnect"}

    async def silent() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    scope = {"type": "http", "method": "POST", "headers": []}
    for receive, status, code in (
        (gone, 400, "body_incomplete"),
        (silent, 408, "body_too_slow"),
    ):
        with pytest.raises(ProblemError) as refused:
            await read_body(Request(scope, receive), Bounds(1_000, 0.01))
        assert (refused.value.status, refused.value.code) == (status, code)


async def test_a_body_of_a_stranger_has_its_time_for_all_of_it() -> None:
    room = BodyRoom(10)

    async def dripping() -> Message:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"a", "more_body": True}

    coming = Request({"type": "http", "method": "POST", "headers": []}, dripping)
    with pytest.raises(ProblemError, match=r"0\.1 s") as refused:
        async with room.read(coming, Bounds(1_000, 0.1)):
            pass
    assert (refused.value.status, refused.value.code) == (408, "body_too_slow")
    async with room.read(request(b"x" * 10), BOUNDS) as whole:
        assert whole == b"x" * 10, "the room is given back"


@pytest.mark.parametrize(
    ("body", "elements"),
    [
        (b' \n[{"a":1},"\xc3\xa9"]', [b'{"a":1}', '"\u00e9"'.encode()]),
        (b"\xef\xbb\xbf[]", []),
        (b"[1,2,3]", [b"1", b"2", b"3"]),
    ],
)
def test_an_array_is_cut_into_its_elements(body: bytes, elements: list[bytes]) -> None:
    assert split_array(body, 3) == elements


def test_what_is_no_array_is_left_to_others_and_a_longer_one_is_refused() -> None:
    assert split_array(b'{"a":[1]}', 3) is None
    with pytest.raises(ProblemError, match="3 commands at most") as refused:
        split_array(b"[1,2,3,4]", 3)
    assert (refused.value.status, refused.value.code) == (413, "too_many_commands")
    for wrong in (b"[1,", b"[NaN]", b'[{"a":1,"a":1}]'):
        with pytest.raises(ProblemError) as refused:
            split_array(wrong, 3)
        assert (refused.value.status, refused.value.code) == (400, "not_json")


def test_an_event_in_headers_is_made_of_them_and_of_its_data() -> None:
    event = of_type("application/json; charset=utf-8", ce_id="a", ce_type="train")
    attributes = {"id": "a", "type": "train", "datacontenttype": "application/json; charset=utf-8"}
    assert orjson.loads(binary_event(event, b' {"x": 1} ')) == {**attributes, "data": {"x": 1}}
    assert orjson.loads(binary_event(event, b"")) == attributes
    bare = orjson.loads(binary_event(of_type(ce_type="train"), b"{}"))
    assert bare == {"type": "train", "datacontenttype": "application/json", "data": {}}
    with pytest.raises(ProblemError, match="data of a command are") as refused:
        binary_event(of_type("text/plain", ce_type="train"), b"{}")
    assert (refused.value.status, refused.value.code) == (415, "media_type_not_taken")
