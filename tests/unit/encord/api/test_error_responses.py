"""Rules of what an error of the API says, and how long it asks us to wait."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Problem
from worker.encord.api.error_responses import Reply, error_for, read_retry_after


def message_of(body: object, status: int = 400) -> str:
    """Returns the message of the error for a body."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_for(Reply(status, {}, raw, "https://api.encord.com")).message


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"message": "a", "detail": "b"}, "a"),
        ({"message": "", "detail": "b"}, "b"),
        ({"detail": "b"}, "b"),
        ({"detail": {"why": "c"}}, '{"why": "c"}'),
        ({"message": ["x"]}, "x"),
        ({}, "the API finds the arguments invalid"),
        ([], "the API finds the arguments invalid"),
        ("text", "the API finds the arguments invalid"),
        (b"", "the API finds the arguments invalid"),
        (b"<html>", "the API finds the arguments invalid"),
        (b"\xff", "the API finds the arguments invalid"),
        (b"[" * 100_000, "the API finds the arguments invalid"),
    ],
)
def test_the_message_is_message_else_detail_else_ours(body: object, says: str) -> None:
    """Whatever the body is, there is one message."""
    assert message_of(body) == says


def test_a_long_message_is_cut() -> None:
    """An event must stay small."""
    assert len(message_of({"message": "x" * 100_000})) == 1000


def test_a_fastapi_list_becomes_problems_with_paths() -> None:
    """Each entry says where; odd entries do no harm."""
    detail: list[object] = [
        {"loc": ["body", "batchSize"], "msg": "must be positive", "type": "value_error"},
        {"loc": "body", "msg": "odd"},
        "odder",
    ]
    error = error_for(Reply(422, {}, json.dumps({"detail": detail}).encode(), ""))
    assert error.problems == (
        Problem(path="body.batchSize", message="must be positive"),
        Problem(path="", message="odd"),
        Problem(path="", message="odder"),
    )
    assert error.message == "body.batchSize must be positive; odd; odder"


def test_401_names_whom_we_asked() -> None:
    """The wrong region for a key looks like a wrong key; the message helps to see it."""
    assert "asked https://api.encord.com; they may belong to another region" in message_of({}, 401)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        (" 5 ", 5),
        ("86400", 300),
        ("99999999999999999999999", 300),
        ("9" * 10_000, 300),
        ("-1", None),
        ("1.5", 1.5),
        ("1e9", None),
        ("inf", None),
        ("²", None),
        ("soon", None),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 300),
        ("Fri, 01 Jan 2100 00:00:00", 300),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 300),
    ],
)
def test_retry_after_is_read_or_ignored(value: str, seconds: float | None) -> None:
    """Nonsense is no hint, the past is now, and no wait is longer than the longest."""
    assert read_retry_after({"retry-after": value}) == seconds


@given(value=st.text(max_size=60), date=st.text(max_size=40))
def test_no_header_can_break_the_reading(value: str, date: str) -> None:
    """The result is None or 0 to the longest wait."""
    seconds = read_retry_after({"retry-after": value, "date": date})
    assert seconds is None or 0 <= seconds <= 300
