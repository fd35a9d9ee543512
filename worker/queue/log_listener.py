"""The log lines that tell what happens to commands, lanes, the service and Redis."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import structlog

from worker.queue.telemetry import Listener, log_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.enums import Priority
    from worker.queue.telemetry import RunEnd

log = structlog.get_logger(__name__)

_OF_LEVEL_INFO = frozenset({"succeeded", "retried"})


class LogListener(Listener):
    """Writes a line for what somebody may want to read; lines within a run carry its context."""

    def hears(self, name: str) -> bool:
        """Returns whether a method may write a line at the level of the log."""
        if name in _OF_LEVEL_INFO and not log.is_enabled_for(logging.INFO):
            return False
        return super().hears(name)

    def accepted(self, count: int) -> None:
        """Of interest to developers alone: the events tell of each."""
        log.debug("intake.accepted", commands=count)

    def rejected(self, codes: Sequence[str]) -> None:
        """A producer sends what nobody can carry out."""
        log.warning("intake.rejected", entries=len(codes))

    def succeeded(self, end: RunEnd) -> None:
        """One line for each command."""
        log.info(
            "command.succeeded",
            command_id=end.command_id,
            command_type=end.command_type,
            attempts=end.attempts,
            duration_seconds=round(end.total_seconds, 3),
        )

    def retried(self, end: RunEnd) -> None:
        """With what went wrong; its message stands in the event."""
        log.info(
            "command.retried",
            command_id=end.command_id,
            command_type=end.command_type,
            code=end.code,
            attempts=end.attempts,
            delay_seconds=round(end.delay_seconds, 3),
        )

    def failed(self, end: RunEnd) -> None:
        """With the reason."""
        self._warn("command.failed", end)

    def spared(self, end: RunEnd) -> None:
        """With the reason."""
        self._warn("command.probe_failed", end)

    def _warn(self, event: str, end: RunEnd) -> None:
        log.warning(
            event,
            command_id=end.command_id,
            command_type=end.command_type,
            code=end.code,
            attempts=end.attempts,
            message=end.message,
        )

    def fenced(self, command_id: str, text: bytes, token: int) -> None:
        """Its work was in vain."""
        log.warning("run.fenced", **log_fields(command_id, text), token=token)

    def lease_lost(self, command_id: str, text: bytes) -> None:
        """Another worker goes on with it."""
        log.warning("run.lease_lost", **log_fields(command_id, text))

    def held(self, seconds: float, reason: str) -> None:
        """A pause of the fleet."""
        log.warning("limits.held", seconds=seconds, reason=reason)

    def lane_paused(self, lane: Priority, reason: str) -> None:
        """Somebody has to look."""
        log.error("lane.paused", lane=lane, reason=reason)

    def lane_resumed(self, lane: Priority) -> None:
        """It is well again."""
        log.warning("lane.resumed", lane=lane)

    def breaker_moved(self, is_open: bool, failures: int, open_seconds: float) -> None:
        """The service goes, or is back."""
        if is_open:
            log.warning("api.breaker_opened", failures=failures)
        else:
            log.warning("api.breaker_closed", open_seconds=round(open_seconds, 1))

    def redis_lost(self, event: str, part: str, error: str, kind: str) -> None:
        """One line, however many parts miss it."""
        log.warning(event, error=error, kind=kind, part=part)

    def redis_still_lost(self, parts: list[str], error: str, kind: str, seconds: float) -> None:
        """That it lasts."""
        log.warning(
            "redis.still_lost", error=error, kind=kind, parts=parts, seconds=round(seconds, 1)
        )

    def redis_back(self, seconds: float) -> None:
        """That it is over."""
        log.warning("redis.back", seconds=round(seconds, 1))


LOGS = LogListener()
