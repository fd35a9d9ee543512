"""Windows: deliveries that a rule joins into one command, and who closes those that are due.

Any gateway process closes them. It seals a window, so that what comes next opens another one, reads
what has joined it, and adds the command in the script that forgets the window: whoever is killed in
between leaves it to the next one, and an id of its own makes the command one.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, cast

import orjson
import structlog
from redis.exceptions import NoPermissionError

from schemas.events import ErrorCode
from schemas.json_text import RawJson, decode_json, encode_json
from worker.integrations.rules import TemplateError
from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS
from worker.queue.ledger.lua import load_script
from worker.queue.ledger.outage import Outage
from worker.queue.ledger.redis_retry import next_pause
from worker.webhooks.deliveries import PACKAGE, stream_entries
from worker.webhooks.effects import Received, dead_letter, messages_of, rule_error
from worker.webhooks.keys import window_key, windows_key
from worker.webhooks.records import Delivery, RuleResult, WindowEnd

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from redis.asyncio import Redis

    from trainmaster_client import Message
    from worker.integrations.rules import Rule
    from worker.integrations.sources import Source
    from worker.queue.ledger.keys import Keys

log = structlog.get_logger(__name__)

# How long a sealed window is left to who sealed it: closing takes milliseconds.
LEASE_SECONDS: Final = 15.0
# Other processes may have read a newer file, or an older one.
MISSING_RULE_SECONDS: Final = 600.0
_LONGEST_SLEEP_SECONDS: Final = 1.0
_PAGE: Final = 100
# Keys that a step of a scan looks at.
_SCANNED: Final = 1_000


@dataclass(frozen=True, slots=True)
class Window:
    """A sealed window.

    Attributes:
        id: what the ids of its commands are made of.
        key: what its deliveries have in common.
        received: its deliveries, in the order in which they came.
    """

    id: str
    source: str
    rule: str
    key: str
    due_at_ms: int
    received: Sequence[Received]

    @property
    def delivery_names(self) -> list[str]:
        """The names of its deliveries."""
        return [each.delivery.name for each in self.received]


@dataclass(frozen=True, slots=True)
class Sealed:
    """Ids of windows that nobody joins any more.

    Attributes:
        next_seconds: when the next one is due; None where there is none.
        may_miss_some: whether windows may stand in no set: it was deleted, or is new.
    """

    window_ids: Sequence[str]
    next_seconds: float | None
    may_miss_some: bool


class Windows:
    """The windows of a namespace."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._seal = load_script(redis, "seal_windows", PACKAGE)
        self._close = load_script(redis, "close_window", PACKAGE)
        self._restore = load_script(redis, "restore_windows", PACKAGE)

    async def seal(self, lease_seconds: float = LEASE_SECONDS) -> Sealed:
        """Seals windows that are due; others may close them once the lease has ended."""
        next_ms, may_miss_some, *sealed = await self._seal(
            keys=[windows_key(self._keys)],
            args=[self._keys.prefix, _PAGE, int(lease_seconds * 1000)],
        )
        return Sealed(
            [window_id.decode() for window_id in sealed],
            int(next_ms) / 1000 if next_ms else None,
            bool(may_miss_some),
        )

    async def restore(self) -> int:
        """Puts back what stands in no set, found by a scan over all keys; returns how many."""
        prefix = window_key(self._keys, "")
        restored, cursor, is_begun = 0, 0, False
        while cursor or not is_begun:
            cursor, found = await self._redis.scan(cursor, match=f"{prefix}*", count=_SCANNED)
            is_begun = True
            window_ids = [cast("bytes", key)[len(prefix) :] for key in found]
            restored += await self._restore(
                keys=[windows_key(self._keys)],
                args=[self._keys.prefix, int(not cursor), *window_ids],
            )
        return restored

    async def read(self, window_id: str) -> Window | None:
        """Returns a window; None where it is closed.

        Raises:
            KeyError, TypeError, ValueError: others wrote something there.
        """
        stored = await cast(
            "Awaitable[list[bytes]]", self._redis.lrange(window_key(self._keys, window_id), 0, -1)
        )
        if not stored:
            return None
        if len(stored) == 1:
            raise ValueError("a window that no delivery has joined is not ours")
        head = orjson.loads(stored[0])
        return Window(
            id=window_id,
            source=head["source"],
            rule=head["rule"],
            key=head["key"],
            due_at_ms=head["due_at"],
            received=[_read_item(head["source"], item) for item in stored[1:]],
        )

    async def close(
        self,
        window: Window,
        end: WindowEnd,
        messages: Sequence[Message] = (),
        dead_letters: Sequence[bytes] = (),
    ) -> bool:
        """Adds what came of a window and forgets it, in one step; false where that was done."""
        keys = self._keys
        entries = stream_entries(messages, dead_letters)
        closed = await self._close(
            keys=[
                window_key(keys, window.id),
                windows_key(keys),
                keys.commands,
                keys.bulk_commands,
                keys.dead_letters,
            ],
            args=[
                keys.prefix,
                window.id,
                encode_json(end.as_json()),
                len(entries),
                *entries,
                *window.delivery_names,
            ],
        )
        return bool(closed)


def _read_item(source: str, stored: bytes) -> Received:
    item = decode_json(stored)
    body = item["body"]
    return Received(
        Delivery(
            source=source,
            id=item["id"],
            type=item["type"],
            received_at_ms=item["received_at"],
            headers=item["headers"],
            body=encode_json(body),
        ),
        body,
        depth=item["depth"],
        attributes=item["attributes"],
    )


class WindowCloser:
    """Closes windows that are due, in a loop that lives through the loss of Redis.

    Args:
        redis: client that returns bytes.
        keys: the namespace.
        sources: as the file has them, by name.
    """

    def __init__(self, redis: Redis, keys: Keys, sources: Mapping[str, Source]) -> None:
        self._windows = Windows(redis, keys)
        self._sources = sources
        self._outage = Outage()
        self._is_refused = False

    async def run(self, stop: asyncio.Event) -> None:
        """Closes windows until `stop` is set."""
        pause = 0.0
        while not stop.is_set():
            try:
                following = await self.close_due()
            except RETRYABLE_REDIS_ERRORS as exc:
                self._outage.failed("windows", exc)
                following = pause = next_pause(pause)
            else:
                self._outage.worked("windows")
                pause = 0.0
            if following:
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), following)

    async def close_due(self) -> float:
        """Closes windows that are due; returns the seconds until it is worth to look again."""
        sealed = await self._windows.seal()
        if sealed.may_miss_some:
            await self._restore()
        for window_id in sealed.window_ids:
            await self._close(window_id)
        if len(sealed.window_ids) == _PAGE:
            return 0.0
        if sealed.next_seconds is None:
            return _LONGEST_SLEEP_SECONDS
        return min(sealed.next_seconds, _LONGEST_SLEEP_SECONDS)

    async def _restore(self) -> None:
        try:
            restored = await self._windows.restore()
        except NoPermissionError as exc:
            if not self._is_refused:
                log.warning(
                    "windows.repair_refused",
                    error=str(exc),
                    advice="give the gateway's user of Redis the rights of redis-users.acl",
                )
            self._is_refused = True
            return
        if restored:
            log.warning("windows.restored", windows=restored)

    async def _close(self, window_id: str) -> None:
        try:
            window = await self._windows.read(window_id)
        except (KeyError, TypeError, ValueError):
            # Others wrote something there; it stays for who looks at it.
            log.warning("window.unreadable", window_id=window_id)
            return
        if window is None:
            return
        rule = self._rule_of(window)
        if rule is None and self._may_come(window):
            log.warning(
                "window.rule_missing",
                window_id=window_id,
                source=window.source,
                rule=window.rule,
            )
            return
        await close_window(self._windows, window, rule)

    def _rule_of(self, window: Window) -> Rule | None:
        source = self._sources.get(window.source)
        rules = () if source is None else source.rules
        return next((rule for rule in rules if rule.name == window.rule), None)

    def _may_come(self, window: Window) -> bool:
        overdue_seconds = time.time() - window.due_at_ms / 1000
        return overdue_seconds < MISSING_RULE_SECONDS


async def close_window(windows: Windows, window: Window, rule: Rule | None) -> bool:
    """Makes the commands of a sealed window and forgets it; false where another one did."""
    try:
        messages = [] if rule is None else commands_of_window(window, rule)
        problem = None
    except TemplateError as exc:
        messages, problem = [], exc
    except MemoryError:
        raise
    except Exception as exc:
        log.exception("rule.failed", source=window.source, rule=window.rule, id=window.id)
        reason = f"can't be judged: {type(exc).__name__}"
        messages, problem = [], TemplateError(window.rule, "", reason)
    if rule is None:
        reason = "is in the integrations file no more"
        problem = TemplateError(window.rule, "rule", reason)
    if problem is None:
        end = WindowEnd(RuleResult.SUBMITTED, tuple(each.command_id for each in messages))
        return await windows.close(window, end, messages)
    log.warning(
        "window.invalid",
        window_id=window.id,
        source=window.source,
        rule=window.rule,
        field=problem.field,
    )
    end = WindowEnd(RuleResult.INVALID, problem=f"{problem.field} {problem.reason}".strip())
    letter = dead_letter(
        window.id,
        "command" if rule is None else rule.command.type,
        rule_error(
            window.source,
            window.rule,
            f"{len(window.received)} deliveries",
            problem.field,
            problem.reason,
            ErrorCode.INVALID_COMMAND,
        ),
        _window_text(window),
        window.received[-1].delivery.received_at_ms,
    )
    return await windows.close(window, end, dead_letters=[letter])


def commands_of_window(window: Window, rule: Rule) -> list[Message]:
    """Returns the commands that a rule makes of a window's deliveries.

    Raises:
        TemplateError: it makes no valid command of them.
    """
    joined = joined_delivery(window)
    context = joined.context
    bodies = [each.body for each in window.received]
    commands = rule.commands(replace(context, deliveries=bodies))
    return messages_of(rule, commands, [window.id], joined)


def joined_delivery(window: Window) -> Received:
    """Returns the last delivery of a window, with what all of them have in common."""
    last = window.received[-1]
    attributes = dict(last.attributes or {})
    for each in window.received:
        known = each.attributes or {}
        attributes = {name: value for name, value in attributes.items() if known.get(name) == value}
    depth = max(each.depth for each in window.received)
    return replace(last, depth=depth, attributes=attributes)


def _window_text(window: Window) -> bytes:
    """Returns a window as the text of a dead letter: JSON that is never a command by itself."""
    return encode_json({
        "window": window.id,
        "source": window.source,
        "rule": window.rule,
        "deliveries": [
            {
                "id": each.delivery.id,
                "headers": dict(each.delivery.headers),
                "body": RawJson(each.delivery.body),
            }
            for each in window.received
        ],
    })
