"""Rules of what is a command, and of what is said about what is none."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from schemas.attachments import Attach
from schemas.claim_check import completed, parse_message, reread_message
from schemas.commands import COMMAND_CLASSES
from schemas.documents import commands_schema
from schemas.enums import IterationPolicy, Priority
from schemas.events import ErrorCode, Problem
from schemas.parsing import MAX_COMMAND_BYTES, InvalidCommandError, parse_command
from schemas.partial import read_partial
from schemas.predictions import Predict
from schemas.trainings import Train

ONE = "11111111-1111-4111-8111-111111111111"
TWO = "22222222-2222-4222-8222-222222222222"

ATTACHMENT = {"project_uuid": ONE, "project_model_uuid": TWO}
PREDICT: dict[str, Any] = {**ATTACHMENT, "training_uuid": ONE, "data_uuid": TWO}
TRAIN: dict[str, Any] = {
    "model_uuid": ONE,
    "batch_size": 4,
    "epochs": 2,
    "features_mapping": {ONE: {"aBc123": ["car"]}},
    "labels_uuids": [TWO],
}

# Of several parameters exactly one is needed: this one, in the example.
ONE_OF_SEVERAL = {"data_uuid", "created"}
# With the iteration policy of the example.
NEEDED_HERE = {"training_uuids"}


def smallest(command_type: str) -> dict[str, Any]:
    """Returns of a command's example what it can't be without."""
    example = COMMAND_CLASSES[command_type].example
    command = parse_command(json.dumps(example).encode()).command
    fields = type(command.data).model_fields
    data: Any = example["data"]
    needed = {name for name in fields if fields[name].is_required()}
    return {n: value for n, value in data.items() if n in needed | ONE_OF_SEVERAL | NEEDED_HERE}


SMALLEST = {command_type: smallest(command_type) for command_type in COMMAND_CLASSES}


def text(command_type: str, data: object, **attributes: object) -> bytes:
    """Returns the bytes of a command."""
    return json.dumps({"type": command_type, "data": data, **attributes}).encode()


def refusal(raw: bytes) -> InvalidCommandError:
    """Returns why `raw` is no command."""
    with pytest.raises(InvalidCommandError) as caught:
        parse_command(raw)
    return caught.value


def problems(command_type: str, data: object, **attributes: object) -> dict[str, str]:
    """Returns the problems by path."""
    found = refusal(text(command_type, data, **attributes)).problems
    return {problem.path: problem.message for problem in found}


@pytest.mark.parametrize(("command_type", "data"), SMALLEST.items())
def test_each_type_is_taken_with_its_required_parameters_alone(
    command_type: str, data: dict[str, Any]
) -> None:
    """A bare object with type and data is a command."""
    command = parse_command(text(command_type, data)).command
    assert type(command) is COMMAND_CLASSES[command_type]
    assert command.type == command_type
    assert command.id is None
    assert command.priority is Priority.INTERACTIVE


@pytest.mark.parametrize(
    ("command_type", "name"),
    [(command_type, name) for command_type, data in SMALLEST.items() for name in data],
)
def test_each_required_parameter_is_required(command_type: str, name: str) -> None:
    """Without it there is a problem that names it."""
    data = {key: value for key, value in SMALLEST[command_type].items() if key != name}
    expected = "data" if name in ONE_OF_SEVERAL else f"data.{name}"
    assert expected in problems(command_type, data)


def optional_parameters() -> list[tuple[str, str, dict[str, Any]]]:
    """Returns type, name and the smallest data of every parameter that may be left out."""
    return [
        (command_type, name, data)
        for command_type, data in SMALLEST.items()
        for name, found in type(
            parse_command(text(command_type, data)).command.data
        ).model_fields.items()
        if not found.is_required() and name not in data
    ]


@pytest.mark.parametrize(("command_type", "name", "data"), optional_parameters())
def test_a_parameter_that_is_null_is_the_same_as_one_that_is_left_out(
    command_type: str, name: str, data: dict[str, Any]
) -> None:
    raw = text(command_type, {**data, name: None})
    assert parse_command(raw).command.data == parse_command(text(command_type, data)).command.data
    assert reread_message(raw) == parse_command(raw).command
    Draft202012Validator(commands_schema()).validate(json.loads(raw))


@pytest.mark.parametrize(
    ("command_type", "name"),
    [(command_type, name) for command_type, data in SMALLEST.items() for name in data],
)
def test_a_required_parameter_that_is_null_is_told_by_its_name(
    command_type: str, name: str
) -> None:
    found = problems(command_type, {**SMALLEST[command_type], name: None})
    assert found == problems(
        command_type, {key: each for key, each in SMALLEST[command_type].items() if key != name}
    )
    assert ("data" if name in ONE_OF_SEVERAL else f"data.{name}") in found


@pytest.mark.parametrize("command_type", SMALLEST)
def test_an_unknown_parameter_is_an_error(command_type: str) -> None:
    """Nothing is silently dropped."""
    assert problems(command_type, {**SMALLEST[command_type], "zz_unknown": 1}) == {
        "data.zz_unknown": "is unknown"
    }


def test_defaults_are_those_of_the_contract() -> None:
    """What is left out has the documented value."""
    train = parse_command(text("train", TRAIN)).command
    assert isinstance(train, Train)
    assert (train.data.timeout_seconds, train.data.wait) == (604_800, True)
    predict = parse_command(text("predict", {**PREDICT, "task": "instance_segmentation"})).command
    assert isinstance(predict, Predict)
    assert predict.data.model_dump(exclude={*PREDICT, "task"}) == {
        "data_path": None,
        "data_base64": None,
        "frame_range_from": None,
        "frame_range_to": None,
        "conf_thresh": 0.6,
        "iou_thresh": 0.3,
        "allocation_enabled": False,
        "rdp_thresh": 0.005,
    }


@pytest.mark.parametrize(
    ("command_type", "change", "path", "message"),
    [
        ("train", {"batch_size": "4"}, "data.batch_size", "must be an integer"),
        ("train", {"batch_size": True}, "data.batch_size", "must be an integer"),
        ("train", {"batch_size": 4.0}, "data.batch_size", "must be an integer"),
        ("train", {"batch_size": 0}, "data.batch_size", "must be at least 1"),
        ("train", {"batch_size": 2**31}, "data.batch_size", "must be at most 2147483647"),
        ("train", {"batch_size": None}, "data.batch_size", "is required"),
        ("train", {"epochs": -1}, "data.epochs", "must be at least 1"),
        ("train", {"epoch": 1}, "data.epoch", "is unknown; did you mean epochs?"),
        ("train", {"timeout_seconds": 0}, "data.timeout_seconds", "must be at least 1"),
        ("train", {"wait": 1}, "data.wait", "must be true or false"),
        ("train", {"labels_uuids": []}, "data.labels_uuids", "must not be empty"),
        ("train", {"labels_uuids": [TWO, "x"]}, "data.labels_uuids.1", "must be a UUID"),
        ("train", {"labels_uuids": TWO}, "data.labels_uuids", "must be a list"),
        ("train", {"model_uuid": "x"}, "data.model_uuid", "must be a UUID"),
        ("train", {"model_uuid": 1}, "data.model_uuid", "must be a UUID"),
        ("train", {"features_mapping": {}}, "data.features_mapping", "must not be empty"),
        (
            "train",
            {"features_mapping": {"x": {"a": ["b"]}}},
            "data.features_mapping.x",
            "the key must be a UUID",
        ),
        (
            "train",
            {"features_mapping": {ONE: {}}},
            f"data.features_mapping.{ONE}",
            "must not be empty",
        ),
        (
            "train",
            {"features_mapping": {ONE: {"a": []}}},
            f"data.features_mapping.{ONE}.a",
            "must not be empty",
        ),
        ("create_model", {"features": []}, "data.features", "must not be empty"),
        ("create_model", {"features": ["a", "a"]}, "data.features", "must not name anything twice"),
        ("create_model", {"features": ["a", ""]}, "data.features.1", "must not be empty"),
        ("create_model", {"features": {"a": 1}}, "data.features", "must be a list"),
        ("create_model", {"title": ""}, "data.title", "must not be empty"),
        ("create_model", {"title": 1}, "data.title", "must be a string"),
        (
            "attach",
            {"iteration_policy": "manualSelection"},
            "data.training_uuids",
            "must name at least one training where iteration_policy is manualSelection",
        ),
        (
            "update_attachment",
            {"iteration_policy": "manualSelection", "training_uuids": []},
            "data.training_uuids",
            "must name at least one training where iteration_policy is manualSelection",
        ),
        ("attach", {"features_mapping": {}}, "data.features_mapping", "must not be empty"),
        ("attach", {"features_mapping": []}, "data.features_mapping", "must be an object"),
        ("predict", {"conf_thresh": 1.01}, "data.conf_thresh", "must be at most 1"),
        ("predict", {"conf_thresh": -0.1}, "data.conf_thresh", "must be at least 0"),
        ("predict", {"conf_thresh": "0.5"}, "data.conf_thresh", "must be a number"),
        ("predict", {"conf_thresh": True}, "data.conf_thresh", "must be a number"),
        (
            "predict",
            {"task": "classification", "iou_thresh": 0.5},
            "data.iou_thresh",
            "is unknown",
        ),
        ("predict", {"frame_range_from": -1}, "data.frame_range_from", "must be at least 0"),
        (
            "predict",
            {"frame_range_from": 5, "frame_range_to": 4},
            "data.frame_range_to",
            "must not be below frame_range_from",
        ),
        (
            "predict",
            {"frame_range_from": 5, "frame_range_to": 1005},
            "data.frame_range_to",
            "must leave at most 1000 frames",
        ),
        (
            "predict",
            {"frame_range_to": 1000},
            "data.frame_range_to",
            "must leave at most 1000 frames",
        ),
        (
            "predict",
            {"data_uuid": None},
            "data",
            "exactly one of data_uuid, data_path and data_base64 is needed, not 0",
        ),
        (
            "predict",
            {"data_path": "a.png", "data_base64": "AAAA"},
            "data",
            "exactly one of data_uuid, data_path and data_base64 is needed, not 3",
        ),
        (
            "predict",
            {"task": "object_detection", "iou_thresh": 2},
            "data.iou_thresh",
            "must be at most 1",
        ),
        (
            "predict",
            {"task": "instance_segmentation", "rdp_thresh": 0.02},
            "data.rdp_thresh",
            "must be at most 0.01",
        ),
        *(
            (
                "predict",
                {"data_uuid": None, "data_base64": text},
                "data.data_base64",
                "must be padded base64 without line breaks",
            )
            for text in ("AA A", "AAA", "AAAA=", "A===", "====", "AA=A", "AA-A", "AAé=", "AAAA\n")
        ),
        (
            "predict",
            {"task": "detection"},
            "data.task",
            "must be one of classification, object_detection, instance_segmentation",
        ),
    ],
)
def test_a_wrong_parameter_is_named_with_its_path(
    command_type: str, change: dict[str, object], path: str, message: str
) -> None:
    """One problem, at the place where it is, in words."""
    assert problems(command_type, {**SMALLEST[command_type], **change}) == {path: message}


@pytest.mark.parametrize(
    ("attributes", "path", "message"),
    [
        ({"id": ""}, "id", "must not be empty"),
        ({"id": "  "}, "id", "must be printable characters, not only blanks"),
        ({"id": "a\u0000"}, "id", "must be printable characters, not only blanks"),
        ({"id": "a\nb"}, "id", "must be printable characters, not only blanks"),
        ({"id": "\u200b"}, "id", "must be printable characters, not only blanks"),
        ({"id": "x" * 256}, "id", "must have at most 255 characters"),
        ({"id": 7}, "id", "must be a string"),
        ({"replyto": "Shop"}, "replyto", "must match ^[a-z0-9._-]{1,64}$"),
        ({"replyto": "a" * 65}, "replyto", "must match ^[a-z0-9._-]{1,64}$"),
        ({"replyto": "a\n"}, "replyto", "must match ^[a-z0-9._-]{1,64}$"),
        ({"priority": "high"}, "priority", "must be 'interactive' or 'bulk'"),
        ({"specversion": "0.3"}, "specversion", "must be '1.0'"),
        ({"deadline": "2026-02-30T00:00:00Z"}, "deadline", "must be a time that exists"),
        *[
            ({"correlationid": f"a{each}b"}, "correlationid", "must have no control characters")
            for each in ("\t", "\x1f", "\x7f", "\x80", "\x9f")
        ],
        ({"correlationid": ""}, "correlationid", "must not be empty"),
        ({"tracestate": "x" * 4097}, "tracestate", "must have at most 4096 characters"),
        ({"shop": 1.5}, "shop", "must be a string, an integer, true or false"),
        ({"shop": {"a": 1}}, "shop", "must be a string, an integer, true or false"),
        ({"shop": 2**31}, "shop", "must be an integer of 32 bits"),
        ({"shop": "x" * 4097}, "shop", "must have at most 4096 characters"),
        ({"shop": "a\u0001"}, "shop", "must have no control characters"),
        *[
            ({name: "x"}, name, "is no attribute: names have 1 to 20 lowercase letters and digits")
            for name in ("shop_id", "Shop", "", "x" * 21, "data_base64", "ü")
        ],
        *[
            (
                {name: value},
                name,
                "must be an RFC 3339 time with an offset, like 2026-01-31T12:00:00Z",
            )
            for name in ("deadline", "notbefore", "time")
            for value in (
                "tomorrow",
                "2026-01-31",
                "2026-01-31T12:00:00",
                1_700_000_000,
                "1700000000",
            )
        ],
    ],
)
def test_a_wrong_attribute_is_named(attributes: dict[str, object], path: str, message: str) -> None:
    """Attributes are checked as strictly as parameters."""
    assert problems("list_models", {}, **attributes) == {path: message}


@pytest.mark.parametrize("more", [{}, {"data": None, "dataref": "https://x/y"}])
def test_a_command_has_at_most_64_extensions(more: dict[str, object]) -> None:
    """Every event repeats each of them; what is null or no extension is not counted."""
    known = {"id": "x", "source": "/shop", "subject": "s", "replyto": "r", "priority": None}
    few = {f"e{number}": number for number in range(64)}
    none = {f"n{number}": None for number in range(20)}
    whole = {"type": "list_models", "data": {}, **known, **few, **none, **more}
    # Beside them stands where the replies go.
    assert len(parse_message(json.dumps(whole).encode()).command.context()) == 64 + 1
    with pytest.raises(InvalidCommandError) as caught:
        parse_message(json.dumps({**whole, "onemore": 1}).encode())
    assert caught.value.problems == (
        Problem(path="", message="has 65 extension attributes, at most 64 are taken"),
    )
    assert (caught.value.code, caught.value.command_id) == (ErrorCode.INVALID_COMMAND, "x")


@pytest.mark.parametrize("said", [{"data": {}}, {"data": None, "dataref": "https://x/y"}])
def test_what_an_older_version_accepted_with_more_extensions_is_read(
    said: dict[str, object],
) -> None:
    many = {f"e{number}": number for number in range(100)}
    text = json.dumps({"type": "list_models", **said, **many}).encode()
    assert many.keys() <= reread_message(text).context().keys()
    assert many.keys() <= completed(text, b"{}").context().keys()


def test_a_sender_of_too_many_extensions_is_answered_all_the_same() -> None:
    """Where to, and about which command, may stand behind a thousand of them."""
    many = {f"e{number}": number for number in range(1000)}
    text = json.dumps({"type": "list_models", "data": {}, **many, "replyto": "r"}).encode()
    partial = read_partial(text)
    assert partial.replyto == "r"
    assert len(partial.context()) == 64 + 1


def test_attributes_are_read_and_copied_to_events() -> None:
    """A CloudEvent is a command; extensions come along, null is absent."""
    command = parse_command(
        text(
            "list_models",
            {},
            id="order 1/ü",
            specversion="1.0",
            source="/shop",
            subject="s",
            time="2026-01-31T12:00:00.123456789+01:00",
            datacontenttype="application/json",
            correlationid="c",
            traceparent="00-x",
            tracestate="a=b",
            replyto="shop.1_a-b",
            priority="bulk",
            deadline="2026-01-31t12:00:00z",
            notbefore=None,
            tenant=7,
            dryrun=True,
            region="eu",
            nothing=None,
        )
    ).command
    assert command.id == "order 1/ü"
    assert command.priority is Priority.BULK
    assert command.deadline == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert command.time == datetime(2026, 1, 31, 11, 0, 0, 123456, tzinfo=UTC)
    assert command.notbefore is None
    assert command.context() == {
        "correlationid": "c",
        "traceparent": "00-x",
        "tracestate": "a=b",
        "replyto": "shop.1_a-b",
        "tenant": 7,
        "dryrun": True,
        "region": "eu",
    }


def test_null_priority_is_the_default() -> None:
    """CloudEvents writes an unset attribute as null."""
    command = parse_command(text("list_models", {}, priority=None, id=None)).command
    assert command.priority is Priority.INTERACTIVE


def test_manual_selection_is_taken_with_trainings() -> None:
    """The policy's other half is there."""
    data = {**SMALLEST["attach"], "iteration_policy": "manualSelection", "training_uuids": [TWO]}
    command = parse_command(text("attach", data)).command
    assert isinstance(command, Attach)
    assert command.data.iteration_policy is IterationPolicy.MANUAL_SELECTION
    assert command.data.training_uuids == [UUID(TWO)]


def test_the_longest_frame_range_is_taken() -> None:
    """Both ends are included: 0 to 999 are 1000 frames."""
    for first, last in ((None, 999), (5, 1004), (7, 7)):
        data = {**SMALLEST["predict"], "frame_range_from": first, "frame_range_to": last}
        assert parse_command(text("predict", data))


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", ErrorCode.NOT_JSON),
        (b"{", ErrorCode.NOT_JSON),
        (b"hello", ErrorCode.NOT_JSON),
        (b'{"type": "list_models", "data": {}} x', ErrorCode.NOT_JSON),
        (b'{"type": "list_models", "data": {"query": "\xff"}}', ErrorCode.NOT_JSON),
        (b'{"type": "list_models", "data": {"query": "\\ud800"}}', ErrorCode.NOT_JSON),
        (b'\xef\xbb\xbf{"type": "list_models", "data": {}}', ErrorCode.NOT_JSON),
        (b'{"type": "list_models", "data": NaN}', ErrorCode.NOT_JSON),
        (b'{"type": "list_models", "data": -Infinity}', ErrorCode.NOT_JSON),
        (b'{"type": "list_models", "type": "list_models", "data": {}}', ErrorCode.NOT_JSON),
        (b'{"type": "list_models", "data": {"query": "a", "query": "b"}}', ErrorCode.NOT_JSON),
        (b"[" * 100_000 + b"]" * 100_000, ErrorCode.NOT_JSON),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, ErrorCode.NOT_JSON),
        (b'{"type": "list_models", "data": {"x": ' + b"9" * 5000 + b"}}", ErrorCode.NOT_JSON),
        (b" " * (MAX_COMMAND_BYTES + 1), ErrorCode.TOO_LARGE),
        (b"[]", ErrorCode.INVALID_COMMAND),
        (b"null", ErrorCode.INVALID_COMMAND),
        (b'"text"', ErrorCode.INVALID_COMMAND),
        (b"7", ErrorCode.INVALID_COMMAND),
        (b"{}", ErrorCode.INVALID_COMMAND),
    ],
)
def test_each_kind_of_garbage_has_its_code(raw: bytes, code: ErrorCode) -> None:
    """Neither type nor id is made up."""
    error = refusal(raw)
    assert error.code is code
    assert error.command_type is None
    assert error.command_id is None
    assert error.message


def test_a_command_of_exactly_one_mebibyte_is_taken() -> None:
    """The limit is included."""
    raw = text("list_models", {})
    assert parse_command(raw + b" " * (MAX_COMMAND_BYTES - len(raw)))


@pytest.mark.parametrize("named", ["trian", "", 7, None, [], {}, True, ["predict"]])
def test_an_unknown_type_lists_the_known_ones(named: object) -> None:
    """Whatever stands there, the id is still read for the event."""
    raw = json.dumps({"type": named, "data": {}, "id": "a1"}).encode()
    error = refusal(raw)
    assert (error.code, error.command_type, error.command_id) == (
        ErrorCode.INVALID_COMMAND,
        None,
        "a1",
    )
    assert error.problems[0].path == "type"
    assert error.problems[0].message.endswith(", ".join(COMMAND_CLASSES))


def test_type_and_id_of_an_invalid_command_are_read_where_they_are_valid() -> None:
    """A rejected event can name them; an invalid id is not passed on."""
    error = refusal(text("train", {}, id="a1"))
    assert (error.command_type, error.command_id) == ("train", "a1")
    assert refusal(text("train", {}, id="a\n")).command_id is None
    assert refusal(text("train", {}, id=7)).command_id is None


def test_the_message_tells_the_first_problem_and_how_many_there_are() -> None:
    """One line is enough for a log."""
    error = refusal(text("get_training_data", {"x": 1}))
    assert error.message == "data.model_uuid is required (and 2 more)"


def test_problems_are_many_but_not_endless() -> None:
    """A message of a megabyte does not become an event of ten."""
    error = refusal(text("train", {**TRAIN, "labels_uuids": ["x"] * 10_000}))
    assert len(error.problems) == 51
    assert error.problems[-1].message == "9950 more problems"
    long = refusal(text("list_models", {"x" * 100_000: 1}))
    assert len(long.problems[0].path) < 100
    assert len(long.message) < 300


def test_fingerprints_are_equal_for_equal_type_and_data_whatever_the_order() -> None:
    """Attributes don't count; type and every value do."""
    data = {"model_uuid": ONE, "title": "a", "description": "b"}
    turned = dict(reversed(data.items()))
    same = {
        parse_command(raw).fingerprint
        for raw in (
            text("update_model", data),
            text("update_model", turned, id="x", priority="bulk"),
            json.dumps({"data": data, "type": "update_model"}, indent=3).encode(),
        )
    }
    assert len(same) == 1
    assert len(same.pop()) == 16
    fingerprints = [
        parse_command(raw).fingerprint
        for raw in (
            text("update_model", data),
            text("update_model", {**data, "title": "A"}),
            text("get_model", {"model_uuid": ONE}),
            text("delete_model", {"model_uuid": ONE}),
        )
    ]
    assert len(set(fingerprints)) == 4


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
NAMES = st.sampled_from([
    "type",
    "data",
    "id",
    "replyto",
    "deadline",
    "priority",
    "specversion",
    "shop",
    "Shop",
    "",
])
DATA_NAMES = st.sampled_from(sorted({name for data in SMALLEST.values() for name in data}))
COMMANDS = st.builds(
    lambda command_type, data, attributes: {**attributes, "type": command_type, "data": data},
    st.sampled_from(sorted(SMALLEST)) | JSON,
    st.dictionaries(DATA_NAMES, JSON | st.sampled_from([ONE, "useAll", "classification"])) | JSON,
    st.dictionaries(NAMES, JSON, max_size=4),
)


def _mutated(command: dict[str, Any], cut: int, junk: bytes) -> bytes:
    raw = json.dumps(command).encode()
    at = cut % (len(raw) + 1)
    return raw[:at] + junk + raw[at:]


@settings(max_examples=1000, deadline=None)
@given(
    raw=st.binary(max_size=200)
    | JSON.map(lambda value: json.dumps(value).encode())
    | COMMANDS.map(lambda value: json.dumps(value).encode())
    | st.builds(_mutated, COMMANDS, st.integers(min_value=0), st.binary(max_size=4))
)
def test_nothing_but_a_command_or_its_error_comes_out(raw: bytes) -> None:
    """Whatever comes in, parsing ends in a command or in InvalidCommandError with its problems."""
    error: InvalidCommandError | None = None
    try:
        parse_command(raw)
    except InvalidCommandError as exc:
        error = exc
    if error is not None:
        assert error.message
        assert error.problems or error.code is ErrorCode.TOO_LARGE


@pytest.mark.parametrize("name", ["traceparent", "tracestate"])
def test_an_empty_trace_context_counts_as_absent(name: str) -> None:
    command = parse_command(b'{"type":"list_models","data":{},"%s":""}' % name.encode()).command
    assert getattr(command, name) is None
    assert name not in command.context()


def test_data_in_base64_are_refused_with_what_to_send() -> None:
    with pytest.raises(InvalidCommandError, match=r"data_base64 is not taken.*the object data"):
        parse_command(b'{"type":"list_models","specversion":"1.0","data_base64":"e30="}')


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "marked"])
def test_data_that_lie_elsewhere_are_read_as_those_in_a_command(mark: bytes) -> None:
    """A byte order mark is no part of them, and null counts as absent."""
    referred = b'{"type": "list_models", "id": "a", "dataref": "/data.json", "priority": "bulk"}'
    data = mark + b'{"query": null, "order_asc": null}'
    command = completed(referred, data)
    assert (
        command
        == parse_command(
            text("list_models", {}, id="a", dataref="/data.json", priority="bulk")
        ).command
    )


def test_data_of_millions_of_tiny_values_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory each takes many times what it takes in a file; a label takes no more."""
    monkeypatch.setattr("schemas.claim_check._MOST_SMALL_VALUES", 1_000)
    referred = json.dumps({"type": "train", "dataref": "/a"}).encode()
    with pytest.raises(InvalidCommandError, match="values"):
        completed(referred, b'{"labels_uuids":[' + b",".join([b"[]"] * 1_000) + b"]}")
    labels = [str(UUID(int=number)) for number in range(1, 2_000)]
    command = completed(referred, json.dumps({**TRAIN, "labels_uuids": labels}).encode())
    assert isinstance(command, Train)
    assert len(command.data.labels_uuids) == len(labels)


def test_data_of_very_many_lists_are_not_read() -> None:
    """Of seven megabytes of nothing else 1.7 gigabytes were made."""
    referred = json.dumps({"type": "train", "dataref": "/a"}).encode()
    with pytest.raises(InvalidCommandError, match=r"20,000 lists and objects"):
        completed(referred, b'{"labels_uuids":[' + b",".join([b'{"a":1}'] * 20_001) + b"]}")


@pytest.mark.parametrize("each", [[], {"a": {}}])
def test_a_message_of_very_many_lists_is_rejected_for_that(each: Any) -> None:
    """Of a megabyte of nothing else 500 would be made, more than a small worker has."""
    with pytest.raises(InvalidCommandError, match=r"^data holds more than 20,000 lists") as caught:
        parse_message(text("train", {**TRAIN, "labels_uuids": [each] * 21_000}, id="one"))
    assert (caught.value.command_type, caught.value.command_id) == ("train", "one")


@pytest.mark.parametrize("attribute", ["dataref", "time", "extension"])
def test_a_message_of_very_many_lists_is_rejected_for_that_though_its_data_lie_elsewhere(
    attribute: str,
) -> None:
    """It was read as a claim check, whose attributes are validated as data are."""
    message = {"type": "train", "id": "one", "dataref": "/a", attribute: [[]] * 21_000}
    with pytest.raises(InvalidCommandError, match=r"holds more than 20,000 lists") as caught:
        parse_message(json.dumps(message).encode())
    assert (caught.value.command_type, caught.value.command_id) == ("train", "one")


def test_a_command_may_name_many_thousand_features() -> None:
    many = {ONE: {f"n{number}": ["a"] for number in range(19_000)}}
    command = parse_command(text("train", {**TRAIN, "features_mapping": many})).command
    assert isinstance(command, Train)


MANY = 30_000


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels_uuids": [0] * MANY},
        {"features_mapping": {str(number): 0 for number in range(MANY)}},
        {"features_mapping": {ONE: {str(number): 0 for number in range(MANY)}}},
        {f"name{number}": 0 for number in range(MANY)},
    ],
)
def test_of_a_large_message_that_is_wrong_all_through_few_problems_are_looked_for(
    wrong: dict[str, Any],
) -> None:
    """Each takes a kilobyte: a message of a megabyte would have a worker of 512 MB killed."""
    with pytest.raises(InvalidCommandError) as caught:
        parse_message(text("train", {**TRAIN, **wrong}, id="one"))
    assert len(caught.value.problems) == 1
    assert caught.value.command_id == "one"


def test_a_large_command_is_read_like_a_small_one() -> None:
    """What is large is validated by another validator."""
    labels = [str(UUID(int=number)) for number in range(1, 2_000)]
    data = {**TRAIN, "labels_uuids": labels, "pretrained_training_uuid": None}
    small = parse_command(text("train", TRAIN)).command
    large = parse_command(text("train", data)).command
    assert type(large) is type(small)
    assert large.data == Train.model_validate_json(text("train", data)).data
    labels[7] = "x"
    with pytest.raises(InvalidCommandError) as caught:
        parse_command(text("train", {**data, "epochs": "4"}))
    told = [(each.path, each.message) for each in caught.value.problems]
    assert ("data.labels_uuids.7", "must be a UUID") in told
