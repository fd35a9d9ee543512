"""What `doctor` checks of the ledger: its epoch, who reads the streams, what is left undone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import NoPermissionError, ResponseError

from schemas.wording import counted
from worker.cli.doctor.checks import Finding, Level, permitted
from worker.cli.formatting import UNREAD_LIST_ADVICE, describe_unread_list, show_duration
from worker.cli.output import safe_text
from worker.queue.intake.list_bridge import unread_lists
from worker.queue.ledger.epoch import Epoch
from worker.queue.ledger.holds import Hold, Holds, HoldScope
from worker.queue.ledger.keys import GROUP, Keys
from worker.queue.ledger.lanes import Lanes
from worker.queue.ledger.queries import LedgerReader
from worker.queue.ledger.repair import SHOWN, Repair
from worker.queue.ledger.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis

    from worker.queue.pool.witness import Witness

# A worker reads the stream every two seconds, busy or not.
_SILENT_MS: Final = 30_000
_ROWS_SECONDS: Final = 5.0


async def check_ledger(redis: Redis, keys: Keys, witness: Witness | None = None) -> list[Finding]:
    """Returns what is found in the namespace.

    Raises:
        redis.exceptions.RedisError: Redis can't be asked.
    """
    return [
        *await permitted("ledger.epoch", _check_loss(redis, keys, witness)),
        *await permitted("celery.lists", _check_celery_lists(redis, keys)),
        *await permitted("intake.group", _check_group(redis, keys)),
        *await permitted("ledger.open", _check_work(redis, keys)),
        *await permitted("ledger.rows", _check_rows(redis, keys)),
    ]


async def _check_loss(redis: Redis, keys: Keys, witness: Witness | None) -> list[Finding]:
    loss = await Epoch(redis, keys).loss(None if witness is None else witness.recall)
    if loss is None:
        return [Finding("ledger.epoch", Level.OK, "nothing was lost")]
    return [
        Finding(
            "ledger.epoch",
            Level.FAIL,
            f"the ledger was {loss}: nobody knows which commands were done",
            "look at the API for what was created; then run: trainmaster doctor --accept-loss",
        )
    ]


async def check_partitions(redis: Redis, keys: Keys, partitions: Sequence[str]) -> list[Finding]:
    """Returns whether the workers that run were told of the same partitions as we.

    Args:
        redis: a client.
        keys: of one of them.
        partitions: the namespaces that are named here.

    Raises:
        redis.exceptions.RedisError: Redis can't be asked.
    """
    check = "partitions"
    if len(partitions) < 2:
        return []

    async def look() -> list[Finding]:
        told = {each.partitions for each in await Workers(redis, keys).list()}
        # A worker of one namespace may be all that its Redis has.
        others = [each for each in told if len(each) > 1 and set(each) != set(partitions)]
        if not others:
            return [Finding(check, Level.OK, f"one of {len(partitions)}")]
        said = f"workers serve {safe_text(', '.join(min(others)))}, and here is named "
        return [
            Finding(
                check,
                Level.WARN,
                f"{said}{', '.join(partitions)}: an id may be looked for in the wrong one",
                "name the same in TRAINMASTER_NAMESPACE for all producers and workers",
            )
        ]

    return await permitted(check, look())


async def _check_celery_lists(redis: Redis, keys: Keys) -> list[Finding]:
    """Returns the lists that Celery made for priorities of its own, which no worker reads."""
    return [
        Finding(
            "celery.lists", Level.WARN, describe_unread_list(name, messages), UNREAD_LIST_ADVICE
        )
        for name, messages in (await unread_lists(redis, keys)).items()
    ]


async def _check_group(redis: Redis, keys: Keys) -> list[Finding]:
    check = "intake.group"
    start = "start one: trainmaster worker"
    try:
        groups = await redis.xinfo_groups(keys.commands)
        group = next((each for each in groups if each["name"] == GROUP.encode()), None)
        consumers = await LedgerReader(redis, keys).consumers() if group else []
        entries = await redis.xlen(keys.commands) if group else 0
    except NoPermissionError:
        raise
    except ResponseError as exc:
        if "no such key" not in str(exc):
            return [Finding(check, Level.FAIL, f"{keys.commands}: {exc}", "look at that key")]
        group, consumers, entries = None, [], 0
    if group is None:
        return [Finding(check, Level.WARN, "no worker has run in this namespace yet", start)]
    present = [each for each in consumers if each["idle_ms"] < _SILENT_MS]
    findings = [Finding(check, Level.OK, _backlog(group, entries)), *await _check_bulk(redis, keys)]
    if present:
        findings.append(
            Finding(
                "intake.workers",
                Level.OK,
                f"{counted(len(present), 'process', 'processes')} at work",
            )
        )
    else:
        findings.append(Finding("intake.workers", Level.WARN, "no worker is running", start))
    findings += [
        Finding(
            "intake.silent",
            Level.WARN,
            f"{safe_text(each['name'])} is silent for {show_duration(each['idle_ms'] / 1000)} "
            f"and has read {counted(each['pending'], 'command')} that it did not accept",
            "the next worker that runs takes them over; is one running?",
        )
        for each in consumers
        if each["idle_ms"] >= _SILENT_MS and each["pending"]
    ]
    return findings


def _backlog(group: Mapping[str, Any], entries: int) -> str:
    # What was accepted leaves the stream. The group's own count does not know what was accepted
    # out of turn.
    unread = max(entries - int(group["pending"]), 0)
    return f"{counted(unread, 'command')} to read, {group['pending']} being accepted"


async def _check_bulk(redis: Redis, keys: Keys) -> list[Finding]:
    """Returns what waits in the stream for bulk; one that nobody uses is no matter."""
    check, stream = "intake.bulk", keys.bulk_commands
    try:
        waiting = await redis.xlen(stream)
        groups = await redis.xinfo_groups(stream) if waiting else []
    except NoPermissionError:
        raise
    except ResponseError as exc:
        return [Finding(check, Level.FAIL, f"{stream}: {exc}", "look at that key")]
    if not waiting:
        return []
    group = next((each for each in groups if each["name"] == GROUP.encode()), None)
    if group is None:
        said = f"{counted(waiting, 'command')} in {stream}, which no worker reads"
        return [Finding(check, Level.WARN, said, "workers of an older version do not read it")]
    return [Finding(check, Level.OK, f"bulk: {_backlog(group, waiting)}")]


async def _check_work(redis: Redis, keys: Keys) -> list[Finding]:
    counts = await LedgerReader(redis, keys).counts()
    due = counts["due_interactive"] + counts["due_bulk"] + counts["due_suspect"]
    still_open = counts["open_interactive"] + counts["open_bulk"] + counts["open_suspect"]
    findings = [
        Finding("ledger.open", Level.OK, f"{counted(still_open, 'command')} open, {due} due now")
    ]
    findings += [
        Finding(
            "ledger.lane",
            Level.WARN,
            f"{pause.lane} is paused: {safe_text(pause.reason)}",
            f"fix the cause; then: trainmaster lanes resume {pause.lane}",
        )
        for pause in await Lanes(redis, keys).paused()
    ]
    findings += [_judge_hold(hold) for hold in await Holds(redis, keys).list()]
    letters = counts["dead_letters"]
    if letters:
        findings.append(
            Finding(
                "dead_letters",
                Level.WARN,
                counted(letters, "dead letter"),
                "look at them: trainmaster dead-letters list",
            )
        )
    else:
        findings.append(Finding("dead_letters", Level.OK, "none"))
    return findings


def _judge_hold(hold: Hold) -> Finding:
    if hold.scope is HoldScope.WORKER:
        return Finding(
            "ledger.refused",
            Level.FAIL,
            f"worker {safe_text(hold.worker)} claims nothing: {safe_text(hold.reason)}",
            "check that worker's ENCORD_SSH_KEY_FILE (or TRAINMASTER_BEARER_TOKEN) and "
            "ENCORD_DOMAIN; it goes on by itself once the API accepts its key",
        )
    rest = show_duration((hold.rest_ms or 0) / 1000)
    return Finding(
        "ledger.hold",
        Level.WARN,
        f"nothing is claimed for another {rest}: {safe_text(hold.reason)}",
        "send fewer requests: TRAINMASTER_REQUESTS_PER_SECOND; end it: trainmaster holds release",
    )


async def _check_rows(redis: Redis, keys: Keys) -> list[Finding]:
    """Returns how many open commands are in no due set, and how many can't be run any more."""
    check = "ledger.rows"
    try:
        found = await Repair(redis, keys, lease_seconds=0).look(_ROWS_SECONDS)
    except NoPermissionError:
        raise
    except ResponseError as exc:
        # Even a script that only looks is refused by a server that takes no writes.
        return [Finding(check, Level.WARN, f"not checked: {exc}", "see redis.write")]
    seen = "" if found.whole else f", as far as could be checked in {_ROWS_SECONDS:g} s"
    findings = []
    if found.not_due or found.not_indexed:
        missing = counted(found.not_due + found.not_indexed, "open command")
        findings.append(
            Finding(
                check,
                Level.WARN,
                f"{missing} without a due time or a deadline{seen}: someone deleted keys, or Redis "
                "evicts them",
                "a running worker puts them back within TRAINMASTER_REPAIR_SECONDS; find out who "
                "deletes keys",
            )
        )
    if found.not_recoverable:
        findings.append(
            Finding(
                check,
                Level.FAIL,
                f"{counted(found.not_recoverable, 'command')} can't be recovered, because a part "
                f"of each is gone{seen}",
                "a running worker ends them with data_loss; restore a backup, or send them again"
                if not found.unreadable
                else "no worker can end those whose key holds something else: "
                + safe_text(", ".join(found.unreadable[:SHOWN])),
            )
        )
    return findings or [Finding(check, Level.OK, f"no open command is missing{seen}")]
