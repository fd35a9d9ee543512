"""A file that tells probes without HTTP that all is well: by being there, and fresh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from pathlib import Path

log = structlog.get_logger(__name__)

# One that was touched longer ago than three times this is not to be trusted.
TOUCH_SECONDS: Final = 4.0


class HealthFile:
    """One such file; it is not there before the first word, nor after `remove`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_refused = False

    def show(self, *, is_well: bool) -> None:
        """Tells how things are."""
        if not is_well:
            self.remove()
            return
        try:
            self._path.touch()
        except OSError as exc:
            self._warn(exc)
        else:
            self._is_refused = False

    def remove(self) -> None:
        """Tells that nothing is known to be well."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as exc:
            self._warn(exc)

    def _warn(self, exc: OSError) -> None:
        if not self._is_refused:
            log.warning(
                "monitoring.file_unwritable",
                file=str(self._path),
                reason=exc.strerror,
                advice="probes find no fresh file there: look at TRAINMASTER_HEALTH_FILE",
            )
        self._is_refused = True
