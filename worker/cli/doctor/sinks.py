"""What `doctor` checks of sinks: whether each runs, sends, and has seen every event."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from schemas.wording import counted
from worker.cli.doctor.checks import Finding, Level, permitted
from worker.cli.formatting import show_duration
from worker.cli.output import safe_text
from worker.environment import load_gateway_settings
from worker.errors import SettingError

try:
    from worker.integrations.file import load_integrations
    from worker.sinks.operations import SinkCondition, forgotten, sink_status
except ModuleNotFoundError as exc:
    # A worker's machine need not have what sinks stand on.
    if exc.name is None or exc.name.partition(".")[0] in {"worker", "schemas"}:
        raise
    INSTALLED = False
else:
    INSTALLED = True

if TYPE_CHECKING:
    from collections.abc import Collection

    from redis.asyncio import Redis

    from worker.integrations.sink_config import SinkConfig
    from worker.queue.ledger.keys import Keys
    from worker.sinks.operations import SinkStatus

# Once events were missed, that is told for so long.
_MISSED_SECONDS: Final = 7 * 86_400
_BEHIND_SECONDS: Final = 3_600.0


async def check_sinks(redis: Redis, keys: Keys, redis_url: str | None = None) -> list[Finding]:
    """Returns what is found of the sinks of the integrations file; nothing where there is none.

    Args:
        redis: a client.
        keys: of the namespace.
        redis_url: that was given instead of the variable.

    Raises:
        redis.exceptions.RedisError: Redis can't be asked.
    """
    try:
        file = load_gateway_settings(redis_url, keys.namespace).integrations_file
        if file is None:
            return []
        if not INSTALLED:
            told = "not checked: trainmaster[gateway] is not installed here"
            return [Finding("sinks", Level.OK, told)]
        sinks = load_integrations(file).sinks
    except SettingError as exc:
        advice = "fix the file; `trainmaster webhooks check` says the same"
        return [Finding("sinks", Level.WARN, exc.message, advice)]
    findings: list[Finding] = []
    for config in sinks.values():
        findings += await permitted(f"sinks.{config.name}", _check(redis, keys, config))
    return findings + await permitted("sinks", _forgotten(redis, keys, sinks))


async def _check(redis: Redis, keys: Keys, config: SinkConfig) -> list[Finding]:
    status = await sink_status(redis, keys, config)
    return [_judge(status), *_missed(status), *_unsent(status)]


async def _forgotten(redis: Redis, keys: Keys, known: Collection[str]) -> list[Finding]:
    return [
        Finding(
            f"sinks.{safe_text(name)}",
            Level.WARN,
            f"{counted(waiting, 'event')} to be tried again, and this file has no such sink",
            "was it renamed? Put it back until they are sent, or delete its keys: docs/sinks.md",
        )
        for name, waiting in (await forgotten(redis, keys, known)).items()
    ]


def _judge(status: SinkStatus) -> Finding:
    check, name = f"sinks.{status.name}", status.name
    behind = status.behind or 0
    waits = f"{counted(behind, 'event')} behind, {status.waiting} tried again"
    match status.state:
        case SinkCondition.PAUSED:
            told = f"is paused: {safe_text(status.reason)}; {waits}"
            advice = f"fix the cause; then: trainmaster sinks resume {name}"
        case SinkCondition.IDLE:
            told = f"nobody runs it; {waits}"
            advice = "start a gateway with this file, or: trainmaster sinks run"
        case SinkCondition.FAILING:
            told = f"the last try failed: {safe_text(status.last_error)}; {waits}"
            advice = f"look at the endpoint; try it: trainmaster sinks test {name}"
        case _ if status.behind_seconds > _BEHIND_SECONDS:
            told = f"is {show_duration(status.behind_seconds)} behind; {waits}"
            advice = "its endpoint is too slow: raise concurrency, or take fewer events"
        case _:
            return Finding(check, Level.OK, f"sends; {waits}")
    return Finding(check, Level.WARN, told, advice)


def _missed(status: SinkStatus) -> list[Finding]:
    at = (status.missed_at_ms or 0) / 1000
    if not status.missed or time.time() - at > _MISSED_SECONDS:
        return []
    return [
        Finding(
            f"sinks.{status.name}.missed",
            Level.WARN,
            f"{counted(status.missed, 'event')} deleted before it looked at them",
            "it was behind for too long: raise TRAINMASTER_EVENT_RETENTION_MAX_SECONDS, and look "
            "for what its receiver lacks by `trainmaster status`",
        )
    ]


def _unsent(status: SinkStatus) -> list[Finding]:
    if not status.unsent:
        return []
    return [
        Finding(
            f"sinks.{status.name}.unsent",
            Level.WARN,
            f"{counted(status.unsent, 'event')} given up: {safe_text(status.last_error)}",
            f"fix the endpoint; then: trainmaster sinks recover {status.name} --since 30d",
        )
    ]
