"""Runs a module that must not outlive its parent: `python -m sandbox.child_process MODULE ARGS…`.

The parent keeps the other end of our stdin open and writes nothing. However it ends, `kill -9`
included, the system closes that end and we exit. Works on every platform, unlike PDEATHSIG,
which besides is tied to the parent's thread.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading

_STDIN = 0
_NICENESS = 5
"""Below the server on a busy machine: a prediction should not wait for a training."""


def _exit_with_parent() -> None:
    while os.read(_STDIN, 1):
        pass
    # Not sys.exit: the training may be anywhere, and nothing it leaves behind is used.
    os._exit(1)


def main() -> None:
    """Runs the module named by the first argument with the others as its own."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    os.nice(_NICENESS)
    module, sys.argv = sys.argv[1], sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
