"""Runs console commands in processes that are forked from one that has imported what they need.

Importing takes most of the second that a command takes, and the tests run hundreds of them. A
command runs as the console script does from there on: `main` in a process of its own, with its own
arguments, environment, folder and pipes. What reads its environment while it is imported can't be
told anything new; `would_be_the_same` says where a whole process of its own is needed.

The module is also the program of the process that is forked from.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Variables that are read while something is imported, or by the interpreter before that.
_READ_AT_START = (
    "FORCE_COLOR",
    "FSSPEC",
    "HOME",
    "LANG",
    "LC_",
    "LD_PRELOAD",
    "NO_COLOR",
    "PYTHON",
    "TZ",
)
_LENGTH = struct.Struct("!I")
_DESCRIPTORS = 4


def would_be_the_same(environment: Mapping[str, str]) -> bool:
    """Tells whether a fork of ours sees the environment as a process of its own would."""
    return _start(environment) == _start(os.environ)


def _start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_AT_START)}


def run_forked(
    arguments: Sequence[str], environment: Mapping[str, str], stdin: bytes, seconds: float
) -> subprocess.CompletedProcess[bytes]:
    """Runs a console command to its end.

    Args:
        arguments: the program first.
        environment: the whole of it.
        stdin: what the command reads.
        seconds: to wait for the end.

    Raises:
        subprocess.TimeoutExpired: it did not end in time, and was killed.
    """
    reads_in, writes_in = os.pipe()
    reads_out, writes_out = os.pipe()
    reads_err, writes_err = os.pipe()
    process = start_forked(arguments, environment, (reads_in, writes_out, writes_err))
    for each in (reads_in, writes_out, writes_err):
        os.close(each)
    read: dict[int, bytes] = {}

    def drain(descriptor: int) -> None:
        with os.fdopen(descriptor, "rb") as file:
            read[descriptor] = file.read()

    def feed() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(writes_in, "wb") as file:
            file.write(stdin)

    threads = [
        threading.Thread(target=drain, args=(reads_out,), daemon=True),
        threading.Thread(target=drain, args=(reads_err,), daemon=True),
        threading.Thread(target=feed, daemon=True),
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        process.kill()
        raise subprocess.TimeoutExpired(list(arguments), seconds)
    code = process.wait()
    return subprocess.CompletedProcess(
        list(arguments), code, stdout=read[reads_out], stderr=read[reads_err]
    )


def start_forked(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    standard: tuple[int, int, int],
    *,
    module: str = "",
) -> ForkedProcess:
    """Starts a console command, or a module as `python -m` does, in a session of its own.

    Args:
        arguments: the program first.
        environment: the whole of it.
        standard: descriptors of its input, output and errors.
        module: of the tests, which runs the console command after some preparation.
    """
    asked = json.dumps([module, list(arguments), dict(environment), os.getcwd()])  # noqa: PTH109
    reads_end, writes_end = os.pipe()
    _forks().ask(asked.encode(), [*standard, writes_end])
    os.close(writes_end)
    return ForkedProcess(arguments, os.fdopen(reads_end, "rb", buffering=0))


class ForkedProcess:
    """A process that was forked for us, with what `subprocess.Popen` has of it."""

    def __init__(self, arguments: Sequence[str], told: BinaryIO) -> None:
        self.args = list(arguments)
        self.returncode: int | None = None
        self._told = told
        line = b""
        while not line.endswith(b"\n"):
            line += told.read(1)
        self.pid = int(line)

    def poll(self) -> int | None:
        """Returns the exit code, or None while it runs."""
        return self._code(0)

    def wait(self, timeout: float | None = None) -> int:
        """Returns the exit code once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not.
        """
        code = self._code(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def _code(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], seconds)[0]:
            with self._told:
                self.returncode = int(self._told.read())
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal to what has not ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Asks it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it."""
        self.send_signal(signal.SIGKILL)


@cache
def _forks() -> _Forks:
    return _Forks()


class _Forks:
    """The process that is forked from; it ends with ours, by the end of the socket."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        atexit.register(self.close)

    def close(self) -> None:
        self._socket.close()
        self._process.wait()

    def ask(self, asked: bytes, descriptors: list[int]) -> None:
        with self._lock:
            socket.send_fds(self._socket, [_LENGTH.pack(len(asked))], descriptors)
            self._socket.sendall(asked)


def _serve(asking: socket.socket) -> str:
    """Forks a process for each that is asked for; returns in that process, or ends.

    Returns:
        The module that it is to run, empty for the console command.
    """
    # Nobody waits for those who wait for the commands.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        length, descriptors, _, _ = socket.recv_fds(asking, _LENGTH.size, _DESCRIPTORS)
        if not length:
            sys.exit()
        asked = _read(asking, _LENGTH.unpack(length)[0])
        if not os.fork():
            asking.close()
            break
        for each in descriptors:
            os.close(each)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *standard, told = descriptors
    process = os.fork()
    if process:
        _wait(process, os.fdopen(told, "wb", buffering=0), standard)
    os.close(told)
    os.setsid()
    for number, each in enumerate(standard):
        os.dup2(each, number)
        os.close(each)
    module, sys.argv, environment, folder = json.loads(asked)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    return str(module)


def _wait(process: int, told: BinaryIO, standard: list[int]) -> None:
    for each in standard:
        os.close(each)
    told.write(b"%d\n" % process)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    told.write(b"%d" % code)
    os._exit(0)


def _read(asking: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        parts += asking.recv(size - len(parts))
    return parts


def _end(main: Callable[[], Any]) -> NoReturn:
    """Runs the program and what runs at its end; what is imported is not taken apart."""
    code = 0
    try:
        main()
    except SystemExit as exc:
        if isinstance(exc.code, str):
            print(exc.code, file=sys.stderr)  # noqa: T201 - as Python does
        code = 1 if isinstance(exc.code, str) else exc.code or 0
    except BaseException:  # noqa: BLE001 - as Python does
        traceback.print_exc()
        code = 1
    # What Python does at its end, in its order.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _import_all() -> None:
    from worker import cli  # noqa: PLC0415 - only in the process that is forked from

    for found in pkgutil.walk_packages(cli.__path__, "worker.cli."):
        import_module(found.name)


if __name__ == "__main__":
    # The folder of a program is where it imports from first; ours is a package of tests.
    del sys.path[0]
    _import_all()
    from worker.cli import main

    # Or each collection of garbage would copy every page of what was imported.
    gc.collect()
    gc.freeze()
    asked_module = _serve(socket.socket(fileno=int(sys.argv[1])))
    if asked_module:
        sys.path.insert(0, str(Path(__file__).parents[1]))
        _end(partial(runpy.run_module, asked_module, run_name="__main__", alter_sys=True))
    _end(main)
