"""Rules of retries: how long a command waits after a failure, and when it is given up."""

from __future__ import annotations

import pytest

from schemas.events import ErrorCode
from worker.errors import MisconfiguredError, PermanentError, RateLimitedError, ServerFailedError
from worker.queue.pool.retry import RetryPolicy, decide

POLICY = RetryPolicy(max_attempts=20, minimum_seconds=1, maximum_seconds=60)
# Half of each delay is drawn by chance.
DRAWS = 50


def delays(failures: int, retry_after_seconds: float | None = None) -> list[float]:
    """Returns delays as they are drawn after so many failures."""
    error = ServerFailedError(
        "failed", code=ErrorCode.SERVER_ERROR, retry_after_seconds=retry_after_seconds
    )
    found = [decide(error, failures, POLICY).delay_seconds for _ in range(DRAWS)]
    assert None not in found
    return [each for each in found if each is not None]


@pytest.mark.parametrize(
    ("failures", "longest"), [(0, 1), (1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (19, 60)]
)
def test_each_delay_is_twice_as_long_as_the_one_before_up_to_the_longest(
    failures: int, longest: float
) -> None:
    found = delays(failures)
    assert longest / 2 <= min(found) <= max(found) <= longest
    assert len(set(found)) > 1, "commands that fail together are not tried again together"


def test_what_the_api_asks_for_makes_a_delay_longer_and_never_shorter() -> None:
    assert set(delays(1, 300)) == {300}
    assert min(delays(7, 2)) >= 30
    assert min(delays(7, 0)) >= 30


def test_the_last_attempt_is_the_end_and_so_is_what_no_attempt_mends() -> None:
    failed = ServerFailedError("failed", code=ErrorCode.SERVER_ERROR)
    assert decide(failed, 19, POLICY).delay_seconds is not None
    assert decide(failed, 20, POLICY).delay_seconds is None
    assert decide(PermanentError("no", code=ErrorCode.NOT_FOUND), 1, POLICY).delay_seconds is None
    refused = MisconfiguredError("who", code=ErrorCode.NOT_AUTHENTICATED)
    assert decide(refused, 1, POLICY).delay_seconds is not None
    limited = RateLimitedError("slow", code=ErrorCode.RATE_LIMITED, retry_after_seconds=5)
    assert decide(limited, 0, POLICY).delay_seconds == 5
