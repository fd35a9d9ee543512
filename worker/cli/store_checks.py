"""The part of `doctor` that tries the result store, as a worker uses it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from worker.bootstrap import create_results
from worker.cli.findings import Finding, Level
from worker.errors import SettingError

if TYPE_CHECKING:
    from worker.settings import Settings

_CHECK: Final = "results.store"


async def check_results(settings: Settings) -> list[Finding]:
    """Returns whether a result can be written to the store and read from it.

    A URL may hold a password, so of one only the beginning is told.
    """
    protocol, is_url, _ = settings.result_store.partition("://")
    name = f"{protocol}://…" if is_url else settings.result_store
    try:
        store = create_results(settings)
    except SettingError as exc:
        advice = "mend the setting, or install what it takes to write there"
        return [Finding(_CHECK, Level.FAIL, exc.message, advice)]
    begun = time.monotonic()
    try:
        await store.rehearse()
    except OSError as exc:
        # Texts of such errors name paths and URLs; what the system calls it is enough.
        reason = exc.strerror or type(exc).__name__
        return [Finding(_CHECK, Level.FAIL, f"{name} can't be used: {reason}", _advise(is_url))]
    took = f"written, read and deleted in {(time.monotonic() - begun) * 1000:.0f} ms"
    return [Finding(_CHECK, Level.OK, f"{name}: {took}")]


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
