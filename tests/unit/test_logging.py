"""Log lines: one JSON object each, whoever writes them, with exceptions and without secrets."""

from __future__ import annotations

import subprocess
import sys

import orjson
import pytest
import structlog

from worker.logging import LimitedLog

SECRET = "s3cret-of-a-local-variable"

PROGRAM = """
import logging, sys, warnings
import structlog
from worker.logging import configure

configure({level!r}, {form!r})
log = structlog.get_logger("worker.queue.pool.executor")

def fail():
    token = "s3cret-of-" + "a-local-variable"
    raise ValueError("it broke")

structlog.contextvars.bind_contextvars(command_id="one")
log.debug("command.looked_at")
log.info("command.succeeded", attempts=2)
structlog.contextvars.clear_contextvars()
try:
    fail()
except ValueError:
    log.exception("command.crashed")
    logging.getLogger("celery.worker").error("Task %s", "broke", exc_info=True)
logging.getLogger("celery.app.trace").info("Task succeeded")
logging.getLogger("celery.worker").warning(
    "Received\\nmore", extra={{"data": {{"args": "s3cret-of-a-local-variable"}}}}
)
log.warning("odd.word_found", word="a\\x1b[2Jb")
logging.getLogger("celery.worker").warning("of type x/%s", "\\x1b[2J\\x9b")
warnings.warn("old way", DeprecationWarning, stacklevel=1)
print("done")
"""


def logged(level: str, form: str) -> list[str]:
    """Returns the lines on stderr of a process that logs."""
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", PROGRAM.format(level=level, form=form)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "done\n"
    return done.stderr.splitlines()


@pytest.mark.parametrize("form", ["json", "auto"])
def test_without_a_terminal_every_line_is_a_json_object(form: str) -> None:
    lines = [orjson.loads(line) for line in logged("INFO", form)]
    assert all({"event", "level", "logger", "timestamp"} <= line.keys() for line in lines)
    by_event = {line["event"]: line for line in lines}
    assert by_event["command.succeeded"]["attempts"] == 2
    assert by_event["command.succeeded"]["command_id"] == "one"
    assert "command_id" not in by_event["command.crashed"]
    assert by_event["Received\nmore"]["logger"] == "celery.worker"
    assert any("old way" in event for event in by_event)


def test_an_exception_is_a_field_of_its_line_whoever_logs_it() -> None:
    by_event = {line["event"]: line for line in map(orjson.loads, logged("INFO", "json"))}
    for event in ("command.crashed", "Task broke"):
        assert by_event[event]["level"] == "error"
        assert by_event[event]["exception"].endswith("ValueError: it broke")


def test_lines_below_the_level_and_those_that_say_nothing_new_are_left_out() -> None:
    usual = "\n".join(logged("INFO", "json"))
    assert "command.looked_at" not in usual
    assert "Task succeeded" not in usual
    assert "command.looked_at" in "\n".join(logged("DEBUG", "json"))
    assert len(logged("ERROR", "json")) == 2


@pytest.mark.parametrize("form", ["json", "text"])
def test_neither_local_variables_nor_what_others_attach_are_shown(form: str) -> None:
    assert SECRET not in "\n".join(logged("DEBUG", form))


def test_text_is_for_people() -> None:
    lines = logged("INFO", "text")
    assert any("command.succeeded" in line and "attempts=2" in line for line in lines)
    assert any(line.endswith("ValueError: it broke") for line in lines)


def test_what_others_wrote_moves_no_cursor() -> None:
    """Celery repeats what kind of content a message has, whoever has sent it."""
    lines = "\n".join(logged("INFO", "text"))
    assert lines.replace("\n", "").isprintable()
    assert "word=a�[2Jb" in lines
    assert "of type x/�[2J�" in lines


def test_lines_that_others_cause_are_few_a_minute_and_the_rest_is_counted() -> None:
    now = 0.0
    with structlog.testing.capture_logs() as lines:
        limited = LimitedLog(structlog.get_logger(), most=3, period_seconds=60, clock=lambda: now)
        for number in range(1000):
            now = number * 0.05
            limited.warning("delivery.refused", "door", reason=f"reason {number}")
            if number == 500:
                limited.warning("delivery.refused", "window", reason="of another source")
        now = 60.0
        limited.warning("delivery.refused", "door", reason="later")
        limited.warning("delivery.refused", "door", reason="later still")
        for number in range(20):
            now = 70.0 + number
            limited.warning("delivery.refused", "door", reason=f"of the second minute {number}")

    assert [(line["reason"], line.get("left_out")) for line in lines] == [
        ("reason 0", None),
        ("reason 1", None),
        ("reason 2", None),
        ("of another source", None),
        ("later", 997),
        ("later still", None),
        ("of the second minute 0", None),
    ]
    assert {line["log_level"] for line in lines} == {"warning"}
