"""What rules make of a delivery, as values: nothing here needs Redis."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from schemas.attributes import is_valid_id
from worker.integrations.file import load_integrations
from worker.integrations.rules import Rule
from worker.webhooks.effects import Received, effects_of
from worker.webhooks.receiving import kept_headers
from worker.webhooks.records import (
    Delivery,
    RecordedDelivery,
    RuleRecord,
    RuleResult,
    derived_id,
    summary,
)
from worker.webhooks.windows import Window, joined_delivery

if TYPE_CHECKING:
    from pathlib import Path

    from worker.integrations.sources import Source
    from worker.webhooks.records import Effects

MODEL = "33333333-3333-4333-8333-333333333333"
HEAD = """
[sources.door]
scheme = "encord"
secrets = [{ env = "SECRET" }]
"""
COMMAND = f"""
[sources.door.rules.command]
type = "get_model"
data.model_uuid = "'{MODEL}'"
"""


def source_of(folder: Path, *rules: str) -> Source:
    file = folder / "integrations.toml"
    parts = (f"[[sources.door.rules]]\n{rule}\n{COMMAND}" for rule in rules)
    file.write_text("\n".join([HEAD, *parts]), encoding="utf-8")
    return load_integrations(file, {"SECRET": "a-secret-of-tests"}).sources["door"]


def received(body: Any = None, *, kind: str = "push", delivery_id: str = "uid-1") -> Received:
    body = {} if body is None else body
    text = orjson.dumps(body)
    return Received(Delivery("door", delivery_id, kind, 1_700_000_000_000, {}, text), body)


def recorded(found: Received, effects: Effects) -> RecordedDelivery:
    return RecordedDelivery(found.delivery, effects.outcomes, b"[]", [], {})


def ids(effects: Effects) -> list[str]:
    return [each.command_id for each in effects.commands]


def test_ids_derive_from_the_delivery_or_from_the_key_that_a_rule_names(tmp_path: Path) -> None:
    source = source_of(tmp_path, 'name = "plain"', 'name = "keyed"\nkey = "body.commit"')
    first = effects_of(source, received({"commit": "abc"}))
    second = effects_of(source, received({"commit": "abc"}, delivery_id="uid-2"))

    assert ids(first) == ["door/plain/uid-1", "door/keyed/abc"]
    assert ids(second) == ["door/plain/uid-2", "door/keyed/abc"]
    assert first.commands[1] == second.commands[1]


@pytest.mark.parametrize(
    ("parts", "others"),
    [
        (("a", "x" * 300), ("a", "x" * 301)),
        (("a", "line\nbreak"), ("a", "line break")),
        (("a", "\ud800"), ("a", "\ud801")),
    ],
)
def test_ids_of_odd_parts_are_valid_and_differ(
    parts: tuple[str, ...], others: tuple[str, ...]
) -> None:
    assert is_valid_id(derived_id(*parts))
    assert derived_id(*parts) != derived_id(*others)
    assert derived_id(*parts) == derived_id(*parts)
    assert len(derived_id(*parts, most=200)) <= 200


def test_a_key_that_gives_nothing_is_a_dead_letter_and_no_id_of_many(tmp_path: Path) -> None:
    effects = effects_of(source_of(tmp_path, 'name = "keyed"\nkey = "body.commit"'), received())

    assert effects.commands == []
    assert [each.result for each in effects.outcomes] == [RuleResult.INVALID]
    assert len(effects.dead_letters) == 1


def test_a_dead_letter_is_no_command_even_where_the_delivery_looks_like_one(
    tmp_path: Path,
) -> None:
    source = source_of(tmp_path, 'name = "keyed"\nkey = "body.commit"')
    lookalike = {"type": "get_model", "data": {"model_uuid": MODEL}}
    (letter,) = effects_of(source, received(lookalike)).dead_letters

    text = orjson.loads(orjson.loads(letter)["text"])
    assert "type" not in text
    assert text["body"] == lookalike
    assert text["delivery"] == {
        "source": "door",
        "id": "uid-1",
        "received_at": "2023-11-14T22:13:20.000+00:00",
    }
    assert text["rule"] == "keyed"


def test_a_rule_that_breaks_in_a_way_nobody_thought_of_is_a_dead_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(tmp_path, 'name = "broken"', 'name = "whole"')
    whole = Rule.match

    def outcome(rule: Rule, context: Any) -> Any:
        if rule.name == "broken":
            raise ZeroDivisionError
        return whole(rule, context)

    monkeypatch.setattr(Rule, "match", outcome)
    effects = effects_of(source, received())

    assert ids(effects) == ["door/whole/uid-1"]
    (letter,) = effects.dead_letters
    assert orjson.loads(letter)["error"]["code"] == "internal_error"


def test_a_replay_makes_what_was_not_made_and_nothing_again(tmp_path: Path) -> None:
    found = received({"commit": "abc"})
    first = effects_of(source_of(tmp_path, 'name = "one"'), found)
    known = recorded(found, first)
    source = source_of(tmp_path, 'name = "one"', 'name = "two"')

    replayed = effects_of(source, found, recorded=known)
    again = effects_of(source, found, recorded=known, again="x")

    assert ids(replayed) == ["door/two/uid-1"]
    assert [each.command_ids for each in replayed.outcomes] == [
        ("door/one/uid-1",),
        ("door/two/uid-1",),
    ]
    assert ids(again) == ["door/one/uid-1/again-x", "door/two/uid-1/again-x"]


def test_a_replay_forgets_nothing_of_rules_that_no_longer_match(tmp_path: Path) -> None:
    window = 'name = "joined"\ncoalesce = { key = "body.commit", window_seconds = 60 }'
    before = source_of(tmp_path, 'name = "one"', window, 'name = "never"\nwhen = "body.never"')
    found = received({"commit": "abc"})
    known = recorded(found, effects_of(before, found))
    after = source_of(
        tmp_path,
        'name = "one"\nwhen = "body.never"',
        f'{window}\nwhen = "body.never"',
        'name = "never"\nallow = ["another"]',
    )

    replayed = effects_of(after, found, recorded=known)

    assert (replayed.commands, replayed.window_items) == ([], [])
    assert [(each.result, each.command_ids, each.window) for each in replayed.outcomes] == [
        (RuleResult.SUBMITTED, ("door/one/uid-1",), ""),
        (RuleResult.COALESCED, (), "door/joined/abc"),
        (RuleResult.NOT_ALLOWED, (), ""),
    ]


def test_a_replay_keeps_what_a_rule_made_that_is_about_other_types_now(tmp_path: Path) -> None:
    found = received()
    known = recorded(found, effects_of(source_of(tmp_path, 'name = "one"'), found))
    after = source_of(tmp_path, 'name = "one"\non = "another"', 'name = "new"\non = "another"')

    replayed = effects_of(after, found, recorded=known)

    assert [(each.rule, each.command_ids) for each in replayed.outcomes] == [
        ("one", ("door/one/uid-1",))
    ]


def test_a_command_larger_than_one_may_be_is_a_dead_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(tmp_path, 'name = "one"')
    (command,) = effects_of(source, received()).commands
    monkeypatch.setattr("worker.webhooks.effects.MAX_COMMAND_BYTES", len(command.text))
    assert len(effects_of(source, received()).commands) == 1
    monkeypatch.setattr("worker.webhooks.effects.MAX_COMMAND_BYTES", len(command.text) - 1)

    effects = effects_of(source, received())

    assert effects.commands == []
    assert [each.result for each in effects.outcomes] == [RuleResult.INVALID]
    assert "is larger than" in effects.outcomes[0].problem


def test_a_want_of_memory_is_no_verdict_on_a_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It passes: the sender is to send the delivery again."""
    source = source_of(tmp_path, 'name = "one"')

    def want(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(Rule, "match", want)
    with pytest.raises(MemoryError):
        effects_of(source, received())


def test_a_replay_forgets_nothing_of_rules_that_are_gone(tmp_path: Path) -> None:
    found = received()
    known = recorded(found, effects_of(source_of(tmp_path, 'name = "gone"'), found))

    replayed = effects_of(source_of(tmp_path, 'name = "other"'), found, recorded=known)

    assert {each.rule for each in replayed.outcomes} == {"gone", "other"}


def test_a_delivery_joins_a_window_once_though_it_is_replayed(tmp_path: Path) -> None:
    rule = 'name = "joined"\ncoalesce = { key = "body.commit", window_seconds = 60 }'
    source, found = source_of(tmp_path, rule), received({"commit": "abc"})
    first = effects_of(source, found)
    (item,) = first.window_items

    replayed = effects_of(source, found, recorded=recorded(found, first))
    again = effects_of(source, found, recorded=recorded(found, first), again="x")

    assert item.window == "door/joined/abc"
    assert item.milliseconds == 60_000
    assert replayed.window_items == []
    assert len(again.window_items) == 1


def test_the_summary_tells_what_happened_and_not_what_did_not() -> None:
    def of(*results: RuleResult) -> str:
        return summary([RuleRecord("r", each) for each in results])

    assert of() == "no_match"
    assert of(RuleResult.NO_MATCH) == "no_match"
    assert of(RuleResult.NO_MATCH, RuleResult.SUBMITTED, RuleResult.SUBMITTED) == "submitted"
    assert of(RuleResult.SUBMITTED, RuleResult.INVALID) == "submitted, invalid"


def test_no_header_is_kept_that_lets_anyone_in(tmp_path: Path) -> None:
    source = source_of(tmp_path, 'name = "one"')
    proofs = [
        *("Authorization", "Cookie", "X-Encord-Signature", "X-Encord-Signature-V2", "X-Api-Key"),
        *("webhook-signature", "X-Hub-Signature-256", "X-Gitlab-Token", "Proxy-Authorization"),
        *("X-Authentication", "X-Shop-Secret", "X-Credentials", "X-Password", "X-Apikey"),
        *("X-Shopify-Hmac-Sha256", "X-Session-Id"),
    ]
    headers = [(name.encode(), b"hidden") for name in proofs]
    headers += [(b"X-Thing", b" a "), (b"x-thing", b"b"), (b"X-Odd", b"\xff" * 9_000)]

    kept = kept_headers(headers, source)

    assert kept == {"x-thing": "a, b", "x-odd": "\xff" * 4096}


def test_the_header_of_a_signature_is_not_kept_whatever_a_source_calls_it(tmp_path: Path) -> None:
    file = tmp_path / "integrations.toml"
    file.write_text(
        """
        [sources.shop]
        scheme = "hmac"
        header = "X-Shop-Proof"
        secrets = [{ env = "SECRET" }]
        """,
        encoding="utf-8",
    )
    source = load_integrations(file, {"SECRET": "a-secret-of-tests"}).sources["shop"]
    headers = [(b"x-shop-PROOF", b"hidden"), (b"X-Shop-Thing", b"a")]
    assert kept_headers(headers, source) == {"x-shop-thing": "a"}


def test_a_record_is_read_as_it_was_written() -> None:
    record = RuleRecord("rule", RuleResult.COALESCED, ("a",), "window", "problem")
    assert RuleRecord.read(orjson.loads(orjson.dumps(record.as_json()))) == record
    assert dataclasses.is_dataclass(record)


def test_a_delivery_s_trace_goes_on_in_its_commands(tmp_path: Path) -> None:
    source = source_of(tmp_path, 'name = "plain"')
    trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "a=b"}
    found = received()
    told = dataclasses.replace(
        found, delivery=dataclasses.replace(found.delivery, headers={"host": "x", **trace})
    )
    (command,) = effects_of(source, told).commands
    assert orjson.loads(command.text) | trace == orjson.loads(command.text)

    of_event = dataclasses.replace(told, attributes={"traceparent": "00-other"})
    (command,) = effects_of(source, of_event).commands
    assert orjson.loads(command.text)["traceparent"] == "00-other"
    assert "tracestate" not in orjson.loads(command.text)


def test_what_a_rule_says_goes_before_what_its_event_hands_on(tmp_path: Path) -> None:
    file = tmp_path / "integrations.toml"
    rule = f"[[sources.door.rules]]\nname = 'plain'\n{COMMAND}correlationid = \"'ours'\"\n"
    file.write_text(HEAD + rule, encoding="utf-8")
    source = load_integrations(file, {"SECRET": "a-secret-of-tests"}).sources["door"]
    handed_on = {"correlationid": "theirs", "causationid": "one"}
    (command,) = effects_of(source, dataclasses.replace(received(), attributes=handed_on)).commands
    told = orjson.loads(command.text)
    assert (told["correlationid"], told["causationid"]) == ("ours", "one")


def test_a_window_is_as_deep_as_the_deepest_of_its_reactions() -> None:
    """Or a loop through a window would have no end."""
    parts = [
        dataclasses.replace(received(), depth=depth, attributes={"correlationid": said, "a": "b"})
        for depth, said in ((2, "x"), (7, "y"), (1, "x"))
    ]
    joined = joined_delivery(Window("w/1", "door", "plain", "key", 0, parts))
    assert joined.depth == 7
    # What they differ in is said of none.
    assert joined.attributes == {"a": "b"}
