"""A Redis Cluster by TLS: the certificate must name what the nodes say of themselves."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any, cast

import pytest
import redis.asyncio
from kombu import Connection
from redis import Redis
from redis.exceptions import RedisError

from tests.faults.fleet import wait_until
from tests.sentinel import free_port
from trainmaster_client import Client, RedisRefusedError
from worker.embedded import find_servers
from worker.queue.ledger.connection import connect
from worker.redis_address import RedisAddress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.security.tls import Authority

PREFIX = "{trainmaster}:"
START_SECONDS = 60


def speaks_tls(server: Path) -> bool:
    """Tells whether a server was built with TLS: it misses its key, and nothing else."""
    options = ("--port", "0", "--tls-port", str(free_port()), "--tls-cert-file", "/nowhere")
    said = subprocess.run([server, *options], capture_output=True, text=True, check=False)
    return "tls-key-file" in said.stdout


@pytest.fixture(scope="module")
def url(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A node with all slots, whose certificate names it and no address."""
    servers = [server for server in find_servers() if speaks_tls(server)]
    if not servers:
        pytest.skip("no redis-server or valkey-server of this machine was built with TLS")
    folder, port = tmp_path_factory.mktemp("node"), free_port()
    certificate, key = authority.issue(folder, "localhost")
    options = {
        "port": "0",
        "tls-port": str(port),
        "tls-cert-file": str(certificate),
        "tls-key-file": str(key),
        "tls-ca-cert-file": str(authority.file),
        "tls-auth-clients": "no",
        "tls-cluster": "yes",
        "cluster-enabled": "yes",
        "cluster-port": str(free_port()),
        "cluster-announce-hostname": "localhost",
        "cluster-preferred-endpoint-type": "hostname",
        "dir": str(folder),
        "save": "",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    server = subprocess.Popen([servers[0], *arguments], stdout=subprocess.DEVNULL)
    try:
        with Redis("localhost", port, ssl=True, ssl_ca_certs=str(authority.file)) as client:

            def answers() -> bool:
                try:
                    return bool(client.ping())
                except RedisError:
                    return False

            wait_until(answers, START_SECONDS, "the node answers")
            cast("Any", client).execute_command("CLUSTER ADDSLOTSRANGE", 0, 16_383)
            wait_until(
                lambda: b"cluster_state:ok" in _info(client), START_SECONDS, "it serves its slots"
            )
        yield f"rediss+cluster://localhost:{port}?ssl_ca_certs={authority.file}"
    finally:
        server.terminate()
        server.wait(20)


def _info(client: Redis) -> bytes:
    client.response_callbacks.clear()
    return bytes(cast("Any", client).execute_command("CLUSTER INFO"))


async def test_client_ledger_and_broker_find_the_node(url: str) -> None:
    with Client(url) as client:
        client.submit("list_models", {}, id="one")
        assert client.status("one") is None
    ledger: redis.asyncio.Redis = connect(url, PREFIX)
    assert await ledger.xlen(f"{PREFIX}commands") == 1
    await ledger.aclose()
    broker = RedisAddress.parse(url).broker(PREFIX)
    options = {**broker.options, "global_keyprefix": PREFIX}
    tls = dict(broker.tls or {})
    with Connection(
        broker.url, transport=broker.transport, ssl=tls, transport_options=options
    ) as connection:
        queue = connection.SimpleQueue("tried")
        queue.put("taken")
        assert queue.get(timeout=10).payload == "taken"
        queue.close()


def test_a_node_that_says_a_name_which_its_certificate_lacks_is_refused(url: str) -> None:
    with (
        Client(url.replace("localhost", "127.0.0.1")) as client,
        pytest.raises(RedisRefusedError, match="certificate"),
    ):
        client.status("one")
