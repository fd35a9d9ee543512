"""A real gateway over real HTTP: in a thread of the test's process, or a process to be killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import httpx
import orjson
import uvicorn

from tests.console import SCRIPT, TIMEOUT_SECONDS, wait_until
from worker.gateway.app import create_app
from worker.gateway.server import server_config
from worker.gateway_settings import GatewaySettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.console import Console

HOST: Final = "127.0.0.1"


class GatewayServer:
    """A gateway in a thread of this process.

    Attributes:
        settings: what it was started with.
        url: where clients find it, without a slash at its end.
        http: a client of it that sends no token.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings
        self.app = create_app(settings)
        self._server = uvicorn.Server(server_config(settings, self.app))
        self._thread = threading.Thread(target=self._server.run, name="gateway")
        self.url = ""
        self.http = httpx.Client()

    def start(self) -> None:
        """Returns once it listens."""
        self._thread.start()
        wait_until(lambda: self._server.started or not self._thread.is_alive(), "a gateway")
        assert self._thread.is_alive(), "the gateway did not start; its log tells why"
        port = self._server.servers[0].sockets[0].getsockname()[1]
        scheme = "https" if self._server.config.is_ssl else "http"
        self.url = f"{scheme}://{HOST}:{port}"
        self.http.close()
        self.http = self.client()

    def client(self, token: str | None = None, **options: Any) -> httpx.Client:
        """Returns a client, which the caller closes.

        Args:
            token: the secret that it sends; none where it is None.
            options: of httpx.
        """
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.Client(
            base_url=self.url, headers=headers, timeout=TIMEOUT_SECONDS, trust_env=False, **options
        )

    def stop(self) -> None:
        """Ends it; requests that still wait are broken off."""
        self.http.close()
        self._server.should_exit = True
        self._thread.join(TIMEOUT_SECONDS)
        assert not self._thread.is_alive(), "the gateway did not end"


@contextmanager
def serving_gateway(redis_url: str, namespace: str, **settings: Any) -> Iterator[GatewayServer]:
    """Serves on a free port while it is entered; the settings are those of `GatewaySettings`."""
    told = {"gateway_host": HOST, "gateway_port": 0, **settings}
    gateway = GatewayServer(GatewaySettings(redis_url=redis_url, namespace=namespace, **told))
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()


class GatewayProcess:
    """`trainmaster gateway` in a process of its own, which may be killed and started again.

    Attributes:
        url: where clients find it; a start after the first one keeps the port.
        log: what all its processes wrote.
    """

    def __init__(self, console: Console, log: Path, *options: str) -> None:
        self.log = log
        self.url = ""
        self._environment = {**console.environment, "TRAINMASTER_LOG_FORMAT": "json"}
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that was started last; with `--workers`, the parent of the others."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts it; returns once it listens."""
        port = self.url.rpartition(":")[2] or "0"
        begin = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as file:
            self._process = subprocess.Popen(
                [SCRIPT, "gateway", "--port", port, *self._options],
                stdout=file,
                stderr=file,
                env=self._environment,
            )
        process = self._process
        try:
            wait_until(
                lambda: process.poll() is not None or self._told_url(begin) is not None,
                "a gateway",
            )
        except AssertionError:
            process.kill()
            raise
        url = self._told_url(begin)
        assert url is not None, self.log.read_text()
        self.url = url

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal and returns the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            os.kill(self._process.pid, number)
        return self._process.wait(TIMEOUT_SECONDS)

    def kill(self) -> None:
        """Ends it as a crash does; returns once nobody listens on its port."""
        self.stop(signal.SIGKILL)
        # With `--workers` the others notice that their parent is gone.
        wait_until(lambda: not self._listens(), "a free port")

    def _listens(self) -> bool:
        port = int(self.url.rpartition(":")[2])
        with socket.socket() as probe:
            return probe.connect_ex((HOST, port)) == 0

    def _told_url(self, begin: int) -> str | None:
        for line in self.log.read_bytes()[begin:].splitlines():
            if b"gateway.ready" in line:
                told: str = orjson.loads(line)["url"]
                return told
        return None


@contextmanager
def running_gateway(console: Console, log: Path, *options: str) -> Iterator[GatewayProcess]:
    """Runs `trainmaster gateway`; it ends in good order or the test fails, unless it was killed.

    Args:
        console: whose environment it gets, with the settings of the gateway.
        log: the file for what it writes.
        options: of the command.
    """
    gateway = GatewayProcess(console, log, *options)
    gateway.start()
    try:
        yield gateway
    finally:
        code = gateway.stop()
    assert code in {0, -signal.SIGKILL}, log.read_text()
