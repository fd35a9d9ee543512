"""Rules of packed replies: unpacked to the last byte or told, and never to more than is kept."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib

import httpx
import pytest

from tests.stub_api import Answer, StubApi, reply
from tests.unit.http.asking import exchange, opened
from worker.http.decoding import Inflater

pytestmark = pytest.mark.asyncio

TEXT = b"[" + b", ".join(b"%d" % number for number in range(2_000)) + b"]"
MIB = 1_048_576


def raw_deflate(body: bytes) -> bytes:
    """Packs as some servers understand "deflate": without zlib's head."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


PACKED = {
    "gzip": ("gzip", gzip.compress(TEXT)),
    "x-gzip": ("x-gzip", gzip.compress(TEXT)),
    "deflate": ("deflate", zlib.compress(TEXT)),
    "raw deflate": ("deflate", raw_deflate(TEXT)),
    "gzip in members": ("gzip", gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:])),
    "gzip with an empty member": ("gzip", gzip.compress(b"") + gzip.compress(TEXT)),
    "gzip and deflate": ("gzip, deflate", zlib.compress(gzip.compress(TEXT))),
    "identity": ("identity", TEXT),
}


def chunked(body: bytes, size: int) -> bytes:
    """Returns a body in chunks of a size."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 10_000_000])
@pytest.mark.parametrize("kind", PACKED)
async def test_a_packed_body_is_unpacked_however_it_is_cut(
    stub: StubApi, kind: str, size: int
) -> None:
    coding, body = PACKED[kind]
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ntransfer-encoding: chunked\r\n\r\n"
    stub.default = Answer(head.encode() + chunked(body, size))
    async with opened(stub.url) as pool:
        response = await exchange(pool)
    assert response.failure is None
    assert response.body == TEXT


@pytest.mark.parametrize("missing", [1, 8, 100])
@pytest.mark.parametrize("kind", [each for each in PACKED if each != "identity"])
async def test_a_packed_body_that_lacks_its_end_is_told(
    stub: StubApi, kind: str, missing: int
) -> None:
    coding, body = PACKED[kind]
    stub.default = reply(200, body[:-missing], content_encoding=coding)
    async with opened(stub.url) as pool:
        assert isinstance((await exchange(pool)).failure, httpx.DecodingError)


@pytest.mark.parametrize("kind", ["gzip", "deflate", "raw deflate"])
async def test_a_packed_body_with_something_behind_its_end_is_told(
    stub: StubApi, kind: str
) -> None:
    """Whoever drops it would take a part for the whole."""
    coding, body = PACKED[kind]
    stub.default = reply(200, body + b"[1, 2]", content_encoding=coding)
    async with opened(stub.url) as pool:
        assert isinstance((await exchange(pool)).failure, httpx.DecodingError)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_what_is_not_packed_as_it_says_is_told(stub: StubApi, coding: str) -> None:
    stub.default = reply(200, b"\xff" * 100, content_encoding=coding)
    async with opened(stub.url) as pool:
        assert isinstance((await exchange(pool)).failure, httpx.DecodingError)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_an_empty_body_is_empty_whatever_it_is_packed_with(
    stub: StubApi, coding: str
) -> None:
    stub.default = reply(200, b"", content_encoding=coding)
    async with opened(stub.url) as pool:
        response = await exchange(pool)
    assert (response.body, response.failure) == (b"", None)


@pytest.mark.parametrize("layers", [1, 2])
async def test_a_bomb_of_200_mb_is_cut_at_the_limit(stub: StubApi, layers: int) -> None:
    packed = bytes(200 * MIB)
    for _ in range(layers):
        packed = gzip.compress(packed, 6)
    stub.default = reply(200, packed, content_encoding=", ".join(["gzip"] * layers))
    del packed
    async with opened(stub.url) as pool:
        tracemalloc.start()
        try:
            response = await exchange(pool, limit_bytes=MIB)
            assert tracemalloc.get_traced_memory()[1] < 6 * MIB
        finally:
            tracemalloc.stop()
    assert response.is_cut
    assert len(response.body) == MIB + 1


@pytest.mark.parametrize(("members", "is_read"), [(900, True), (1_100, False)])
async def test_a_body_of_very_many_members_is_refused(
    stub: StubApi, members: int, *, is_read: bool
) -> None:
    """Each takes twenty bytes and time to begin, and may unfold to nothing."""
    packed = gzip.compress(b"") * members + gzip.compress(TEXT)
    stub.default = reply(200, packed, content_encoding="gzip")
    async with opened(stub.url) as pool:
        response = await exchange(pool)
    assert (response.body == TEXT) is (response.failure is None) is is_read


@pytest.mark.parametrize("size", [999, 1000, 1001])
async def test_the_limit_holds_for_what_is_unpacked_to_the_byte(stub: StubApi, size: int) -> None:
    body = random.Random(size).randbytes(1001)  # what can't be packed, and so grows
    stub.default = reply(
        200, gzip.compress(gzip.compress(body[:size])), content_encoding="gzip, gzip"
    )
    async with opened(stub.url) as pool:
        response = await exchange(pool, limit_bytes=1000)
    assert response.is_cut == (size > 1000)
    assert (response.body, response.failure) == (body[:size], None)


async def test_no_more_is_unpacked_than_is_asked_for_however_many_members_hold_it() -> None:
    ten = [bytes([each]) * 10 for each in b"abc"]
    body = b"".join(gzip.compress(each) for each in ten)
    for most in (1, 9, 10, 11, 15, 20, 25, 30):
        assert Inflater("gzip").feed(body, most) == b"".join(ten)[:most]
