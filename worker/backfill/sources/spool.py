"""Files without a name for what has to be here whole; they leave others room on their disk."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final

from worker.backfill.errors import SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Nobody knows how long a source is before it has ended, and some never end.
RESERVED_BYTES: Final = 256 * 1024 * 1024
_LOOK_BYTES: Final = 16 * 1024 * 1024
_MIB: Final = 1024 * 1024


class Spool:
    """A file that is written once and then read.

    Args:
        file: an empty one.
        source: what it is for, as it may be shown.
    """

    def __init__(self, file: IO[bytes], source: str) -> None:
        self.file = file
        self._source = source
        self._written = 0
        self._look_at = 0

    def expect(self, size_bytes: int) -> None:
        """Does nothing if there is room for so much.

        Raises:
            SourceUnavailableError: there is not.
        """
        room = _room()
        if size_bytes > room:
            raise SourceUnavailableError(
                f"{self._source}: is too large to be kept while it is read: it has "
                f"{-(-size_bytes // _MIB):,} MiB or more, and {tempfile.gettempdir()} takes "
                f"{room // _MIB:,} MiB. See whether it ever ends; else free some room, or set "
                "TMPDIR to a folder on a larger disk"
            )

    def write(self, content: bytes) -> int:
        """Adds bytes; returns how many they are.

        Raises:
            SourceUnavailableError: they would fill the disk.
        """
        if self._written >= self._look_at:
            self._look_at = self._written + _LOOK_BYTES
            if _room() < _LOOK_BYTES:
                self.expect(self._written + _LOOK_BYTES)
        self._written += len(content)
        return self.file.write(content)


def _room() -> int:
    return max(0, shutil.disk_usage(tempfile.gettempdir()).free - RESERVED_BYTES)


@contextmanager
def spooled(source: str) -> Iterator[Spool]:
    """Opens an empty file that is gone with its end.

    Args:
        source: what it is for, as it may be shown.
    """
    with tempfile.TemporaryFile() as file:
        yield Spool(file, source)
