"""What happens is told to every listener, and no listener can do harm."""

from __future__ import annotations

from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from schemas.enums import Priority
from worker.queue.log_listener import LOGS, LogListener
from worker.queue.telemetry import Listener, RunEnd, RunOutcome, Telemetry, log_fields

END = RunEnd(
    "c-1",
    *("get_model", Priority.INTERACTIVE, RunOutcome.FAILED, "failed", 2, 0.5),
    code="x",
    message="why",
)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ACTS = [name for name in vars(Listener) if not name.startswith("_") and name != "hears"]
# What no line tells.
SILENT = {
    "polled",
    "settled",
    "snoozed",
    "requested",
    "received",
    "run_begun",
    "run_over",
}


class Ear(Listener):
    """Hears of failures alone."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.heard: list[RunEnd] = []
        self.breaks = breaks

    def failed(self, end: RunEnd) -> None:
        """Keeps it."""
        self.heard.append(end)
        if self.breaks:
            raise ValueError("a listener's own fault")


def test_each_listener_hears_it_though_one_before_it_breaks() -> None:
    ears = [Ear(breaks=True), Ear()]
    with capture_logs() as lines:
        Telemetry([*ears, LOGS]).failed(END)
    assert [ear.heard for ear in ears] == [[END], [END]]
    assert [line["event"] for line in lines] == ["telemetry.listener_failed", "command.failed"]


def test_what_nobody_hears_need_not_be_gathered() -> None:
    assert Telemetry([Ear(), LOGS]).hears("failed")
    assert not Telemetry([Ear(), LOGS]).hears("requested")
    assert not Telemetry([]).hears("failed")


@pytest.mark.parametrize("act", ACTS)
def test_every_act_reaches_a_listener_that_has_it(act: str) -> None:
    told: list[tuple[Any, ...]] = []
    heard = type("Heard", (Listener,), {act: lambda _, *args: told.append(args)})
    getattr(Telemetry([Listener(), heard()]), act)(1, 2)
    assert told == [(1, 2)]


def test_a_base_listener_does_nothing_and_the_log_tells_of_most() -> None:
    assert not any(Listener().hears(act) for act in ACTS)
    silent = {act for act in ACTS if not LogListener().hears(act)}
    assert silent == SILENT


def test_below_its_level_the_log_hears_of_no_success() -> None:
    """So that nobody gathers what no line will tell."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("WARNING"))
    try:
        silent = {act for act in ACTS if not Telemetry([LogListener()]).hears(act)}
    finally:
        structlog.configure(**before)
    assert silent == SILENT | {"succeeded", "retried"}


def test_a_line_outside_of_a_run_says_whose_command_it_is_about() -> None:
    text = b'{"type":"get_model","data":{},"correlationid":"c","traceparent":"%s"}' % TRACE.encode()
    assert log_fields("a", text) == {"command_id": "a", "correlationid": "c", "traceparent": TRACE}
    assert log_fields("a", b"no JSON") == {"command_id": "a"}
