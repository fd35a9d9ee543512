"""The only place that reads an error's fate: retry it, or end the command."""

from __future__ import annotations

import random
from dataclasses import dataclass

from worker.errors import (
    Disposition,
    MisconfiguredError,
    PermanentError,
    RetryableError,
    ShortageError,
    TrainmasterError,
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and after which delay, a retryable error is tried again.

    Attributes:
        max_attempts: attempts in all, the first one included.
        minimum_seconds: the first delay; each further one is twice as long.
        maximum_seconds: the longest delay, unless the API asks for more.
    """

    max_attempts: int
    minimum_seconds: float
    maximum_seconds: float

    def delay_seconds(self, failures: int, retry_after_seconds: float | None) -> float:
        """Returns the delay after so many failures, half of it jitter."""
        backoff = min(
            self.maximum_seconds, self.minimum_seconds * 2 ** min(max(failures - 1, 0), 30)
        )
        jittered = random.uniform(backoff / 2, backoff)
        return max(jittered, retry_after_seconds or 0.0)


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """What to do after an error; no delay means that the command has failed."""

    delay_seconds: float | None


def fate_of(error: TrainmasterError) -> Disposition:
    """Returns the disposition that an error's class stands for."""
    match error:
        case RetryableError():
            return Disposition.RETRY
        case MisconfiguredError():
            return Disposition.MISCONFIGURED
        case PermanentError():
            return Disposition.PERMANENT
        case _:
            return Disposition.PERMANENT


def decide(
    error: TrainmasterError, failures: int, policy: RetryPolicy, *, tries: int = 0
) -> RetryDecision:
    """Returns what follows an attempt that failed.

    Args:
        error: that ended it.
        failures: of the command that count, this one included.
        policy: of retries.
        tries: of the command that failed lately, whether they count or not.
    """
    if fate_of(error) is Disposition.PERMANENT or failures >= policy.max_attempts:
        return RetryDecision(None)
    retry_after = error.retry_after_seconds if isinstance(error, RetryableError) else None
    if isinstance(error, ShortageError):
        # They don't count, but each has the machine do work again that it has no room for.
        failures = max(failures, tries)
    return RetryDecision(policy.delay_seconds(failures, retry_after))
