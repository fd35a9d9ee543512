"""How a backfill stands: what Redis keeps of it, as a value."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson

from worker.backfill.errors import UnreadableBackfillError
from worker.backfill.plan import Plan
from worker.queue.ledger.stored_values import moment_of, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

E = TypeVar("E", bound=StrEnum)

# The reason of a pause that is nobody's fault.
BY_HAND: Final = "someone paused it"
_FAILED_PREFIX: Final = "failed:"
_PASSED_PREFIX: Final = "passed:"
# More than any count or time has, and few enough to be shown.
_MOST_DIGITS: Final = 15
_SHOWN_BYTES: Final = 40


class BackfillState(StrEnum):
    """Where a backfill stands."""

    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to the backfill."""
        return self in {BackfillState.SUCCEEDED, BackfillState.FAILED, BackfillState.CANCELLED}


class Origin(StrEnum):
    """Who leads a backfill."""

    QUEUE = "queue"
    CONSOLE = "console"


@dataclass(frozen=True, slots=True)
class BackfillStatus:
    """How a backfill stands at one moment.

    Attributes:
        read: items that were read; the number of the next one.
        open: items that have rows.
        passed_over: what a folder held besides items, by its kind, as far as it was read.
        dropped: items that a cancellation kept from running.
        waiting: results that are in no part yet.
        led_ms: for how long someone else leads it, 0 where nobody does.
        silent: whether no event tells more of it, for its command has failed and said so.
        render: the folder of a console that pictures are yet to be drawn into; empty if none are.
        read_at_ms: Redis' time at that moment.
        read_at: the same moment, in seconds of a clock that only goes forward.
    """

    id: str
    plan: Plan
    origin: Origin
    entry: str
    state: BackfillState
    reason: str
    begun_ms: int
    ended_ms: int | None
    read: int
    position: str
    exhausted: bool
    expected: int | None
    succeeded: int
    failed: int
    failures: dict[str, int]
    passed_over: dict[str, int]
    dropped: int
    open: int
    waiting: int
    part: int
    cut: str
    collected: int
    acknowledged: int
    acknowledged_of: int
    result: dict[str, Any] | None
    led_ms: int
    silent: bool
    render: str = ""
    read_at_ms: int = field(default=0, compare=False)
    read_at: float = field(default_factory=time.monotonic, compare=False)

    @property
    def now_ms(self) -> int:
        """Redis' time now."""
        return self.read_at_ms + int((time.monotonic() - self.read_at) * 1000)

    @property
    def ended(self) -> int:
        """Items that have succeeded or failed."""
        return self.succeeded + self.failed

    @property
    def total(self) -> int | None:
        """About how many items there are, or exactly once all are read."""
        return self.read if self.exhausted else self.expected

    @property
    def unwritten(self) -> list[str]:
        """Names of the last files that could not be written when it ended."""
        warnings = (self.result or {}).get("warnings", ())
        return [warning["file"] for warning in warnings if not warning["written"]]

    @property
    def excess(self) -> str:
        """Why too many failed since a person last made light of it; empty if not."""
        failed, ended = self.failed - self.acknowledged, self.ended - self.acknowledged_of
        return self.plan.limits.reason(failed, ended)

    @property
    def failures_left(self) -> int | None:
        """How many more may fail until it pauses; None where no number is the limit."""
        most = self.plan.limits.most
        return None if most is None else max(0, most - (self.failed - self.acknowledged))

    def progress(self) -> dict[str, Any]:
        """Returns the data of an event of progress."""
        told = {
            "state": self.state,
            "read": self.read,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "open": self.open,
        }
        return told | ({"reason": self.reason} if self.reason else {})


def read_status(backfill_id: str, reply: list[Any]) -> BackfillStatus:
    """Returns what the script `lead` tells of a backfill.

    Raises:
        UnreadableBackfillError: someone wrote over it.
    """
    try:
        return _read(backfill_id, reply)
    except KeyError as exc:
        raise UnreadableBackfillError(backfill_id, f"{exc.args[0]} is missing") from exc
    except ValueError as exc:
        raise UnreadableBackfillError(backfill_id, str(exc)) from exc


def _read(backfill_id: str, reply: list[Any]) -> BackfillStatus:
    _, pairs, open_items, waiting, led_ms, now_ms, of_group = reply
    pairs = pairs + of_group
    names = [name.decode() for name in pairs[::2]]
    told: dict[str, bytes] = dict(zip(names, pairs[1::2], strict=True))
    # Whose command has failed waits for a person, whose console leads it from then on.
    orphaned = told.get("orphaned") == b"1"
    return BackfillStatus(
        id=backfill_id,
        plan=_plan(told["plan"]),
        origin=Origin.CONSOLE if orphaned else _one_of(Origin, "origin", told["origin"]),
        entry=told["entry"].decode(),
        state=_one_of(BackfillState, "state", told["state"]),
        reason=told.get("reason", b"").decode(),
        begun_ms=moment_of(_number("begun", told["begun"])),
        ended_ms=moment_of(_number("ended", told["ended"])) if "ended" in told else None,
        read=_number("read", told["read"]),
        position=told.get("position", b"").decode(),
        exhausted=told.get("exhausted") == b"1",
        expected=_number("expected", told["expected"]) if "expected" in told else None,
        succeeded=_number("succeeded", told["succeeded"]),
        failed=_number("failed", told["failed"]),
        failures=_counts(told, _FAILED_PREFIX),
        passed_over=_counts(told, _PASSED_PREFIX),
        dropped=_number("dropped", told.get("dropped", b"0")),
        open=open_items,
        waiting=waiting,
        part=_number("part", told["part"]),
        cut=told.get("cut", b"").decode(),
        collected=_number("collected", told["collected"]),
        acknowledged=_number("acknowledged", told.get("acknowledged", b"0")),
        acknowledged_of=_number("acknowledged_of", told.get("acknowledged_of", b"0")),
        result=_result(told.get("result")),
        led_ms=led_ms,
        silent=orphaned,
        render=told.get("render", b"").decode(),
        read_at_ms=now_ms,
    )


def _plan(text: bytes) -> Plan:
    try:
        return Plan.parse(text)
    except (ValueError, LookupError, TypeError, AttributeError) as exc:
        raise ValueError("plan is none") from exc


def _result(text: bytes | None) -> dict[str, Any] | None:
    found = orjson.loads(text) if text else None
    if found is not None and not isinstance(found, dict):
        raise ValueError("result is no object")
    return found


def _one_of(kind: type[E], name: str, value: bytes) -> E:
    try:
        return kind(text_of(value))
    except ValueError as exc:
        shown = text_of(value[:_SHOWN_BYTES])
        raise ValueError(f"{name} is {shown!r}, which it can't be") from exc


def _number(name: str, value: bytes) -> int:
    if not value.isdigit() or len(value) > _MOST_DIGITS:
        raise ValueError(f"{name} is {text_of(value[:_SHOWN_BYTES])!r}, which is no number")
    return int(value)


def _counts(told: Mapping[str, bytes], prefix: str) -> dict[str, int]:
    return {
        name.removeprefix(prefix): _number(name, count)
        for name, count in told.items()
        if name.startswith(prefix)
    }
