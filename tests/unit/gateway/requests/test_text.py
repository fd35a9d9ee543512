"""Text of headers and addresses: two names never become one."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from worker.gateway.problems import ProblemError
from worker.gateway.requests.text import (
    cloud_event_attributes,
    idempotency_key,
    name_in_address,
)


def request(*headers: tuple[bytes, bytes]) -> Request:
    return Request({"type": "http", "headers": list(headers)})


def test_attributes_are_the_headers_of_that_prefix_and_no_others() -> None:
    found = cloud_event_attributes(
        request((b"ce-id", b"a"), (b"x-ce-type", b"no"), (b"ce-type", b"b"), (b"cer", b"no"))
    )
    assert found == {"id": "a", "type": "b"}


@pytest.mark.parametrize("value", [b"%FF", b'"%C3"', b"a%E9b"])
def test_what_is_percent_encoded_and_not_utf_8_is_refused(value: bytes) -> None:
    with pytest.raises(ProblemError, match="ce-subject") as refused:
        cloud_event_attributes(request((b"ce-id", b"a"), (b"ce-subject", value)))
    assert (refused.value.status, refused.value.code) == (400, "invalid_header")


def test_an_attribute_that_is_there_twice_is_refused_though_both_say_the_same() -> None:
    with pytest.raises(ProblemError, match="ce-id stands there twice") as refused:
        cloud_event_attributes(request((b"ce-id", b"a"), (b"ce-id", b"a")))
    assert (refused.value.status, refused.value.code) == (400, "doubled_header")


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b"k-1", "k-1"),
        (b"  k 1 ", "k 1"),
        (b'"k-1"', "k-1"),
        (b'"k-1" ; v=2', "k-1"),
        (b'"a\\"b\\\\"', 'a"b\\'),
        (b'a"b"', 'a"b"'),
        (b'""', ""),
        (b"\xc3\xa9", "\u00e9"),
        (b"\xe9", "\u00e9"),
        (b"%C3%A9", "%C3%A9"),
    ],
)
def test_a_key_is_a_word_or_a_string(value: bytes, key: str) -> None:
    assert idempotency_key(request((b"accept", b"x"), (b"idempotency-key", value))) == key


@pytest.mark.parametrize("value", [b'"', b'"a', b'"a"b', b'"a" b', b'"a",', b'"a\\"'])
def test_a_key_that_begins_like_a_string_and_is_none_is_refused(value: bytes) -> None:
    with pytest.raises(ProblemError, match="Idempotency-Key") as refused:
        idempotency_key(request((b"idempotency-key", value)))
    assert (refused.value.status, refused.value.code) == (400, "invalid_header")


def test_without_the_header_there_is_no_key() -> None:
    assert idempotency_key(request((b"x-idempotency-key", b"a"))) is None


def test_a_name_in_an_address_is_decoded_once() -> None:
    assert name_in_address("a%2Fb%20c%252F+") == "a/b c%2F+"
    for wrong in ("%FF", "a%C3", "%ED%A0%80"):
        with pytest.raises(ProblemError, match="not UTF-8") as refused:
            name_in_address(wrong)
        assert (refused.value.status, refused.value.code) == (400, "invalid_address")
