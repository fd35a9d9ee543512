"""How a training is told from what the list, the ledger and its events have of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest

from trainmaster_client import Event
from worker.gateway.read_model.rows import CommandRow
from worker.gateway.views.trainings import details_of, training_item
from worker.queue.ledger.command_status import CommandStatus
from worker.queue.ledger.dead_letters import DeadLetter
from worker.queue.ledger.queries import CommandDetails, LedgerReader

if TYPE_CHECKING:
    from collections.abc import Sequence

BEGUN, NOW = 1_700_000_000, 1_700_000_100
DATA: dict[str, Any] = {"model_uuid": "m", "epochs": 3, "batch_size": 8, "timeout_seconds": 600}
ROW = CommandRow(
    id="one",
    type="train",
    state="started",
    correlation_id=None,
    attempts=0,
    accepted_at_ms=BEGUN * 1000,
    changed_at_ms=BEGUN * 1000 + 5000,
    error_code=None,
    error_message=None,
    entry_id="5-0",
)
STATUS = CommandStatus(
    id="one",
    group=None,
    type="train",
    state="polling",
    lane="interactive",
    attempts=2,
    claims=1,
    accepted_at_ms=BEGUN * 1000 + 1,
    due_at_ms=NOW * 1000 + 9000,
    ended_at_ms=None,
    last_error=None,
    progress={"at": BEGUN + 10, "uuid": "t"},
    last_event_id=None,
)
FORGOTTEN = CommandDetails(None, None, None, None)


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def sent(**data: Any) -> bytes:
    return orjson.dumps({"type": "train", "data": {**DATA, **data}})


def event(state: str, **data: Any) -> Event:
    return Event("5-0", {"id": "1/x", "type": f"train.{state}", "subject": "one", "data": data})


def item(
    row: CommandRow = ROW,
    status: CommandStatus | None = STATUS,
    text: bytes | None = None,
    of: Event | None = None,
    letter: DeadLetter | None = None,
) -> dict[str, Any]:
    details = CommandDetails(status, sent() if text is None else text, of, letter)
    return training_item(row, details, NOW * 1000)


def changed(**fields: Any) -> CommandStatus:
    told = {name: getattr(STATUS, name) for name in CommandStatus.__slots__}
    return CommandStatus(**{**told, **fields})


ENDED = changed(
    state="succeeded", ended_at_ms=BEGUN * 1000 + 60_000, progress=None, last_event_id="9-0"
)


def test_one_that_goes_on_is_told_by_the_ledger() -> None:
    found = item()
    assert found == {
        "id": "one",
        "type": "train",
        "state": "started",
        "model_uuid": "m",
        "training_uuid": "t",
        "epochs": 3,
        "batch_size": 8,
        "accepted_at": at(BEGUN),
        "ended_at": None,
        "elapsed_seconds": 100.0,
        "next_poll_at": at(NOW + 9),
        "deadline": at(BEGUN + 610),
        "attempts": 2,
        "error": None,
        "iteration": None,
    }


def test_one_that_has_ended_is_told_by_its_result() -> None:
    iteration = {"epochs": 2, "batch_size": 4, "loss_log": [1.0]}
    done = event("succeeded", result={"training_uuid": "r", "iteration": iteration})
    found = item(status=ENDED, of=done)
    assert (found["state"], found["ended_at"]) == ("succeeded", at(BEGUN + 60))
    assert found["elapsed_seconds"] == 60.0
    assert (found["deadline"], found["next_poll_at"]) == (None, None)
    assert (found["training_uuid"], found["iteration"]) == ("r", iteration)
    # What it had goes before what was asked for.
    assert (found["epochs"], found["batch_size"]) == (2, 4)
    # What an event holds that tells of no success is no result.
    odd = item(status=ENDED, of=event("failed", result={"training_uuid": "r"}))
    assert (odd["training_uuid"], odd["iteration"]) == (None, None)


def test_what_the_ledger_has_forgotten_has_ended_where_the_list_says_so() -> None:
    row = ROW._replace(state="failed", error_code="not_found", error_message="gone", attempts=3)
    found = training_item(row, FORGOTTEN, NOW * 1000)
    assert (found["state"], found["ended_at"], found["attempts"]) == ("failed", at(BEGUN + 5), 3)
    assert found["error"] == {"code": "not_found", "message": "gone"}
    assert found["elapsed_seconds"] == 5.0
    assert (found["model_uuid"], found["epochs"], found["deadline"]) == (None, None, None)
    going = training_item(ROW, FORGOTTEN, NOW * 1000)
    assert (going["ended_at"], going["elapsed_seconds"]) == (None, 100.0)


def test_when_it_was_accepted_is_told_by_whoever_knows_it() -> None:
    no_event = ROW._replace(accepted_at_ms=None)
    assert item(no_event)["accepted_at"] == at(BEGUN + 0.001)
    unknown = training_item(no_event, FORGOTTEN, NOW * 1000)
    assert (unknown["accepted_at"], unknown["elapsed_seconds"]) == (None, None)
    # A clock that was set back.
    late = ROW._replace(accepted_at_ms=NOW * 1000 + 5000)
    assert item(late)["elapsed_seconds"] == 0.0


@pytest.mark.parametrize(
    ("attributes", "data", "progress", "deadline"),
    [
        ({}, {}, {"at": BEGUN}, BEGUN + 600),
        ({}, {"timeout_seconds": None}, {"at": BEGUN}, None),
        ({"deadline": "2023-11-14T22:15:00Z"}, {}, {"at": BEGUN}, BEGUN + 100),
        ({"deadline": "2033-11-14T22:15:00Z"}, {}, {"at": BEGUN}, BEGUN + 600),
        ({"deadline": "2023-11-14T22:15:00Z"}, {}, {}, BEGUN + 100),
        ({"deadline": "soon"}, {}, {}, None),
        ({}, {}, {}, None),
        ({}, {"timeout_seconds": 10**15}, {"at": BEGUN}, 253_402_214_400),
    ],
)
def test_it_is_waited_for_until_its_deadline_or_its_timeout_whichever_is_first(
    attributes: dict[str, Any],
    data: dict[str, Any],
    progress: dict[str, Any],
    deadline: float | None,
) -> None:
    text = orjson.dumps({"type": "train", **attributes, "data": {**DATA, **data}})
    found = item(status=changed(progress=progress), text=text)["deadline"]
    assert found == (None if deadline is None else at(deadline))


def test_without_a_timeout_of_its_own_it_is_waited_for_for_seven_days() -> None:
    told = dict(DATA)
    del told["timeout_seconds"]
    text = orjson.dumps({"type": "train", "data": told})
    assert item(text=text)["deadline"] == at(BEGUN + 10 + 7 * 86_400)
    # What it was sent with is not known, and so not how long either.
    assert item(text=b"")["deadline"] is None


def test_only_one_that_is_polled_has_a_next_poll() -> None:
    assert item(status=changed(state="retrying"))["next_poll_at"] is None


@pytest.mark.parametrize(
    ("status", "of", "row", "code"),
    [
        (changed(last_error={"code": "busy"}), None, ROW, "busy"),
        (changed(last_error={"code": "busy"}), event("failed", error={"code": "end"}), ROW, "end"),
        # Of one that has ended the last attempt's is no error of its end.
        (changed(last_error={"code": "busy"}, ended_at_ms=1), None, ROW, None),
        (STATUS, None, ROW._replace(error_code="listed"), "listed"),
        (STATUS, None, ROW, None),
    ],
)
def test_its_error_is_that_of_its_end_else_of_its_last_attempt(
    status: CommandStatus, of: Event | None, row: CommandRow, code: str | None
) -> None:
    found = item(row, status, of=of)["error"]
    assert (found or {}).get("code") == code


@pytest.mark.parametrize("odd", [True, "3", None, 1.5, [3]])
def test_what_is_no_number_of_epochs_is_not_told_as_one(odd: Any) -> None:
    assert item(text=sent(epochs=odd))["epochs"] is None


def test_a_failed_one_is_told_by_its_dead_letter() -> None:
    letter = DeadLetter("5-0", "one", "train", "x", {}, sent(model_uuid="of the letter"), 1, [], 1)
    assert item(letter=letter)["model_uuid"] == "of the letter"


class Reader:
    """A ledger's reader that says what a test wants, and keeps what it was asked."""

    def __init__(self, *answers: list[CommandDetails]) -> None:
        self.asked: list[list[tuple[str, str]]] = []
        self._answers = iter(answers)

    async def details(self, asked: Sequence[tuple[str, str]]) -> list[CommandDetails]:
        self.asked.append(list(asked))
        return next(self._answers)


async def test_what_has_ended_since_the_list_heard_of_it_is_asked_for_once_more() -> None:
    rows = [ROW._replace(id=name, entry_id=f"{name}-0") for name in ("1", "2", "3", "4")]
    known = [
        CommandDetails(each, None, None, None)
        for each in (
            changed(last_event_id="1-0"),
            changed(last_event_id="22-0"),
            changed(last_event_id=None),
            None,
        )
    ]
    ended = CommandDetails(ENDED, b"{}", event("succeeded"), None)
    reader = Reader(known, [ended])
    found = await details_of(cast("LedgerReader", reader), rows)
    assert reader.asked[1:] == [[("2", "22-0")]]
    assert found == [known[0], ended, known[2], known[3]]
    # Mostly one round trip is all.
    quick = Reader([known[0]])
    await details_of(cast("LedgerReader", quick), rows[:1])
    assert quick.asked == [[("1", "1-0")]]
