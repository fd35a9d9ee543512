"""A trace context is passed on as W3C has it, or not at all."""

from __future__ import annotations

import pytest

from worker.trace_context import carried, is_traceparent

GOOD = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.mark.parametrize(
    "value",
    [GOOD, f"01-{'a' * 32}-{'b' * 16}-00-more"],
)
def test_a_context_that_others_may_hang_on_is_told(value: str) -> None:
    assert is_traceparent(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "",
        "t",
        f"ff-{'a' * 32}-{'b' * 16}-01",
        f"00-{'0' * 32}-{'b' * 16}-01",
        f"00-{'a' * 32}-{'0' * 16}-01",
        f"00-{'A' * 32}-{'b' * 16}-01",
        f"{GOOD}, {GOOD}",
        f"{GOOD}\n",
        f"{GOOD}-{'x' * 500}",
        f"01{GOOD[2:]}-\r",
        f"01{GOOD[2:]}-é",
    ],
)
def test_what_is_none_is_not_passed_on(value: object) -> None:
    assert not is_traceparent(value)
    assert carried({"traceparent": value, "tracestate": "a=b"}) == {}


def test_a_tracestate_goes_along_with_its_traceparent() -> None:
    assert carried({"traceparent": GOOD, "tracestate": "a=b"}) == {
        "traceparent": GOOD,
        "tracestate": "a=b",
    }
    assert carried({"traceparent": GOOD, "tracestate": ""}) == {"traceparent": GOOD}
    for what_no_header_holds in ("a\n", "a=é"):
        told = {"traceparent": GOOD, "tracestate": what_no_header_holds}
        assert carried(told) == {"traceparent": GOOD}
