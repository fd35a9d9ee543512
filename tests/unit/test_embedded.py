"""The Redis server of our own."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import jax
import pytest
from redis import Redis

from worker.embedded import EmbeddedRedis
from worker.errors import SettingError

if TYPE_CHECKING:
    from pathlib import Path


def test_it_starts_beside_jax_and_again_where_it_was_killed(tmp_path: Path) -> None:
    assert jax.numpy.zeros(1).sum() == 0
    assert "jax" in sys.modules
    with EmbeddedRedis(tmp_path) as server:
        with Redis.from_url(server.url) as client:
            client.set("kept", "yes")
        url = server.url
        server.kill()
        server.start()
        assert server.url == url
        with Redis.from_url(server.url) as client:
            assert client.get("kept") == b"yes"


def test_it_takes_another_port_where_somebody_was_faster_but_not_once_clients_know_it(
    tmp_path: Path,
) -> None:
    server = EmbeddedRedis(tmp_path)
    taken = server.port
    with socket.create_server(("127.0.0.1", taken)), server:
        assert server.port != taken
        with Redis.from_url(server.url) as client:
            assert client.ping()
        server.kill()
        with (
            socket.create_server(("127.0.0.1", server.port)),
            pytest.raises(SettingError, match="did not start"),
        ):
            server.start()
