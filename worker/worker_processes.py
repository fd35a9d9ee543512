"""Several workers beneath one process: one container, or one unit, that uses several cores."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from schemas.events import ErrorCode
from worker.app import WRONG_SETTING, run_worker
from worker.bootstrap.supervisor import stop_grace_seconds
from worker.errors import SettingError
from worker.logging import configure
from worker.monitoring.health_file import TOUCH_SECONDS, HealthFile
from worker.processes import Processes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from worker.settings import Settings

_HIGHEST_PORT: Final = 65_535
# After the grace that a worker gives its calls: to hand back, tell the end, and close.
_CLOSE_SECONDS: Final = 15.0


def run_workers(settings: Settings, count: int, *, name: str | None = None) -> int:
    """Runs workers until it is told to stop; returns the exit code.

    Each has a number, from 1 on: in its name, in its health file, and added to the port of its
    probes, of which the first has that of the setting. Those of the first namespace come first.

    Args:
        settings: of all of them; each worker has one of the namespaces.
        count: how many for each namespace.
        name: of a worker in Celery's tools; the number comes behind it, before an `@`.

    Raises:
        SettingError: there are not as many ports as processes.
    """
    shares = [settings.of(name) for name in settings.namespaces for _ in range(count)]
    if settings.http is not None and settings.http[1] + len(shares) - 1 > _HIGHEST_PORT:
        raise SettingError(
            "TRAINMASTER_HTTP (--http) names a port that leaves none for the last process: each "
            "takes the next one",
            code=ErrorCode.INVALID_SETTING,
        )
    configure(settings.log_level, settings.log_format)
    each = [_settings_of(share, number) for number, share in enumerate(shares, 1)]
    names = [_name_of(name, number) for number in range(1, len(shares) + 1)]
    file = settings.health_file
    files = [one.health_file for one in each if one.health_file is not None]
    health = None if file is None else _Together(HealthFile(file), files)

    def serve(number: int) -> int:
        return run_worker(each[number], name=names[number])

    processes = Processes(
        names,
        serve,
        fatal=frozenset({WRONG_SETTING}),
        on_look=(lambda: None) if health is None else health.look,
        stop_seconds=kill_after_seconds(settings),
    )
    try:
        return processes.run()
    finally:
        if health is not None:
            health.remove()


def kill_after_seconds(settings: Settings) -> float:
    """Returns how long after it was told to stop a worker that has not ended is killed."""
    return stop_grace_seconds(settings) + _CLOSE_SECONDS


class _Together:
    """A health file that is fresh while those of all processes are."""

    def __init__(self, file: HealthFile, parts: Sequence[Path]) -> None:
        self._file = file
        self._parts = parts

    def look(self) -> None:
        """Looks at all of them."""
        self._file.show(is_well=all(map(_is_fresh, self._parts)))

    def remove(self) -> None:
        """Removes it, and what a process that was killed has left."""
        self._file.remove()
        for part in self._parts:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def _is_fresh(file: Path) -> bool:
    try:
        return time.time() - file.stat().st_mtime < 3 * TOUCH_SECONDS
    except OSError:
        return False


def _settings_of(settings: Settings, number: int) -> Settings:
    told: dict[str, Any] = {}
    if settings.http is not None:
        host, port = settings.http
        told["http"] = (host, port + number - 1 if port else 0)
    if settings.health_file is not None:
        told["health_file"] = settings.health_file.with_name(
            f"{settings.health_file.name}.{number}"
        )
    return settings.model_copy(update=told)


def _name_of(name: str | None, number: int) -> str:
    before, at, host = (name or "celery@%h").partition("@")
    return f"{before}-{number}{at}{host.replace('%h', socket.gethostname())}"
