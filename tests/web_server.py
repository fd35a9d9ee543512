"""Web servers of a test's own, on a free loopback port.

`serving` answers as a handler does. `Bodies` sends the same files in every way in which servers
send bodies. The first part of a path is the way: `/chunked/a.jpg` is the file `a.jpg`, sent in
chunks that come one after the other. A way that ends in `-cut` breaks off in the middle, as often
as `cuts_left` says (always, unless it is set), and sends the whole file from then on; `stall-cut`
says nothing more instead. `silent` does not answer until the server is awake.
"""

from __future__ import annotations

import gzip
import socket
import struct
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAYS: Final = ("length", "chunked", "close", "gzip", "gzip-chunked", "gzip-parts", "no-head")
CUT_WAYS: Final = ("length-cut", "chunked-cut", "gzip-cut", "gzip-chunked-cut", "reset-cut")
PIECE_BYTES: Final = 20_000
PIECE_SECONDS: Final = 0.001
STALL_SECONDS: Final = 60.0


class _OverIPv6(ThreadingHTTPServer):
    address_family = socket.AF_INET6


@contextmanager
def serving(
    handler: Callable[..., BaseHTTPRequestHandler], *, host: str = "127.0.0.1"
) -> Iterator[str]:
    """Answers as the handler does; yields the server's URL, without a slash at its end.

    Raises:
        OSError: this machine has no such address.
    """
    server_class = _OverIPv6 if ":" in host else ThreadingHTTPServer
    with server_class((host, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            shown = f"[{host}]" if ":" in host else host
            yield f"http://{shown}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Bodies:
    """What such a server has, and what it was asked for.

    Attributes:
        files: content by name.
        cuts_left: how often a `-cut` still breaks off, by path; for ever if absent.
        statuses: what is answered instead, by path.
        asked: how often each path was asked for by GET.
        awake: ends every silence.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cuts_left: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    awake: threading.Event = field(default_factory=threading.Event)

    def serve(self) -> Any:
        """Returns a context manager that yields the server's URL."""
        return serving(partial(_Handler, self))

    def is_cut(self, path: str) -> bool:
        """Tells whether an answer breaks off, and counts it."""
        if path not in self.cuts_left:
            return True
        self.cuts_left[path] -= 1
        return self.cuts_left[path] >= 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, bodies: Bodies, *args: Any) -> None:
        self.bodies = bodies
        super().__init__(*args)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base names it
        pass

    def handle(self) -> None:
        # Who is killed while he waits has reset the connection.
        with suppress(ConnectionError):
            super().handle()

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self.bodies.asked[self.path] += 1
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        # Who has seen enough hangs up.
        with suppress(ConnectionError):
            self._send(with_body=with_body)

    def _send(self, *, with_body: bool) -> None:
        way, _, name = self.path.lstrip("/").partition("/")
        if way == "silent":
            self.bodies.awake.wait(STALL_SECONDS)
        content = self.bodies.files.get(name)
        status = self.bodies.statuses.get(self.path, 200 if content is not None else 404)
        if way == "no-head" and not with_body:
            status = 405
        if status == 200 and content is not None:
            self._send_content(way, content, with_body=with_body)
            return
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def _send_content(self, way: str, content: bytes, *, with_body: bool) -> None:
        cut = with_body and way.endswith("-cut") and self.bodies.is_cut(self.path)
        way = way.removesuffix("-cut")
        self.send_response(200)
        if way.startswith("gzip"):
            # In parts each has an end of its own, as of what several processes pack at a time.
            half = len(content) // 2 if way == "gzip-parts" else 0
            parts = (content[:half], content[half:]) if half else (content,)
            content = b"".join(gzip.compress(part, 1) for part in parts)
            self.send_header("content-encoding", "gzip")
        # What is packed breaks off in good order: only its own end tells that something is missing.
        sent = content[: len(content) // 2] if cut else content
        whole = len(sent) if way.startswith("gzip") else len(content)
        chunked = way.endswith("chunked")
        if chunked:
            self.send_header("transfer-encoding", "chunked")
        elif way != "close":
            self.send_header("content-length", str(whole))
        self.close_connection = way == "close" or cut
        if self.close_connection:
            self.send_header("connection", "close")
        self.end_headers()
        if not with_body:
            return
        self._send_pieces(sent, chunked=chunked)
        if way == "stall" and cut:
            self.bodies.awake.wait(STALL_SECONDS)
        elif way == "reset" and cut:
            # Closed with a time of 0 to linger, a connection is not ended but reset.
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
        elif chunked and not (cut and way == "chunked"):
            self.wfile.write(b"0\r\n\r\n")

    def _send_pieces(self, sent: bytes, *, chunked: bool) -> None:
        for start in range(0, len(sent), PIECE_BYTES):
            piece = sent[start : start + PIECE_BYTES]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            self.wfile.flush()
            time.sleep(PIECE_SECONDS)
