"""A backfill's status for people and programs: how far it is, what failed, what to do about it."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click
import orjson

from schemas.events import ErrorCode
from schemas.wording import counted
from worker.backfill.results.finalization import FAILURES, REPORT, SUMMARY
from worker.backfill.results.output import Output
from worker.backfill.results.parts import read_records
from worker.backfill.results.summary import summarize
from worker.backfill.sources.folders import tell_kinds
from worker.backfill.status import BY_HAND, BackfillState, Origin
from worker.cli.formatting import show_duration
from worker.cli.output import open_console, print_fields, print_json, safe_text, shell_word
from worker.redaction import redact_text, redact_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.backfill.status import BackfillStatus

_MOST_REASONS: Final = 5
_PARTS_READ: Final = 2
# Of results that a worker wrote where this machine can't read.
_UNREADABLE: Final = (OSError, ValueError, KeyError, ImportError)
# What its owner can do about the commonest reason.
_REMEDIES: Final[dict[str, str]] = {
    ErrorCode.INVALID_ITEM: "Fix these rows in {failures}, then run them again",
    ErrorCode.INVALID_INPUT: "Make sure that the workers can read these files, then run them again",
    ErrorCode.INVALID_ARGUMENTS: "The API rejects these: fix them, then run them again",
    ErrorCode.NOT_FOUND: "Make sure that the API has these, then run them again",
    ErrorCode.NOT_AUTHORISED: "Make sure that the key may use these, then run them again",
}


def show_status(status: BackfillStatus, *, as_json: bool) -> None:
    """Prints a backfill's status; of one that has ended, what failed and what to do."""
    if as_json:
        print_json(status_json(status))
        return
    print_fields(open_console(), _fields(status))
    for line in _advice(status):
        click.echo(safe_text(line))


def status_json(status: BackfillStatus) -> dict[str, Any]:
    """Returns a backfill's status as JSON values."""
    told = asdict(status)
    for name in ("position", "cut", "entry", "acknowledged", "acknowledged_of", "led_ms"):
        del told[name]
    told["plan"]["output"] = redact_url(status.plan.output)
    told["plan"]["source"]["location"] = redact_url(status.plan.source.location)
    return told | {"led": status.led_ms > 0}


def _fields(status: BackfillStatus) -> list[tuple[str, str]]:
    """Returns names and values for people."""
    total = "" if status.total is None else f" of {status.total}"
    ended_ms = status.ended_ms or int(time.time() * 1000)
    failures = ", ".join(f"{count} {code}" for code, count in status.failures.items())
    return [
        ("backfill", status.id),
        ("state", status.state),
        ("reason", status.reason),
        ("done", f"{status.ended}{total}"),
        ("failed", f"{status.failed}: {failures}" if failures else "0"),
        ("rate", _rate(status, (ended_ms - status.begun_ms) / 1000)),
        ("in flight", str(status.open) if status.open else ""),
        ("passed over", tell_kinds(status.passed_over)),
        ("never run", str(status.dropped) if status.dropped else ""),
        ("time", show_duration((ended_ms - status.begun_ms) / 1000)),
        ("led by", _leader(status)),
        ("results", redact_url(status.plan.output)),
    ]


def _rate(status: BackfillStatus, seconds: float) -> str:
    """Returns what a run has made of each second since it began; nothing unless it runs."""
    if status.state is not BackfillState.RUNNING or not status.ended or seconds <= 0:
        return ""
    rate = status.ended / seconds
    if status.total is None or status.total <= status.ended:
        return f"{rate:.1f}/s since it began"
    left = show_duration((status.total - status.ended) / rate)
    return f"{rate:.1f}/s since it began, {left} left at that"


def _leader(status: BackfillStatus) -> str:
    if status.state.ended or status.state is BackfillState.PAUSED:
        return ""
    if status.led_ms:
        return "a process"
    return "a worker, in a moment" if status.origin is Origin.QUEUE else "no process"


def _advice(status: BackfillStatus) -> list[str]:
    """Returns what to do about a backfill that has ended or is paused; nothing if all is well."""
    match status.state:
        case BackfillState.PAUSED:
            when = "To go on" if status.reason == BY_HAND else "Once fixed"
            again = f"{when}: trainmaster backfill resume {shell_word(status.id)}"
            return [*(_reasons(_lately(status)) if status.failed else ()), again]
        case BackfillState.SUCCEEDED if status.failed:
            return [*_failures(status), *file_warnings(status)]
        case BackfillState.SUCCEEDED:
            report = f"report    {redact_url(Output(status.plan.output).path(REPORT))}"
            shown = [] if REPORT in status.unwritten else [report]
            return [*shown, *file_warnings(status)]
        case BackfillState.CANCELLED:
            return file_warnings(status)
        case BackfillState.RUNNING if status.origin is Origin.CONSOLE and not status.led_ms:
            again = f"trainmaster backfill resume {shell_word(status.id)}"
            return [f"No process leads it; to go on: {again}"]
        case _:
            return []


def _failures(status: BackfillStatus) -> list[str]:
    output = Output(status.plan.output)
    try:
        with output.read(SUMMARY) as file:
            reasons = orjson.loads(file.read())["messages"]
    except _UNREADABLE:
        reasons = []
    commonest = max(status.failures, key=lambda code: status.failures[code], default="")
    remedy = _REMEDIES.get(commonest, "To run them again").format(failures=FAILURES)
    failures, report = (redact_url(output.path(name)) for name in (FAILURES, REPORT))
    places = []
    if FAILURES not in status.unwritten:
        places.append(f"All are in {failures}")
    if REPORT not in status.unwritten:
        places.append(f"the report is {report}")
    return [
        f"{counted(status.failed, 'item')} failed:",
        *_reasons(reasons),
        *(["; ".join(places)] if places else []),
        f"{remedy}: trainmaster backfill retry-failed {shell_word(status.id)}",
    ]


def file_warnings(status: BackfillStatus) -> list[str]:
    """Returns lines about last files that are not there, or not whole."""
    lines = [
        f"{warning['file']}: {warning['message']}"
        for warning in (status.result or {}).get("warnings", ())
    ]
    if status.unwritten:
        again = f"trainmaster backfill resume {shell_word(status.id)}"
        lines.append(f"Once fixed, write them again: {again}")
    return lines


def _lately(status: BackfillStatus) -> list[dict[str, Any]]:
    """Returns why items of the latest parts failed; all parts may be very many."""
    output = Output(status.plan.output)
    try:
        return summarize(read_records(output, last=_PARTS_READ)).reasons()
    except _UNREADABLE:
        return []


def _reasons(reasons: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for reason in reasons[:_MOST_REASONS]:
        first = reason["first"]
        where = ": ".join(part for part in (first["place"], first["named"]) if part)
        label = "" if reason["items"] == 1 else "the first: "
        lines.append(f"  {reason['items']:,} × {reason['code']}: {reason['message']}")
        lines.append(redact_text(f"      {label}{where or first['item']}"))
    if len(reasons) > _MOST_REASONS:
        lines.append(f"  … and {counted(len(reasons) - _MOST_REASONS, 'more reason')}")
    return lines
