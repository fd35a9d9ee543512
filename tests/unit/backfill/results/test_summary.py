"""What a summary tells of records whose figures are known."""

from __future__ import annotations

from typing import Any

import pytest

from worker.backfill.results.summary import Latencies, summarize


def succeeded(seconds: float, *confidences: float) -> dict[str, Any]:
    found = [{"name": "car", "confidence": each} for each in confidences]
    return {
        "state": "succeeded",
        "attempts": 1,
        "seconds": seconds,
        "frames": {"0": found},
    }


def failed(code: str) -> dict[str, Any]:
    return {
        "item": 7,
        "state": "failed",
        "place": "line 8",
        "input": {"data_path": "a.png"},
        "attempts": 2,
        "error": {"code": code, "message": f"{code}!"},
    }


def test_a_percentile_is_right_to_one_percent_and_never_above_the_longest() -> None:
    latencies = Latencies()
    for number in range(1, 1001):
        latencies.add(number / 1000)
    assert latencies.percentile(50) == pytest.approx(0.5, rel=0.02)
    assert latencies.percentile(99) == pytest.approx(0.99, rel=0.02)
    assert latencies.percentile(100) == 1.0
    assert (latencies.percentile(99.9) or 0) <= 1.0
    assert Latencies().percentile(50) is None


def test_half_of_two_is_the_smaller_one() -> None:
    """The time within which so many ended, not one that none of them took."""
    latencies = Latencies()
    latencies.add(1.0)
    latencies.add(100.0)
    assert latencies.percentile(50) == pytest.approx(1.0, rel=0.02)
    assert latencies.percentile(51) == pytest.approx(100.0, rel=0.02)


def test_all_is_counted_once_and_failures_by_their_reason() -> None:
    records = [succeeded(1, 0.05, 1.0), succeeded(2), failed("not_found"), failed("not_found")]
    summary = summarize(records).summary("night", 2.0)
    assert (summary["items"], summary["succeeded"], summary["failed"]) == (4, 2, 2)
    assert summary["failures"] == {"not_found": 2}
    first = {"item": 7, "place": "line 8", "named": "a.png"}
    assert summary["messages"] == [
        {"code": "not_found", "message": "not_found!", "items": 2, "first": first}
    ]
    assert summary["items_per_second"] == 2.0
    assert summary["attempts"] == 6
    assert summary["classes"] == {"car": 2}
    assert summary["items_without_predictions"] == 1
    counts = [each["count"] for each in summary["confidences"]]
    assert (counts[1], counts[-1], sum(counts)) == (1, 1, 2)


def test_of_very_many_messages_the_first_twenty_are_told_and_counted_to_the_end() -> None:
    records = [failed(f"code-{number}") for number in range(30)] * 3
    summary = summarize(records).summary("night", 1.0)
    assert [each["items"] for each in summary["messages"]] == [3] * 20
    assert summary["messages"][0]["message"] == "code-0!"
    assert sum(summary["failures"].values()) == 90


def test_one_class_for_a_frame_counts_as_a_prediction() -> None:
    record = succeeded(1) | {"frames": {"0": {"name": "cat", "confidence": 0.5}, "1": None}}
    summary = summarize([record]).summary("night", 1.0)
    assert (summary["predictions"], summary["frames"]) == (1, 2)


@pytest.mark.parametrize(
    "said",
    [
        {"data_path": "https://me:s3cret@example.com/a.png?sig=s3cret"},
        {"data_path": "s3://key:s3cret@bucket/" + "a" * 300},
        {"row": "a.png,https://me:s3cret@example.com/a.png?sig=s3cret,0.5"},
        {"conf_thresh": 2, "picture": "https://me:s3cret@example.com/a.png?sig=s3cret"},
    ],
)
def test_no_signature_and_no_password_of_a_failed_items_url_is_in_the_summary(
    said: dict[str, object],
) -> None:
    """Nor in the report, which is made of it; `failures.jsonl` has it, to be a source again."""
    summary = summarize([failed("not_found") | {"input": said}]).summary("night", 1.0)
    (reason,) = summary["messages"]
    assert "://" in reason["first"]["named"]
    assert "s3cret" not in str(summary)
