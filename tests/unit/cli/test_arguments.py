"""How the command line reads times and arguments, and puts events into words."""

from __future__ import annotations

import math
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from schemas.enums import EventState
from worker.cli.arguments import (
    AHEAD,
    PAST,
    ArgumentError,
    parse_duration,
    read_data,
    read_value,
)
from worker.cli.formatting import describe_error, narrate, show_duration, summarise_result
from worker.cli.main import commands
from worker.cli.output import safe_text, shell_word

ERROR = {"code": "not_found", "message": "there is no model", "status": 404}
DATA: dict[EventState, dict[str, Any]] = {
    EventState.ACCEPTED: {},
    EventState.STARTED: {"training_uuid": "t-1"},
    EventState.PROGRESSED: {
        "state": "paused",
        "reason": "someone paused it",
        "read": 40,
        "succeeded": 9,
        "failed": 1,
        "open": 30,
    },
    EventState.RETRYING: {
        "error": ERROR,
        "attempt": 2,
        "retry_at": "2026-01-31T12:00:05.000+00:00",
    },
    EventState.IN_DOUBT: {"error": ERROR, "check": "Look there."},
    EventState.RESOLVED: {"by": "ann", "created": None},
    EventState.SUCCEEDED: {"result": None, "attempts": 3, "duration_seconds": 61.2},
    EventState.FAILED: {"error": ERROR, "attempts": 1},
    EventState.CANCELLED: {"training_uuid": "t-1", "note": "it goes on"},
    EventState.REJECTED: {"error": {**ERROR, "status": None}, "raw": "{"},
}
SAID = {
    EventState.ACCEPTED: "",
    EventState.STARTED: "training t-1",
    EventState.PROGRESSED: (
        "40 items read, 9 succeeded, 1 failed, 30 in flight; paused: someone paused it"
    ),
    EventState.RETRYING: (
        "attempt 2 failed, next at 12:00:05Z: not_found (HTTP 404): there is no model"
    ),
    EventState.IN_DOUBT: "not_found (HTTP 404): there is no model; Look there.",
    EventState.RESOLVED: "ann: nothing was created",
    EventState.SUCCEEDED: "(1m01s, 3 attempts)",
    EventState.FAILED: "not_found (HTTP 404): there is no model",
    EventState.CANCELLED: "t-1: it goes on",
    EventState.REJECTED: "not_found: there is no model",
}


def event(state: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "type": f"train.{state}",
        "subject": "one",
        "time": "2026-01-31T12:00:00.123Z",
        "data": data,
        **more,
    }


@pytest.mark.parametrize("state", list(EventState))
def test_every_state_has_its_words(state: EventState) -> None:
    line = narrate(event(state, DATA[state])).plain
    assert line == f"2026-01-31T12:00:00Z  train.{state}  one  {SAID[state]}".rstrip()


@pytest.mark.parametrize(
    ("state", "data"),
    [
        ("succeeded", {"result": None, "attempts": 1, "duration_seconds": "long"}),
        ("succeeded", {"result": None, "attempts": 1, "duration_seconds": math.nan}),
        ("succeeded", {"result": None, "attempts": 1, "duration_seconds": math.inf}),
        ("started", {}),
        ("failed", {"error": "odd"}),
        ("resolved", {"by": 7, "created": None}),
    ],
)
def test_data_that_others_wrote_otherwise_is_left_out(state: str, data: dict[str, Any]) -> None:
    assert narrate(event(state, data)).plain == f"2026-01-31T12:00:00Z  train.{state}  one"


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        ({"type": 5, "subject": 6, "time": 7}, "7Z  5  6"),
        ({"type": "a\x1b[2J.b", "subject": "\x1b", "time": "\x1b"}, "�Z  a�[2J.b  �"),
    ],
)
def test_what_is_no_text_or_would_move_the_cursor_is_told_as_text(
    odd: dict[str, Any], told: str
) -> None:
    assert narrate(event("failed", {}) | odd).plain == told


def test_a_large_result_is_told_by_where_it_lies() -> None:
    line = narrate(event("succeeded", DATA[EventState.SUCCEEDED], dataref="file:///r.json")).plain
    assert "file:///r.json (1m01s" in line


@pytest.mark.parametrize(
    ("command_type", "result", "said"),
    [
        ("list_models", {"models": [1, 2]}, "2 models"),
        ("create_model", {"model_group": {"model_uuid": "m", "title": "t"}}, "model m 't'"),
        ("train", {"training_uuid": "t", "iteration": None}, "training t"),
        (
            "train",
            {"training_uuid": "t", "iteration": {"loss_log": {"1": 2.0, "2": 0.51234}}},
            "training t, 2 epochs, last loss 0.5123",
        ),
        ("attach", {"project_model": {"project_model_uuid": "p"}}, "attachment p"),
        ("predict", {"frames": {"0": [1, 2], "1": []}}, "2 items in 2 frames"),
        ("predict", {"frames": {"0": None}}, "0 items in 1 frame"),
        ("predict", {"frames": {"0": {"name": "x"}}}, "1 item in 1 frame"),
        ("train", {"odd": 1}, ""),
        ("delete_model", None, ""),
        ("not_yet_invented", {"a": 1}, ""),
    ],
)
def test_a_result_is_told_in_a_few_words(command_type: str, result: Any, said: str) -> None:
    assert summarise_result(command_type, result) == said


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5", 1.5), ("90s", 90), ("1h30m", 5400), ("7d", 604_800), ("0s", 0)],
)
def test_a_span_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "m", "1x", "-5s", "1h 5m", "٣s", "9" * 400 + "d"])
def test_what_is_no_span_is_none(text: str) -> None:
    assert parse_duration(text) is None


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0.0s"),
        (-0.0, "0.0s"),
        (0.44, "0.4s"),
        (9.94, "9.9s"),
        (10, "10s"),
        (12.4, "12s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (185, "3m05s"),
        (3_599, "59m59s"),
        (3_600, "1h00m"),
        (7_800, "2h10m"),
        (86_399, "23h59m"),
        (86_400, "1d0h"),
        (532_800, "6d4h"),
    ],
)
def test_a_span_is_shown_to_about_two_digits(seconds: float, shown: str) -> None:
    assert show_duration(seconds) == shown


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ({}, "invalid_input: wrong"),
        ({"status": 404}, "invalid_input (HTTP 404): wrong"),
        # The message says it already.
        ({"problems": [{"path": "a", "message": "is 0"}]}, "invalid_input: wrong"),
        (
            {"problems": [{"path": f"p{each}", "message": f"is {each}"} for each in range(6)]},
            "invalid_input: wrong: p0 is 0; p1 is 1; p2 is 2; p3 is 3; p4 is 4; and 1 more",
        ),
        # It names the first one already.
        (
            {
                "message": "it would be rejected: a is 0 (and 1 more)",
                "problems": [{"path": "a", "message": "is 0"}, {"path": "b", "message": "is 1"}],
            },
            "invalid_input: it would be rejected: a is 0; b is 1",
        ),
    ],
)
def test_an_error_is_told_with_the_first_of_its_problems(more: dict[str, Any], shown: str) -> None:
    assert describe_error({"code": "invalid_input", "message": "wrong", **more}) == shown


def test_a_moment_is_a_time_or_a_span_before_or_after_now() -> None:
    now = datetime.now(UTC)
    assert PAST.convert("2026-01-31T12:00:00+02:00", None, None) == datetime(
        2026, 1, 31, 10, tzinfo=UTC
    )
    assert (
        timedelta()
        <= PAST.convert("1h", None, None) - (now - timedelta(hours=1))
        <= timedelta(minutes=1)
    )
    assert AHEAD.convert("1h", None, None) >= now + timedelta(hours=1)
    for wrong in ("2026-01-31", "2026-02-30T00:00:00Z", "tomorrow", "99999999d"):
        with pytest.raises(click.BadParameter):
            PAST.convert(wrong, None, None)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["a"], "is not key=value"),
        (["=1"], "is not key=value"),
        (["a..b=1"], "is not key=value"),
        (["a=1", "a.b=2"], "sets a key of a, which already has a value"),
        (["a.b=2", "a=1"], "would replace the keys that are set in a"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(pairs: list[str], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        read_data(pairs, "train")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("null", None),
        ('{"a": [1]}', {"a": [1]}),
        ("NaN", "NaN"),
        ("[1", "[1"),
        ("", ""),
        ("a=b", "a=b"),
    ],
)
def test_a_value_is_json_where_it_is_json_else_text(text: str, value: object) -> None:
    assert read_value(text) == value


def test_for_an_unknown_type_only_the_text_decides() -> None:
    assert read_data(["title=1", "a.b=x", "c=1", "c=2", "c=x"], "unheard") == {
        "title": 1,
        "a": {"b": "x"},
        "c": [1, 2, "x"],
    }


def test_text_of_others_can_not_move_the_cursor() -> None:
    assert safe_text("a\x1b[2J\r\u202eb\nc") == "a�[2J��b\nc"


def test_an_id_in_a_command_line_that_people_copy_is_one_word_of_it() -> None:
    """Ids are any printable text, and come from producers."""
    assert shell_word("night; rm -rf ~") == "'night; rm -rf ~'"
    texts = [path.read_text("utf-8") for path in Path("worker").rglob("*.py")]
    words = [each for text in texts for each in re.findall(r"trainmaster [a-z -]+ {([^}]+)}", text)]
    ours = {"letter.key", "pause.lane", "name", "command['type']", "named"}
    # Names of sinks are letters, digits, _ and -.
    ours |= {"self.name", "status.name"}
    # A number, in a sentence about the program.
    ours |= {"FORMAT"}
    theirs = [each for each in words if each not in ours]
    assert len(theirs) > 5
    assert [each for each in theirs if not each.startswith(("shell_word(", "shlex.quote("))] == []


@pytest.mark.parametrize("command", ["demo", "sandbox"])
def test_a_command_whose_package_is_not_installed_names_the_extra_and_is_not_listed(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    module = sys.modules["worker.cli.main"]  # its package has a function of that name
    monkeypatch.setattr(module, "entry_points", lambda **_: ())
    called = CliRunner().invoke(commands, [command])
    assert called.exit_code == 2
    assert f"{command} is a package of its own: install trainmaster[{command}]" in called.output
    assert f"  {command} " not in CliRunner().invoke(commands, ["--help"]).output


@pytest.mark.parametrize("command", ["worker", "sandbox"])
def test_an_interrupt_while_a_command_is_imported_ends_it_without_a_traceback(command: str) -> None:
    """It would come out as an error of what is being imported, or crash in native code."""
    program = f"""
import importlib, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from worker.cli import main as run
def interrupted(name):
    os.kill(os.getpid(), signal.SIGINT)
    raise RuntimeError("came back from an interrupt")
main = sys.modules["worker.cli.main"]
main.import_module = interrupted
main.entry_points = lambda **_: [type("Found", (), {{"load": interrupted, "name": {command!r}}})()]
sys.argv = ["trainmaster", {command!r}]
run()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


@pytest.mark.parametrize(
    "group", ["backfill", "dead-letters", "holds", "lanes", "sinks", "tokens", "webhooks"]
)
def test_an_overview_has_the_sentence_of_each_command_whole(group: str) -> None:
    """Who is on call reads it in 80 columns; what is cut is often the half that matters."""
    shown = CliRunner().invoke(commands, [group, "--help"], terminal_width=80)
    assert shown.exit_code == 0
    _, found, overview = shown.output.partition("\nCommands:\n")
    assert found
    assert "..." not in overview
    assert max(map(len, shown.output.splitlines())) <= 80
