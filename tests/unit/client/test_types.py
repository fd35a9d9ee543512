"""Types that are asked for: a consumer acknowledges unread what it does not want."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.commands import COMMAND_CLASSES
from schemas.event_examples import event_types
from trainmaster_client import ConsumerOptions, State
from trainmaster_client.reading import Cursor
from trainmaster_client.steps import Patience


@pytest.mark.parametrize(
    ("types", "said"),
    [
        (["train.*"], "patterns are for sinks"),
        ("*", "patterns are for sinks"),
        ([""], "is no type"),
        (["train.succeeded", "train.failled"], "did you mean 'failed'"),
        (["train.done"], "there is accepted, started"),
        ("canceled", "did you mean 'cancelled'"),
    ],
)
def test_types_that_no_event_has_are_refused(types: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ConsumerOptions(types=types)
    with pytest.raises(ValueError, match=said):
        Cursor("events", types, None, Patience(0))


def test_every_type_of_event_and_of_command_can_be_asked_for() -> None:
    """Also those of a newer worker: the client knows the states alone."""
    ConsumerOptions(types=[*event_types(), *COMMAND_CLASSES, *State, "command", "promote_model"])
