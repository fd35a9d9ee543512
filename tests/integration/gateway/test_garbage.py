"""Rule: a request leaves nothing for Python's collector, which looks rarely."""

from __future__ import annotations

import gc
import http.client
from typing import TYPE_CHECKING

import pytest

from tests.integration.gateway.conftest import GOOD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.gateway_process import GatewayServer

REQUESTS = 100
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def connection(gateway: GatewayServer) -> Iterator[http.client.HTTPConnection]:
    """A client that leaves nothing itself."""
    made = http.client.HTTPConnection(gateway.url.removeprefix("http://"))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/commands", GOOD),
        ("POST", "/v1/commands", b"{"),
        ("GET", "/v1/lanes", None),
        ("GET", "/v1/commands/nobody", None),
    ],
)
def test_a_request_leaves_no_garbage(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None
) -> None:
    def ask() -> None:
        connection.request(method, path, body, JSON)
        connection.getresponse().read()

    ask()  # what is made once, and kept
    gc.collect()
    gc.disable()
    try:
        for _ in range(REQUESTS):
            ask()
        # What runs beside the requests leaves a little.
        assert gc.collect() < 2 * REQUESTS
    finally:
        gc.enable()
