"""Redis over TLS: worker, console and producer trust the authority that the URL names, no other."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.console import SCRIPT, Console, running_worker, wait_until
from tests.security.tls import Authority, TlsProxy
from trainmaster_client import Client, RedisRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.embedded import EmbeddedRedis

ENDED = "2020-01-01T00:00:00Z"


@dataclass(frozen=True)
class Secured:
    """A proxy, the authority that it has its certificate from, and another authority."""

    proxy: TlsProxy
    right: Authority
    wrong: Authority
    password: str

    def url(self, authority: Authority | None = None, host: str = "127.0.0.1") -> str:
        """Where Redis is, over TLS; trusts an authority, or the system's."""
        options = "" if authority is None else f"?ssl_ca_certs={authority.file}"
        return f"rediss://:{self.password}@{host}:{self.proxy.port}/0{options}"


@pytest.fixture(scope="module")
def secured(
    redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    right = Authority.create(folder / "right.pem", "the right authority")
    wrong = Authority.create(folder / "wrong.pem", "another authority")
    password = redis_server.url.rpartition("@")[0].rpartition(":")[2]
    with TlsProxy(redis_server.port, *right.issue(folder / "proxy", "127.0.0.1")) as proxy:
        yield Secured(proxy, right, wrong, password)


def console(url: str, namespace: str) -> Console:
    return Console(
        url,
        namespace,
        TRAINMASTER_BEARER_TOKEN="t0ken",
        ENCORD_DOMAIN="http://127.0.0.1:9",
        TRAINMASTER_LOG_FORMAT="json",
    )


def test_worker_console_and_producer_work_over_tls(
    secured: Secured, namespace: str, tmp_path: Path
) -> None:
    tls = console(secured.url(secured.right), namespace)
    before = secured.proxy.connections
    log = tmp_path / "worker.log"
    with running_worker(tls, log):
        # Its deadline has passed, so that it ends without the API.
        said = tls.run(
            "submit", "--wait", "--json", f"--deadline={ENDED}", "list_models", "--id=by-console"
        )
        assert said.code == 1
        assert "deadline_exceeded" in said.out
        with Client(secured.url(secured.right), namespace=namespace) as producer:
            producer.submit("list_models", {}, id="by-producer", deadline=ENDED)
        wait_until(
            lambda: '"failed"' in tls.run("status", "--json", "by-producer").out,
            "the producer's command has ended",
        )
        # Celery's own connections go the same way: the wake-up was one of them.
        assert "Connected to rediss://" in log.read_text()
    assert secured.proxy.connections > before + 5
    assert secured.password not in log.read_text()


@pytest.mark.parametrize("trusted", ["another authority", "the system's authorities"])
def test_a_certificate_of_an_authority_that_is_not_trusted_is_refused(
    secured: Secured, namespace: str, trusted: str, tmp_path: Path
) -> None:
    url = secured.url(secured.wrong if trusted == "another authority" else None)
    before = secured.proxy.connections
    tls = console(url, namespace)
    said = tls.run("list")
    assert said.code == 1
    (line,) = said.err.splitlines()
    assert "certificate verify failed" in line.lower()
    assert secured.password not in line
    with Client(url, namespace=namespace) as client, pytest.raises(RedisRefusedError, match="CERT"):
        client.submit("list_models", {})
    log = tmp_path / "worker.log"
    with log.open("wb") as file:
        worker = subprocess.Popen([SCRIPT, "worker"], stdout=file, stderr=file, env=tls.environment)
    try:
        wait_until(
            lambda: "supervisor.redis_awaited" in log.read_text(), "the worker waits for Redis"
        )
        assert "certificate verify failed" in log.read_text().lower()
    finally:
        worker.terminate()
        assert worker.wait(20) == 0
    assert secured.proxy.connections == before
    assert secured.password not in log.read_text()


def test_a_certificate_for_another_host_is_refused(
    redis_server: EmbeddedRedis, secured: Secured, namespace: str, tmp_path: Path
) -> None:
    other = secured.right.issue(tmp_path, "redis.example.com")
    with TlsProxy(redis_server.port, *other) as proxy:
        tls = console(
            Secured(proxy, secured.right, secured.wrong, "x").url(secured.right), namespace
        )
        said = tls.run("list")
        assert proxy.connections == 0
    assert said.code == 1
    assert "certificate" in said.err.lower()
