"""Every format behind every kind of web server, and what is told where one is bad."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, ClassVar

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.config import conf as fsspec_conf
from yarl import URL

from schemas.enums import SourceFormat
from tests.unit.backfill.sources.reading import data_of, plan_of, read_all
from tests.web_server import serving
from worker.backfill.errors import SourceError, SourceUnavailableError
from worker.backfill.plan import SourcePlan
from worker.backfill.sources.folders import walk
from worker.backfill.sources.formats import guess_format, open_source
from worker.backfill.sources.reader import Reader
from worker.files.remote_files import open_remote, server_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# More than one block of fsspec's, and than any buffer on the way.
ROWS = 46_000
NAMES = [f"https://pictures.example/{number:07d}-{'x' * 80}.png" for number in range(ROWS)]
FORMATS = ("items.jsonl", "items.json", "items.csv", "items.parquet")


class Answers(BaseHTTPRequestHandler):
    """Serves one text in one way, told by the first part of the path."""

    protocol_version = "HTTP/1.1"
    texts: ClassVar[dict[str, bytes]] = {}

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base names it
        pass

    def do_HEAD(self) -> None:
        self.send_error(405)

    def do_GET(self) -> None:
        _, way, name = self.path.partition("?")[0].split("/", 2)
        if way.isdigit():
            self.send_response(int(way))
            self.send_header("Content-Length", "0")
            self.send_header("Location", f"/length/{name}")
            self.end_headers()
            return
        getattr(self, f"_{way}")(self.texts[name])

    def _length(self, text: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _chunked(self, text: bytes, end: bytes = b"0\r\n\r\n") -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(text), 50_000):
            part = text[start : start + 50_000]
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        self.wfile.write(end)

    def _closing(self, text: bytes) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text)
        self.close_connection = True

    def _encoded(self, text: bytes) -> None:
        packed = gzip.compress(text, 1)
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(packed)))
        self.end_headers()
        self.wfile.write(packed)

    def _cut(self, text: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text[: len(text) // 2])
        self.close_connection = True

    def _endless(self, text: bytes) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        block = text[:1_000_000]
        with suppress(OSError):
            while True:
                self.wfile.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")
        self.close_connection = True

    def _enormous(self, text: bytes) -> None:
        """Tells a length that no disk takes, and sends nothing of it."""
        self.send_response(200)
        self.send_header("Content-Length", str(2**60 + len(text)))
        self.end_headers()
        self.close_connection = True

    def _cutchunked(self, text: bytes) -> None:
        self._chunked(text[: len(text) // 2], end=b"")
        self.close_connection = True

    def _cutencoded(self, text: bytes) -> None:
        """A proxy that packed half of it and tells the length of what it has."""
        packed = gzip.compress(text, 1)
        packed = packed[: len(packed) // 2]
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(packed)))
        self.end_headers()
        self.wfile.write(packed)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder: Path = tmp_path_factory.mktemp("texts")
    pq.write_table(pa.table({"data_path": NAMES}), folder / "items.parquet", row_group_size=9_000)
    rows = [orjson.dumps({"data_path": name}) for name in NAMES]
    found = {
        "items.jsonl": b"\n".join(rows) + b"\n",
        "items.json": b"[" + b",\n".join(rows) + b"]",
        "items.csv": "\n".join(["data_path", *NAMES]).encode(),
        "items.parquet": (folder / "items.parquet").read_bytes(),
    }
    return found | {f"{name}.gz": gzip.compress(text, 1) for name, text in found.items()}


@contextmanager
def served(texts: dict[str, bytes], host: str = "127.0.0.1") -> Iterator[str]:
    handler = type("Told", (Answers,), {"texts": texts})
    with serving(partial(handler), host=host) as url:
        yield url


def paths(url: str, name: str, after: str = "", *, follows: bool = True) -> list[str]:
    formats = {"csv": SourceFormat.CSV, "parquet": SourceFormat.PARQUET}
    source_format = formats.get(name.split(".")[1], SourceFormat.JSONL)
    source = open_source(SourcePlan(url, source_format), follows=follows)
    return [(row.fields or {"data_path": row.problem})["data_path"] for row in source.rows(after)]


@pytest.mark.parametrize("way", ["length", "chunked", "closing", "encoded"])
@pytest.mark.parametrize("name", [*FORMATS, *(f"{name}.gz" for name in FORMATS)])
def test_every_format_is_read_whole_however_a_server_sends_it(
    way: str, name: str, texts: dict[str, bytes]
) -> None:
    with served(texts) as server:
        url = f"{server}/{way}/{name}?signature=a/b.txt"
        assert paths(url, name) == NAMES
        assert paths(url, name, after=str(ROWS - 3)) == NAMES[-3:]


@pytest.mark.parametrize("way", ["cut", "cutchunked", "cutencoded"])
@pytest.mark.parametrize("name", [*FORMATS, "items.jsonl.gz"])
def test_what_ends_in_the_middle_is_an_error_and_no_short_source(
    way: str, name: str, texts: dict[str, bytes]
) -> None:
    with served(texts) as server, pytest.raises(SourceError, match="can't be read"):
        paths(f"{server}/{way}/{name}", name)


@pytest.mark.parametrize("way", ["cut", "cutchunked"])
@pytest.mark.parametrize("name", ["items.jsonl", "items.json", "items.csv"])
async def test_rows_that_came_whole_before_a_server_ended_are_items(
    way: str, name: str, texts: dict[str, bytes]
) -> None:
    few = b"\n".join(texts[name].splitlines()[:10])
    with served({name: few}) as server:
        reader = Reader("night", plan_of(f"{server}/{way}/{name}"))
        batch = await reader.read(0, "", 200)
        # A row of a list is whole with its bracket, others with the end of their line.
        end = b"}" if name == "items.json" else b"\n"
        came = few[: len(few) // 2].count(end) - (name == "items.csv")
        assert came > 3
        assert [data_of(item)["data_path"] for item in batch.items] == NAMES[:came]
        assert not batch.exhausted
        again = await reader.read(0, "", came)
        assert again.position == batch.position
        for _ in range(3):
            # Not the end of the source, however often it is asked for.
            with pytest.raises(SourceUnavailableError, match="the server ended it in the middle"):
                await reader.read(came, batch.position, 200)


async def test_a_source_that_breaks_off_before_its_rows_name_items_is_no_wrong_one() -> None:
    """Or a moment's trouble would fail the whole backfill for good."""
    rows = b'{"note": "none yet"}\n' * 10 + b'{"data_path": "/a.png"}\n' * 9
    with served({"items.jsonl": rows}) as server:
        reader = Reader("night", plan_of(f"{server}/cut/items.jsonl"))
        with pytest.raises(SourceUnavailableError, match="the server ended it in the middle"):
            await reader.read(0, "", 200)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (503, SourceUnavailableError, "at the moment: the server answers 503"),
        (500, SourceUnavailableError, "at the moment: the server answers 500"),
        (429, SourceUnavailableError, "at the moment: the server answers 429"),
        (423, SourceUnavailableError, "at the moment: the server answers 423"),
        (202, SourceUnavailableError, "at the moment: the server answers 202"),
        (404, SourceError, "there is no such file: the server answers 404"),
        (403, SourceError, "may not be read: the server answers 403"),
        (400, SourceError, "can't be read: the server answers 400"),
    ],
)
def test_what_a_server_answers_is_told_without_the_signature_of_the_url(
    status: int, kind: type[SourceError], said: str, name: str
) -> None:
    with served({}) as server:
        url = f"{server.replace('//', '//user:s3cret@')}/{status}/{name}?signature=s3cret"
        with pytest.raises(SourceError, match=said) as raised:
            paths(url, name)
    assert type(raised.value) is kind
    assert "s3cret" not in str(raised.value)
    assert name in str(raised.value)


class _Locked(Answers):
    """Lets in whoever says the word, and packs nothing for them."""

    texts: ClassVar[dict[str, bytes]] = {"items.csv": b"data_path\n/a.png\n"}

    def do_GET(self) -> None:
        if self.headers["Authorization"] != "the word":
            self.send_error(403)
            return
        assert self.headers["Accept-Encoding"] == "identity"
        super().do_GET()


def test_headers_that_fsspec_is_set_to_send_open_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(_Locked) as server:
        url = f"{server}/length/items.csv"
        with pytest.raises(SourceError, match="may not be read"):
            paths(url, "items.csv")
        monkeypatch.setitem(fsspec_conf, "http", {"headers": {"Authorization": "the word"}})
        assert paths(url, "items.csv") == ["/a.png"]


def test_a_redirection_is_followed_at_the_console_and_by_no_worker(
    texts: dict[str, bytes],
) -> None:
    with served(texts) as server:
        url = f"{server}/302/items.csv"
        assert paths(url, "items.csv") == NAMES
        with pytest.raises(SourceError, match="names another address, which a worker does not"):
            paths(url, "items.csv", follows=False)


@pytest.mark.parametrize(
    ("location", "said"),
    [
        (None, "can't be read: the server answers 302"),
        ("file:///etc/passwd", "the server sends us to an address that can't be asked"),
        ("http://[bad/items.csv", "the server sends us to an address that can't be asked"),
    ],
)
def test_a_redirection_to_nowhere_is_told_as_such(location: str | None, said: str) -> None:
    class Sends(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

        def do_GET(self) -> None:
            self.send_response(302)
            if location is not None:
                self.send_header("Location", location)
            self.end_headers()

    with serving(Sends) as server, pytest.raises(SourceError, match=said) as raised:
        paths(f"{server}/items.csv", "items.csv")
    assert type(raised.value) is SourceError


@pytest.mark.parametrize("name", ["items.csv", "items.parquet"])
def test_a_server_may_be_named_by_its_address_of_ipv6(texts: dict[str, bytes], name: str) -> None:
    """Fsspec takes the two colons of such an address for a chain of URLs."""
    try:
        with served(texts, "::1") as server:
            assert paths(f"{server}/length/{name}", name) == NAMES
            with open_remote(f"{server}/length/{name}") as file:
                assert file.read() == texts[name]
            with pytest.raises(SourceError, match="there is no such folder"):
                guess_format(f"{server}/404/items/")
    except OSError as exc:
        if isinstance(exc, SourceError):
            raise
        pytest.skip(f"this machine has no IPv6: {exc}")


def test_the_scheme_of_a_url_may_be_written_in_capital_letters(texts: dict[str, bytes]) -> None:
    with served(texts) as server:
        assert paths(f"{server}/length/items.csv".replace("http", "HTTP", 1), "items.csv") == NAMES


class _Shelf(BaseHTTPRequestHandler):
    """Lists a folder, after a redirection to its name with a slash at the end."""

    protocol_version = "HTTP/1.1"
    elsewhere: ClassVar[str] = ""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base names it
        pass

    def do_GET(self) -> None:
        listed = b'<html><a href="a.png">a.png</a></html>' if self.path == "/shelf/" else b""
        self.send_response(200 if listed else 301)
        if not listed:
            self.send_header("Location", f"{self.elsewhere}/shelf/")
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(listed)))
        self.end_headers()
        self.wfile.write(listed)


class _Elsewhere(_Shelf):
    """The same, at another server."""


def test_a_worker_lists_no_folder_at_a_server_that_was_not_named() -> None:
    with serving(_Shelf) as other, serving(_Elsewhere) as server:
        _Elsewhere.elsewhere = other
        for url, follows in ((f"{other}/shelf/", False), (f"{server}/shelf-there/", True)):
            (found,) = walk(url, (), follows=follows)
            assert found.path == "a.png"
        with pytest.raises(SourceError, match="at another server, which a worker does not follow"):
            list(walk(f"{server}/shelf-there/", (), follows=False))
        with pytest.raises(SourceError, match="at another server, which a worker does not follow"):
            guess_format(f"{server}/shelf-there/", follows=False)
        for source_format in (SourceFormat.FOLDER, SourceFormat.CSV):
            source = open_source(SourcePlan(f"{server}/shelf-there/", source_format), follows=False)
            with pytest.raises(SourceError, match="at another server"):
                list(source.rows(""))


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("https://store.example/b/", True),
        ("https://user:password@STORE.example:443/b/", True),
        ("http://store.example/b/", False),
        ("https://store.example:8443/b/", False),
        ("https://store.example.org/b/", False),
    ],
)
def test_a_server_is_the_same_whether_its_usual_port_is_said_or_not(
    other: str, *, same: bool
) -> None:
    assert (server_of(URL(other)) == server_of(URL("https://store.example/a"))) == same


class _Trickle(_Shelf):
    """Lists a folder for as long as anyone listens, or half a minute."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Connection", "close")
        self.end_headers()
        with suppress(OSError):
            for _ in range(600):
                self.wfile.write(b"<p>")
                time.sleep(0.05)


def test_a_server_that_lists_a_folder_for_ever_is_waited_for_no_longer_than_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is never silent, so only an end to the whole of it frees the thread."""
    monkeypatch.setattr("worker.backfill.sources.folders._LIST_SECONDS", 1.0)
    with serving(_Trickle) as server, pytest.raises(SourceUnavailableError):
        list(walk(f"{server}/", ()))


class _Broken(_Shelf):
    """Lists a folder, and none of those within it that come last."""

    def do_GET(self) -> None:
        names = {"": ("a.png", "b.heic", "c/"), "/c": ("d.png", "e.heic", "f/")}.get(
            self.path.rstrip("/")
        )
        listed = "".join(f'<a href="{name}">{name}</a>' for name in names or ()).encode()
        self.send_response(200 if listed else 503)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(listed)))
        self.end_headers()
        self.wfile.write(listed)


async def test_what_is_passed_over_before_a_break_is_counted_once() -> None:
    """What stands behind the last item is read again, and counted then."""
    with serving(_Broken) as server:
        batch = await Reader("night", plan_of(f"{server}/")).read(0, "", 200)
        assert len(batch.items) == 2
        assert batch.passed == {".heic": 1}


def test_a_server_that_is_not_there_may_come_back() -> None:
    with served({}) as server:
        pass
    with pytest.raises(SourceUnavailableError, match="can't be reached"):
        paths(f"{server}/length/items.csv", "items.csv")


def test_each_batch_may_have_another_reader_behind_a_server_too(texts: dict[str, bytes]) -> None:
    small = {"items.jsonl": b"\n".join(texts["items.jsonl"].splitlines()[:9])}
    with served(small) as server:
        items = read_all(f"{server}/chunked/items.jsonl", most=2)
    assert [data_of(item)["data_path"] for item in items] == NAMES[:9]


@pytest.mark.parametrize("way", ["endless", "enormous"])
def test_a_source_that_never_ends_fills_no_disk(
    texts: dict[str, bytes], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    monkeypatch.setattr("worker.backfill.sources.spool.RESERVED_BYTES", free - 64 * 1024 * 1024)
    with served(texts) as server, pytest.raises(SourceUnavailableError) as caught:
        paths(f"{server}/{way}/items.jsonl?key=secret", "items.jsonl")
    said = str(caught.value)
    assert said.startswith(
        f"{server}/{way}/items.jsonl?…: is too large to be kept while it is read"
    )
    assert "TMPDIR" in said


def test_what_unpacks_to_more_than_the_disk_takes_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "items.parquet.gz"
    path.write_bytes(gzip.compress(bytes(2**27), 1))
    free = shutil.disk_usage(tempfile.gettempdir()).free
    monkeypatch.setattr("worker.backfill.sources.spool.RESERVED_BYTES", free - 2**25)
    with pytest.raises(SourceUnavailableError, match="is too large to be kept while it is read"):
        paths(str(path), "items.parquet.gz")
