"""Rules: what becomes of a delivery, and commands that are valid or a clear error."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.commands import COMMAND_CLASSES
from worker.integrations.rules import (
    MAX_COMMANDS,
    MAX_COMMANDS_BYTES,
    Context,
    Rule,
    RuleMatch,
    TemplateError,
)
from worker.integrations.sources import EncordSource
from worker.integrations.templates import CommandTemplate

PROJECT = "11111111-1111-4111-8111-111111111111"
LABELS = ["22222222-2222-4222-8222-222222222222", "33333333-3333-4333-8333-333333333333"]
BODY = {
    "uid": "u-1",
    "event_type": "task_submitted_event",
    "payload": {"project_hash": PROJECT, "data_hashes": ["d"], "label_hashes": LABELS},
}
CANCEL = {"type": "cancel", "data": {"command_id": "body.uid"}}


def context(body: Any = BODY, **fields: Any) -> Context:
    known = {
        "headers": {"x-shop": "north"},
        "delivery_id": "d-1",
        "source": "encord",
        "received_at": "2026-01-31T12:00:00.000Z",
        "event_type": "task_submitted_event",
        **fields,
    }
    return Context(body, **known)


def rule(**fields: Any) -> Rule:
    found = Rule.model_validate({"name": "stop", "command": CANCEL, **fields})
    assert [f"{each.path} {each.message}" for each in found.problems()] == []
    return found


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({}, "match"),
        ({"on": "task_submitted_event"}, "match"),
        ({"on": ["x", "task_*"]}, "match"),
        ({"on": "task"}, "no_match"),
        ({"on": "task_submitted_event2"}, "no_match"),
        ({"on": "TASK_*"}, "no_match"),
        ({"on": "task.submitted.event"}, "no_match"),
        ({"when": "body.payload.data_hashes"}, "match"),
        ({"when": "body.payload.nothing"}, "no_match"),
        ({"when": "headers.\"x-shop\" == 'north'"}, "match"),
        ({"when": "delivery.source == 'encord' && delivery.id == 'd-1'"}, "match"),
        ({"when": "`0`"}, "match"),
        ({"when": "`[]`"}, "no_match"),
        ({"when": "contains(body.payload.label_hashes, 'x')"}, "no_match"),
        ({"when": "length(deliveries) == `1`"}, "match"),
        ({"allow": [PROJECT], "project": "body.payload.project_hash"}, "match"),
        ({"allow": ["a", PROJECT.upper()], "project": "body.payload.project_hash"}, "match"),
        ({"allow": ["a"], "project": "body.payload.project_hash"}, "not_allowed"),
        ({"allow": ["None"], "project": "body.payload.nothing"}, "not_allowed"),
        ({"allow": ["a"], "project": "body.payload.data_hashes"}, "not_allowed"),
        # What it is not about it says nothing of.
        ({"on": "x", "allow": ["a"], "project": "body.uid"}, "no_match"),
    ],
)
def test_a_rule_is_for_the_deliveries_that_it_names(fields: dict[str, Any], outcome: str) -> None:
    assert rule(**fields).match(context()) == RuleMatch(outcome)


def test_a_delivery_without_a_type_is_matched_by_a_star_alone() -> None:
    assert rule(on="*").match(context(event_type=None)) is RuleMatch.MATCH
    assert rule(on="a*").match(context(event_type=None)) is RuleMatch.NO_MATCH


def test_rules_of_encord_find_the_project_by_themselves() -> None:
    given = {"name": "stop", "command": CANCEL, "allow": ["other"]}
    source = EncordSource.model_validate(
        {"scheme": "encord", "name": "encord", "secrets": [], "rules": [given]}
        | {"secrets": [{"env": "S"}]},
        context=type("Around", (), {"environ": {"S": "whsec-test"}, "looks_up_secrets": True}),
    )
    assert [each.match(context()) for each in source.rules] == [RuleMatch.NOT_ALLOWED]
    assert list(source.rules[0].problems()) == []


def test_a_template_gives_a_command_without_an_id() -> None:
    template = {
        "type": "train",
        "priority": "bulk",
        "correlationid": "delivery.id",
        "replyto": "body.nothing",
        "project": "body.payload.project_hash",
        "data": {
            "model_uuid": f"'{PROJECT}'",
            "labels_uuids": "deliveries[].payload.label_hashes[]",
            "epochs": 10,
            "batch_size": "length(body.payload.label_hashes)",
            "wait": False,
            "pretrained_weights_type": "body.nothing",
            "features_mapping": {PROJECT: {"aBcD1234": ["'car'", "join('-', ['a', 'b'])"]}},
        },
    }
    other = {"payload": {"label_hashes": [PROJECT]}}
    assert rule(command=template).commands(context(deliveries=[BODY, other])) == [
        {
            "type": "train",
            "priority": "bulk",
            "correlationid": "d-1",
            "project": PROJECT,
            "data": {
                "model_uuid": PROJECT,
                "labels_uuids": [*LABELS, PROJECT],
                "epochs": 10,
                "batch_size": 2,
                "wait": False,
                "features_mapping": {PROJECT: {"aBcD1234": ["car", "a-b"]}},
            },
        }
    ]


def test_for_each_gives_a_command_per_element_in_their_order() -> None:
    template = {"type": "cancel", "data": {"command_id": "item"}}
    several = rule(for_each="body.payload.label_hashes", command=template)
    made = several.commands(context())
    assert [each["data"]["command_id"] for each in made] == LABELS
    assert several.commands(context({"payload": {"label_hashes": []}})) == []


@pytest.mark.parametrize(
    ("fields", "body", "field", "reason"),
    [
        ({}, {"uid": None}, "command.data.command_id", "is required"),
        ({}, {"uid": 7}, "command.data.command_id", "must be a string"),
        ({}, {"uid": ""}, "command.data.command_id", "must not be empty"),
        ({}, [], "command.data.command_id", "is required"),
        ({"command": {"type": "cancel", "data": "body"}}, {"uid": "a"}, "command.data.command_id",
         "is required"),
        ({"command": {**CANCEL, "replyto": "body.to"}}, {"uid": "a", "to": "A b"},
         "command.replyto", "must match"),
        ({"command": {**CANCEL, "shop": "body.to"}}, {"uid": "a", "to": {}}, "command.shop",
         "must be a string"),
        ({"command": {**CANCEL, "shop": "body.to.a.length(@)"}}, {"uid": "a"}, "command.shop",
         "can't be evaluated"),
        ({"when": "starts_with(body.ref, 'refs/')"}, {}, "when", "can't be evaluated"),
        ({"when": "body.a < body.b"}, {"a": 1, "b": "x"}, "when", "can't be evaluated"),
        ({"when": "avg(body.a)"}, {"a": ["x"]}, "when", "can't be evaluated"),
        ({"when": "to_number(body.a)"}, {"a": "1e999"}, "when", "not finite"),
        ({"when": "ceil(to_number(body.a))"}, {"a": "1e999"}, "when", "can't be evaluated"),
        ({"when": "abs(body.a)"}, {"a": [10**4000]}, "when", "takes number, and gets array"),
        ({"when": "avg(body.a)"}, {"a": [10**4000]}, "when", "out of range"),
        ({"command": {**CANCEL, "shop": "body.a"}}, {"uid": "a", "a": 10**4000}, "command.shop",
         "must be an integer of 32 bits"),
        ({"project": "abs(body.a)", "allow": ["a"]}, {"a": "x"}, "project", "can't be evaluated"),
        ({"for_each": "body.a"}, {"uid": "a", "a": "x"}, "for_each", "must give a list"),
        ({"for_each": "body.a"}, {"uid": "a", "a": [1] * (MAX_COMMANDS + 1)}, "for_each",
         "gives 1001 elements"),
        ({"for_each": "body.a", "command": {**CANCEL, "shop": "body.b"}},
         {"uid": "a", "a": [1] * 1000, "b": "x" * 5000}, "command.shop", "at most 4096"),
    ],
)  # fmt: skip
def test_what_gives_no_valid_command_names_the_rule_and_the_field(
    fields: dict[str, Any], body: Any, field: str, reason: str
) -> None:
    made = rule(**fields)

    def apply() -> None:
        assert made.match(context(body)) is RuleMatch.MATCH
        made.commands(context(body))

    with pytest.raises(TemplateError) as refused:
        apply()
    assert (refused.value.rule, refused.value.field) == ("stop", field)
    assert reason in refused.value.reason


def test_commands_that_are_too_large_in_all_are_refused() -> None:
    template = {"type": "list_models", "data": {"query": "body.b"}}
    several = rule(for_each="body.a", command=template)
    large = "x" * (MAX_COMMANDS_BYTES // 900)
    with pytest.raises(TemplateError, match="of commands"):
        several.commands(context({"a": [1] * 1000, "b": large}))


def test_the_commands_of_one_delivery_share_what_may_be_done_for_them() -> None:
    template = {"type": "cancel", "data": {"command_id": "sort(body.b)[0]"}}
    several = rule(for_each="body.a", command=template)
    assert len(several.commands(context({"a": [1] * 100, "b": ["x"] * 1000}))) == 100
    with pytest.raises(TemplateError, match="steps"):
        several.commands(context({"a": [1] * 1000, "b": ["x"] * 1000}))


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (7, "7"), (10**50, f"{10**50}"), (0, "0"), (False, "false"), (["a", 1], '["a",1]'),
     ({"a": 1}, '{"a":1}')],
)  # fmt: skip
def test_a_key_is_text_or_json(value: Any, text: str) -> None:
    assert rule(key="body.k").key_of(context({"k": value})) == text
    joined = rule(coalesce={"key": "body.k", "window_seconds": 60})
    assert joined.coalesce_key(context({"k": value})) == text
    assert (rule().key_of(context()), rule().coalesce_key(context())) == (None, None)


def test_a_template_may_say_where_its_data_lie() -> None:
    template = CommandTemplate.read({"type": "train", "dataref": "body.url"})
    assert not template.problems
    assert template.render({"body": {"url": "s3://a/b"}})["dataref"] == "s3://a/b"


def test_a_number_with_thousands_of_digits_is_no_key() -> None:
    with pytest.raises(TemplateError):
        rule(key="body.k").key_of(context({"k": 10**4000}))


@pytest.mark.parametrize("value", [None, "", [], {}, "x" * 1025])
def test_a_key_that_gives_nothing_would_join_what_is_not_alike(value: Any) -> None:
    with pytest.raises(TemplateError, match="key: gives"):
        rule(key="body.k").key_of(context({"k": value}))
    joined = rule(coalesce={"key": "body.k", "window_seconds": 60})
    with pytest.raises(TemplateError, match=r"coalesce\.key: gives"):
        joined.coalesce_key(context({"k": value}))


PREDICT = {
    "task": "'classification'",
    "project_uuid": "body.p",
    "project_model_uuid": "body.m",
    "training_uuid": "body.t",
}


@pytest.mark.parametrize(
    ("data", "valid"),
    [
        ({"data_uuid": "body.d"}, True),
        # One of them may be null, and which one nobody knows yet.
        ({"data_uuid": "body.d", "data_path": "body.e"}, True),
        ({"data_uuid": "body.d", "data_path": "body.e", "data_base64": "body.f"}, True),
        ({}, False),
        ({"data_uuid": f"'{PROJECT}'", "data_path": "'/a'"}, False),
        ({"data_uuid": f"'{PROJECT}'", "data_path": "body.e"}, True),
        ({"data_uuid": "body.d", "iou_thresh": 0.1}, False),
        # Of another task.
        ({"data_uuid": "body.d", "iou_thresh": "body.e"}, False),
        ({"data_uuid": "body.d", "iou_thresh": "body.e", "task": "body.task"}, True),
        ({"data_uuid": "body.d", "conf_thresh": 2}, False),
        ({"data_uuid": "body.d", "conf_thresh": "body.c"}, True),
    ],
)
def test_a_template_is_refused_only_if_no_delivery_can_make_it_valid(
    data: dict[str, Any], *, valid: bool
) -> None:
    template = CommandTemplate.read({"type": "predict", "data": {**PREDICT, **data}})
    assert (not template.problems) is valid, template.problems


def test_the_example_of_every_command_is_a_template_when_its_texts_are_in_quotes() -> None:
    def quoted(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: quoted(each) for name, each in value.items()}
        if isinstance(value, list):
            return [quoted(each) for each in value]
        return f"'{value}'" if isinstance(value, str) else value

    for command_type, command_class in COMMAND_CLASSES.items():
        example = {name: each for name, each in command_class.example.items() if name != "id"}
        table = {**quoted(example), "type": command_type}
        if "priority" in example:
            table["priority"] = example["priority"]
        template = CommandTemplate.read(table)
        assert not template.problems, command_type
        assert template.render({}) == example
        # Where nothing is known of the values, each may be valid.
        unknown = dict.fromkeys(quoted(example["data"]), "body.a")
        assert not CommandTemplate.read({**table, "data": unknown}).problems, command_type
        assert not CommandTemplate.read({"type": command_type, "data": "body.a"}).problems
