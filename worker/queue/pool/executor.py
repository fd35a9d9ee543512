"""One attempt at one claimed command: from the lease to the finish that the ledger records."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog

from schemas.claim_check import ClaimCheck, reread_message
from schemas.enums import EventState
from schemas.events import ErrorCode
from schemas.json_text import RawJson, encode_json
from schemas.parsing import InvalidCommandError
from schemas.wording import counted
from worker.errors import (
    BusyThreadsError,
    ConnectionLostError,
    DeadlineExceededError,
    FencedError,
    MisconfiguredError,
    NotSentError,
    OutcomeUnknownError,
    PermanentError,
    PoisonError,
    RateLimitedError,
    RetryableError,
    ServerFailedError,
    ShortageError,
    SilentServerError,
    TrainingFailedError,
    TrainingTimeoutError,
    TrainmasterError,
)
from worker.queue.groups import MemberEnd, event_source
from worker.queue.ledger.dead_letters import dead_letter_json
from worker.queue.ledger.event_builder import build_event
from worker.queue.ledger.models import Lease, Phase, RowState, RunResult
from worker.queue.outcome import Outcome, Snooze, Succeeded
from worker.queue.pool.claim_check import fetched
from worker.queue.pool.incompatible import LastWord, give_up, give_up_defective, leave_to_others
from worker.queue.pool.retry import RetryPolicy, decide
from worker.queue.pool.settling import fields_of
from worker.queue.run_context import Dependencies, RunContext
from worker.queue.telemetry import RunEnd
from worker.shortages import shortage_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.commands import Command
    from worker.queue.circuit_breaker import CircuitBreaker
    from worker.queue.pool.results import ResultStore
    from worker.queue.registry import Handler
    from worker.queue.upstream import CredentialsCheck

log = structlog.get_logger(__name__)

# What a dead letter tells of the past: enough to see a pattern, small in the row.
ERRORS_KEPT = 10
# Errors that an outage of the API shows itself by.
_OUTAGE = (NotSentError, ConnectionLostError, ServerFailedError)
# They tell how something went, or that nothing can follow: not whether commands can succeed now.
_OUTCOMES = (
    DeadlineExceededError,
    OutcomeUnknownError,
    PoisonError,
    TrainingFailedError,
    TrainingTimeoutError,
)


@dataclass(frozen=True, slots=True)
class Executor:
    """Carries out attempts; shared by all of a process.

    Attributes:
        max_claims: claims without an end after which a command counts as poison.
        credentials: asked after a 401, before that counts against a command.
        probe_seconds: after which a probe that failed may be drawn again.
    """

    handlers: Mapping[str, Handler[Any]]
    dependencies: Dependencies
    policy: RetryPolicy
    results: ResultStore
    max_claims: int
    breaker: CircuitBreaker
    credentials: CredentialsCheck | None = None
    probe_seconds: float = 60.0

    @property
    def is_refused(self) -> bool:
        """Whether the API refuses our credentials, so that nothing can be done."""
        return self.credentials is not None and self.credentials.is_refused

    def begin(self, lease: Lease) -> RunContext[Any]:
        """Returns the run of a lease, of a command whose data may still lie elsewhere.

        Raises:
            InvalidCommandError: another version of the worker accepted what this one can't read.
        """
        if lease.broken:
            raise InvalidCommandError(ErrorCode.INTERNAL_ERROR, lease.broken)
        command = lease.command or reread_message(lease.text)
        return RunContext(command, lease, self.dependencies)

    def unreadable(self, lease: Lease, error: Exception) -> RunResult | None:
        """Returns the finish of a lease whose command this version can't read.

        None leaves the row as it is until the lease ends, for what stands there is not known.
        """
        if lease.claims <= self.max_claims:
            return None if lease.broken else leave_to_others(lease)
        return give_up(lease, error, self.last_word())

    async def carry_out(self, run: RunContext[Any]) -> RunResult:
        """Runs the handler; returns how the run ends, whatever happens but fencing.

        Raises:
            FencedError: another holder owns the command; there is nothing to record.
        """
        failed = "the command could not be carried out"
        try:
            self._check(run)
            if isinstance(run.command, ClaimCheck):
                run.command = await fetched(run)
            outcome = await self.handlers[run.command.type](run)
            failed = "the result could not be stored"
            return await self._finish(run, outcome)
        except FencedError:
            raise
        except TrainmasterError as error:
            if isinstance(error, ShortageError):
                _tell_shortage(run.lease, error)
            elif isinstance(error, _OUTAGE) and run.lease.attempts + 1 >= self.policy.max_attempts:
                # Where little is going on, few failures are all that there is of an outage.
                await self.breaker.examine()
            if await self._is_refused(error):
                # Nothing is wrong with the command: it goes back as it was, to whoever has the
                # right key.
                return self.hand_back(run)
            return self._fail(run, error)
        except (OSError, MemoryError, RuntimeError) as error:
            failure = shortage_error(error)
            if failure is not None:
                _tell_shortage(run.lease, error)
                return self._fail(run, failure)
            if not isinstance(error, OSError):
                raise
            log.exception("command.os_failed", problem=failed)
            return self._fail(
                run,
                RetryableError(
                    f"{failed}: {error.strerror or type(error).__name__}",
                    code=ErrorCode.INTERNAL_ERROR,
                ),
            )
        finally:
            run.release()

    async def _is_refused(self, error: TrainmasterError) -> bool:
        if not isinstance(error, MisconfiguredError) or self.credentials is None:
            return False
        return await self.credentials.examine()

    def hand_back(self, run: RunContext[Command]) -> RunResult:
        """Returns the finish of a run that stopped before its end: it is due at once.

        Only its own claim is given back. Those before it ended without an end, and a worker that
        is stopped between two of them proves nothing of the command.
        """
        lease = run.lease
        claims = lease.claims - 1 if run.phase is lease.phase else 0
        return RunResult(lease, run.state, lease.attempts, claims=claims)

    def put_off(self, run: RunContext[Command], delay_seconds: float) -> RunResult:
        """Returns the finish of a run that Redis broke off: it is no fault of the command's.

        Its claim is given back, for it proves nothing of it, and the next goes on from the latest
        checkpoint.
        """
        state = run.state if run.phase is run.lease.phase else _state_meanwhile(run)
        return replace(self.hand_back(run), state=state, delay_seconds=delay_seconds)

    def defect(self, run: RunContext[Command], error: Exception) -> RunResult:
        """Returns the finish of a run that a defect of ours ended."""
        failure = TrainmasterError(
            f"a defect of trainmaster: {type(error).__name__}; see the worker's log",
            code=ErrorCode.INTERNAL_ERROR,
        )
        try:
            return self._fail(run, failure)
        except Exception as exc:
            log.exception("run.end_untold", **fields_of(run.lease))
            return self.unrecordable(run.lease, exc)

    def unrecordable(self, lease: Lease, error: Exception) -> RunResult:
        """Returns the finish of a run whose own can't be told or recorded."""
        return give_up_defective(lease, error, self.last_word())

    def last_word(self) -> LastWord:
        """Returns what tells the end of a command that nobody has read."""
        return LastWord(self.dependencies.ledger, self.dependencies.groups, self.dependencies.now())

    def late(self, run: RunContext[Any]) -> RunResult:
        """Returns the finish of a command whose deadline passed while it waited."""
        return self._fail(run, run.lateness(), has_run=False)

    def _check(self, run: RunContext[Command]) -> None:
        if run.lease.claims > self.max_claims:
            raise PoisonError(
                f"claimed {counted(run.lease.claims - 1, 'time')} without an end; "
                "it seems to kill its worker",
                code=ErrorCode.POISON,
            )
        if run.phase is Phase.IDLE:
            run.check_deadline()

    async def _finish(self, run: RunContext[Command], outcome: Outcome) -> RunResult:
        if isinstance(outcome, Snooze):
            return self._wait(run, outcome)
        return await self._succeed(run, outcome)

    async def _succeed(self, run: RunContext[Command], outcome: Succeeded) -> RunResult:
        lease = run.lease
        now = run.now()
        duration = round(max(0.0, now - lease.accepted_at_ms / 1000), 3)
        result = encode_json(outcome.result)
        dataref = await self.results.keep(lease.entry_id, result)
        data = {
            "result": None if dataref else RawJson(result),
            "attempts": lease.attempts + 1,
            "duration_seconds": duration,
        }
        event = self._announce(run, EventState.SUCCEEDED, data, dataref=dataref, now=now)
        telemetry = self.dependencies.telemetry
        if telemetry.hears("succeeded"):
            telemetry.succeeded(
                _run_end(run, RowState.SUCCEEDED, lease.attempts + 1, total_seconds=duration)
            )
        return RunResult(
            lease,
            RowState.SUCCEEDED,
            lease.attempts + 1,
            event=event,
            replies=self._replies(run),
            # Of a member its group's results tell what it was about; there may be millions.
            keeps_text=not lease.group and len(lease.text) <= outcome.kept_bytes,
            member_result=self.dependencies.groups.succeeded(
                _member_end(run), outcome.result, dataref
            )
            if lease.group
            else b"",
        )

    def _wait(self, run: RunContext[Command], outcome: Snooze) -> RunResult:
        event = b""
        if outcome.event is not None:
            state, data = outcome.event
            event = self._announce(run, state, data, ordinal=run.lease.attempts + 1)
        delay = outcome.delay_seconds
        self.dependencies.telemetry.snoozed(
            _run_end(run, outcome.state, run.lease.attempts, delay_seconds=delay)
        )
        return RunResult(
            run.lease,
            outcome.state,
            run.lease.attempts,
            event=event,
            replies=self._replies(run),
            delay_seconds=outcome.delay_seconds,
            progress=outcome.progress,
            phase=outcome.phase,
            drop_lock=outcome.drop_lock,
            failure=outcome.failure,
        )

    def _fail(
        self, run: RunContext[Command], error: TrainmasterError, *, has_run: bool = True
    ) -> RunResult:
        lease = run.lease
        # An attempt in an outage that is known is nobody's fault and costs none, and neither does
        # one that the API only asks to make later.
        burnt = not (
            isinstance(error, RateLimitedError | ShortageError)
            or (self.breaker.is_open and isinstance(error, RetryableError))
        )
        failures = lease.attempts + burnt
        body = error.body().model_dump(mode="json", exclude_none=True)
        now = run.now()
        errors = [*lease.errors, {"at": _timestamp(now), **body}][-ERRORS_KEPT:]
        decision = decide(error, failures, self.policy, tries=len(errors))
        telemetry = self.dependencies.telemetry
        told = {"code": body["code"], "message": error.message}
        if decision.delay_seconds is None:
            if lease.probe and _can_be_spared(run, error):
                telemetry.spared(_run_end(run, RowState.RETRYING, failures, **told))
                return self._spare(run, error, errors)
            end = _run_end(run, RowState.FAILED, failures, **told)
            telemetry.failed(end if has_run else replace(end, seconds=None))
            data = {"error": body, "attempts": failures}
            return RunResult(
                lease,
                RowState.FAILED,
                failures,
                event=self._announce(run, EventState.FAILED, data),
                replies=self._replies(run),
                dead_letter=self._dead_letter(run, body, failures, errors),
                late=error.code is ErrorCode.DEADLINE_EXCEEDED,
                member_result=self.dependencies.groups.failed(_member_end(run), body, failures)
                if lease.group
                else b"",
                failure=body["code"],
            )
        delay = decision.delay_seconds
        if run.command.deadline is not None:
            delay = max(0.0, min(delay, run.command.deadline.timestamp() - now))
        state = _state_meanwhile(run)
        telemetry.retried(_run_end(run, state, failures, delay_seconds=delay, **told))
        data = {"error": body, "attempt": lease.attempts + 1, "retry_at": _timestamp(now + delay)}
        return RunResult(
            lease,
            state,
            failures,
            event=self._announce(run, EventState.RETRYING, data, ordinal=lease.token),
            replies=self._replies(run),
            delay_seconds=delay,
            errors=errors,
            failure=body["code"],
        )

    def _spare(
        self, run: RunContext[Command], error: TrainmasterError, errors: list[dict[str, Any]]
    ) -> RunResult:
        """Returns the finish of a probe that failed: its lane stays paused, and it waits there.

        It was sent to carry out a command, not to find out whether a lane works.
        """
        # A refusal proves that this attempt did nothing: its own checkpoint is taken back.
        moved = run.phase is not run.lease.phase or run.progress != (run.lease.progress or {})
        undone = isinstance(error, PermanentError) and moved
        return RunResult(
            run.lease,
            RowState.RETRYING,
            run.lease.attempts,
            delay_seconds=self.probe_seconds,
            progress=run.lease.progress or {} if undone else None,
            phase=run.lease.phase if undone else None,
            errors=errors,
        )

    def _dead_letter(
        self,
        run: RunContext[Command],
        error: dict[str, Any],
        failures: int,
        history: list[dict[str, Any]],
    ) -> bytes:
        lease = run.lease
        if lease.group:
            # Its group keeps its failures, and can try them again.
            return b""
        return dead_letter_json(
            command_id=lease.command_id,
            command_type=run.command.type,
            error=error,
            text=lease.text,
            at_ms=int(run.now() * 1000),
            attempts=failures,
            history=history,
            lane=lease.lane,
        )

    def _announce(
        self,
        run: RunContext[Command],
        state: EventState,
        data: dict[str, Any],
        *,
        ordinal: int | None = None,
        dataref: str | None = None,
        now: float | None = None,
    ) -> bytes:
        if run.lease.group and self.dependencies.groups.is_silent(run.command.context()):
            return b""
        return build_event(
            run.command,
            run.lease.entry_id,
            run.lease.command_id,
            state,
            data,
            ordinal=ordinal,
            source=event_source(self.dependencies.groups, run.lease),
            dataref=dataref,
            now=run.now() if now is None else now,
        )

    def _replies(self, run: RunContext[Command]) -> str:
        return self.dependencies.ledger.keys.replies(run.command.replyto)


def _run_end(run: RunContext[Command], state: RowState, attempts: int, **more: Any) -> RunEnd:
    lease = run.lease
    seconds = time.monotonic() - run.begun
    return RunEnd(lease.command_id, run.command.type, lease.lane, state, attempts, seconds, **more)


def _member_end(run: RunContext[Command]) -> MemberEnd:
    return MemberEnd(run.lease, run.command, time.monotonic() - run.begun)


def _tell_shortage(lease: Lease, error: Exception) -> None:
    """Logs why an attempt could not be made; the name says where to look."""
    match error:
        case SilentServerError():
            event = "server.stalled"
        case BusyThreadsError():
            event = "threads.exhausted"
        case _:
            event = "machine.exhausted"
    log.warning(event, **fields_of(lease), error=str(error))


def _can_be_spared(run: RunContext[Command], error: TrainmasterError) -> bool:
    """Tells whether a command that failed can wait and be tried again as if it had not been."""
    has_begun = run.state in {RowState.POLLING, RowState.IN_DOUBT} or run.phase is not Phase.IDLE
    return not (has_begun or isinstance(error, _OUTCOMES))


def _state_meanwhile(run: RunContext[Command]) -> RowState:
    """Returns where a command stands while it waits to be tried again."""
    if run.phase is not Phase.IDLE and run.state in {RowState.POLLING, RowState.IN_DOUBT}:
        return run.state
    # This run broke off around its call: the next one finds out what came of that, if need be past
    # the deadline.
    return RowState.IN_DOUBT if run.phase is Phase.INTENDED else RowState.RETRYING


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
