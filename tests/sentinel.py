"""A primary, a replica and the Sentinel that watches them."""

from __future__ import annotations

import secrets
import socket
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from redis import Redis
from redis.exceptions import RedisError

from tests.faults.fleet import wait_until
from worker.embedded import EmbeddedRedis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVICE = "ledger"
PATIENCE_SECONDS = 180


@dataclass
class Watched:
    """Two servers that a Sentinel watches."""

    primary: EmbeddedRedis
    replica: EmbeddedRedis
    sentinel_port: int
    sentinel_password: str

    @property
    def password(self) -> str:
        return self.primary.url.rpartition("@")[0].rpartition(":")[2]

    @property
    def url(self) -> str:
        """What a worker is told: nothing of the servers, only where the Sentinel is."""
        return (
            f"sentinel://:{self.password}@127.0.0.1:{self.sentinel_port}/0"
            f"?service={SERVICE}&sentinel_password={self.sentinel_password}"
        )

    def leader_port(self) -> int:
        client = Redis(port=self.sentinel_port, password=self.sentinel_password)
        host, port = cast("tuple[bytes, int]", client.sentinel_get_master_addr_by_name(SERVICE))
        client.close()
        assert host == b"127.0.0.1"
        return int(port)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    password = secrets.token_urlsafe(24)
    common = {"requirepass": password, "masterauth": password, "repl-diskless-sync-delay": "0"}
    primary = EmbeddedRedis(folder / "primary", config=common)
    primary._password = password
    replica = EmbeddedRedis(
        folder / "replica", config={**common, "replicaof": f"127.0.0.1 {primary.port}"}
    )
    replica._password = password
    sentinel_port, sentinel_password = free_port(), secrets.token_urlsafe(24)
    with primary, replica:
        follower = Redis.from_url(replica.url)
        wait_until(
            lambda: follower.info("replication")["master_link_status"] == "up",
            PATIENCE_SECONDS,
            "a replica",
        )
        with running_sentinel(folder, primary, password, sentinel_port, sentinel_password):
            sentinel = Redis(port=sentinel_port, password=sentinel_password)
            wait_until(
                lambda: cast("Any", sentinel.sentinel_master(SERVICE))["num-slaves"] == 1,
                20,
                "the Sentinel knows the replica",
            )
            sentinel.close()
            follower.close()
            yield Watched(primary, replica, sentinel_port, sentinel_password)


@contextmanager
def running_sentinel(
    folder: Path, primary: EmbeddedRedis, password: str, port: int, own_password: str
) -> Iterator[None]:
    file = folder / "sentinel.conf"
    file.write_text(
        f"bind 127.0.0.1\nport {port}\nrequirepass {own_password}\ndir {folder}\n"
        f"logfile {folder}/sentinel.log\n"
        f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 1\n"
        f"sentinel auth-pass {SERVICE} {password}\n"
        f"sentinel down-after-milliseconds {SERVICE} 1000\n"
        f"sentinel failover-timeout {SERVICE} 10000\n"
    )
    process = subprocess.Popen([primary.server, file, "--sentinel"], stdout=subprocess.DEVNULL)
    try:
        client = Redis(port=port, password=own_password)

        def answers() -> bool:
            try:
                return bool(client.ping())
            except RedisError:
                return False

        wait_until(answers, PATIENCE_SECONDS, "the Sentinel answers")
        client.close()
        yield
    finally:
        process.terminate()
        process.wait(20)
