"""Rules of an outage of Redis: when it is told, when told again, and when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.queue.ledger.outage import ONCE, STILL_LOST_SECONDS, Outage
from worker.queue.telemetry import Listener

if TYPE_CHECKING:
    import pytest


class Lines:
    """An outage on a clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.outage = Outage(clock=lambda: self.now)


def test_redis_counts_as_back_once_every_part_has_got_through(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines, error = Lines(), ConnectionError("refused")
    for part in ("read", "sweep", ONCE):
        lines.outage.failed(part, error)
    lines.now += 1
    lines.outage.worked("sweep")
    assert "redis.back" not in capsys.readouterr().out
    lines.outage.worked("read")
    lines.outage.worked("read")
    assert capsys.readouterr().out.count("redis.back") == 1


def test_an_outage_that_lasts_is_told_at_each_interval_and_its_end_tells_how_long() -> None:
    told, now = Heard(), [100.0]
    outage = Outage(clock=lambda: now[0], telemetry=told)
    # At the interval itself, before it, and at the next one.
    for seconds in (0, STILL_LOST_SECONDS, 1, STILL_LOST_SECONDS - 1):
        now[0] += seconds
        outage.failed("read", ConnectionError("refused"))
    now[0] += 1
    outage.worked("read")
    error = ("refused", "ConnectionError")
    assert told.heard == [
        ("redis.lost", "read", *error),
        (["read"], *error, STILL_LOST_SECONDS),
        (["read"], *error, 2 * STILL_LOST_SECONDS),
        ("back", 2 * STILL_LOST_SECONDS + 1),
    ]


class Heard(Listener):
    """What an outage tells."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []

    def redis_lost(self, event: str, part: str, error: str, kind: str) -> None:
        self.heard.append((event, part, error, kind))

    def redis_still_lost(self, parts: list[str], error: str, kind: str, seconds: float) -> None:
        self.heard.append((parts, error, kind, seconds))

    def redis_back(self, seconds: float) -> None:
        self.heard.append(("back", seconds))


def test_a_part_that_tries_no_more_does_not_keep_an_outage_open(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = Lines()
    lines.outage.failed("claim", ConnectionError("refused"))
    lines.now += 7
    lines.outage.worked("sweep")
    assert "redis.back" not in capsys.readouterr().out
    lines.now += 2
    lines.outage.worked("sweep")
    assert "redis.back" in capsys.readouterr().out
