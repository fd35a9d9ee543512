"""`#/dead-letters`: seen by reason, looked at, sent again changed, deleted."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import orjson
from playwright.sync_api import expect

from tests.integration.gateway.page.letters import bury
from tests.integration.ledger_acts import MODEL_UUID
from tests.stream_events import event_text
from worker.queue.ledger.dead_letters import DeadLetters
from worker.queue.ledger.keys import EVENT_FIELD
from worker.queue.ledger.streams import entries_between

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.integration.gateway.page.browser import Backstage, Desk
    from worker.queue.ledger.keys import Keys


def kept(backstage: Backstage) -> list[str]:
    """Returns the commands of all letters."""

    async def look(redis: Redis, keys: Keys) -> list[str]:
        return [letter.command_id async for letter in DeadLetters(redis, keys).list()]

    return sorted(backstage.do(look))


def sent(backstage: Backstage) -> list[dict[str, object]]:
    """Returns the commands that stand in the stream."""

    async def look(redis: Redis, keys: Keys) -> list[dict[str, object]]:
        entries = await entries_between(redis, keys.commands, "-", "+")
        return [orjson.loads(fields[b"command"]) for _, fields in entries]

    return backstage.do(look)


def test_letters_are_seen_by_reason_sent_again_and_deleted(
    desk: Desk, backstage: Backstage
) -> None:
    page = desk.go("#/dead-letters")
    expect(page.get_by_text("There is no dead letter")).to_be_visible()
    bury(backstage, "lost-1", "lost-2", "lost-3", code="not_found")
    bury(backstage, "doubt-1", code="outcome_unknown")
    bury(backstage, "wrong-1", code="not_json", text=b"{'a': \xff")
    page.reload()
    reasons = page.get_by_role("navigation", name="Reasons")
    expect(reasons.get_by_role("link")).to_have_text([
        "not found3",
        "not json1",
        "outcome unknown1",
    ])
    assert desk.violations() == []
    reasons.get_by_role("link", name="not found").click()
    expect(page.locator("tbody tr")).to_have_count(3)
    expect(page.get_by_text("Correct them and send it again")).to_be_visible()

    # One, with other data.
    page.get_by_role("link", name="lost-3").click()
    expect(page.get_by_role("region", name="Earlier attempts")).to_contain_text("for not_found")
    expect(page.get_by_role("region", name="The command as it came")).to_contain_text(MODEL_UUID)
    assert desk.violations() == []
    page.get_by_role("button", name="Send again…").click()
    other = MODEL_UUID.replace("2f1c", "3333")
    dialog = page.get_by_role("dialog", name="Send again")
    dialog.get_by_label("Its data, as JSON").fill(f'{{"model_uuid": "{other}"}}')
    desk.refused |= {"/v1/commands/"}  # No worker accepts it here.
    dialog.get_by_role("button", name="Send again").click()
    expect(page.locator("h1")).to_contain_text("lost-3.replay")
    (again,) = sent(backstage)
    assert (again["data"], again["causationid"]) == ({"model_uuid": other}, "lost-3")
    assert kept(backstage) == ["doubt-1", "lost-1", "lost-2", "wrong-1"]

    # All: what may have been done stays, and what nobody can read.
    views = page.get_by_role("navigation", name="Views")
    views.get_by_role("link", name="Dead letters", exact=True).click()
    page.get_by_role("button", name="Send all again…").click()
    dialog = page.get_by_role("dialog", name="Send dead letters again")
    expect(dialog).to_contain_text("1 outcome unknown")
    dialog.get_by_role("button", name="Send again 2 commands").click()
    expect(dialog).to_contain_text("2 of 2 commands sent again")
    dialog.get_by_role("button", name="Close").last.click()
    expect(page.locator("tbody tr")).to_have_count(2)
    assert kept(backstage) == ["doubt-1", "wrong-1"]

    # What has no text to read is shown in base64, and goes for good.
    page.get_by_role("link", name="wrong-1").click()
    expect(page.get_by_text("these are its bytes in base64")).to_be_visible()
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Dead letters")
    page.get_by_role("button", name="Delete all…").click()
    dialog = page.get_by_role("dialog", name="Delete dead letters")
    dialog.get_by_role("button", name="Delete 1 dead letter").click()
    expect(dialog).to_contain_text("1 of 1 dead letter deleted")
    assert kept(backstage) == []


def test_what_may_have_been_done_is_sent_again_only_by_who_looked(
    desk: Desk, backstage: Backstage
) -> None:
    bury(backstage, "doubt-2", code="outcome_unknown")
    page = desk.go("#/dead-letters")
    page.get_by_role("link", name="doubt-2").click()
    page.get_by_role("button", name="Send again…").click()
    dialog = page.get_by_role("dialog", name="Send again")
    dialog.get_by_role("button", name="Send again").click()
    assert "doubt-2" in kept(backstage), "the browser asks to tick the box first"
    dialog.get_by_label("I looked at Encord").check()
    desk.refused |= {"/v1/commands/"}
    dialog.get_by_role("button", name="Send again").click()
    expect(page.get_by_text("Sent again, under a new id.")).to_be_visible()
    assert "doubt-2" not in kept(backstage)


def test_what_has_just_died_is_there_without_a_reload(desk: Desk, backstage: Backstage) -> None:
    page = desk.go("#/dead-letters")
    expect(page.locator(".connection")).to_have_text("Live")
    # The page loads twice at its start, and may load what has failed for the event before: the last
    # of each kind is there for its own event.
    for number, state in enumerate(("rejected", "rejected", "rejected", "failed", "failed")):
        bury(backstage, f"died-{number}", code="not_found")
        backstage.do(partial(_tell, f"died-{number}", f"get_model.{state}"))
        expect(page.get_by_role("link", name=f"died-{number}")).to_be_visible()


async def _tell(command_id: str, event_type: str, redis: Redis, keys: Keys) -> None:
    await redis.xadd(keys.events, {EVENT_FIELD: event_text(command_id, event_type)})


def test_a_letter_is_found_by_an_id_that_is_a_step_to_browsers(
    desk: Desk, backstage: Backstage
) -> None:
    bury(backstage, "..", code="not_found")
    page = desk.go("#/dead-letters")
    page.get_by_role("searchbox", name="Id").fill("..")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("..")
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator(".notice")).to_have_text(re.compile("The dead letter is deleted"))
