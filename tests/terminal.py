"""The console script on a terminal of a given width."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from typing import TYPE_CHECKING

from tests.console import SCRIPT, TIMEOUT_SECONDS, Console, Said

if TYPE_CHECKING:
    from collections.abc import Mapping

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


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
