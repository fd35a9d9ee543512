"""What people are told at the end of a backfill: what failed, where, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from schemas.events import ErrorCode
from schemas.wording import counted
from worker.backfill.conclusion import FAILURES, REPORT, SUMMARY
from worker.backfill.output import Output
from worker.backfill.parts import read_records
from worker.backfill.standing import BackfillState, Origin
from worker.backfill.summary import tally
from worker.cli.output import shell_word
from worker.redaction import redact_text, redact_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.backfill.standing import BackfillStatus

_MOST_REASONS: Final = 5
_PARTS_READ: Final = 2
# Of results that a worker wrote where this machine can't read.
_UNREADABLE: Final = (OSError, ValueError, KeyError, ImportError)
# What its owner can do about the commonest reason.
_REMEDIES: Final[dict[str, str]] = {
    ErrorCode.INVALID_ITEM: "Mend these rows in {failures}, then run them again",
    ErrorCode.INVALID_INPUT: "See that the workers can read these files, then run them again",
    ErrorCode.INVALID_ARGUMENTS: "The API can do nothing with these: mend them and run them again",
    ErrorCode.NOT_FOUND: "See that the API knows these, then run them again",
    ErrorCode.NOT_AUTHORISED: "See that the key may use these, then run them again",
}


def advice(standing: BackfillStatus) -> list[str]:
    """Returns lines about a backfill that has ended or is paused; none if all is well."""
    match standing.state:
        case BackfillState.PAUSED:
            again = f"Once that is mended: trainmaster backfill resume {shell_word(standing.id)}"
            return [*(_reasons(_lately(standing)) if standing.failed else ()), again]
        case BackfillState.SUCCEEDED if standing.failed:
            return [*_failures(standing), *file_warnings(standing)]
        case BackfillState.SUCCEEDED:
            report = f"report    {redact_url(Output(standing.plan.output).path(REPORT))}"
            shown = [] if REPORT in standing.unwritten else [report]
            return [*shown, *file_warnings(standing)]
        case BackfillState.CANCELLED:
            return file_warnings(standing)
        case BackfillState.RUNNING if standing.origin is Origin.CONSOLE and not standing.led_ms:
            again = f"trainmaster backfill resume {shell_word(standing.id)}"
            return [f"Nobody reads its source: {again}"]
        case _:
            return []


def _failures(standing: BackfillStatus) -> list[str]:
    output = Output(standing.plan.output)
    try:
        with output.read(SUMMARY) as file:
            reasons = orjson.loads(file.read())["messages"]
    except _UNREADABLE:
        reasons = []
    commonest = max(standing.failures, key=lambda code: standing.failures[code], default="")
    remedy = _REMEDIES.get(commonest, "To run them again").format(failures=FAILURES)
    failures, report = (redact_url(output.path(name)) for name in (FAILURES, REPORT))
    places = []
    if FAILURES not in standing.unwritten:
        places.append(f"All are in {failures}")
    if REPORT not in standing.unwritten:
        places.append(f"the whole in {report}")
    return [
        f"{counted(standing.failed, 'item')} failed:",
        *_reasons(reasons),
        *(["; ".join(places)] if places else []),
        f"{remedy}: trainmaster backfill retry-failed {shell_word(standing.id)}",
    ]


def file_warnings(standing: BackfillStatus) -> list[str]:
    """Returns lines about last files that are not there, or not whole."""
    lines = [
        f"{warning['file']}: {warning['message']}"
        for warning in (standing.result or {}).get("warnings", ())
    ]
    if standing.unwritten:
        again = f"trainmaster backfill resume {shell_word(standing.id)}"
        lines.append(f"Once fixed, write them again: {again}")
    return lines


def _lately(standing: BackfillStatus) -> list[dict[str, Any]]:
    """Returns why items of the latest parts failed; all parts may be very many."""
    output = Output(standing.plan.output)
    try:
        return tally(read_records(output, last=_PARTS_READ)).reasons()
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
