"""Every error of the worker, in one tree; the class decides what becomes of a command.

::

    TrainmasterError
    ├── SettingError                 a setting is wrong or missing
    ├── RetryableError               fate: retry
    │   ├── NotSentError             no byte reached the API
    │   ├── RateLimitedError         429
    │   ├── ShortageError            this machine lacks what the attempt takes; costs no attempt
    │   │   ├── NoSocketError        and so it sent no byte; a NotSentError too
    │   │   ├── BusyThreadsError     every thread for this kind of work is taken
    │   │   └── SilentServerError    or a server of files, on which others wait already, is silent
    │   └── UnknownOutcomeError      the API may have acted
    │       ├── ServerFailedError    408, 499, 5xx and beyond
    │       ├── ConnectionLostError  read timeout, reset, truncated body
    │       └── BadResponseError     an answer that makes no sense; of a change, any that does
    │                                not prove that nothing happened
    ├── PermanentError               fate: permanent
    │   ├── RequestRefusedError      any other 4xx; of a read, 1xx and 3xx, too
    │   ├── InputError               data_path or dataref can't be used
    │   ├── TrainingFailedError      the API reports that training failed
    │   ├── OutcomeUnknownError      a change whose outcome can't be found out
    │   ├── DeadlineExceededError    the command's deadline has passed
    │   ├── TrainingTimeoutError     the wait for a training is over
    │   └── PoisonError              the command was claimed too often
    ├── MisconfiguredError           fate: misconfigured; 401
    ├── LedgerLostError              someone emptied Redis; the worker stops
    ├── NewerLedgerError             a newer version has written it; the worker stops
    └── FencedError                  another holder owns the command now

Third-party errors are translated in exactly one place, `worker.encord.api.transport`; what becomes
of a command is read in exactly one place, `worker.queue.pool.retry`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from schemas.events import ErrorBody, ErrorCode, Problem
from worker.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Sequence


class Disposition(StrEnum):
    """What becomes of a command whose attempt ended in an error."""

    RETRY = "retry"
    PERMANENT = "permanent"
    MISCONFIGURED = "misconfigured"


class TrainmasterError(Exception):
    """An error that carries data: a code for machines, a message for people.

    The message may be made of others' texts: no URL in it is whole.
    """

    def __init__(
        self,
        message: str,
        *,
        code: ErrorCode = ErrorCode.INTERNAL_ERROR,
        status: int | None = None,
        problems: Sequence[Problem] = (),
    ) -> None:
        self.message = redact_text(message)
        super().__init__(self.message)
        self.code = code
        self.status = status
        self.problems = tuple(problems)

    def body(self) -> ErrorBody:
        """Returns the `error` object of an event."""
        return ErrorBody(
            code=self.code,
            message=self.message,
            status=self.status,
            problems=list(self.problems) or None,
        )


class SettingError(TrainmasterError):
    """A setting is wrong or missing; the message names it in one line and shows no secret."""


class SeveralNamespacesError(SettingError):
    """Several namespaces are named for what works on one.

    Attributes:
        namespaces: those.
    """

    def __init__(self, message: str, namespaces: tuple[str, ...]) -> None:
        super().__init__(message, code=ErrorCode.INVALID_SETTING)
        self.namespaces = namespaces


class RetryableError(TrainmasterError):
    """The attempt failed; another may succeed."""

    def __init__(
        self,
        message: str,
        *,
        code: ErrorCode,
        status: int | None = None,
        problems: Sequence[Problem] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, code=code, status=status, problems=problems)
        self.retry_after_seconds = retry_after_seconds


class NotSentError(RetryableError):
    """No connection: not one byte of the request reached the API."""


class RateLimitedError(RetryableError):
    """The API answered 429; `retry_after_seconds` holds every worker back."""


class ShortageError(RetryableError):
    """This machine lacks what the attempt takes, like a thread, an open file or room on a disk.

    The command is not at fault, and another worker may carry it out: it costs no attempt.
    """


class NoSocketError(ShortageError, NotSentError):
    """This machine could not open a connection: not one byte of the request reached the API."""


class BusyThreadsError(ShortageError):
    """Every thread for this kind of work is taken: a disk or a store answers slowly, or never."""


class SilentServerError(ShortageError):
    """A server of files is silent and others wait for it already; this machine lacks nothing.

    Whoever does not begin to wait costs no attempt; who waited for it in vain has made one.
    """


class UnknownOutcomeError(RetryableError):
    """The request may have been carried out: a change must not be sent again blindly."""


class ServerFailedError(UnknownOutcomeError):
    """The API, or what stands before it, failed: 408, 499, 5xx, or no status of HTTP."""


class ConnectionLostError(UnknownOutcomeError):
    """The connection failed after the request was sent, at least in part."""


class BadResponseError(UnknownOutcomeError):
    """The API answered with what it does not promise, and may have carried out the request."""


class PermanentError(TrainmasterError):
    """No further attempt can succeed."""


class RequestRefusedError(PermanentError):
    """The API refused the request and did nothing."""


class InputError(PermanentError):
    """The image or data that the command names can't be used."""


class TrainingFailedError(PermanentError):
    """The API reports that the training ended in an error; it gives no reason."""


class OutcomeUnknownError(PermanentError):
    """A change may or may not have happened and the API can't tell; nothing is sent again."""


class DeadlineExceededError(PermanentError):
    """The command's `deadline` has passed."""


class TrainingTimeoutError(PermanentError):
    """The wait for a training is over, though the training may go on at the API."""


class PoisonError(PermanentError):
    """The command was claimed too often without an end: it seems to kill its worker."""


class MisconfiguredError(TrainmasterError):
    """The API does not know our credentials (401), or not in this region."""


class FencedError(TrainmasterError):
    """The lease passed to another holder; this attempt's outcome must be dropped."""


class LedgerLostError(TrainmasterError):
    """The ledger is gone, so nobody knows what was done; only a person can decide to go on."""


class NewerLedgerError(TrainmasterError):
    """The ledger has a format of a newer version; this one must not touch it."""
