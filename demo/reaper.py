"""Cleans up after a demo that could not: `python -m demo.reaper`.

The demo keeps the other end of our stdin open and tells on it, a line each, what must not outlive
it: `group PID`, `folder PATH`, and `released …` for what is no longer our concern. However the
demo ends, `kill -9` included, the system closes that end; what is still named then is killed and
deleted. Works on every platform, unlike PDEATHSIG. Standard library only, so that it starts at
once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys


def main() -> None:
    """Listens until the demo is gone, then cleans up."""
    # In a session of its own it gets no Ctrl-C; a plain kill must not unguard the demo either.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    named: list[str] = []
    for line in sys.stdin:
        act, _, what = line.rstrip("\n").partition(" ")
        if act == "released":
            named.remove(what)
        else:
            named.append(f"{act} {what}")
    for kind, _, what in (each.partition(" ") for each in named):
        if kind == "group":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(what), signal.SIGKILL)
    for kind, _, what in (each.partition(" ") for each in named):
        if kind == "folder":
            shutil.rmtree(what, ignore_errors=True)


if __name__ == "__main__":
    main()
