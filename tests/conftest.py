"""What all tests share: a real Redis of the run, a namespace each, the ledger, a told server."""

from __future__ import annotations

import gc
import logging
import uuid
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from tests.console import Console, Served, running_worker
from tests.sandbox_process import running_sandbox
from tests.security.tls import Authority, server_context
from tests.shared_folder import make_shared_folder, remove_shared_folder
from tests.stub_api import StubApi
from worker.embedded import EmbeddedRedis
from worker.queue.ledger.connection import connect
from worker.queue.ledger.keys import Keys
from worker.queue.ledger.ledger import Ledger

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from redis.asyncio import Redis
    from xdist.remote import Producer

# A busy machine is no defect: no test is judged by the time it takes.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Makes what all processes of the run share."""
    if not hasattr(config, "workerinput"):
        folder = make_shared_folder()
        config.add_cleanup(lambda: remove_shared_folder(folder))


def pytest_collection_finish() -> None:
    """Has Python's collector pass over what the imports made, at each of its looks from now on."""
    gc.collect()
    gc.freeze()


class FilesOfOneStudio(LoadFileScheduling):  # type: ignore[misc]
    """Keeps a file's tests together, and the files that share a detector that has to be trained."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "studio" if file in STUDIO_FILES else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling:
    """Returns what hands tests to processes."""
    return FilesOfOneStudio(config, log)


LEASE_SECONDS = 30.0
STUDIO_FILES = {
    f"tests/integration/backfill/test_{name}.py"
    for name in ("bad_items", "measured", "readme", "remote", "runs", "sources")
}
RETENTION_SECONDS = 7 * 24 * 3600
REPLY_SECONDS = 24 * 3600
TEXT_SECONDS = 86_400


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps workers from the result store of whoever runs the tests, and their command lines."""
    with pytest.MonkeyPatch.context() as patch:
        # Where setproctitle is installed, Celery writes a title over the command line and the
        # environment of its process, which tests look at and look for.
        patch.setenv("NOSETPS", "1")
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """Takes back what a command that ran in this process made of the logs."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
        root.handlers, root.level = handlers, level
        logging.captureWarnings(False)


@pytest.fixture(scope="session")
def redis_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedRedis]:
    """A server of this run; which one can be told by an indirect parameter, its path."""
    server = getattr(request, "param", None)
    with EmbeddedRedis(tmp_path_factory.mktemp("redis"), server=server) as running:
        yield running


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """Where clients find the server, with its password."""
    return redis_server.url


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def keys(namespace: str) -> Keys:
    """The keys of the test's namespace."""
    return Keys(namespace)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client that returns bytes, as the worker's own."""
    client = connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def ledger(redis: Redis, keys: Keys) -> Ledger:
    """The ledger of the test's namespace, with the worker's default times."""
    return Ledger(
        redis,
        keys,
        lease_seconds=LEASE_SECONDS,
        retention_seconds=RETENTION_SECONDS,
        reply_retention_seconds=REPLY_SECONDS,
        text_retention_seconds=TEXT_SECONDS,
    )


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who vouches for servers that a test puts behind TLS."""
    return Authority.create(tmp_path_factory.mktemp("tls") / "ca.pem", "an authority")


@pytest.fixture(scope="session")
def issued(authority: Authority) -> tuple[Path, Path]:
    """A certificate for this machine's loopback, and its key."""
    return authority.issue(authority.file.parent / "loopback", "127.0.0.1", "localhost", "::1")


@pytest.fixture
def shown(
    authority: Authority, issued: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> ssl.SSLContext:
    """What a server behind TLS shows of itself; what this process makes from now on trusts it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return server_context(*issued)


@pytest.fixture
def stub() -> Iterator[StubApi]:
    """A server that answers 200 with `null` unless told otherwise."""
    with StubApi() as served:
        yield served


@pytest.fixture(scope="session")
def system(
    redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A sandbox and a worker of this run, on a namespace of their own."""
    folder = tmp_path_factory.mktemp("served")
    data = folder / "data"
    data.mkdir()
    with running_sandbox(folder / "sandbox") as sandbox:
        console = Console(
            redis_server.url,
            "served",
            ENCORD_DOMAIN=sandbox.told["domain"],
            ENCORD_SSH_KEY_FILE=sandbox.told["key_file"],
            TRAINMASTER_POLL_MIN_SECONDS="0.5",
            TRAINMASTER_RETRY_MIN_SECONDS="0.5",
            TRAINMASTER_LOG_FORMAT="json",
            TRAINMASTER_RESULT_STORE=str(folder / "results"),
            TRAINMASTER_DATA_ROOTS=str(data),
        )
        with running_worker(console, folder / "worker.log"):
            yield Served(console, sandbox, folder / "worker.log", data)


@pytest.fixture
def served(system: Served) -> Served:
    """The system without faults."""
    system.sandbox.http.delete("/sandbox/faults").raise_for_status()
    return system
