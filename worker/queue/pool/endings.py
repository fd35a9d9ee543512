"""How the end of a run is told: what the ledger records, the event and the dead letter in it.

The executor decides how a run ends; listeners hear of it here, before it is recorded.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from schemas.enums import EventState
from schemas.events import ErrorCode
from schemas.json_text import RawJson
from worker.errors import PermanentError
from worker.queue.groups import MemberEnd, event_source
from worker.queue.ledger.dead_letters import dead_letter_json
from worker.queue.ledger.event_builder import build_event
from worker.queue.ledger.models import Phase, RowState, RunResult
from worker.queue.pool.run_start import is_first
from worker.queue.telemetry import RunEnd, RunOutcome

if TYPE_CHECKING:
    from schemas.commands import Command
    from worker.errors import TrainmasterError
    from worker.queue.outcome import Snooze, Succeeded
    from worker.queue.run_context import RunContext

# What a dead letter tells of the past: enough to see a pattern, small in the row.
ERRORS_KEPT: Final = 10


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that failed.

    Attributes:
        body: of the error, as events have it.
        attempts: made until now, this one included where it counts.
        at: when, in seconds since the epoch by the clock of all workers.
        history: the latest errors of the command, this one last.
    """

    error: TrainmasterError
    body: dict[str, Any]
    attempts: int
    at: float
    history: list[dict[str, Any]]

    @classmethod
    def of(cls, run: RunContext[Command], error: TrainmasterError, attempts: int) -> Failure:
        """Returns what failed in a run, now."""
        body = error.body().model_dump(mode="json", exclude_none=True)
        at = run.now()
        history = [*run.lease.errors, {"at": _timestamp(at), **body}][-ERRORS_KEPT:]
        return cls(error, body, attempts, at, history)

    @property
    def told(self) -> dict[str, str]:
        """What listeners hear of the error."""
        return {"code": self.body["code"], "message": self.error.message}


def success(
    run: RunContext[Command],
    outcome: Succeeded,
    result: bytes,
    dataref: str | None,
    ended_at: float,
) -> RunResult:
    """Returns the finish of a run that succeeded.

    Args:
        run: which has ended.
        outcome: what the handler returned.
        result: its result as JSON.
        dataref: where that is stored, None where the event carries it.
        ended_at: when, in seconds since the epoch by the clock of all workers.
    """
    lease = run.lease
    duration = round(max(0.0, ended_at - lease.accepted_at_ms / 1000), 3)
    data = {
        "result": None if dataref else RawJson(result),
        "attempts": lease.attempts + 1,
        "duration_seconds": duration,
    }
    event = _announce(run, EventState.SUCCEEDED, data, dataref=dataref, now=ended_at)
    end = None
    if run.dependencies.hears_success:
        end = _run_end(
            run,
            RunOutcome.SUCCEEDED,
            RowState.SUCCEEDED,
            lease.attempts + 1,
            total_seconds=duration,
        )
        run.dependencies.telemetry.succeeded(end)
    return RunResult(
        lease,
        RowState.SUCCEEDED,
        lease.attempts + 1,
        event=event,
        end=end,
        replies=_replies(run),
        # Of a member its group's results tell what it was about; there may be millions.
        keeps_text=not lease.group and len(lease.text) <= outcome.kept_bytes,
        member_result=run.dependencies.groups.succeeded(_member_end(run), outcome.result, dataref)
        if lease.group
        else b"",
    )


def snooze(run: RunContext[Command], outcome: Snooze) -> RunResult:
    """Returns the finish of a run that goes on later, as its handler asked."""
    lease = run.lease
    event = b""
    if outcome.event is not None:
        state, data = outcome.event
        event = _announce(run, state, data, ordinal=lease.attempts + 1)
    delay = outcome.delay_seconds
    end = _run_end(run, RunOutcome.WAITS, outcome.state, lease.attempts, delay_seconds=delay)
    run.dependencies.telemetry.snoozed(end)
    return RunResult(
        lease,
        outcome.state,
        lease.attempts,
        event=event,
        end=end,
        replies=_replies(run),
        delay_seconds=delay,
        progress=outcome.progress,
        phase=outcome.phase,
        drop_lock=outcome.drop_lock,
        failure=outcome.failure,
    )


def failure(run: RunContext[Command], failed: Failure, *, has_run: bool) -> RunResult:
    """Returns the finish of a command that has failed for good.

    Args:
        run: of it.
        failed: why.
        has_run: false where it ended while it waited for its turn.
    """
    lease = run.lease
    end = _run_end(run, RunOutcome.FAILED, RowState.FAILED, failed.attempts, **failed.told)
    if not has_run:
        end.seconds = end.waited_seconds = None
    run.dependencies.telemetry.failed(end)
    return RunResult(
        lease,
        RowState.FAILED,
        failed.attempts,
        end=end,
        event=_announce(
            run, EventState.FAILED, {"error": failed.body, "attempts": failed.attempts}
        ),
        replies=_replies(run),
        dead_letter=_dead_letter(run, failed),
        late=failed.error.code is ErrorCode.DEADLINE_EXCEEDED,
        member_result=run.dependencies.groups.failed(_member_end(run), failed.body, failed.attempts)
        if lease.group
        else b"",
        failure=failed.body["code"],
    )


def retry(run: RunContext[Command], failed: Failure, delay_seconds: float) -> RunResult:
    """Returns the finish of an attempt after which another one is made, by the deadline at last."""
    lease = run.lease
    delay = delay_seconds
    if run.command.deadline is not None:
        delay = max(0.0, min(delay, run.command.deadline.timestamp() - failed.at))
    state = state_meanwhile(run)
    end = _run_end(
        run, RunOutcome.RETRIED, state, failed.attempts, delay_seconds=delay, **failed.told
    )
    run.dependencies.telemetry.retried(end)
    data = {
        "error": failed.body,
        "attempt": lease.attempts + 1,
        "retry_at": _timestamp(failed.at + delay),
    }
    return RunResult(
        lease,
        state,
        failed.attempts,
        end=end,
        event=_announce(run, EventState.RETRYING, data, ordinal=lease.token),
        replies=_replies(run),
        delay_seconds=delay,
        errors=failed.history,
        failure=failed.body["code"],
    )


def spare(run: RunContext[Command], failed: Failure, delay_seconds: float) -> RunResult:
    """Returns the finish of a probe that failed: its lane stays paused, and it waits there.

    It was sent to carry out a command, not to find out whether a lane works.
    """
    lease = run.lease
    end = _run_end(run, RunOutcome.SPARED, RowState.RETRYING, failed.attempts, **failed.told)
    run.dependencies.telemetry.spared(end)
    # A refusal proves that this attempt did nothing: its own checkpoint is taken back.
    moved = run.phase is not lease.phase or run.progress != (lease.progress or {})
    undone = isinstance(failed.error, PermanentError) and moved
    return RunResult(
        lease,
        RowState.RETRYING,
        lease.attempts,
        end=end,
        delay_seconds=delay_seconds,
        progress=lease.progress or {} if undone else None,
        phase=lease.phase if undone else None,
        errors=failed.history,
    )


def state_meanwhile(run: RunContext[Command]) -> RowState:
    """Returns where a command stands while it waits to be tried again."""
    if run.phase is not Phase.IDLE and run.state in {RowState.POLLING, RowState.IN_DOUBT}:
        return run.state
    # This run broke off around its call: the next one finds out what came of that, if need be past
    # the deadline.
    return RowState.IN_DOUBT if run.phase is Phase.INTENDED else RowState.RETRYING


def _dead_letter(run: RunContext[Command], failed: Failure) -> bytes:
    lease = run.lease
    if lease.group:
        # Its group keeps its failures, and can try them again.
        return b""
    return dead_letter_json(
        command_id=lease.command_id,
        command_type=run.command.type,
        error=failed.body,
        text=lease.text,
        at_ms=int(run.now() * 1000),
        attempts=failed.attempts,
        history=failed.history,
        lane=lease.lane,
    )


def _announce(
    run: RunContext[Command],
    state: EventState,
    data: dict[str, Any],
    *,
    ordinal: int | None = None,
    dataref: str | None = None,
    now: float | None = None,
) -> bytes:
    lease, groups = run.lease, run.dependencies.groups
    if lease.group and groups.is_silent(run.command.context()):
        return b""
    return build_event(
        run.command,
        lease.entry_id,
        lease.command_id,
        state,
        data,
        ordinal=ordinal,
        source=event_source(groups, lease),
        dataref=dataref,
        now=run.now() if now is None else now,
    )


def _replies(run: RunContext[Command]) -> str:
    return run.dependencies.ledger.keys.replies(run.command.replyto)


def _run_end(
    run: RunContext[Command], outcome: RunOutcome, state: RowState, attempts: int, **more: Any
) -> RunEnd:
    lease = run.lease
    seconds = time.monotonic() - run.begun
    waited = None
    if is_first(lease):
        waited = max(0.0, run.now() - seconds - lease.accepted_at_ms / 1000)
    return RunEnd(
        lease.command_id,
        run.command.type,
        lease.lane,
        outcome,
        state,
        attempts,
        seconds,
        waited_seconds=waited,
        **more,
    )


def _member_end(run: RunContext[Command]) -> MemberEnd:
    return MemberEnd(run.lease, run.command, time.monotonic() - run.begun)


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
