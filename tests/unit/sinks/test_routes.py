"""Which events a sink wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.sinks.endpoints import sink_config, webhook
from trainmaster_client import Event
from worker.sinks.routes import Route

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("value", "is_wanted"),
    [(0, True), ("a", True), (None, False), (False, False), ("", False), ([], False), ({}, False)],
)
def test_a_condition_that_gives_null_false_or_an_empty_value_says_no_and_0_says_yes(
    tmp_path: Path, value: Any, is_wanted: bool
) -> None:
    """As JMESPath has it, in rules too."""
    route = Route(sink_config("ops", tmp_path, when="data.a", webhook=webhook("http://127.0.0.1")))
    event = Event("1-0", {"type": "train.failed", "data": {"a": value}})
    assert route.wants(event) is is_wanted
