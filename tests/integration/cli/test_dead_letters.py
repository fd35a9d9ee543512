"""`trainmaster dead-letters`, on letters that a real worker wrote."""

from __future__ import annotations

import time
import uuid

import orjson
import pytest
from redis import Redis

from tests.console import Console, Served, wait_until
from worker.queue.ledger.dead_letters import FIELD, dead_letter_json
from worker.queue.ledger.keys import COMMAND_FIELD, Keys

NOBODY = "00000000-0000-4000-8000-000000000000"
BAD_UTF8 = b'{"type": "list_models\xff"}'


@pytest.fixture
def letters(served: Served) -> Console:
    """A console on a namespace in which nothing is dead yet."""
    with Redis.from_url(served.console.environment["TRAINMASTER_REDIS_URL"]) as redis:
        redis.delete(Keys(served.console.namespace).dead_letters)
    return served.console


def fail(console: Console) -> str:
    """Sends a command that fails for good; returns its id."""
    command_id = str(uuid.uuid4())
    said = console.run("submit", "--wait", "get_model", f"model_uuid={NOBODY}", "--id", command_id)
    assert said.code == 1
    return command_id


def reject(console: Console, raw: bytes) -> None:
    """Sends what is no command, and waits until a worker has said so."""
    keys = Keys(console.namespace)
    with Redis.from_url(console.environment["TRAINMASTER_REDIS_URL"]) as redis:
        before = redis.xlen(keys.dead_letters)
        redis.xadd(keys.commands, {COMMAND_FIELD: raw})
        wait_until(lambda: redis.xlen(keys.dead_letters) != before, "a dead letter")


def listed(console: Console, *options: str) -> list[str]:
    return [
        line["command_id"] for line in console.run("dead-letters", "list", "--json", *options).lines
    ]


def test_what_failed_is_listed_by_reason_type_and_time(letters: Console) -> None:
    assert letters.run("dead-letters", "list").out == "no dead letters\n"
    failed = fail(letters)
    reject(letters, b'{"type": "list_models", "id": "odd", "data": {"query": 1}}')
    assert listed(letters) == ["odd", failed]
    assert listed(letters, "--reason", "not_found") == [failed]
    assert listed(letters, "--type", "list_models") == ["odd"]
    for option in ("--newest", "--limit"):
        assert listed(letters, option, "1") == ["odd"]
    assert listed(letters, "--since", "1h") == ["odd", failed]
    assert listed(letters, "--since", "2099-01-01T00:00:00Z") == []
    table = letters.run("dead-letters", "list").out
    assert "not_found" in table
    assert failed in table


def test_a_letter_is_shown_with_its_text_and_history_by_key_or_id(letters: Console) -> None:
    failed = fail(letters)
    said = letters.run("dead-letters", "show", failed)
    assert said.code == 0
    assert "history 1" in said.out
    assert f'"model_uuid": "{NOBODY}"' in said.out
    (line,) = letters.run("dead-letters", "show", failed, "--json").lines
    assert orjson.loads(line["text"])["id"] == failed
    assert letters.run("dead-letters", "show", line["key"]).out == said.out
    assert letters.run("dead-letters", "show", "0-1").code == 1


def test_a_text_that_is_no_utf8_is_kept_whole_and_can_not_be_replayed(letters: Console) -> None:
    reject(letters, BAD_UTF8)
    (line,) = letters.run("dead-letters", "list", "--json").lines
    assert line["text"] is None
    assert line["text_base64"]
    said = letters.run("dead-letters", "replay", line["key"])
    assert said.code == 1
    assert "not JSON" in said.err
    assert len(listed(letters)) == 1


def test_a_replay_is_a_new_command_that_names_the_old_one(letters: Console) -> None:
    failed = fail(letters)
    dry = letters.run("dead-letters", "replay", failed, "--dry-run", "--json")
    assert (dry.code, dry.lines[0]["sent"]) == (0, False)
    assert listed(letters) == [failed]

    said = letters.run("dead-letters", "replay", failed, "--json")
    assert said.code == 0
    (line,) = said.lines
    assert line["command"] == dry.lines[0]["command"]
    assert line["id"] != failed
    ended = end_of(letters, line["id"])
    assert ended["type"] == "get_model.failed"
    assert ended["causationid"] == failed
    wait_until(lambda: listed(letters) == [line["id"]], "the letter of the replay")


def test_a_replay_says_that_a_deadline_has_passed_and_keeps_one_to_come(letters: Console) -> None:
    for command_id, deadline in (("late", "2020-01-01T00:00:00Z"), ("odd", "2999-01-01T00:00:00Z")):
        command = {"type": "list_models", "id": command_id, "data": {}, "deadline": deadline}
        reject(letters, orjson.dumps({**command, "data": {"query": 1}}))
    edit = ("dead-letters", "replay", "--dry-run", "--set", "query=1")
    dropped = "its deadline had passed and is dropped"
    assert dropped in letters.run(*edit, "late").err
    assert dropped not in letters.run(*edit, "odd").err
    (late,), (odd,) = (letters.run(*edit, "--json", key).lines for key in ("late", "odd"))
    assert (late["deadline_dropped"], "deadline" in late["command"]) == (True, False)
    assert (odd["deadline_dropped"], odd["command"]["deadline"]) == (False, "2999-01-01T00:00:00Z")
    anew = letters.run(*edit, "--json", "--attribute", "deadline=2999-01-01T00:00:00Z", "late")
    assert anew.lines[0]["command"]["deadline"] == "2999-01-01T00:00:00Z"


def test_of_several_keys_one_that_is_unknown_makes_the_exit_code_1(letters: Console) -> None:
    """Whatever its place among them; the others are sent all the same."""
    for keys in (("0-1", "odd"), ("odd", "0-1")):
        reject(letters, b'{"type": "list_models", "id": "odd", "data": {"query": 1}}')
        said = letters.run("dead-letters", "replay", "--json", "--set", "query=x", *keys)
        assert said.code == 1
        assert [line["sent"] for line in said.lines if "sent" in line] == [True]
        assert [line["error"]["code"] for line in said.lines if "error" in line] == ["not_found"]
        assert listed(letters) == []


def test_a_replay_can_mend_the_data(letters: Console) -> None:
    reject(
        letters, b'{"type": "list_models", "id": "odd", "data": {"query": 1, "order_asc": true}}'
    )
    refused = letters.run("dead-letters", "replay", "odd")
    assert refused.code == 1
    assert "it would be rejected: data.query must be a string" in refused.err
    assert listed(letters) == ["odd"]

    said = letters.run("dead-letters", "replay", "odd", "--set", "query=1", "--json")
    assert said.code == 0
    (line,) = said.lines
    assert line["command"]["data"] == {"query": "1", "order_asc": True}
    assert end_of(letters, line["id"])["type"] == "list_models.succeeded"
    assert listed(letters) == []


def test_a_replay_can_replace_data_and_attributes(letters: Console) -> None:
    reject(letters, b'{"type": "list_modles", "priority": "fast", "data": []}')
    (key,) = [line["key"] for line in letters.run("dead-letters", "list", "--json").lines]
    said = letters.run(
        "dead-letters",
        "replay",
        key,
        "--data",
        '{"query": "a"}',
        "--attribute",
        "type=list_models",
        "--attribute",
        "priority=null",
        "--json",
    )
    assert said.code == 0, said.err
    command = said.lines[0]["command"]
    assert command["type"] == "list_models"
    assert command["data"] == {"query": "a"}
    assert "priority" not in command
    assert end_of(letters, command["id"])["type"] == "list_models.succeeded"


def test_all_of_a_reason_are_replayed_and_the_rest_stays(letters: Console) -> None:
    failed = [fail(letters), fail(letters)]
    reject(letters, b'{"type": "list_models", "id": "odd", "data": {"query": 1}}')
    said = letters.run(
        "dead-letters", "replay", "--all", "--reason", "not_found", "--type", "get_model"
    )
    assert said.code == 0
    assert "2 commands sent" in said.err
    wait_until(
        lambda: sum(each.startswith(tuple(failed)) for each in listed(letters)) == 2,
        "the replays' own letters",
    )
    assert "odd" in listed(letters)


@pytest.mark.parametrize("reason", ["outcome_unknown", "data_loss"])
def test_all_leaves_out_what_may_have_happened(console: Console, reason: str) -> None:
    text = orjson.dumps({"type": "list_models", "id": "one", "data": {}})
    letter = dead_letter_json(
        command_id="one",
        command_type="list_models",
        error={"code": reason, "message": "nobody knows"},
        text=text,
        at_ms=0,
        attempts=1,
        history=[],
    )
    with Redis.from_url(console.environment["TRAINMASTER_REDIS_URL"]) as redis:
        # What others put there is passed over.
        redis.xadd(Keys(console.namespace).dead_letters, {FIELD: b"{}"})
        redis.xadd(Keys(console.namespace).dead_letters, {FIELD: letter})
    said = console.run("dead-letters", "replay", "--all")
    assert said.code == 1
    assert "it may have happened" in said.err
    by_reason = ("dead-letters", "replay", "--all", "--reason", reason, "--dry-run")
    assert console.run(*by_reason).code == 0
    by_key = console.run("dead-letters", "replay", "one")
    assert by_key.code == 0
    assert "may then exist twice" in by_key.err


def test_a_purge_asks_unless_told_not_to(letters: Console) -> None:
    failed = fail(letters)
    asked = letters.run("dead-letters", "purge", failed, stdin=b"n\n")
    assert asked.code == 1
    assert "Delete 1 dead letter for good?" in asked.err
    assert listed(letters) == [failed]
    assert letters.run("dead-letters", "purge", failed, stdin=b"y\n").code == 0
    assert listed(letters) == []


def test_a_purge_takes_keys_a_reason_or_an_age(letters: Console) -> None:
    failed = fail(letters)
    reject(letters, b"{")
    assert purge(letters, "--older-than", "1h") == 0
    assert purge(letters, "--reason", "not_json") == 1
    assert listed(letters) == [failed]
    # The letter must be older than nothing, by the clock that the command reads.
    time.sleep(0.01)
    assert purge(letters, "--older-than", "0s") == 1
    missing = letters.run("dead-letters", "purge", "0-1", "--yes", "--json")
    assert (missing.code, missing.lines) == (1, [{"purged": 0, "missing": ["0-1"]}])


def test_a_purge_by_age_leaves_what_is_younger(console: Console) -> None:
    minutes = (1, 10, 90, 3_000)
    with Redis.from_url(console.environment["TRAINMASTER_REDIS_URL"]) as redis:
        for age in minutes:
            letter = dead_letter_json(
                command_id=f"of-{age}",
                command_type="train",
                error={"code": "not_found", "message": "gone"},
                text=b"{}",
                at_ms=int((time.time() - 60 * age) * 1000),
                attempts=1,
                history=[],
            )
            redis.xadd(Keys(console.namespace).dead_letters, {FIELD: letter})
    assert purge(console, "--older-than", "2d") == 1
    assert sorted(listed(console)) == ["of-1", "of-10", "of-90"]
    assert purge(console, "--older-than", "5m", "--reason", "poison") == 0
    assert purge(console, "--older-than", "5m") == 2
    assert listed(console) == ["of-1"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("replay",),
        ("replay", "0-1", "--all"),
        ("replay", "0-1", "--data", "[1]"),
        ("replay", "0-1", "--set", "query"),
        ("replay", "0-1", "--attribute", "id=new"),
        ("purge",),
        ("purge", "0-1", "--reason", "poison"),
        ("list", "--since", "soon"),
    ],
)
def test_wrong_usage_ends_with_2(console: Console, arguments: tuple[str, ...]) -> None:
    assert console.run("dead-letters", *arguments).code == 2


def purge(console: Console, *options: str) -> int:
    said = console.run("dead-letters", "purge", *options, "--yes", "--json")
    assert said.code == 0, said.err
    return int(said.lines[0]["purged"])


def end_of(console: Console, command_id: str) -> dict[str, str]:
    """Returns the terminal event of a command once it is there."""
    found: list[dict[str, str]] = []

    def ended() -> bool:
        said = console.run("events", "--json", "--id", command_id)
        found[:] = [
            event
            for event in said.lines
            if event["type"].rpartition(".")[2] in {"succeeded", "failed", "rejected"}
        ]
        return bool(found)

    wait_until(ended, f"the end of {command_id}")
    return found[0]
