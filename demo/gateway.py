"""The demo's gateway: its page shows what happens while it happens."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import orjson

from demo.errors import DemoError
from demo.processes import Child
from worker.settings import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from demo.processes import Reaper

LOG: Final = "gateway.log"
_NEEDS: Final = "fastapi"


class Gateway:
    """A gateway on a free port of this machine, without tokens.

    Args:
        folder: keeps its lists.
        logs: gets its log file.
        reaper: is told of the process.
    """

    def __init__(self, folder: Path, logs: Path, reaper: Reaper) -> None:
        self._folder = folder
        self._child = Child("gateway", logs / LOG, reaper)

    @staticmethod
    def check() -> None:
        """Returns if a gateway can run here.

        Raises:
            DemoError: its packages are not installed.
        """
        if find_spec(_NEEDS) is None:
            raise DemoError(f"--open needs the package {_NEEDS}: install trainmaster[gateway]")

    async def start(
        self, script: Sequence[str], environ: Mapping[str, str], data_roots: str
    ) -> None:
        """Starts it, and returns once its page can be opened.

        Args:
            script: what runs the console script.
            environ: the worker's.
            data_roots: below which its page may show pictures.

        Raises:
            ChildError: it does not start.
        """
        own = {
            f"{PREFIX}GATEWAY_PORT": "0",
            f"{PREFIX}GATEWAY_FOLDER": str(self._folder),
            f"{PREFIX}GATEWAY_DATA_ROOTS": data_roots,
            f"{PREFIX}LOG_FORMAT": "json",
        }
        await self._child.start([sys.executable, *script, "gateway"], {**environ, **own})
        await self._child.until(lambda: bool(self.page_url))

    async def watch(self) -> None:
        """Waits for an end that nobody asked for.

        Raises:
            ChildError: it came.
        """
        await self._child.watch()

    async def stop(self) -> None:
        """Ends it."""
        await self._child.stop()

    @property
    def page_url(self) -> str:
        """The address of its page, as its log tells; empty before that."""
        for line in self._child.log_file.read_bytes().splitlines():
            if b'"gateway.ready"' in line:
                return f"{orjson.loads(line)['url']}/"
        return ""
