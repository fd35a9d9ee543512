"""Remote bodies: read to their end however they come, never taken for whole when they are cut."""

from __future__ import annotations

import asyncio
import gzip
import random
import socket
import time
from contextlib import asynccontextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from schemas.enums import SourceFormat
from tests.web_server import CUT_WAYS, WAYS, Bodies, serving
from worker.backfill.errors import SourceUnavailableError
from worker.backfill.plan import SourcePlan
from worker.backfill.sources.formats import open_source
from worker.backfill.sources.opening import opened
from worker.errors import InputError, RetryableError, SilentServerError
from worker.files.downloads import Downloads
from worker.files.remote_files import (
    RemoteFileError,
    ShortReadError,
    TooLargeError,
    open_remote,
    read_remote,
)
from worker.thread_pools import ThreadPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

PICTURE = random.Random(1).randbytes(3_100_000)
MOST_BYTES = 4_000_000
MANIFEST = b"data_path\na.png\n"


@pytest.fixture(scope="module")
def bodies() -> Bodies:
    lines = b"".join(b'{"data_path": "%06d.png"}\n' % number for number in range(9_000))
    return Bodies({"a.jpg": PICTURE, "cut.jpg": PICTURE, "lines.jsonl": lines, "empty": b""})


@pytest.fixture(scope="module")
def server(bodies: Bodies) -> Iterator[str]:
    with bodies.serve() as url:
        yield url


@asynccontextmanager
async def downloads(
    total: float = 30.0, idle: float = 10.0, per_server: int = 64
) -> AsyncIterator[Downloads]:
    made = Downloads(
        ThreadPool("test", 2), total_seconds=total, idle_seconds=idle, per_server=per_server
    )
    try:
        yield made
    finally:
        await made.aclose()


@pytest.mark.parametrize("way", WAYS)
async def test_a_body_is_read_to_its_end_however_it_comes(server: str, way: str) -> None:
    async with downloads() as reader:
        assert await reader.read(f"{server}/{way}/a.jpg", MOST_BYTES, "field") == PICTURE
        assert await reader.read(f"{server}/{way}/empty", MOST_BYTES, "field") == b""
    assert await asyncio.to_thread(read_remote, f"{server}/length/a.jpg", MOST_BYTES) == PICTURE


@pytest.mark.parametrize("way", CUT_WAYS)
async def test_a_body_that_breaks_off_is_tried_again_and_never_taken_for_whole(
    server: str, bodies: Bodies, way: str
) -> None:
    path = f"/{way}/a.jpg"
    bodies.cuts_left[path] = 1
    async with downloads() as reader:
        with pytest.raises(RetryableError) as caught:
            await reader.read(server + path, MOST_BYTES, "field")
        assert caught.value.code == "data_unavailable"
        assert await reader.read(server + path, MOST_BYTES, "field") == PICTURE


@pytest.mark.parametrize("way", WAYS)
async def test_a_body_that_is_too_large_is_refused_while_it_is_read(server: str, way: str) -> None:
    async with downloads() as reader:
        with pytest.raises(InputError, match="holds more than 1000000 bytes"):
            await reader.read(f"{server}/{way}/a.jpg", 1_000_000, "field")
        assert len(await reader.read(f"{server}/{way}/a.jpg", len(PICTURE), "field")) == len(
            PICTURE
        )


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (404, InputError, "there is nothing at this URL"),
        (410, InputError, "there is nothing at this URL"),
        (403, InputError, "this worker's rights"),
        (302, InputError, "redirects are not followed"),
        (400, InputError, "answered 400"),
        (204, InputError, "answered 204"),
        (206, InputError, "answered 206"),
        (202, RetryableError, "answered 202"),
        (429, RetryableError, "answered 429"),
        (500, RetryableError, "answered 500"),
        (503, RetryableError, "answered 503"),
    ],
)
async def test_what_a_server_answers_decides_whether_to_ask_again(
    server: str, bodies: Bodies, status: int, error: type[Exception], said: str
) -> None:
    bodies.statuses[f"/length/{status}.jpg"] = status
    bodies.files[f"{status}.jpg"] = b"x"
    async with downloads() as reader:
        with pytest.raises(error, match=said):
            await reader.read(f"{server}/length/{status}.jpg", MOST_BYTES, "field")


@pytest.mark.parametrize(
    "answer",
    [
        b"\0\1garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    ],
)
async def test_an_answer_that_is_no_http_is_asked_for_again(answer: bytes) -> None:
    """Aiohttp tells it as a status of 400, which would fail an item for good."""

    class Garbles(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

        def do_GET(self) -> None:
            self.wfile.write(answer)
            self.close_connection = True

    with serving(Garbles) as server:
        async with downloads() as reader:
            with pytest.raises(RetryableError, match="something that is not HTTP"):
                await reader.read(f"{server}/a.jpg", MOST_BYTES, "field")
        with (
            pytest.raises(RemoteFileError, match="something that is not HTTP"),
            open_remote(f"{server}/a.jpg") as file,
        ):
            file.read()
        source = open_source(SourcePlan(f"{server}/a.csv", SourceFormat.CSV))
        with pytest.raises(SourceUnavailableError, match="something that is not HTTP"):
            next(iter(source.rows("")))


async def test_no_cookie_of_one_download_goes_with_the_next() -> None:
    """Each may be of another command, whose producer the server would take for the first one."""
    cookies: list[str | None] = []

    class Baking(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

        def do_GET(self) -> None:
            cookies.append(self.headers["Cookie"])
            self.send_response(200)
            self.send_header("Set-Cookie", "who=first")
            self.send_header("Content-Length", "1")
            self.end_headers()
            self.wfile.write(b"x")

    with serving(Baking) as server:
        # A jar keeps none of a server that is named by its address.
        url = server.replace("127.0.0.1", "localhost")
        async with downloads() as reader:
            for _ in range(2):
                assert await reader.read(f"{url}/a.jpg", MOST_BYTES, "field") == b"x"
    assert cookies == [None, None]


async def test_a_server_that_never_answers_is_given_up_and_keeps_no_other_waiting(
    server: str,
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.jpg"
        async with downloads(total=120.0, idle=1.0) as reader:
            asked = [asyncio.create_task(reader.read(url, MOST_BYTES, "f")) for _ in range(60)]
            begun = time.monotonic()
            assert await reader.read(f"{server}/chunked/a.jpg", MOST_BYTES, "field") == PICTURE
            ended = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(each) for each in ended} == {RetryableError}
            assert time.monotonic() - begun < 60


async def test_a_server_that_stalls_in_the_middle_is_given_up_and_asked_again(
    server: str, bodies: Bodies
) -> None:
    bodies.cuts_left["/stall-cut/a.jpg"] = 1
    async with downloads(idle=0.5) as reader:
        with pytest.raises(RetryableError):
            await reader.read(f"{server}/stall-cut/a.jpg", MOST_BYTES, "field")
        assert await reader.read(f"{server}/stall-cut/a.jpg", MOST_BYTES, "field") == PICTURE


async def test_a_silent_server_holds_no_more_places_than_its_share() -> None:
    """The others go back at once, at no cost, while its share goes on waiting."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with downloads(total=8.0, idle=8.0, per_server=4) as reader:
            reader._slots_of(url)._quiet_seconds = 0.5
            asked = {
                asyncio.create_task(reader.read(f"{url}/{number}.jpg", MOST_BYTES, "f"))
                for number in range(20)
            }
            while len(asked) > 4:
                done, asked = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
                assert {type(each.exception()) for each in done} == {SilentServerError}
            told = "4 downloads wait for the same server"
            with pytest.raises(SilentServerError, match=told) as caught:
                await reader.read(url, MOST_BYTES, "f")
            assert caught.value.code == "data_unavailable"
            assert not any(each.done() for each in asked)
            ended = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(each) for each in ended} == {RetryableError}


async def test_a_server_that_is_only_slow_is_waited_for() -> None:
    """Its files come one after the other, each a part of the time after which it is silent."""

    async def serve(read: asyncio.StreamReader, write: asyncio.StreamWriter) -> None:
        await read.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.5)
        write.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx")
        await write.drain()
        write.close()

    async with (
        await asyncio.start_server(serve, "127.0.0.1", 0) as slow,
        downloads(per_server=1) as reader,
    ):
        url = f"http://127.0.0.1:{slow.sockets[0].getsockname()[1]}/a.jpg"
        # Eight files take 4 s, each of them half a second.
        reader._slots_of(url)._quiet_seconds = 3.5
        asked = [reader.read(url, MOST_BYTES, "f") for _ in range(8)]
        assert await asyncio.gather(*asked) == [b"x"] * 8


async def test_who_waits_for_room_makes_no_server_silent(server: str) -> None:
    """It is the worker that keeps the server waiting then."""
    room, waits = asyncio.Event(), asyncio.Event()

    async def make_room(_: int) -> None:
        waits.set()
        await room.wait()

    async with downloads(per_server=1) as reader:
        url = f"{server}/length/a.jpg"
        first = asyncio.create_task(reader.read(url, MOST_BYTES, "f", make_room))
        await waits.wait()
        slots = reader._slots_of(url)
        slots._quiet_seconds = 0.1
        second = asyncio.create_task(reader.read(url, MOST_BYTES, "f"))
        await asyncio.sleep(0.5)
        assert not second.done()
        slots._quiet_seconds = 10.0
        room.set()
        assert await first == await second == PICTURE


async def test_the_time_that_is_waited_for_room_is_not_the_downloads(server: str) -> None:
    """Else a worker whose room is taken would fail what nothing is wrong with."""

    async def make_room(_: int) -> None:
        await asyncio.sleep(3.5)

    async with downloads(total=3.0) as reader:
        # Some of it is still to come then, and has the rest of the three seconds.
        assert await reader.read(f"{server}/length/a.jpg", MOST_BYTES, "f", make_room) == PICTURE


async def test_room_is_made_for_all_of_a_body_though_no_length_is_told(server: str) -> None:
    """What is held and not counted is memory that others are promised too."""
    asked: list[int] = []

    async def make_room(size: int) -> None:
        asked.append(size)

    async with downloads() as reader:
        content = await reader.read(f"{server}/chunked/a.jpg", MOST_BYTES, "f", make_room)
    assert content == PICTURE
    assert asked == sorted(asked)
    assert len(PICTURE) <= asked[-1] <= MOST_BYTES


async def test_a_server_that_trickles_is_given_up_after_the_whole_time(server: str) -> None:
    async with downloads(total=0.05) as reader:
        with pytest.raises(RetryableError, match=r"did not come within 0\.05 s"):
            await reader.read(f"{server}/chunked/a.jpg", MOST_BYTES, "field")


@pytest.mark.parametrize("way", WAYS)
def test_an_opened_body_reads_as_a_file_on_a_disk_does(
    server: str, bodies: Bodies, way: str
) -> None:
    """`read(n)` gives n bytes until the end, `readline` a line, with and without a bound."""
    with open_remote(f"{server}/{way}/a.jpg") as file:
        assert file.read(3_000_000) == PICTURE[:3_000_000]
        assert file.read(3_000_000) == PICTURE[3_000_000:]
        assert file.read(1) == b""
    with open_remote(f"{server}/{way}/lines.jsonl") as file:
        assert file.readline(1_000) == b'{"data_path": "000000.png"}\n'
        assert file.readline(4) == b'{"da'
        assert b"".join(file) == bodies.files["lines.jsonl"][32:]


@pytest.mark.parametrize("way", ["length-cut", "chunked-cut", "reset-cut"])
def test_an_opened_body_that_breaks_off_is_an_error_and_no_end(server: str, way: str) -> None:
    with open_remote(f"{server}/{way}/cut.jpg") as file, pytest.raises(RemoteFileError):
        file.read()


def test_an_answer_of_503_is_not_told_as_a_missing_file(server: str, bodies: Bodies) -> None:
    bodies.statuses["/length/away.jpg"] = 503
    with (
        pytest.raises(RemoteFileError, match="answered 503"),
        open_remote(f"{server}/length/away.jpg"),
    ):
        pass
    with pytest.raises(FileNotFoundError), open_remote(f"{server}/length/nowhere.jpg"):
        pass


class CuttingFile(MemoryFile):  # type: ignore[misc]
    """Gives little at a time, and says that it holds more than comes."""

    more = 0

    @property
    def size(self) -> int:
        return len(self.getbuffer()) + self.more

    def read(self, size: int = -1, /) -> bytes:
        return bytes(super().read(min(size, 7)))


class CuttingStore(MemoryFileSystem):  # type: ignore[misc]
    """A store whose files come in small pieces; those named cut end too early."""

    protocol = "cutting"

    def _open(self, path: str, *_: object, **__: object) -> CuttingFile:
        file = CuttingFile(self, path, b"0123456789" * 3)
        file.more = 5 * path.endswith("cut")
        return file

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("cutting://").lstrip("/")


async def test_a_store_that_gives_a_file_piece_by_piece_or_not_to_its_end_is_found_out() -> None:
    fsspec.register_implementation("cutting", CuttingStore, clobber=True)
    assert read_remote("cutting://whole", 30) == b"0123456789" * 3
    with pytest.raises(ShortReadError, match="ended after 30 of 35 bytes"):
        read_remote("cutting://cut", 100)
    with pytest.raises(TooLargeError):
        read_remote("cutting://whole", 29)
    async with downloads() as reader:
        with pytest.raises(RetryableError, match="ended after 30 of 35 bytes"):
            await reader.read("cutting://cut", 100, "field")


def test_a_file_on_a_disk_can_be_sought_in(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(PICTURE)
    with open_remote(f"file://{tmp_path}/a") as file:
        file.seek(-10, 2)
        assert file.read() == PICTURE[-10:]


@pytest.mark.parametrize(("pieces", "is_taken"), [(1_000, True), (20_000, False)])
async def test_what_is_packed_in_very_many_empty_pieces_is_refused(
    *, pieces: int, is_taken: bool
) -> None:
    """Each costs a copy of what follows it, and a server can send them for as long as it likes."""
    body = gzip.compress(b"", mtime=0) * pieces + gzip.compress(b"whole")
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)

    class Packs(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

        def do_GET(self) -> None:
            # Whoever refuses it does not wait for its end.
            with suppress(ConnectionError):
                self.wfile.write(head + body)
            self.close_connection = True

    with serving(Packs) as server:
        async with downloads() as reader:
            if is_taken:
                assert await reader.read(f"{server}/a.jpg", MOST_BYTES, "field") == b"whole"
                return
            with pytest.raises(InputError, match="too many pieces"):
                await reader.read(f"{server}/a.jpg", MOST_BYTES, "field")


class Labelled(BaseHTTPRequestHandler):
    """Answers with a manifest, and says of its packing what the path says."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        pass

    def do_GET(self) -> None:
        said = unquote(self.path).strip("/").removesuffix(".csv")
        body = gzip.compress(MANIFEST, mtime=0) if "gzip" in said else MANIFEST
        self.send_response(200)
        self.send_header("Content-Encoding", said)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.mark.parametrize(
    "said", ["aws-chunked", "UTF-8", "binary", "identity, gzip", "aws-chunked,gzip", "none"]
)
async def test_what_an_object_was_uploaded_with_is_not_taken_for_a_packing(said: str) -> None:
    """AWS' libraries leave their own there, and many call the letters of a text its encoding."""
    with serving(Labelled) as server:
        url = f"{server}/{quote(said)}.csv"
        async with downloads() as reader:
            assert await reader.read(url, MOST_BYTES, "field") == MANIFEST
        with opened(url) as file:
            assert file.read() == MANIFEST


async def test_a_packing_that_was_not_asked_for_is_named() -> None:
    with serving(Labelled) as server:
        async with downloads() as reader:
            with pytest.raises(InputError, match="packed it as 'br', unasked; have it sent"):
                await reader.read(f"{server}/br", MOST_BYTES, "field")
