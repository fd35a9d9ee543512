"""The collector of garbage rests while imports run, and works again afterwards."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# What the collector is like before the first import of ours, and once a command has run.
PROGRAM = """
import gc, importlib, json, sys
import worker.start
told = {}
real = worker.start.import_module
def watched(name):
    told["while"] = gc.isenabled()
    return real(name)
worker.start.import_module = watched
sys.argv = ["trainmaster", *sys.argv[1:]]
try:
    worker.start.main()
except SystemExit:
    pass
told["then"] = gc.isenabled()
told["frozen"] = gc.get_freeze_count()
print(json.dumps(told), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [("status", "--help"), ("no-such-command",)])
def test_nothing_is_looked_for_among_what_imports_make(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, check=True, text=True
    )
    told = json.loads(done.stderr.splitlines()[-1])
    assert told["while"] is False
    assert told["then"] is True
    assert told["frozen"] > 10_000
