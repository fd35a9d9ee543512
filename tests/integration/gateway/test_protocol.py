"""Connections of the gateway: what is no HTTP."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    import pytest

    from tests.gateway_process import GatewayServer


def test_what_is_no_http_is_answered_400_and_does_not_fill_the_log(
    gateway: GatewayServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = httpx.URL(gateway.url)
    caplog.set_level(logging.DEBUG)
    for _ in range(20):
        with socket.create_connection((url.host, url.port), timeout=30) as connection:
            connection.sendall(b"this is no HTTP\r\n\r\n")
            assert connection.recv(64).startswith(b"HTTP/1.1 400 ")
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []
