"""Rules of the published documents that strict validators and generators of types hold them to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest
from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker

from schemas.commands import COMMAND_CLASSES
from schemas.documents import commands_schema, documents, events_schema
from schemas.enums import EventState

if TYPE_CHECKING:
    from collections.abc import Iterator

Schema = dict[str, Any]

COMMANDS, EVENTS = commands_schema(), events_schema()
both = pytest.mark.parametrize("document", [COMMANDS, EVENTS], ids=["commands", "events"])

STATES: Final = [state for state in EventState if state is not EventState.SUCCEEDED]

MAPS: Final = ("$defs", "properties")
LISTS: Final = ("allOf", "anyOf", "oneOf")
SINGLE: Final = ("additionalProperties", "else", "if", "items", "propertyNames", "then")
# Of the same value as the schema that they stand in, which says its type.
SAME_VALUE: Final = ("allOf", "anyOf", "oneOf", "if", "then", "else")

KEYWORDS_OF: Final = {
    "string": {"minLength", "maxLength", "pattern", "format"},
    "number": {"minimum", "maximum"},
    "integer": {"minimum", "maximum"},
    "array": {"items", "minItems", "uniqueItems"},
    "object": {"minProperties", "propertyNames", "additionalProperties", "properties", "required"},
}
TYPED: Final = set[str]().union(*KEYWORDS_OF.values())
WORDS: Final = {"title", "description", "default", "examples"}
KEYWORDS: Final = {*MAPS, *LISTS, *SINGLE, *TYPED, *WORDS, "$ref", "type", "const", "enum"}


def camel(name: str) -> str:
    """Returns a name of the contract as those of types are written."""
    return "".join(word.title() for word in name.split("_"))


def names(document: Schema) -> list[str]:
    """Returns the definitions that a document is one of."""
    assert all(set(branch) == {"$ref"} for branch in document["oneOf"])
    return [branch["$ref"].removeprefix("#/$defs/") for branch in document["oneOf"]]


def parts(schema: Any) -> Iterator[tuple[str, Schema]]:
    """Yields each schema right within one, with the keyword that it stands under."""
    for key in LISTS:
        yield from ((key, part) for part in schema.get(key, []))
    for key in MAPS:
        yield from ((key, part) for part in schema.get(key, {}).values())
    for key in SINGLE:
        if isinstance(schema.get(key), dict):
            yield key, schema[key]


def within(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Yields each schema within one, at any depth, with the keyword that it stands under."""
    for key, part in parts(schema):
        yield key, part
        yield from within(part)


def schemas_of(document: Schema) -> list[tuple[str, str, Schema]]:
    """Returns each schema of a document: the definition it is of, its keyword, itself."""
    found = [(name, "$defs", part) for name, part in document["$defs"].items()]
    return found + [(name, key, part) for name, _, each in found for key, part in within(each)]


def shown(schema: Schema) -> str:
    """Returns a schema to compare or to show, whatever it is called."""
    return json.dumps({key: schema[key] for key in schema if key != "title"}, sort_keys=True)


def test_each_command_has_one_type_with_one_of_data() -> None:
    assert names(COMMANDS) == [each.__name__ for each in COMMAND_CLASSES.values()]
    for command_type, command_class in COMMAND_CLASSES.items():
        properties = COMMANDS["$defs"][command_class.__name__]["properties"]
        assert properties["type"] == {"const": command_type, "type": "string"}
        if command_type != "predict":
            assert properties["data"] == {"$ref": f"#/$defs/{command_class.__name__}Data"}


def test_the_data_of_predict_has_one_type_per_task() -> None:
    tasks = COMMANDS["$defs"]["PredictTask"]["enum"]
    assert COMMANDS["$defs"]["Predict"]["properties"]["data"] == {
        "oneOf": [{"$ref": f"#/$defs/Predict{camel(task)}Data"} for task in tasks]
    }


def test_each_event_has_one_type_with_one_of_data() -> None:
    succeeded = [f"{each.__name__}Succeeded" for each in COMMAND_CLASSES.values()]
    assert sorted(names(EVENTS)) == sorted([*map(camel, STATES), *succeeded])
    for name in names(EVENTS):
        properties = EVENTS["$defs"][name]["properties"]
        assert properties["data"] == {"$ref": f"#/$defs/{name}Data"}
        assert "const" in properties["type"] or properties["type"] == {
            "$ref": f"#/$defs/{name}Type"
        }


@both
def test_each_name_stands_for_one_thing_and_for_all_of_its_kind(document: Schema) -> None:
    """Generators number what they meet twice, be it the title or the definition."""
    definitions = document["$defs"]
    titles = [(name, part["title"]) for name, _, part in schemas_of(document) if "title" in part]
    assert titles == [(name, name) for name in definitions]
    assert document["title"] not in definitions
    assert len({shown(part) for part in definitions.values()}) == len(definitions)
    used = {
        part["$ref"].removeprefix("#/$defs/")
        for _, _, part in schemas_of(document)
        if "$ref" in part
    }
    assert used | set(names(document)) == set(definitions)


@both
def test_objects_have_no_variants_and_no_object_lacks_a_name(document: Schema) -> None:
    """Of `anyOf` beside `properties` a generator makes the object once per branch, numbered."""
    for name, key, part in schemas_of(document):
        if "properties" in part and key not in SAME_VALUE:
            assert key == "$defs", (name, shown(part))
            assert not part.keys() & set(LISTS), (name, shown(part))


@both
def test_choices_have_a_definition_of_their_own(document: Schema) -> None:
    """A generator calls others after the property they stand under: `Type`, `Type1`, `Type2`."""
    for name, key, part in schemas_of(document):
        if "enum" in part and key not in ("$defs", "propertyNames"):
            pytest.fail(f"{name}: {shown(part)}")
        assert not (key in LISTS and "const" in part), (name, shown(part))


@both
def test_nothing_stands_beside_a_reference(document: Schema) -> None:
    """Draft 07 overlooks it, and generators copy the definition to put it in."""
    for name, _, part in schemas_of(document):
        assert "$ref" not in part or len(part) == 1, (name, shown(part))


def untyped(schema: Schema, inherited: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yields what Ajv's strict mode complains of: `strictSchema`, `strictTypes`, `strictRequired`.

    Args:
        schema: To look through.
        inherited: The types that a schema around it gives the same value.
    """
    said = schema.get("type", [])
    types = frozenset([said] if isinstance(said, str) else said)
    if len(types) > 1 and not (len(types) == 2 and "null" in types):
        yield f"a union of types: {shown(schema)}"
    if inherited and not types <= inherited:
        yield f"a type that can't be: {shown(schema)}"
    types = types or inherited
    for key in schema:
        if key not in KEYWORDS:
            yield f"no keyword: {key}"
        if key in TYPED and not any(key in KEYWORDS_OF.get(each, ()) for each in types):
            yield f"{key} without its type: {shown(schema)}"
    for missing in {*schema.get("required", [])} - {*schema.get("properties", {})}:
        yield f"{missing} is required and not defined: {shown(schema)}"
    for key, part in parts(schema):
        here = types if key in SAME_VALUE else frozenset[str]()
        yield from untyped(part, frozenset({"string"}) if key == "propertyNames" else here)


@both
def test_ajv_in_strict_mode_would_find_nothing_to_say(document: Schema) -> None:
    complaints = [said for part in document["$defs"].values() for said in untyped(part)]
    assert complaints == []


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"properties": {}}, "without its type"),
        ({"type": "string", "anyOf": [{"minimum": 1}]}, "without its type"),
        ({"type": ["string", "integer"]}, "a union of types"),
        ({"type": "object", "required": ["a"], "properties": {}}, "not defined"),
        ({"type": "object", "if": {"type": "string"}}, "can't be"),
        ({"discriminator": {"propertyName": "type"}}, "no keyword"),
    ],
)
def test_what_ajv_warns_of_is_seen(schema: Schema, said: str) -> None:
    """The rule above would be green for a document of any kind otherwise."""
    (found,) = untyped(schema)
    assert said in found


def variations(message: Any) -> Iterator[Any]:
    """Yields a message with each of its parts left out, and with each as something else."""
    others: tuple[Any, ...] = (None, True, 1, 0.5, -1, "", "a", [], ["a"], {}, {"a": "b"})
    if isinstance(message, list):
        yield from ([*message[:at], other] for at in range(len(message)) for other in others)
    if isinstance(message, dict):
        for name, value in message.items():
            rest = {key: each for key, each in message.items() if key != name}
            yield rest
            yield from (rest | {name: other} for other in (*others, *variations(value)))


def test_the_asyncapi_document_takes_and_refuses_the_same_commands() -> None:
    """It is read by draft 07: what the schema says must not hang on words of later drafts."""
    components = documents()["asyncapi.json"]["components"]
    formats = FormatChecker(["uuid"])
    verdicts = []
    for command_class in COMMAND_CLASSES.values():
        name, example = command_class.__name__, command_class.example
        ours = {"$ref": f"#/$defs/{name}", "$defs": COMMANDS["$defs"]}
        theirs = {"$ref": f"#/components/schemas/{name}", "components": components}
        by_2020 = Draft202012Validator(ours, format_checker=formats)
        # The keyword beside the reference is where it leads, not a rule: draft 07 goes there too.
        by_07 = Draft7Validator(theirs, format_checker=formats)
        full = {**example, "dataref": "/data/a.json", "shop": 7, "priority": "bulk", "id": "a"}
        for message in (example, full, *variations(full)):
            verdicts.append(by_2020.is_valid(message))
            assert by_07.is_valid(message) is verdicts[-1], message
    assert verdicts.count(True) > 100
    assert verdicts.count(False) > 1000


def test_the_asyncapi_document_names_each_message_and_says_what_it_is() -> None:
    messages = documents()["asyncapi.json"]["components"]["messages"].values()
    assert len({each["title"] for each in messages}) == len(messages)
    assert all(each["summary"].endswith(".") for each in messages)
    assert {each["name"]: each["title"] for each in messages}["InDoubt"] == "In doubt"
