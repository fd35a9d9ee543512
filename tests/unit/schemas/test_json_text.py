"""Rules of JSON with integers of any length."""

from __future__ import annotations

import json

import pytest

from schemas.json_text import RawJson, decode_json, encode_json

WIDE = [2**64, -(2**63) - 1, 10**400]


@pytest.mark.parametrize("number", [*WIDE, 2**64 - 1, -(2**63), 0])
def test_an_integer_of_any_length_is_written_and_read_as_it_is(number: int) -> None:
    value = {"losses": [number, {"at": number}], "text": "é"}
    text = encode_json(value)
    assert json.loads(text) == value
    assert decode_json(text) == value


@pytest.mark.parametrize("beside", [None, *WIDE])
def test_what_is_no_finite_number_is_null_whatever_stands_beside_it(beside: int | None) -> None:
    value = [float("inf"), float("-inf"), float("nan"), 0.5, beside]
    assert json.loads(encode_json(value)) == [None, None, None, 0.5, beside]


def test_people_get_several_lines_for_long_integers_too() -> None:
    assert encode_json({"a": 1}, pretty=True) == b'{\n  "a": 1\n}'
    assert encode_json({"a": 2**64}, pretty=True) == b'{\n  "a": 18446744073709551616\n}'


@pytest.mark.parametrize("beside", [1, *WIDE])
def test_what_is_encoded_already_stands_where_it_is_put(beside: int) -> None:
    text = encode_json({"result": RawJson(b'{"loss": 0.5}'), "beside": beside})
    assert json.loads(text) == {"result": {"loss": 0.5}, "beside": beside}


def test_what_json_has_no_word_for_is_refused() -> None:
    with pytest.raises(TypeError):
        encode_json({"set": {1}})
    with pytest.raises(TypeError):
        encode_json({"set": {1}, "wide": 2**64})
    with pytest.raises(ValueError, match="expected value"):
        decode_json(b"[NaN]")
