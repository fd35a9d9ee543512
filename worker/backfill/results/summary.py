"""What a backfill came to: counts, failures by reason, latencies, classes and confidences."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from schemas.json_text import encode_json
from worker.backfill.errors import BackfillError, OddRecordError
from worker.backfill.results.parts import ODD, Record
from worker.redaction import redact_text, redact_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


CONFIDENCE_BINS: Final = 20
# Latencies are counted in bins of this relative width, so that a million cost no memory.
_BIN_WIDTH: Final = 1.02
_MOST_BINS: Final = 40
_SHORTEST_SECONDS: Final = 1e-4
_MOST_MESSAGES: Final = 20
_SHOWN_CHARACTERS: Final = 200
_SHOWN_REASON: Final = 400
PERCENTILES: Final = (50, 90, 95, 99, 100)


def found_items(record: Record) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields frame numbers and predictions of a record, whatever its task."""
    for frame, found in record.get("frames", {}).items():
        if found is None:
            continue
        for item in found if isinstance(found, list) else [found]:
            yield int(frame), item


def has_numbers(item: dict[str, Any]) -> bool:
    """Tells whether confidence and shape of a prediction are numbers; JSON has null for NaN."""
    box, polygon = item.get("bounding_box"), item.get("polygon")
    values = [item.get("confidence")]
    if box is not None:
        values += [box.get(name) for name in ("x", "y", "w", "h")]
    if polygon is not None:
        values += [point.get(name) for point in polygon for name in ("x", "y")]
    return all(isinstance(value, int | float) and math.isfinite(value) for value in values)


@dataclass(slots=True)
class Skipped:
    """What was passed over, and the first of it as an example.

    Attributes:
        times: how often something was.
        first: item, place and reason.
    """

    times: int = 0
    first: str = ""

    def count(self, record: Record, reason: Exception | str) -> None:
        """Counts something of an item."""
        self.times += 1
        if self.times == 1:
            named = record.get("data_path") or record.get("data_uuid") or record.get("place")
            where = f"item {record.get('item')}"
            if named:
                where += f" ({redact_url(str(named))})"
            self.first = f"{where}: {reason_of(reason)}"[:_SHOWN_REASON]


def reason_of(error: Exception | str) -> str:
    """Returns why something went wrong, in one line for people."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = redact_text(" ".join(str(error).split()))
    if isinstance(error, str | BackfillError):
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


@dataclass(slots=True)
class Latencies:
    """How long things took, to one percent."""

    counts: Counter[int] = field(default_factory=Counter)
    longest: float = 0.0

    def add(self, seconds: float) -> None:
        """Counts one."""
        self.longest = max(self.longest, seconds)
        self.counts[round(math.log(max(seconds, _SHORTEST_SECONDS), _BIN_WIDTH))] += 1

    def percentile(self, percent: float) -> float | None:
        """Returns the time within which so many percent ended; None of nothing."""
        total = self.counts.total()
        if not total:
            return None
        if percent >= 100:
            return self.longest
        rank = percent / 100 * total
        for number in sorted(self.counts):
            rank -= self.counts[number]
            if rank <= 0:
                return float(min(_BIN_WIDTH**number, self.longest))
        return self.longest

    def bins(self) -> list[dict[str, float]]:
        """Returns the counts in at most `_MOST_BINS` bins of equal relative width."""
        if not self.counts:
            return []
        first, last = min(self.counts), max(self.counts)
        step = max(1, -(-(last - first + 1) // _MOST_BINS))
        return [
            {
                "from": round(float(_BIN_WIDTH ** (start - 0.5)), 6),
                "to": round(float(_BIN_WIDTH ** (start + step - 0.5)), 6),
                "count": sum(self.counts[number] for number in range(start, start + step)),
            }
            for start in range(first, last + 1, step)
        ]


@dataclass(slots=True)
class SummaryBuilder:
    """Counts records one by one."""

    succeeded: int = 0
    failed: int = 0
    attempts: int = 0
    predictions: int = 0
    frames: int = 0
    empty_items: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    messages: Counter[tuple[str, str]] = field(default_factory=Counter)
    firsts: dict[tuple[str, str], Record] = field(default_factory=dict)
    classes: Counter[str] = field(default_factory=Counter)
    confidences: Counter[int] = field(default_factory=Counter)
    latencies: Latencies = field(default_factory=Latencies)

    def add(self, record: Record) -> None:
        """Counts one record."""
        if record["state"] == ODD:
            raise OddRecordError(record["error"]["message"])
        self.attempts += record["attempts"]
        if record["state"] == "failed":
            self._add_failure(record)
            return
        self.succeeded += 1
        self.latencies.add(record["seconds"])
        self.frames += len(record.get("frames", {}))
        before = self.predictions
        for _, item in found_items(record):
            self.predictions += 1
            self.classes[str(item["name"])] += 1
            if not has_numbers(item):
                continue
            share = min(max(item["confidence"], 0.0), 1.0)
            self.confidences[min(int(share * CONFIDENCE_BINS), CONFIDENCE_BINS - 1)] += 1
        self.empty_items += before == self.predictions

    def _add_failure(self, record: Record) -> None:
        error = record["error"]
        self.failed += 1
        self.failures[error["code"]] += 1
        # A message may name its item: the first few are enough to see what goes wrong.
        said = (error["code"], error["message"])
        if said in self.messages or len(self.messages) < _MOST_MESSAGES:
            self.messages[said] += 1
            self.firsts.setdefault(said, record)

    def reasons(self) -> list[dict[str, Any]]:
        """Returns why items failed, the commonest reason first, each with its first item."""
        return [
            {"code": code, "message": message, "items": count, "first": _shown(self.firsts[said])}
            for said, count in self.messages.most_common()
            for code, message in (said,)
        ]

    def summary(self, backfill_id: str, seconds: float) -> dict[str, Any]:
        """Returns the summary as JSON values.

        Args:
            backfill_id: of the backfill.
            seconds: from its beginning to its end.
        """
        items = self.succeeded + self.failed
        return {
            "backfill": backfill_id,
            "items": items,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "failures": dict(self.failures.most_common()),
            "messages": self.reasons(),
            "seconds": round(seconds, 3),
            "items_per_second": round(items / seconds, 2) if seconds > 0 else None,
            "attempts": self.attempts,
            "latency_seconds": {
                f"p{percent}": None if found is None else round(found, 4)
                for percent in PERCENTILES
                for found in (self.latencies.percentile(percent),)
            },
            "latencies": self.latencies.bins(),
            "frames": self.frames,
            "predictions": self.predictions,
            "items_without_predictions": self.empty_items,
            "classes": dict(self.classes.most_common()),
            "confidences": [
                {"from": number / CONFIDENCE_BINS, "count": self.confidences[number]}
                for number in range(CONFIDENCE_BINS)
            ],
        }


def _shown(record: Record) -> Record:
    """Returns where a failed item stands and what it is, for people."""
    said = record.get("input", {})
    named = next((said[name] for name in ("data_path", "data_uuid", "row") if name in said), None)
    if named is None and said:
        named = encode_json(said).decode()
    # Redacted before it is cut: of half a URL nobody can tell what is a password.
    shown = redact_text(" ".join(str(named or "").split()))[:_SHOWN_CHARACTERS]
    return {"item": record["item"], "place": record.get("place", ""), "named": shown}


def summarize(records: Iterable[Record]) -> SummaryBuilder:
    """Returns the counts of records."""
    counted = SummaryBuilder()
    for record in records:
        if record["state"] != ODD:
            counted.add(record)
    return counted
