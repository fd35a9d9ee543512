"""Deliveries that were stored, and files that are tried out, as rules look at them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from worker.integrations.file import load_integrations
from worker.webhooks.records import Delivery
from worker.webhooks.replays import NoDeliveryError, received_again, received_from_file

if TYPE_CHECKING:
    from pathlib import Path

    from worker.integrations.sources import Source

FILE = """
[sources.door]
scheme = "encord"
secrets = [{ env = "SECRET" }]
[sources.follow]
scheme = "events"
"""
EVENT = {
    "id": "1-0/succeeded",
    "type": "train.succeeded",
    "subject": "t1",
    "source": "/trainmaster",
    "reactiondepth": 2,
    "correlationid": "order-1",
    "data": {},
}
AT_MS = 1_700_000_000_123


def source_of(folder: Path, name: str) -> Source:
    file = folder / "integrations.toml"
    file.write_text(FILE, encoding="utf-8")
    return load_integrations(file, {"SECRET": "a-secret-of-tests"}).sources[name]


def stored(source: str, body: Any) -> Delivery:
    text = body if isinstance(body, bytes) else orjson.dumps(body)
    return Delivery(source, "uid-1", "push", AT_MS, {"x-thing": "a"}, text)


def test_a_delivery_is_looked_at_again_as_it_came(tmp_path: Path) -> None:
    delivery = stored("door", {"uid": "another"})
    found = received_again(source_of(tmp_path, "door"), delivery)
    assert found.delivery is delivery
    assert (found.body, found.problem, found.depth) == ({"uid": "another"}, None, 0)


def test_one_that_could_not_be_read_still_can_not(tmp_path: Path) -> None:
    found = received_again(source_of(tmp_path, "door"), stored("door", b"{not json"))
    assert found.body is None
    assert "is not JSON" in str(found.problem)


def test_an_event_is_looked_at_again_as_a_reaction_of_its_own_depth_and_time(
    tmp_path: Path,
) -> None:
    found = received_again(source_of(tmp_path, "follow"), stored("follow", EVENT))
    assert (found.delivery.id, found.delivery.type) == ("1-0/succeeded", "train.succeeded")
    assert found.delivery.received_at_ms == AT_MS
    assert found.depth == 3
    assert found.attributes == {"correlationid": "order-1", "causationid": "t1"}


@pytest.mark.parametrize("left_out", ["id", "type", "subject"])
def test_what_is_no_event_is_none_for_a_source_of_events(tmp_path: Path, left_out: str) -> None:
    source = source_of(tmp_path, "follow")
    body = {name: value for name, value in EVENT.items() if name != left_out}
    found = received_again(source, stored("follow", body))
    assert found.body is None
    assert found.problem == "the source follow takes events: id, type, subject, data"
    for text in (orjson.dumps(body), b"{not json"):
        with pytest.raises(NoDeliveryError, match="the source follow takes events"):
            received_from_file(source, text, [], 1_700_000_000.5)


def test_a_file_is_a_delivery_of_now_and_its_headers_are_found_in_small_letters(
    tmp_path: Path,
) -> None:
    body = orjson.dumps({"uid": "uid-7", "event_type": "task_sumbitted_event"})
    found = received_from_file(
        source_of(tmp_path, "door"), body, [(b"X-Thing", b"A")], 1_700_000_000.5
    )
    assert found.delivery == Delivery(
        "door", "uid-7", "task_submitted_event", 1_700_000_000_500, {"x-thing": "A"}, body
    )
    assert found.body == {"uid": "uid-7", "event_type": "task_sumbitted_event"}


def test_a_file_with_an_event_is_one_that_is_read_now(tmp_path: Path) -> None:
    found = received_from_file(
        source_of(tmp_path, "follow"), orjson.dumps(EVENT), [], 1_700_000_000.5
    )
    assert found.delivery.received_at_ms == 1_700_000_000_500
    assert (found.delivery.id, found.depth) == ("1-0/succeeded", 3)
