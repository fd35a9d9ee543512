"""The Redis server of our own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import jax
from redis import Redis

from worker.embedded import EmbeddedRedis

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
