"""Patterns of types, and what they cost."""

import pytest

from worker.integrations.patterns import Patterns


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("train.failed", ["train.failed"], ["train.failed ", "xtrain.failed", "trainxfailed"]),
        ("train.*", ["train.", "train.failed", "train.a\nb"], ["train", "xtrain.failed"]),
        ("*.failed", [".failed", "train.failed", "a.failed.failed"], ["train.failedx", "failed"]),
        ("a*a", ["aa", "aba", "aaa"], ["a", "ab"]),
        ("*", ["", "anything"], []),
        ("a*b*c*", ["abc", "a-b-c-", "abbcc", "acbc"], ["acb", "xabc"]),
        ("*ab*ab", ["abab", "xabxab", "ababab"], ["ab", "aba", "abxa"]),
        ("**b**", ["b", "abc"], ["", "a"]),
        ("a*bc*bc", ["abcbc", "abcxbc"], ["abc", "abcb"]),
    ],
)
def test_a_star_stands_for_any_text(pattern: str, fits: list[str], fits_not: list[str]) -> None:
    patterns = Patterns(["nothing.else", pattern])
    assert [text for text in fits + fits_not if patterns.match(text)] == fits


def test_no_pattern_and_no_text_keeps_a_process_busy() -> None:
    assert not Patterns(["*" * 10_000 + "x"]).match("train.succeeded" * 10)
    assert not Patterns(["*a*a*a*a*b"]).match("a" * 1_000_000)
