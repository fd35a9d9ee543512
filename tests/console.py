"""The real console script in processes of their own, and a real worker beside it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from tests.console_forks import ForkedProcess, run_forked, start_forked, would_be_the_same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.sandbox_process import SandboxProcess

Process = ForkedProcess | subprocess.Popen[bytes]
ROOT = Path(__file__).parents[1]
SCRIPT = Path(sys.executable).parent / "trainmaster"
# For what goes wrong alone: a wait ends with the state that it is for.
TIMEOUT_SECONDS = 400
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@dataclass(frozen=True)
class Said:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Every line of its output, each a JSON object."""
        return [orjson.loads(line) for line in self.out.splitlines()]


class Console:
    """Runs the console script with nothing in its environment but what is given."""

    def __init__(self, redis_url: str, namespace: str, **environment: str) -> None:
        inherited = {
            name: value
            for name, value in os.environ.items()
            # Who runs tests in parallel may tell them of a narrow terminal that is none.
            if not name.startswith(("TRAINMASTER_", "ENCORD_", "COLUMNS"))
        }
        self.namespace = namespace
        self.environment = {
            **inherited,
            "TRAINMASTER_REDIS_URL": redis_url,
            "TRAINMASTER_NAMESPACE": namespace,
            **environment,
        }

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        without: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Said:
        """Runs a command to its end; a traceback fails the test, whatever the command is for."""
        variables = {**self.environment, **(environment or {})}
        for name in without:
            del variables[name]
        command = [str(SCRIPT), *arguments]
        if would_be_the_same(variables):
            done = run_forked(command, variables, stdin, TIMEOUT_SECONDS)
        else:
            done = subprocess.run(
                command,
                input=stdin,
                capture_output=True,
                env=variables,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
        said = Said(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in said.err, said.err
        return said

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts a command that goes on; its output comes through pipes."""
        return subprocess.Popen(
            [SCRIPT, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            # Tests that run in a shell's background inherit that interrupts are ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )


def finish(process: subprocess.Popen[str], number: signal.Signals | None = None) -> Said:
    """Sends a signal if told to, and waits for the end."""
    if number is not None:
        process.send_signal(number)
    try:
        out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert "Traceback" not in err, err
    return Said(process.returncode, out, err)


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Returns once something is so; fails if it takes too long."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        time.sleep(0.05)


def run_on_terminal(
    console: Console,
    *arguments: str,
    columns: int = 80,
    environment: Mapping[str, str] | None = None,
) -> Said:
    """Runs a command whose output is a terminal; its colours are left out of what is returned."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    variables = {**console.environment, "TERM": "xterm", **(environment or {})}
    process = subprocess.Popen(
        [SCRIPT, *arguments], stdin=follower, stdout=follower, stderr=follower, env=variables
    )
    os.close(follower)
    seen = b""
    while chunk := _read(leader):
        seen += chunk
    os.close(leader)
    code = process.wait(TIMEOUT_SECONDS)
    out = _ESCAPES.sub("", seen.decode()).replace("\r\n", "\n")
    assert "Traceback" not in out, out
    return Said(code, out, "")


def _read(leader: int) -> bytes:
    try:
        return os.read(leader, 65536)
    except OSError:
        # Linux says so once nobody has the other side open.
        return b""


def start_logged(
    command: list[str],
    environment: Mapping[str, str],
    log: Path,
    *,
    module: str = "",
    may_fork: bool = True,
) -> Process:
    """Starts a command that goes on and writes into a log.

    Args:
        command: the program first.
        environment: the whole of it.
        log: is written on.
        module: of the tests, to be run in the program's place.
        may_fork: not where its command line is looked at; outside of pytest it never does.
    """
    with log.open("ab") as file:
        if may_fork and "PYTEST_VERSION" in os.environ and would_be_the_same(environment):
            with Path(os.devnull).open("rb") as nothing:
                standard = (nothing.fileno(), file.fileno(), file.fileno())
                return start_forked(command, environment, standard, module=module)
        return subprocess.Popen(
            [sys.executable, "-m", module] if module else command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=dict(environment),
            start_new_session=True,
            cwd=ROOT if module else None,
        )


@contextmanager
def running_worker(console: Console, log: Path, *, may_fork: bool = True) -> Iterator[Process]:
    """Runs a worker; it is ready, and it ends in good order or the test fails."""
    command = [str(SCRIPT), "worker"]
    process = start_logged(command, console.environment, log, may_fork=may_fork)
    try:
        wait_until(
            lambda: process.poll() is not None or b"ready." in log.read_bytes(), "a ready worker"
        )
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.terminate()
        code = process.wait(TIMEOUT_SECONDS)
    assert code == 0, log.read_text()


@dataclass(frozen=True)
class Served:
    """A console whose commands a worker carries out, and the sandbox that it asks.

    Attributes:
        data: the one folder of the worker's data roots.
    """

    console: Console
    sandbox: SandboxProcess
    worker_log: Path
    data: Path
