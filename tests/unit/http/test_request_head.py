"""Rules of heads: they leave as they were signed, and never as two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from tests.unit.http.asking import exchange, opened
from worker.http.request_head import check_target, header_lines, write_head

if TYPE_CHECKING:
    from tests.stub_api import StubApi


@pytest.mark.parametrize(
    "value",
    ["a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX-Evil: 1", "\r\n\r\nGET /evil", "a\n", "ü", "a\0b"],
)
@pytest.mark.parametrize("place", ["name", "value", "target"])
def test_what_would_make_two_lines_of_one_is_refused(value: str, place: str) -> None:
    lines = {
        "name": ["GET / HTTP/1.1", f"{value}: x"],
        "value": ["GET / HTTP/1.1", f"X: {value}"],
        "target": [f"GET /{value} HTTP/1.1", "X: y"],
    }
    with pytest.raises(httpx.LocalProtocolError):
        write_head(lines[place])


@pytest.mark.parametrize("target", ["/a b", "/a\tb", "/a\r\nb", "/ü", "/a\x7f", "/\0", ""])
def test_a_target_that_can_t_stand_in_a_request_line_is_refused(target: str) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        check_target(target)


def test_a_head_ends_with_one_empty_line() -> None:
    lines = ["GET / HTTP/1.1", *header_lines([("Host", "a"), ("X", "")])]
    assert write_head(lines) == b"GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n"


@pytest.mark.parametrize(
    "target",
    [
        "/a%2Fb/%7e/../c?x=%2f&y=a+b",
        "/./a//b/",
        "/?",
        "/?a=%0d%0a",
        "/~a;b=c,d@e:f!$&'()*",
        "/" + "x" * 9000,
    ],
)
@pytest.mark.asyncio
async def test_a_target_leaves_as_it_stands(stub: StubApi, target: str) -> None:
    async with opened(stub.url) as pool:
        await exchange(pool, target=target)
    assert stub.recorded[0].target == target


@pytest.mark.asyncio
async def test_nothing_is_written_of_a_request_that_is_refused(stub: StubApi) -> None:
    async with opened(stub.url) as pool:
        with pytest.raises(httpx.LocalProtocolError):
            await exchange(pool, headers=["X: a\r\nX-Evil: 1"])
        await exchange(pool, headers=["X: fine"])
    assert [each.headers["x"] for each in stub.recorded] == ["fine"]
    assert stub.connections == 1
