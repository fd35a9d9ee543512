"""Rules of dead letters: how they are found, and what a replay sends."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from redis.exceptions import ResponseError

from tests.integration.intake_acts import take_in
from tests.integration.ledger_acts import MODEL_UUID, TEXT, events, every_server
from worker.queue.ledger.dead_letters import DeadLetters, dead_letter_json
from worker.queue.ledger.keys import COMMAND_FIELD
from worker.queue.ledger.stored_values import moment_of
from worker.queue.ledger.streams import entries_between

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

pytestmark = every_server


async def bury(redis: Redis, keys: Keys, number: int, text: bytes = TEXT, **changes: Any) -> str:
    """Leaves a dead letter; returns its key."""
    values: dict[str, Any] = {
        "command_id": f"id-{number}",
        "command_type": "get_model",
        "error": {"code": "not_found", "message": "m"},
        "text": text,
        "at_ms": number,
        "attempts": 1,
        "history": [],
    }
    letter = dead_letter_json(**{**values, **changes})
    await redis.xadd(keys.dead_letters, {"dead_letter": letter}, id=f"{1000 + number}-0")
    return f"{1000 + number}-0"


ODD: list[dict[str, Any]] = [
    {"command_id": None},
    {"command_type": 5},
    {"error": {"code": [], "message": "m"}},
    {"error": {"code": "c", "message": "m", "problems": 5}},
    {"error": {"code": "c", "message": "m", "problems": [None]}},
    {"error": {"code": "c", "message": "m", "problems": [{}]}},
    {"at_ms": None},
    {"attempts": "many"},
]


async def test_letters_that_others_wrote_otherwise_hide_none(redis: Redis, keys: Keys) -> None:
    """One of them ended each list, and each replay of all."""
    await bury(redis, keys, 1)
    for number, odd in enumerate(ODD, 2):
        await bury(redis, keys, number, **odd)
    await bury(redis, keys, 99, at_ms=10**17)
    letters = [letter async for letter in DeadLetters(redis, keys).list()]
    assert [(each.command_id, each.at_ms) for each in letters] == [
        ("id-1", 1),
        ("id-99", moment_of(math.inf)),
    ]


async def test_an_odd_error_of_an_earlier_attempt_hides_no_letter(redis: Redis, keys: Keys) -> None:
    error = {"code": "c", "message": "m"}
    for number, history in enumerate([None, [None, error, {"code": "c"}], [error]]):
        await bury(redis, keys, number, history=history)
    letters = [letter async for letter in DeadLetters(redis, keys).list()]
    assert [each.history for each in letters] == [[], [error], [error]]


async def test_dead_letters_are_filtered_oldest_first_over_many_pages(
    redis: Redis, keys: Keys
) -> None:
    for number in range(450):
        code = "not_found" if number % 3 else "poison"
        await bury(redis, keys, number, error={"code": code, "message": "m"})
    letters = DeadLetters(redis, keys)
    assert [letter.at_ms async for letter in letters.list()] == list(range(450))
    assert len([letter async for letter in letters.list(reason="poison")]) == 150
    assert [letter.at_ms async for letter in letters.list(since_ms=1440, limit=3)] == [
        440,
        441,
        442,
    ]
    few = letters.list(reason="poison", command_type="get_model", limit=3)
    assert [letter.at_ms async for letter in few] == [0, 3, 6]
    assert [letter async for letter in letters.list(command_type="train")] == []
    turned = [letter.at_ms async for letter in letters.list(newest_first=True)]
    assert turned == list(reversed(range(450)))
    since = [letter.at_ms async for letter in letters.list(newest_first=True, since_ms=1440)]
    assert since == [at_ms for at_ms in turned if at_ms >= 440]
    latest = letters.list(newest_first=True, since_ms=1440, limit=3)
    assert [letter.at_ms async for letter in latest] == [449, 448, 447]
    assert [letter.at_ms async for letter in letters.list(before=1003)] == [0, 1, 2]
    page = [letter async for letter in letters.list(newest_first=True, before=1440, limit=2)]
    assert [letter.at_ms for letter in page] == [439, 438]
    following = letters.list(newest_first=True, before=page[-1].key, limit=2)
    assert [letter.at_ms async for letter in following] == [437, 436]
    oldest = letters.list(since_ms=-1, limit=1)
    assert [letter.at_ms async for letter in oldest] == [0]
    for beginning in (0, "0-0"):
        assert [letter async for letter in letters.list(before=beginning)] == []


@pytest.mark.parametrize("key", ["²-1", "1-²", f"{2**64}-0", f"{10**30}-1", "1-", "-1", "1-1-1"])
async def test_what_is_no_key_names_no_letter(redis: Redis, keys: Keys, key: str) -> None:
    await bury(redis, keys, 1)
    assert await DeadLetters(redis, keys).get(key) is None


async def test_a_letter_is_found_by_its_key_or_as_the_newest_of_an_id(
    redis: Redis, keys: Keys
) -> None:
    first = await bury(redis, keys, 1, command_id="same")
    second = await bury(redis, keys, 2, command_id="same")
    letters = DeadLetters(redis, keys)
    assert (found := await letters.get(first)) is not None
    assert found.key == first
    assert (found := await letters.get("same")) is not None
    assert found.key == second
    assert await letters.get("nobody") is None


async def test_a_text_that_is_no_utf8_is_kept_byte_by_byte(redis: Redis, keys: Keys) -> None:
    key = await bury(redis, keys, 1, text=b"\xff\x00bad")
    letter = await DeadLetters(redis, keys).get(key)
    assert letter is not None
    assert letter.text == b"\xff\x00bad"
    with pytest.raises(ValueError, match="expected value at line 1 column 1"):
        await DeadLetters(redis, keys).replay(letter)


@pytest.mark.parametrize("old", ["old", "o" * 255], ids=["short", "longest"])
async def test_a_replay_is_a_new_command_that_names_the_old_one_and_happens_once(
    redis: Redis, ledger: Ledger, keys: Keys, old: str
) -> None:
    text = orjson.dumps({"type": "get_model", "id": old, "data": {}})
    letters = DeadLetters(redis, keys)
    letter = await letters.get(await bury(redis, keys, 1, text=text, command_id=old))
    assert letter is not None
    edited = {"model_uuid": MODEL_UUID}
    new = await letters.replay(letter, edited)
    assert await letters.replay(letter, edited) == new, "its reply was lost: sent twice"
    await take_in(redis, ledger)
    (told,) = await events(redis, keys.events)
    assert (told["type"], told["subject"]) == ("get_model.accepted", new)
    assert told["causationid"] == old
    assert [each async for each in letters.list()] == []


async def test_the_letter_of_a_command_that_its_stream_refuses_stays(
    redis: Redis, keys: Keys
) -> None:
    letters = DeadLetters(redis, keys)
    letter = await letters.get(await bury(redis, keys, 1))
    assert letter is not None
    await redis.set(keys.commands, "of somebody else")
    with pytest.raises(ResponseError):
        await letters.replay(letter)
    assert await letters.get(letter.key) == letter


@pytest.mark.parametrize(
    ("deadline", "kept"),
    [
        ("2020-01-01T00:00:00Z", False),
        ("2020-01-01T00:00:00+14:00", False),
        ("2999-01-01T00:00:00Z", True),
        ("soon", True),
        (7, True),
        (None, True),
    ],
)
async def test_a_replay_keeps_a_deadline_unless_it_has_passed(
    redis: Redis, keys: Keys, deadline: object, *, kept: bool
) -> None:
    """What is no deadline is for the worker to reject, not to be swept under the carpet."""
    whole = {"type": "get_model", "id": "old", "data": {}, "deadline": deadline}
    letters = DeadLetters(redis, keys)
    key = await bury(redis, keys, 1, text=orjson.dumps(whole), command_id="old")
    letter = await letters.get(key)
    assert letter is not None
    await letters.replay(letter)
    ((_, fields),) = await entries_between(redis, keys.commands, "-", "+")
    sent = orjson.loads(fields[COMMAND_FIELD])
    assert ("deadline" in sent) == kept
    assert sent.get("deadline", deadline) == deadline
