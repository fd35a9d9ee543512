"""What of a message is shown: as it came, but for what no browser stands."""

from __future__ import annotations

import orjson
import pytest

from worker.gateway.views.messages import MOST_CHARACTERS, shown

LONG = "A" * (MOST_CHARACTERS + 1)
LONGEST_SHOWN = "A" * MOST_CHARACTERS


@pytest.mark.parametrize(
    "raw", [b'{ "n": 1e400, "a" : [1.50] }', b'{"data":{"x":"' + LONGEST_SHOWN.encode() + b'"}}']
)
def test_what_can_be_shown_whole_is_shown_as_it_was_written(raw: bytes) -> None:
    found = shown(raw)
    assert found.message is not None
    assert found.message.text == raw
    assert (found.text, found.left_out) == (None, [])


def test_long_texts_are_left_out_and_named_wherever_they_stand() -> None:
    told = {"a": LONG, "b": 1, "data": {"c": LONG, "d": [LONG], "e": LONGEST_SHOWN}}
    found = shown(orjson.dumps(told))
    assert found.left_out == ["a", "data.c"]
    assert found.message is not None
    assert orjson.loads(found.message.text) == {
        "b": 1,
        "data": {"d": [LONG], "e": LONGEST_SHOWN},
    }


@pytest.mark.parametrize(
    ("raw", "text", "is_cut"),
    [
        (b"[1]", "[1]", False),
        (b"\xff{", "\ufffd{", False),
        (LONGEST_SHOWN.encode(), LONGEST_SHOWN, False),
        (LONG.encode(), LONGEST_SHOWN, True),
        # Of four bytes each, so that all that may be shown is read.
        ("\U0001f600".encode() * MOST_CHARACTERS, "\U0001f600" * MOST_CHARACTERS, False),
        ("\U0001f600".encode() * MOST_CHARACTERS + b"x", "\U0001f600" * MOST_CHARACTERS, True),
        (b"", "", False),
    ],
    ids=["an array", "no text", "as much", "more", "as wide", "wider", "nothing"],
)
def test_what_is_no_object_is_shown_as_text_and_said_to_be_cut_where_it_is(
    raw: bytes, text: str, *, is_cut: bool
) -> None:
    found = shown(raw)
    assert found.message is None
    assert found.text == text
    assert found.left_out == (["text"] if is_cut else [])
