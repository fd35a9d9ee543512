"""A web server of a test's own, on a free loopback port."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from http.server import BaseHTTPRequestHandler


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
