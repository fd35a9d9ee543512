"""`trainmaster events`, `status`, `list`, `cancel`, `lanes`: what readers see."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest
import redis as redis_py

from schemas.enums import Priority
from tests.console import Console, finish, wait_until
from tests.integration.ledger_acts import LIST, TRAIN, accept, lease
from worker.backfill.keys import backfills_key
from worker.embedded import EmbeddedRedis
from worker.encord.creation.resource_spec import training_goes_on
from worker.queue.ledger.dead_letters import FIELD, dead_letter_json
from worker.queue.ledger.holds import Holds
from worker.queue.ledger.keys import COMMAND_FIELD, Keys
from worker.queue.ledger.lanes import Lanes
from worker.queue.ledger.models import Phase, RowState, RunResult
from worker.queue.ledger.streams import entries_between

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.queue.ledger.ledger import Ledger

MODEL = "2f1c8a52-6f0f-4a57-9a0b-1f0a4d6c9e01"


def test_a_name_that_no_reply_stream_can_have_is_wrong_usage(console: Console) -> None:
    """Not silence, which would say that nothing went there."""
    said = console.run("events", "--replyto", "BAD name")
    assert (said.code, said.out) == (2, "")
    assert "'BAD name' names no reply stream" in " ".join(said.err.split())


async def test_events_are_filtered_by_type_state_and_id(
    console: Console, redis: Redis, ledger: Ledger
) -> None:
    await accept(redis, ledger, **TRAIN, id="t")
    await accept(redis, ledger, **LIST, id="l")
    await accept(redis, ledger, **LIST, id="other", replyto="desk")
    assert console.run("cancel", "l").code == 0

    def seen(*options: str) -> list[tuple[str, str]]:
        said = console.run("events", "--json", *options)
        assert said.code == 0
        return [(event["subject"], event["type"]) for event in said.lines]

    assert seen() == [
        ("t", "train.accepted"),
        ("l", "list_models.accepted"),
        ("other", "list_models.accepted"),
        ("l", "list_models.cancelled"),
    ]
    assert seen("--type", "train") == [("t", "train.accepted")]
    assert seen("--type", "cancelled") == [("l", "list_models.cancelled")]
    assert seen("--type", "train.accepted", "--type", "cancelled") == [
        ("t", "train.accepted"),
        ("l", "list_models.cancelled"),
    ]
    assert [subject for subject, _ in seen("--id", "l")] == ["l", "l"]
    assert seen("--replyto", "desk") == [("other", "list_models.accepted")]
    assert len(seen("--since", "1h")) == 4
    assert seen("--since", "2099-01-01T00:00:00Z") == []

    lines = console.run("events").out.splitlines()
    assert [line.split()[1:3] for line in lines] == [[kind, subject] for subject, kind in seen()]

    # "Since" has its own moment in it, to the millisecond.
    last, fields = (await entries_between(redis, ledger.keys.events, "-", "+"))[-1]
    moment = datetime.fromtimestamp(int(last.partition(b"-")[0]) // 1000 + 1, UTC)
    entry = {"event": fields[b"event"]}
    await redis.xadd(ledger.keys.events, entry, id=f"{int(moment.timestamp())}000-0")  # type: ignore[arg-type]
    assert seen("--since", moment.isoformat()) == [("l", "list_models.cancelled")]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("events", "--type", "trian"), "Unknown event type 'trian'. Did you mean 'train'?"),
        (("events", "--type", "Suceeded"), "Did you mean 'succeeded'?"),
        (("events", "--type", "train.faild"), "Did you mean 'train.failed'?"),
        (("list", "--type", "trian"), "Unknown command type 'trian'. Did you mean 'train'?"),
        (("dead-letters", "list", "--type", "predct"), "Did you mean 'predict'?"),
        (("dead-letters", "replay", "--all", "--type", "predct"), "Did you mean 'predict'?"),
        (("dead-letters", "list", "--reason", "poisin"), "Did you mean 'poison'?"),
        (("list", "--type", "xyz"), "Known: create_model, get_model, "),
        (("submit", "trian", "epochs=1"), "Unknown command type 'trian'. Did you mean 'train'?"),
        (("lst",), "Unknown command 'lst'. Did you mean 'list'?"),
        (("deadletters",), "Did you mean 'dead-letters'?"),
        (("dead-letters", "shwo"), "Did you mean 'show'?"),
        (("backfill", "pasue", "x"), "Did you mean 'pause'?"),
        (("train", "epochs=1"), "trainmaster submit train"),
    ],
)
def test_an_unknown_name_is_wrong_usage_with_a_suggestion(
    console: Console, arguments: tuple[str, ...], told: str
) -> None:
    said = console.run(*arguments)
    assert (said.code, said.out) == (2, "")
    assert told in " ".join(said.err.split())


def test_a_file_with_an_unknown_type_gets_the_suggestion_too(console: Console) -> None:
    said = console.run("submit", "-", stdin=b'{"type": "trian", "data": {}}')
    assert said.code == 2
    assert "Unknown command type 'trian'. Did you mean 'train'?" in said.err


async def test_what_others_put_among_the_events_is_passed_over(
    console: Console, redis: Redis, ledger: Ledger
) -> None:
    for field, text in (("other", "x"), ("event", "{"), ("event", "[]"), ("event", "{}")):
        await redis.xadd(ledger.keys.events, {field: text})
    await accept(redis, ledger, **LIST, id="one")
    assert [event["subject"] for event in console.run("events", "--json").lines] == ["one"]


async def test_following_prints_what_is_there_and_what_comes_until_interrupted(
    console: Console, redis: Redis, ledger: Ledger
) -> None:
    await accept(redis, ledger, **LIST, id="before")
    process = console.start("events", "--follow", "--json")
    assert process.stdout is not None
    assert orjson.loads(process.stdout.readline())["subject"] == "before"
    await accept(redis, ledger, **LIST, id="after")
    assert orjson.loads(process.stdout.readline())["subject"] == "after"
    said = finish(process, signal.SIGINT)
    assert (said.code, said.out, said.err) == (0, "", "")


def test_following_outlives_a_crash_of_redis(tmp_path: Path) -> None:
    keys = Keys("crash")
    event = b'{"id":"1","type":"train.accepted","subject":"%s","time":"","data":{}}'
    with EmbeddedRedis(tmp_path / "redis") as server:
        with client(server) as redis:
            redis.xadd(keys.events, {"event": event % b"before"})
        process = Console(server.url, "crash").start("events", "--follow", "--json")
        assert process.stdout is not None
        assert process.stderr is not None
        assert orjson.loads(process.stdout.readline())["subject"] == "before"
        server.kill()
        assert "waiting for it" in process.stderr.readline()
        server.start()
        with client(server) as redis:
            redis.xadd(keys.events, {"event": event % b"after"})
        assert orjson.loads(process.stdout.readline())["subject"] == "after"
        said = finish(process, signal.SIGINT)
    assert (said.code, said.out) == (0, "")


def client(server: EmbeddedRedis) -> redis_py.Redis:
    return redis_py.Redis.from_url(server.url)


async def test_a_reader_that_leaves_early_is_no_error(
    console: Console, redis: Redis, ledger: Ledger
) -> None:
    for number in range(40):
        await accept(redis, ledger, **LIST, id=f"{number}", correlationid="x" * 4000)
    for command in (["events", "--json"], ["events"], ["list"], ["schemas"]):
        process = console.start(*command)
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        process.stderr.close()
        process.wait(30)


async def test_status_tells_when_the_next_look_is_and_the_last_error(
    console: Console, redis: Redis, ledger: Ledger
) -> None:
    held = await lease(redis, ledger, **LIST, id="one")
    assert "running now" in console.run("status", "one").out
    error = {
        "at": "2026-01-01T00:00:00.000+00:00",
        "code": "server_error",
        "message": "oh",
        "status": 503,
    }
    await ledger.finish([RunResult(held, RowState.RETRYING, 1, delay_seconds=3600, errors=[error])])
    said = console.run("status", "one")
    words = " ".join(said.out.split())
    assert said.code == 0
    assert "state retrying" in words
    assert "attempts 1" in words
    assert "next look in 1h00m" in words or "next look in 59m" in words
    assert "last error server_error (HTTP 503): oh" in words
    (row,) = console.run("status", "one", "--json").lines
    assert (row["state"], row["attempts"], row["last_error"]) == ("retrying", 1, error)


@pytest.mark.parametrize(
    ("phase", "progress", "told"),
    [
        (Phase.INTENDED, {"at": 1.0}, "under way a change at the API"),
        (
            Phase.IN_DOUBT,
            {
                "at": 1.0,
                "error": {"code": "connection_lost", "message": "it was lost"},
                "check": "Check the trainings of that model.",
            },
            "in doubt connection_lost: it was lost",
        ),
        (Phase.APPLIED, {"at": 1.0, "uuid": MODEL}, f"training {MODEL}"),
    ],
)
async def test_status_tells_what_is_known_of_a_change(
    console: Console,
    redis: Redis,
    ledger: Ledger,
    phase: Phase,
    progress: dict[str, Any],
    told: str,
) -> None:
    held = await lease(redis, ledger, **TRAIN, id="one")
    await ledger.checkpoint(held, progress, phase=phase)
    words = " ".join(console.run("status", "one").out.split())
    assert told in words
    assert progress.get("check", "") in words


@pytest.mark.parametrize("ended", [False, True])
async def test_a_state_that_this_version_does_not_know_is_shown_as_it_stands(
    console: Console, redis: Redis, ledger: Ledger, *, ended: bool
) -> None:
    """A newer worker wrote it; whether the command has ended is told by another field."""
    held = await lease(redis, ledger, **LIST, id="one")
    if ended:
        await ledger.finish([RunResult(held, RowState.SUCCEEDED, 1)])
    await redis.hset(ledger.keys.command("one"), mapping={"s": "hibernating", "l": "z"})
    said = console.run("status", "one")
    assert (said.code, said.err) == (0, "")
    words = " ".join(said.out.split())
    assert "state hibernating, which this version does not know" in words
    assert "priority z" in words
    assert ("ended" in words) == ended
    (row,) = console.run("status", "one", "--json").lines
    assert (row["state"], row["lane"]) == ("hibernating", "z")
    listed = console.run("list")
    assert (listed.code, listed.err) == (0, "")
    assert "hibernating" in listed.out.splitlines()[5]
    assert listed.out.splitlines()[-1] == "this version does not know: hibernating"
    assert [row["id"] for row in console.run("list", "--json").lines] == ["one"]
    assert console.run("list", "--json", "--state", "succeeded").lines == []


async def test_an_unknown_id_ends_with_1(console: Console) -> None:
    said = console.run("status", "nobody")
    assert (said.code, said.out) == (1, "")
    assert "no command has the id nobody" in said.err
    assert console.run("cancel", "nobody").code == 1


async def test_of_an_id_that_only_a_backfill_has_status_says_where_to_look(
    console: Console, redis: Redis, keys: Keys
) -> None:
    await redis.zadd(backfills_key(keys), {"night": 1})
    said = console.run("status", "night")
    assert (said.code, said.out) == (1, "")
    assert "no command has the id night, but a backfill has" in said.err
    assert said.err.endswith("see: trainmaster backfill status night\n")


async def test_status_of_a_rejected_id_shows_its_dead_letter_and_ends_with_1(
    console: Console, redis: Redis, keys: Keys
) -> None:
    key = await _bury(redis, keys, "odd", "invalid_command", "data.query must be a string")
    said = console.run("status", "odd")
    words = " ".join(said.out.split())
    assert (said.code, said.err) == (1, "")
    assert "state rejected" in words
    assert "error invalid_command: data.query must be a string" in words
    assert f"trainmaster dead-letters show {key}" in words
    (line,) = console.run("status", "odd", "--json").lines
    assert (line["state"], line["dead_letter"]) == ("rejected", key)
    assert console.run("status", "--item", "odd").out == ""


async def test_status_of_an_accepted_id_tells_the_letter_of_a_later_repeat_with_other_data(
    console: Console, redis: Redis, ledger: Ledger
) -> None:
    """It is the accepted one that is shown; what was rejected before it is not of its time."""
    bury = partial(_bury, redis, ledger.keys)
    await bury("one", "invalid_command", "rejected before it was accepted")
    wait_until(lambda: time.time() > _letter_time(console), "the next millisecond")
    await accept(redis, ledger, **LIST, id="one")
    assert console.run("status", "one", "--json").lines[0]["rejected_since"] is None
    await bury("one", "idempotency_conflict", "the first repeat")
    key = await bury("one", "idempotency_conflict", "the second repeat")
    await bury("one", "server_error", "no rejection")
    await bury("other", "idempotency_conflict", "of another id")
    for end in (False, True):
        if end:
            (held,) = (await ledger.claim(1, bulk_most=1)).leases
            await ledger.finish([RunResult(held, RowState.SUCCEEDED, 1)])
        said = console.run("status", "one")
        words = " ".join(said.out.split())
        assert (said.code, said.err) == (0, "")
        assert f"state {'succeeded' if end else 'accepted'}" in words
        assert "rejected since a later message with this id" in words
        assert "idempotency_conflict: the second repeat" in words
        assert f"trainmaster dead-letters show {key}" in words
        (line,) = console.run("status", "one", "--json").lines
        assert line["state"] == ("succeeded" if end else "accepted")
        told = line["rejected_since"]
        assert (told["dead_letter"], told["error"]["message"]) == (key, "the second repeat")


async def test_status_shows_a_command_whatever_lies_where_dead_letters_should(
    console: Console, redis: Redis, ledger: Ledger
) -> None:
    """That one was also rejected since is only told where it can be found out."""
    await accept(redis, ledger, **LIST, id="one")
    await redis.set(ledger.keys.dead_letters, "no stream")
    said = console.run("status", "one")
    assert (said.code, said.err) == (0, "")
    assert "state accepted" in " ".join(said.out.split())


@pytest.mark.parametrize("progress", ['{"error": 5, "check": 7}', '{"error": {"a": 1}}'])
async def test_status_shows_a_command_whose_doubt_someone_wrote_over(
    console: Console, redis: Redis, ledger: Ledger, progress: str
) -> None:
    await accept(redis, ledger, **LIST, id="one")
    recorded: Any = {"s": "in_doubt", "h": "in_doubt", "p": progress}
    await redis.hset(ledger.keys.command("one"), mapping=recorded)
    said = console.run("status", "one")
    assert (said.code, said.err) == (0, "")
    assert "the API is asked whether it happened" in " ".join(said.out.split())


def _letter_time(console: Console) -> float:
    (letter,) = console.run("dead-letters", "list", "--json").lines
    return float(letter["key"].partition("-")[0]) / 1000 + 0.001


async def _bury(redis: Redis, keys: Keys, command_id: str, code: str, message: str) -> str:
    letter = dead_letter_json(
        command_id=command_id,
        command_type="list_models",
        error={"code": code, "message": message},
        text=b"{}",
        at_ms=1_700_000_000_000,
        attempts=0,
        history=[],
    )
    return cast("bytes", await redis.xadd(keys.dead_letters, {FIELD: letter})).decode()


async def test_of_several_ids_one_that_is_unknown_makes_the_exit_code_1(
    console: Console, redis: Redis, ledger: Ledger
) -> None:
    """Whatever its place among them; for the others all is done."""
    for command_id in ("a", "b", "c", "d"):
        await accept(redis, ledger, **LIST, id=command_id)
    assert console.run("status", "a", "b").code == 0
    for ids in (("a", "nobody"), ("nobody", "a")):
        said = console.run("status", "--json", *ids)
        assert (said.code, [row["id"] for row in said.lines]) == (1, ["a"])
        assert "no command has the id nobody" in said.err
    assert console.run("cancel", "a", "b").code == 0
    for ids in (("c", "nobody"), ("nobody", "d")):
        said = console.run("cancel", "--json", *ids)
        assert said.code == 1
        verdicts = {line["id"]: line["verdict"] for line in said.lines}
        assert verdicts.pop("nobody") == "unknown_id"
        assert list(verdicts.values()) == ["cancelled"]


async def test_list_has_counts_on_top_and_filters_by_state(
    console: Console, redis: Redis, ledger: Ledger
) -> None:
    await accept(redis, ledger, **LIST, id="[red]waits[/red]")
    await accept(redis, ledger, **LIST, id="gone", priority="bulk")
    assert console.run("cancel", "gone").code == 0
    await redis.xadd(ledger.keys.commands, {COMMAND_FIELD: b"unread"})
    *counts, header, first, second = console.run("list").out.splitlines()
    assert counts == [
        "open: 1 interactive, 0 bulk, 0 suspect",
        "due: 1 interactive, 0 bulk, 0 suspect",
        "unread: 1 in the stream, 0 in the bulk stream, 0 in the inbox",
        "dead letters: 0",
    ]
    assert header.split()[:3] == ["id", "type", "state"]
    assert [row.split()[:3] for row in (first, second)] == [
        ["gone", "list_models", "cancelled"],
        ["[red]waits[/red]", "list_models", "accepted"],
    ]
    assert [row["id"] for row in console.run("list", "--state", "cancelled", "--json").lines] == [
        "gone"
    ]
    for option in ("--newest", "--limit"):
        assert [row["id"] for row in console.run("list", option, "1", "--json").lines] == ["gone"]
    assert console.run("list", "--type", "train", "--json").lines == []
    assert len(console.run("list", "--type", "list_models", "--json").lines) == 2
    assert len(console.run("list", "--since", "1h", "--json").lines) == 2
    assert console.run("list", "--since", "2099-01-01T00:00:00Z", "--json").lines == []
    assert console.run("list", "--state", "lost").code == 2


@pytest.mark.parametrize(
    ("phase", "told"),
    [
        (Phase.APPLIED, f"its training {MODEL} goes on at the API"),
        (Phase.INTENDED, "no worker will find out"),
        (Phase.IDLE, "may still be carried out"),
    ],
)
async def test_cancel_says_what_it_does_not_end(
    console: Console,
    redis: Redis,
    ledger: Ledger,
    phase: Phase,
    told: str,
) -> None:
    held = await lease(redis, ledger, **TRAIN, id="one")
    leaves = training_goes_on(MODEL) if phase is Phase.APPLIED else None
    await ledger.checkpoint(held, {}, phase=phase, leaves=leaves)
    said = console.run("cancel", "one")
    assert said.code == 0
    assert told in said.out
    again = console.run("cancel", "one", "--json")
    assert again.lines[0]["verdict"] == "already_ended"
    assert again.code == 0


async def test_cancel_of_a_command_that_nobody_has_read_says_that_it_is_not_accepted_yet(
    console: Console, redis: Redis, keys: Keys
) -> None:
    assert console.run("submit", "list_models", "--id", "unread", "--priority", "bulk").code == 0
    said = console.run("cancel", "unread")
    assert said.code == 1
    assert said.out.startswith("unread: no command has this id: it is not accepted yet, or ended")
    assert await redis.xlen(keys.bulk_commands) == 1


async def test_cancel_of_what_had_not_begun_says_so(
    console: Console, redis: Redis, ledger: Ledger
) -> None:
    await accept(redis, ledger, **LIST, id="one")
    assert console.run("cancel", "one").out == "one: cancelled; nothing had been started\n"


async def test_status_names_what_keeps_a_command_from_running(
    console: Console, redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    await accept(redis, ledger, **LIST, id="one")
    assert console.run("status", "one", "--json").lines[0]["held_by"] == []
    await Holds(redis, keys).refuse("w-1", "the key is not registered", 1)
    await ledger.hold(60, "the API answered 429")
    await Lanes(redis, keys).pause(Priority.INTERACTIVE, "98 % failed", 60)
    await Lanes(redis, keys).pause(Priority.BULK, "another lane", 60)
    said = " ".join(console.run("status", "one").out.split())
    for cause in ("w-1", "the key is not registered", "the API answered 429", "98 % failed"):
        assert cause in said
    assert "another lane" not in said


async def test_lanes_show_a_pause_and_resume_it(console: Console, redis: Redis, keys: Keys) -> None:
    lanes = [line.split() for line in console.run("lanes").out.splitlines()[1:]]
    assert lanes == [["interactive", "open"], ["bulk", "open"]]
    await Lanes(redis, keys).pause(Priority.BULK, "98 % failed", 60)
    _, _, bulk = console.run("lanes").out.splitlines()
    assert bulk.split()[:3] == ["bulk", "paused", "in"]
    assert bulk.endswith("98 % failed")
    assert [line["paused"] for line in console.run("lanes", "--json").lines] == [False, True]
    assert console.run("lanes", "resume", "bulk").out == "bulk: resumed\n"
    assert console.run("lanes", "resume", "bulk", "--json").lines == [
        {"lane": "bulk", "resumed": False}
    ]
    assert console.run("lanes", "resume", "fast").code == 2
    misplaced = console.run("lanes", "--namespace", "other", "resume", "bulk")
    assert misplaced.code == 2
    assert "put the options after resume" in misplaced.err


async def test_a_text_of_others_moves_no_cursor(
    console: Console, redis: Redis, ledger: Ledger
) -> None:
    held = await lease(redis, ledger, **LIST, id="one")
    error = {"at": "", "code": "server_error", "message": "\x1b[2Jgone\r"}
    await ledger.finish([RunResult(held, RowState.RETRYING, 1, delay_seconds=60, errors=[error])])
    wait_until(lambda: "gone" in console.run("status", "one").out, "the error")
    for command in (["status", "one"], ["list"]):
        assert "\x1b" not in console.run(*command).out
