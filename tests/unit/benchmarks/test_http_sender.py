"""The sender of the gateway's benchmark: what it counts as taken, and from when it counts."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.http_sender import post_paced

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOW_SECONDS = 0.2


class Answer(BaseHTTPRequestHandler):
    """Answers what the body says: a status, `slow` for a 202 that is late, `close` for nothing."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        said = self.rfile.read(int(self.headers["content-length"]))
        if said == b"close":
            self.close_connection = True
            return
        if said == b"slow":
            time.sleep(SLOW_SECONDS)
        self.send_response(202 if said == b"slow" else int(said))
        self.send_header("Content-Length", "4")
        self.end_headers()
        # In two pieces, as an answer may come.
        for piece in (b"ab", b"cd"):
            self.wfile.write(piece)
            self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Writes nothing."""


class Server(ThreadingHTTPServer):
    """Takes all connections of a sender at once."""

    request_queue_size = 64


@contextmanager
def server() -> Iterator[str]:
    """A server of such answers; yields its URL."""
    with Server(("127.0.0.1", 0), Answer) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}/v1/commands"
        finally:
            serving.shutdown()
            thread.join()


def test_only_what_was_taken_has_a_time() -> None:
    with server() as url:
        found = post_paced(url, [b"202", b"503", b"202"], per_second=1000, connections=2)
    assert [each is None for each in found] == [False, True, False]


def test_a_request_counts_from_when_it_was_due_though_no_connection_was_free() -> None:
    with server() as url:
        found = post_paced(url, [b"slow", b"202", b"202"], per_second=1000, connections=1)
    assert all(each is not None and each >= SLOW_SECONDS * 900 for each in found)


def test_no_request_is_sent_before_it_is_due() -> None:
    begun = time.monotonic()
    with server() as url:
        found = post_paced(url, [b"202"] * 10, per_second=50, connections=4)
    assert time.monotonic() - begun > 9 / 50
    assert all(each is not None and each > 0 for each in found)


def test_no_connection_rests_until_the_server_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answer, "timeout", 2.0)
    with server() as url:
        found = post_paced(url, [b"202"] * 150, per_second=50, connections=8)
    assert None not in found


def test_a_connection_that_ends_is_no_figure() -> None:
    with server() as url, pytest.raises(BenchmarkError, match="closed a connection"):
        post_paced(url, [b"202", b"close", b"202"], per_second=1000, connections=1)
