"""Builds the supervisor of a worker process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from schemas.wording import counted
from worker.bootstrap.components import create_components
from worker.bootstrap.monitoring import create_monitor
from worker.environment import advice_on_unknown, unknown_names
from worker.open_files import affordable_concurrency, needed_files, raise_limit
from worker.queue.pool.supervisor import Components, Supervisor, Timings

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.monitoring.monitor import Monitor
    from worker.settings import Settings

log = structlog.get_logger(__name__)

_STOP_GRACE_SECONDS: Final = 10.0


def create_supervisor(
    settings: Settings,
    publish_wake_up: Callable[[], None],
    on_broken: Callable[[], None],
    monitor: Monitor | None = None,
) -> Supervisor:
    """Returns the supervisor of a worker process."""
    watched = monitor or create_monitor(settings)
    warn_of_unknown_settings()
    settings = fit_open_files(settings)

    async def build(notify: Callable[[int], None]) -> Components:
        return create_components(settings, notify, watched)

    times = Timings(
        slice=settings.slice_seconds,
        grace=stop_grace_seconds(settings),
    )
    return Supervisor(build, publish_wake_up, on_broken, times)


def stop_grace_seconds(settings: Settings) -> float:
    """Returns how long a stop waits for calls that change something: longer than an answer."""
    return _STOP_GRACE_SECONDS + settings.read_timeout_seconds


def warn_of_unknown_settings() -> None:
    """Names the variables that look like settings and are none, as after one got another name."""
    for name, meant in unknown_names().items():
        log.warning("worker.setting_unknown", setting=name, advice=advice_on_unknown(meant))


def fit_open_files(settings: Settings) -> Settings:
    """Returns settings with no more slots than this process may open files for.

    More would come upon the limit all the time, and do nothing but try again.
    """
    limit = raise_limit()
    slots = affordable_concurrency(settings, limit)
    if slots < settings.concurrency:
        log.warning(
            "worker.concurrency_lowered",
            open_files=limit,
            concurrency=slots,
            advice=f"ulimit -n {needed_files(settings)} allows "
            f"{counted(settings.concurrency, 'slot')}; or set "
            f"TRAINMASTER_CONCURRENCY to {slots}",
        )
        return settings.model_copy(update={"concurrency": slots})
    return settings
