"""JSON as the client reads it: each integer is the one that was written."""

from __future__ import annotations

import pytest

from trainmaster_client.json_text import decode

EDGES = [each + by for each in (10**17, 10**18, 2**63, 2**64, 10**20, 10**30) for by in (-1, 0, 1)]


@pytest.mark.parametrize("number", [*EDGES, *(-each for each in EDGES)])
def test_integers_of_any_length_are_read_whole(number: int) -> None:
    found = decode(b'{"text": "1234567890123", "numbers": [12, %d, 0.5]}' % number)
    assert found == {"text": "1234567890123", "numbers": [12, number, 0.5]}
    assert type(found["numbers"][1]) is int
