"""One attempt at one claimed command: from the lease to the finish that the ledger records."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog

from schemas.claim_check import ClaimCheck, reread_message
from schemas.events import ErrorCode
from schemas.json_text import encode_json
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
from worker.queue.ledger.models import Lease, Phase, RowState, RunResult
from worker.queue.outcome import Outcome, Snooze
from worker.queue.pool import endings
from worker.queue.pool.claim_check import fetched
from worker.queue.pool.incompatible import LastWord, give_up, give_up_defective, leave_to_others
from worker.queue.pool.retry import RetryPolicy, decide
from worker.queue.pool.settling import fields_of
from worker.queue.run_context import Dependencies, RunContext
from worker.shortages import shortage_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.commands import Command
    from worker.queue.circuit_breaker import CircuitBreaker
    from worker.queue.pool.results import ResultStore
    from worker.queue.registry import Handler
    from worker.queue.upstream import CredentialsCheck

log = structlog.get_logger(__name__)

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
        state = run.state if run.phase is run.lease.phase else endings.state_meanwhile(run)
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
            return endings.snooze(run, outcome)
        ended_at = run.now()
        result = encode_json(outcome.result)
        dataref = await self.results.keep(run.lease.entry_id, result)
        return endings.success(run, outcome, result, dataref, ended_at)

    def _fail(
        self, run: RunContext[Command], error: TrainmasterError, *, has_run: bool = True
    ) -> RunResult:
        # An attempt in an outage that is known is nobody's fault and costs none, and neither does
        # one that the API only asks to make later.
        burnt = not (
            isinstance(error, RateLimitedError | ShortageError)
            or (self.breaker.is_open and isinstance(error, RetryableError))
        )
        failure = endings.Failure.of(run, error, run.lease.attempts + burnt)
        decision = decide(error, failure.attempts, self.policy, tries=len(failure.history))
        if decision.delay_seconds is not None:
            return endings.retry(run, failure, decision.delay_seconds)
        if run.lease.probe and _can_be_spared(run, error):
            return endings.spare(run, failure, self.probe_seconds)
        return endings.failure(run, failure, has_run=has_run)


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
