"""What `doctor` checks of this machine: its limits, and whether the result store can be used."""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING, Final

from schemas.wording import counted
from worker.bootstrap.queue import create_results
from worker.cli.doctor.checks import Finding, Level
from worker.errors import SettingError
from worker.open_files import affordable_concurrency, highest_limit, needed_files

if TYPE_CHECKING:
    from worker.settings import Settings

_OPEN_FILES: Final = "machine.open_files"
_STORE: Final = "results.store"


def check_open_files(settings: Settings) -> Finding:
    """Returns whether a worker started here may open enough files for its slots."""
    limit, needed = highest_limit(), needed_files(settings)
    wanted = f"for {counted(settings.concurrency, 'slot')} {needed} may be needed"
    if limit == resource.RLIM_INFINITY:
        return Finding(_OPEN_FILES, Level.OK, f"no limit; {wanted}")
    said = f"{limit} allowed; {wanted}"
    if limit >= needed:
        return Finding(_OPEN_FILES, Level.OK, said)
    slots = affordable_concurrency(settings, limit)
    return Finding(
        _OPEN_FILES,
        Level.WARN,
        f"{said}, so a worker started here would use {counted(slots, 'slot')}",
        f"raise the limit (ulimit -n {needed}), or set TRAINMASTER_CONCURRENCY to {slots}",
    )


async def check_results(settings: Settings) -> list[Finding]:
    """Returns whether a result can be written to the store and read from it.

    A URL may hold a password, so of one only the beginning is told.
    """
    protocol, is_url, _ = settings.result_store.partition("://")
    name = f"{protocol}://…" if is_url else settings.result_store
    try:
        store = create_results(settings)
    except SettingError as exc:
        advice = "fix the setting, or install the package that writes there"
        return [Finding(_STORE, Level.FAIL, exc.message, advice)]
    begun = time.monotonic()
    try:
        await store.rehearse()
    except OSError as exc:
        # Texts of such errors name paths and URLs; what the system calls it is enough.
        reason = exc.strerror or type(exc).__name__
        return [Finding(_STORE, Level.FAIL, f"{name} can't be used: {reason}", _advise(is_url))]
    took = f"written, read and deleted in {(time.monotonic() - begun) * 1000:.0f} ms"
    return [Finding(_STORE, Level.OK, f"{name}: {took}")]


def _advise(is_url: str) -> str:
    if is_url:
        return (
            "does TRAINMASTER_RESULT_STORE name the right place, and do its credentials let us "
            "write, read and delete there?"
        )
    return (
        "TRAINMASTER_RESULT_STORE must name a folder in which the worker's user may make files, "
        "on a disk with room"
    )
