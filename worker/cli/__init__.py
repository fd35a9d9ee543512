"""The command line: one file per group of commands, gathered in `worker.cli.main`."""

from worker.cli.main import main

__all__ = ["main"]
