"""Where one run takes place: a Redis, a stub, a key, and a contender's worker, all of its own."""

from __future__ import annotations

import json
import os
import ssl
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from redis import Redis

from benchmarks.certificate import ADDRESS, write_certificate
from benchmarks.errors import BenchmarkError
from benchmarks.processes import Cores, Measured, session_cpu_seconds
from benchmarks.work import CONCURRENCY, KEY_PEM_FILE, REDIS_URL
from worker.embedded import EmbeddedRedis

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping

    from benchmarks.contenders.contender import Contender

ROOT: Final = Path(__file__).parents[1]
READY_SECONDS: Final = 30.0
CERTIFICATE: Final = "certificate.pem"
# Where those of Python and those of Node look for whom to trust.
_TRUSTED: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
_LOOK_SECONDS = 0.02
_LAST_LINES = 10
_LINE_CHARACTERS = 300


class Testbed:
    """One Redis and one stub, with room for one worker at a time.

    Args:
        folder: of this run alone.
        server: the Redis.
        stub: the process; over TLS where the folder has a certificate.
        cores: who runs where.
    """

    def __init__(self, folder: Path, server: EmbeddedRedis, stub: Measured, cores: Cores) -> None:
        self.folder = folder
        self.server = server
        self.stub = stub
        self.cores = cores
        self._certificate = folder / CERTIFICATE if (folder / CERTIFICATE).exists() else None
        scheme = "https" if self._certificate else "http"
        self.domain = f"{scheme}://{ADDRESS}:{_port(folder / 'port', stub)}"
        self.redis = Redis.from_url(server.url)
        self._key = folder / "key"
        # Node reads no keys in the format of OpenSSH.
        self._pem = folder / "key.pem"
        key = Ed25519PrivateKey.generate()
        for file, form in ((self._key, PrivateFormat.OpenSSH), (self._pem, PrivateFormat.PKCS8)):
            file.write_bytes(key.private_bytes(Encoding.PEM, form, NoEncryption()))

    @property
    def log(self) -> Path:
        """Where workers print to."""
        return self.folder / "worker.log"

    def start(
        self, contender: Contender, concurrency: int, settings: Mapping[str, str] | None = None
    ) -> Measured:
        """Starts a contender's worker; does not wait for it.

        Args:
            contender: whose worker.
            concurrency: how many commands may be under way.
            settings: more of the worker's environment.
        """
        return Measured(
            contender.command(concurrency),
            self.environment(contender, concurrency) | dict(settings or {}),
            self.log,
            self.cores.worker,
        )

    def environment(self, contender: Contender, concurrency: int) -> dict[str, str]:
        """Returns the environment of a contender's worker."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TRAINMASTER_", "ENCORD_"))
        }
        trust = dict.fromkeys(_TRUSTED, str(self._certificate)) if self._certificate else {}
        asked = contender.environment(self.server.url, self.folder, concurrency)
        own = {
            REDIS_URL: self.server.url,
            CONCURRENCY: str(concurrency),
            "ENCORD_DOMAIN": self.domain,
            "ENCORD_SSH_KEY_FILE": str(self._key),
            KEY_PEM_FILE: str(self._pem),
            "PYTHONPATH": str(ROOT),
        }
        return inherited | own | trust | asked

    def calls(self) -> dict[str, int]:
        """Returns how often the stub was called, by command id."""
        return cast("dict[str, int]", json.loads(self._ask("GET", "/calls")))

    def connections(self) -> int:
        """Returns on how many connections the stub was called."""
        return int(self._ask("GET", "/connections"))

    def set_latency(self, milliseconds: int) -> None:
        """Has the stub answer after so long from now on."""
        self._ask("PUT", f"/latency/{milliseconds}")

    def memory_bytes(self) -> int:
        """Returns what Redis holds in its data structures, overhead included."""
        return int(self.redis.info("memory")["used_memory"])

    def data_bytes(self) -> int:
        """Returns what Redis holds for keys and values, without connections and buffers."""
        return int(self.redis.info("memory")["used_memory_dataset"])

    def redis_cpu_seconds(self) -> float:
        """Returns the time of Redis so far, of its children that rewrite its file too."""
        return session_cpu_seconds(cast("subprocess.Popen[bytes]", self.server.process).pid)

    def last_lines(self) -> str:
        """Returns the last lines that a worker printed."""
        printed = self.log.read_text("utf-8", "replace") if self.log.exists() else ""
        return "\n".join(line[:_LINE_CHARACTERS] for line in printed.splitlines()[-_LAST_LINES:])

    def _ask(self, method: str, path: str) -> bytes:
        request = urllib.request.Request(self.domain + path, method=method)  # noqa: S310 - our stub
        tls = ssl.create_default_context(cafile=self._certificate) if self._certificate else None
        with urllib.request.urlopen(request, timeout=60, context=tls) as reply:  # noqa: S310 - our stub
            return cast("bytes", reply.read())


@contextmanager
def open_testbed(
    cores: Cores,
    *,
    latency_ms: int = 50,
    tls: bool = False,
    config: Mapping[str, str] | None = None,
) -> Iterator[Testbed]:
    """Starts Redis and the stub; all of it is gone at the end.

    Args:
        cores: who runs where.
        latency_ms: of the stub.
        tls: whether the stub speaks TLS 1.3, with a certificate that workers trust.
        config: directives of Redis in place of ours.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        everysec = {"appendfsync": "everysec", **(config or {})}
        server = stack.enter_context(EmbeddedRedis(folder / "redis", config=everysec))
        pin(server, cores)
        arguments = ["--latency-ms", str(latency_ms), "--ready", str(folder / "port")]
        if tls:
            arguments += ["--certificate", str(write_certificate(folder / CERTIFICATE))]
        stub = Measured(
            [sys.executable, "-m", "benchmarks.stub", *arguments],
            os.environ | {"PYTHONPATH": str(ROOT)},
            folder / "stub.log",
            cores.rest,
        )
        stack.callback(stub.stop)
        testbed = Testbed(folder, server, stub, cores)
        stack.callback(testbed.redis.close)
        yield testbed


def pin(server: EmbeddedRedis, cores: Cores) -> None:
    """Keeps a Redis, threads that it already has included, off the worker's core."""
    process = cast("subprocess.Popen[bytes]", server.process)
    for thread in Path(f"/proc/{process.pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {cores.rest})


def _port(ready: Path, stub: Measured) -> int:
    deadline = time.monotonic() + READY_SECONDS
    while not ready.exists():
        if not stub.alive or time.monotonic() > deadline:
            raise BenchmarkError(
                f"the stub did not start: {ready.with_name('stub.log').read_text()}"
            )
        time.sleep(_LOOK_SECONDS)
    return int(ready.read_text())
