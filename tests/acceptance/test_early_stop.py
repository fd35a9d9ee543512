"""A stop while a service still imports what it needs: as the first process of a container too."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.console import SCRIPT
from worker.start import SERVICES

PATIENCE_SECONDS = 60
# A process of its own is the first one there; the kernel drops signals that it does not handle.
FIRST_PROCESS = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
# Nobody listens there: what got so far would wait, and end with something else than 0.
ENVIRONMENT = {
    **os.environ,
    "TRAINMASTER_REDIS_URL": "redis://127.0.0.1:1/0",
    "TRAINMASTER_BEARER_TOKEN": "t",
}


def can_be_first() -> bool:
    """Whether this machine lets us make a namespace of processes."""
    if shutil.which(FIRST_PROCESS[0]) is None:
        return False
    made = subprocess.run([*FIRST_PROCESS, "true"], capture_output=True, check=False)
    return made.returncode == 0


@pytest.fixture(params=[(), FIRST_PROCESS], ids=["a process", "the first process"])
def prefix(request: pytest.FixtureRequest) -> tuple[str, ...]:
    found: tuple[str, ...] = request.param
    if found and not can_be_first():
        pytest.skip("no namespace of processes can be made here")
    return found


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_a_service_that_is_stopped_before_it_has_begun_ends_at_once_with_0(
    service: str, prefix: tuple[str, ...], tmp_path: Path
) -> None:
    options = ("--state", str(tmp_path / "state"), "--port", "0") if service == "sandbox" else ()
    command = [*prefix, str(SCRIPT), service, *options]
    assert stopped(command, bool(prefix), signal.SIGTERM, tmp_path) == (0, b"")


def test_ctrl_c_before_it_has_begun_ends_it_without_a_traceback(tmp_path: Path) -> None:
    found = stopped([str(SCRIPT), "worker"], False, signal.SIGINT, tmp_path)
    assert found == (-signal.SIGINT, b"")


def stopped(
    command: list[str], has_child: bool, by: signal.Signals, folder: Path
) -> tuple[int, bytes]:
    """Starts a service and stops it in its imports; returns its exit code and all it said."""
    with subprocess.Popen(
        command,
        env=ENVIRONMENT,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # A shell's background ignores it, and so do all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        begun = time.monotonic()
        try:
            pid = only_child(process) if has_child else process.pid
            while not handles(pid, signal.SIGTERM):
                assert process.poll() is None, "it ended by itself"
                assert time.monotonic() < begun + PATIENCE_SECONDS, "it handles SIGTERM"
                time.sleep(0.001)
            os.kill(pid, by)
            out, _ = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            process.kill()
    return process.returncode, out


def only_child(process: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (told := children.read_text().split()):
        assert time.monotonic() < deadline, "unshare has a child"
        time.sleep(0.001)
    return int(told[0])


def handles(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, mask = line.partition(":")
        if name == "SigCgt":
            return bool(int(mask, 16) >> (number - 1) & 1)
    return False
